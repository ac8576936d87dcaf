"""Surprising spans: the right words, with offsets that point at them."""

import dataclasses

import numpy as np
import pytest

from offmap.conversation import Conversation, Message, ToolCall
from offmap.evidence import surprising_spans
from offmap.features import TokenColumns, TokenStat

WORDS = "the quick brown fox jumps over the lazy dog while zebras quietly juggle frozen oranges near a lake".split()


def conversation() -> Conversation:
    call = ToolCall("book", '{"seat": "12A"}')
    return Conversation("c", (Message("user", " ".join(WORDS)), Message("assistant", "all done", tool_calls=(call,))))


def word_tokens(surprises: dict[tuple[int, int], float]) -> TokenColumns:
    """One token a word of every message; ``surprises`` names the excess of (message, word), zero elsewhere."""
    turns, starts, excess = [], [], []
    for turn, message in enumerate(conversation().messages):
        at = 0
        for number, word in enumerate(message.text.split(" ")):
            turns.append(turn)
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
        np.full(n, 3, np.int8),
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
