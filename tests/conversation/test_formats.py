import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.conversation import Conversation, Image, Message, Tool, ToolCall, parse_row, parse_transcript
from offmap.errors import InputError

HELLO = [{"role": "user", "content": "hello"}]


def one(row):
    (found,) = parse_row(row)
    return found


def error_of(row):
    with pytest.raises(InputError) as caught:
        parse_row(row)
    return str(caught.value)


def test_openai_messages():
    row = {
        "id": "r1",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "http://x/y.png", "detail": "low"}},
                    {"type": "text", "text": "there"},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": None, "refusal": "no"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "web_search"},
        ],
        "temperature": 0.3,
    }
    assert one(row) == Conversation(
        id="r1",
        messages=(
            Message("system", "be brief"),
            Message("user", "look\nthere", name="ann", images=(Image("http://x/y.png"),)),
            Message("assistant", tool_calls=(ToolCall("f", '{"a": ', "c1"),)),
            Message("tool", "42", tool_call_id="c1"),
            Message("assistant", "no"),
        ),
        tools=(Tool("f", "d", '{"type": "object"}'), Tool("web_search")),
    )


def test_row_with_malign_and_meta():
    row = {
        "id": "a",
        "domain": "controlling",
        "split": "test",
        "malign": 1,
        "messages": [
            *HELLO,
            {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"é": [1, None]}}]},
        ],
        "meta": {"kind": "templated", "pair": "p7", "label_conf": "high"},
    }
    found = one(row)
    assert (found.unsafe, found.domain, found.kind, found.pair) == (True, "controlling", "templated", "p7")
    assert json.loads(found.messages[1].tool_calls[0].arguments) == {"é": [1, None]}
    assert "é" in found.messages[1].tool_calls[0].arguments


@pytest.mark.parametrize(
    ("labels", "unsafe"),
    [
        ({}, None),
        ({"malign": None}, None),
        ({"malign": 0}, False),
        ({"unsafe": True}, True),
        ({"safe": 1}, False),
        ({"safe": False}, True),
        ({"safe": False, "malign": 1, "unsafe": True}, True),
    ],
)
def test_labels(labels, unsafe):
    assert one({"messages": HELLO, **labels}).unsafe is unsafe


@pytest.mark.parametrize("label", [2, -1, 0.0, 1.0, "1", "unsafe", [], {}, pytest.param(10**6000, id="huge")])
def test_other_labels_are_refused(label):
    assert "field malign: found" in error_of({"messages": HELLO, "malign": label})


def test_contradictory_labels_are_refused():
    message = error_of({"messages": HELLO, "malign": 1, "safe": True})
    assert message == "field malign and safe: found malign = 1 and safe = true, wanted labels that agree"


turn = st.tuples(
    st.sampled_from(["Human", "Assistant"]), st.text("ab\n: é", max_size=12).filter(lambda text: "\n\n" not in text)
)


@given(st.lists(turn, min_size=1, max_size=5))
def test_transcript_gives_its_turns_back(turns):
    text = "".join(f"\n\n{speaker}: {said}" for speaker, said in turns)
    role = {"Human": "user", "Assistant": "assistant"}
    assert [(m.role, m.content) for m in parse_transcript(text)] == [(role[who], said) for who, said in turns]


def test_mood_row():
    row = {"id": "m", "conversation": "\n\nHuman: hi\n\nmore\n\nAssistant: yes", "domain": "scheming", "malign": 1}
    messages = (Message("user", "hi\n\nmore"), Message("assistant", "yes"))
    assert one(row) == Conversation("m", messages, unsafe=True, domain="scheming")


def test_text_before_the_first_marker_is_the_system():
    found = parse_transcript("Obey.\n\nHuman: hi")
    assert found == (Message("system", "Obey."), Message("user", "hi"))


