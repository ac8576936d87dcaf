import math
import sys

import msgspec
import pytest

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.features import FeatureSpec, Pool, TokenStat
from offmap.judges import ALIGNMENT, Judge, JudgeSource

SOURCE = JudgeSource("m", "http://localhost:1/v1")
ROW = Conversation("row", (Message("user", "Well?"), Message("assistant", "Yes.")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "localhost:80"}, "http://"), ({"base_url": "https://me:pw@example.com"}, "password"),
        ({"base_url": "http:///v1"}, "http://"), ({"model": ""}, "model"), ({"temperature": 3.0}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"), ({"timeout": 0.0}, "timeout"), ({"timeout": math.nan}, "timeout"),
        ({"retries": -1}, "retries"), ({"concurrency": 0}, "concurrency"),
    ],
)  # fmt: skip
def test_a_source_says_what_is_wrong_with_it(options, said):
    with pytest.raises(InputError, match=said) as caught:
        JudgeSource(**{"model": "m", "base_url": "http://localhost/v1"} | options)
    assert "pw" not in str(caught.value)


def test_a_source_is_json_without_a_secret(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "open-sesame")
    source = msgspec.structs.replace(SOURCE, api_key_env="JUDGE_KEY")
    stored = msgspec.json.encode(Judge(source).source)
    assert msgspec.json.decode(stored, type=JudgeSource) == source
    assert b"sesame" not in stored


def test_the_variable_for_the_key_must_be_set(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(InputError, match="JUDGE_KEY: not set"):
        Judge(msgspec.structs.replace(SOURCE, api_key_env="JUDGE_KEY"))


def test_without_the_sdk_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"install offmap\[judge\]"):
        Judge(SOURCE)


def test_the_fingerprint_names_what_changes_a_grade_and_no_more():
    same = {"base_url": "https://example.com/v1", "timeout": 1.0, "retries": 9, "concurrency": 1}
    assert Judge(msgspec.structs.replace(SOURCE, **same)).fingerprint == Judge(SOURCE).fingerprint
    changes = ({"model": "b"}, {"revision": "b"}, {"temperature": 1.0}, {"max_tokens": 9}, {})
    judges = [Judge(msgspec.structs.replace(SOURCE, **change)) for change in changes]
    judges += [Judge(SOURCE, ALIGNMENT), Judge(SOURCE, reference=True)]
    assert len({judge.fingerprint for judge in judges}) == len(judges)


def test_what_a_judge_does_not_give_is_refused():
    for spec in (FeatureSpec(frozenset({(-1, Pool.MEAN)})), FeatureSpec(tokens=frozenset({TokenStat.LOGPROB}))):
        with pytest.raises(InputError, match="no hidden states"):
            Judge(SOURCE)([ROW], spec)
    with pytest.raises(InputError, match=r"\['alignment'\]: this judge gives \['uncertainty'\]"):
        Judge(SOURCE)([ROW], FeatureSpec(scalars=frozenset({"alignment", "uncertainty"})))
