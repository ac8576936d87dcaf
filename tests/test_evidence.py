"""Surprising spans: the right words, with offsets that point at them."""

import dataclasses

import numpy as np
import pytest

from offmap.conversation import Conversation, Message, ToolCall
from offmap.detectors import Mahalanobis
from offmap.evidence import largest_part, surprising_spans
from offmap.features import ROLE_CODE, FeatureSpec, Pool, TokenColumns, TokenStat
from offmap.testing import make_features

WORDS = "the quick brown fox jumps over the lazy dog while zebras quietly juggle frozen oranges near a lake".split()


def conversation() -> Conversation:
    call = ToolCall("book", '{"seat": "12A"}')
    return Conversation("c", (Message("user", " ".join(WORDS)), Message("assistant", "all done", tool_calls=(call,))))


def word_tokens(surprises: dict[tuple[int, int], float]) -> TokenColumns:
    """One token a word of every message; ``surprises`` names the excess of (message, word), zero elsewhere."""
    turns, starts, excess, roles = [], [], [], []
    for turn, message in enumerate(conversation().messages):
        at = 0
        for number, word in enumerate(message.text.split(" ")):
            turns.append(turn)
            roles.append(ROLE_CODE[message.role])
            starts.append(at)
            excess.append(surprises.get((turn, number), 0.0))
            at += len(word) + 1
    n = len(turns)
    stats = {
        TokenStat.LOGPROB: -(np.array(excess, np.float32) + 2.0),
        TokenStat.ENTROPY: np.full(n, 2.0, np.float32),
    }
    offsets = np.array([0, n], np.int64)
    return TokenColumns(
        offsets,
        np.zeros(n, np.int32),
        np.array(roles, np.int8),
        np.array(turns, np.int16),
        np.array(starts, np.int32),
        stats,
    )


def test_the_most_surprising_window_is_first_and_its_offsets_hold():
    tokens = word_tokens({(0, n): 8.0 for n in range(10, 14)} | {(0, n): 4.0 for n in range(2, 4)})
    first, second = surprising_spans(conversation(), tokens, 0, most=2, window=4)
    assert first.text.strip() == "zebras quietly juggle frozen"
    assert first.surprise == pytest.approx(8.0)
    assert "brown fox" in second.text
    for span in (first, second):
        assert conversation().messages[span.message].text[span.start : span.end] == span.text


def test_spans_stay_within_a_message_and_apart():
    tokens = word_tokens({(0, len(WORDS) - 1): 5.0, (1, 0): 5.0})
    spans = surprising_spans(conversation(), tokens, 0, most=5, window=3)
    places = [(span.message, span.start, span.end) for span in spans]
    for i, (message, start, end) in enumerate(places):
        assert 0 <= start < end <= len(conversation().messages[message].text)
        assert all(other[0] != message or other[2] <= start or end <= other[1] for other in places[i + 1 :])


def test_spans_say_whose_they_are_and_keep_to_the_kind():
    tokens = word_tokens({(0, n): 8.0 for n in range(10)} | {(1, n): 4.0 for n in range(10)})
    assert [span.role for span in surprising_spans(conversation(), tokens, 0, most=1)] == ["user"]
    for kind, role in {"prompt": "user", "adversarial": "user", "response": "assistant"}.items():
        spans = surprising_spans(conversation(), tokens, 0, kind)
        assert spans
        assert {(span.role, conversation().messages[span.message].role) for span in spans} == {(role, role)}
    assert surprising_spans(conversation(), tokens, 0, "workflow") == ()


def test_a_message_shorter_than_the_window_has_a_span():
    short = Conversation("s", (Message("user", "what is it"), Message("assistant", "qwzx vvkj")))
    turns, starts = np.array([0, 0, 0, 1, 1], np.int16), np.array([0, 5, 8, 0, 5], np.int32)
    stats = {
        TokenStat.LOGPROB: np.array([0, 0, 0, -9, -7], np.float32),
        TokenStat.ENTROPY: np.ones(5, np.float32),
    }
    nothing = np.zeros(5, np.int32)
    tokens = TokenColumns(np.array([0, 5]), nothing, np.array([2, 2, 2, 3, 3], np.int8), turns, starts, stats)
    first, second = surprising_spans(short, tokens, 0)
    assert (first.text, first.surprise) == ("qwzx vvkj", 7.0)
    assert (second.text, second.surprise) == ("what is it", -1.0)


def test_spans_are_those_of_the_row_asked_for():
    tokens = TokenColumns.concat([word_tokens({(0, 3): 9.0}), word_tokens({(1, 0): 9.0}), word_tokens({(0, 3): 9.0})])
    for row, message in enumerate((0, 1, 0)):
        assert surprising_spans(conversation(), tokens, row, most=1, window=1)[0].message == message


def test_tokens_without_a_place_are_passed_over():
    tokens = word_tokens({(0, 0): 9.0})
    hidden = dataclasses.replace(tokens, starts=np.full_like(tokens.starts, -1))
    assert surprising_spans(conversation(), hidden, 0) == ()


def test_the_last_span_of_a_tool_call_ends_with_the_text():
    tokens = word_tokens({(1, n): 3.0 for n in range(20)})
    spans = surprising_spans(conversation(), tokens, 0, most=9, window=2)
    said = conversation().messages[1].text
    assert max(span.end for span in spans if span.message == 1) == len(said)
    assert "12A" in said


class Parts:
    """A fitted detector that tells two parts."""

    def __init__(self, **parts):
        self.found = {name: np.array(values, np.float64) for name, values in parts.items()}

    def score(self, x):
        return np.nanmax(list(self.found.values()), axis=0)

    def parts(self, x):
        return self.found

    def arrays(self):
        return {}


def test_the_largest_part_of_each_row():
    rows = make_features(FeatureSpec(), 4, 0)
    parts = Parts(low=[1.0, 5.0, np.nan, np.nan], high=[2.0, -np.inf, -3.0, np.nan])
    assert largest_part(parts, rows) == ("high", "low", "high", "")
    assert largest_part(Parts(), rows) == ("",) * 4
    assert largest_part(object(), rows) == ("",) * 4


def test_the_largest_part_names_the_layer_that_moved():
    spec = FeatureSpec(hidden=frozenset((layer, pool) for layer in (-1, -3) for pool in (Pool.LAST, Pool.ASSISTANT)))
    fitted = Mahalanobis().fit(make_features(spec, 300, 0))
    usual, moved = make_features(spec, 20, 1), make_features(spec, 20, 1, shift=9.0)
    key = (-3, Pool.ASSISTANT)
    rows = dataclasses.replace(usual, hidden={**usual.hidden, key: moved.hidden[key]})
    assert largest_part(fitted, rows) == ("layer -3 assistant",) * 20
    assert largest_part(fitted, rows.take([])) == ()
