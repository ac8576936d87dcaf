import pytest

from offmap.conversation.fields import json_object


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', ' {"a": {"b": [1, {"c": null}]}, "b": {"b": 1}} '])
def test_an_object_is_what_every_reader_reads(text):
    assert json_object(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "[1]",
        '{"a": 1',
        '{"a": NaN}',
        '{"a": "\\ud83d"}',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": [{"b": 1, "\\u0062": 2}]}',
        "[" * 100_000,
    ],
)
def test_what_is_none_or_could_be_two_is_no_object(text):
    assert json_object(text) is None