def test_preference_rows_become_two_unlabelled_twins():
    row = {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: hi\n\nAssistant: b", "domain": "helpful"}
    chosen, rejected = parse_row(row)
    assert (chosen.messages[-1].content, rejected.messages[-1].content) == ("a", "b")
    assert chosen.unsafe is rejected.unsafe is None
    assert chosen.pair == rejected.pair != ""
    assert (chosen.id, rejected.id) == (f"{chosen.pair}-chosen", f"{chosen.pair}-rejected")
    assert chosen.domain == rejected.domain == "helpful"


def test_missing_id_is_a_hash_of_the_content_only():
    bare, labelled = one({"messages": HELLO}), one({"messages": HELLO, "malign": 1, "domain": "x", "id": None})
    other = one({"messages": [{"role": "user", "content": "hello!"}]})
    assert bare.id == labelled.id != other.id
    assert bare.id == one({"messages": [{"content": [{"type": "text", "text": "hello"}], "role": "user"}]}).id


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (3, ["found 3", "wanted an object"]),
        (["a"], ["a list of 1"]),
        ({"text": "x", "source": "y"}, ["found the fields text, source", "messages", "chosen and rejected"]),
        ({"messages": HELLO, "conversation": "\n\nHuman: x"}, ["messages, conversation", "exactly one of"]),
        ({"chosen": "\n\nHuman: x"}, ["found the fields chosen"]),
        ({"chosen": "\n\nHuman: x", "rejected": "\n\nHuman: y", "malign": 1}, ["field malign", "not a harm label"]),
        ({"messages": []}, ["field messages", "at least one"]),
        ({"messages": "hi"}, ["field messages: found 'hi', wanted a list"]),
        ({"messages": [{"role": "boss"}]}, ["field messages[0].role: found 'boss'", "assistant"]),
        ({"messages": [{"role": ["user"]}]}, ["field messages[0].role: found a list of 1"]),
        ({"messages": [{"content": "x"}]}, ["field messages[0].role: found nothing"]),
        ({"messages": [{"role": "user", "content": 7}]}, ["field messages[0].content: found 7"]),
        ({"messages": [{"role": "user", "text": "x"}]}, ["field messages[0]: found the fields role, text"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            ["field messages[0].content[0].type: found 'input_audio', wanted text, image_url"],
        ),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
            ["field messages[0].function_call", "retired"],
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
            ["field messages[1].tool_calls[0].function.name: found nothing, wanted text"],
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}]},
            ["field messages[0].tool_calls[0].arguments: found a list of 1"],
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}]},
            ["tool_calls[0].type: found 'custom', wanted function"],
        ),
        ({"messages": HELLO, "id": 7}, ["field id: found 7, wanted text"]),
        ({"messages": HELLO, "id": ""}, ["field id: found an empty text"]),
        ({"messages": HELLO, "kind": "a", "meta": {"kind": "b"}}, ["field kind", "'a'", "'b'"]),
        ({"messages": HELLO, "meta": "x"}, ["field meta: found 'x', wanted an object"]),
        ({"messages": HELLO, "tools": [{"type": "function"}]}, ["field tools[0].name"]),
        ({"conversation": "no markers"}, ["field conversation", "Human"]),
        ({"conversation": HELLO}, ["field conversation: found a list of 1, wanted text"]),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, ["surrogate"]),
    ],
)
def test_errors_say_field_found_and_wanted(row, parts):
    message = error_of(row)
    assert all(part in message for part in parts), message


def test_errors_hold_only_the_beginning_of_a_text():
    assert len(error_of({"conversation": "secret " * 1000})) < 200


deep = []
for _ in range(100_000):
    deep = [deep]


@pytest.mark.parametrize("arguments", [{"a": deep}, {"a": float("nan")}, {"a": 10**6000}, {"a": b"x"}])
def test_arguments_that_are_not_json_are_refused(arguments):
    row = {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": arguments}]}]}
    assert "field messages[0].tool_calls[0].arguments: found an object that is not JSON" in error_of(row)


@pytest.mark.parametrize("arguments", ["{}", "".join(["{", "}"]), {}, None])
def test_no_arguments_are_encoded_alike_however_they_are_written(arguments):
    row = {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": arguments}]}]}
    assert one(row).id == one({"messages": [{"role": "assistant", "tool_calls": [{"name": "f"}]}]}).id
