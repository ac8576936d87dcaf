"""Where a conversation surprised the model: the stretches of text whose tokens were least expected."""

from __future__ import annotations

import re

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.conversation import Conversation
from offmap.features import FeatureSpec, FloatArray, TokenColumns, TokenStat

_WORD_END = re.compile(r"\s")

WINDOW = 8
"""Tokens in a span."""
SPAN_STATS = FeatureSpec(tokens=frozenset({TokenStat.LOGPROB, TokenStat.ENTROPY}))
"""What finding spans reads."""


class Span(msgspec.Struct, frozen=True):
    """A stretch of one message. ``start`` and ``end`` count characters in ``Message.text``.

    ``surprise`` is the mean excess surprise of its tokens in nats: -log p(token) minus the entropy that the model
    itself expected there. Zero is what an ordinary sentence has.
    """

    message: int
    start: int
    end: int
    text: str
    surprise: float


def surprising_spans(
    conversation: Conversation, tokens: TokenColumns, row: int, most: int = 3, window: int = WINDOW
) -> tuple[Span, ...]:
    """The ``most`` windows of highest mean excess surprise in row ``row``, none overlapping, best first."""
    part = slice(tokens.offsets[row], tokens.offsets[row + 1])
    turns, starts = tokens.turns[part], tokens.starts[part]
    excess = -tokens.stats[TokenStat.LOGPROB][part].astype(np.float64) - tokens.stats[TokenStat.ENTROPY][part]
    readable = np.flatnonzero(starts >= 0)
    if not len(readable):
        return ()
    turns, starts, excess = turns[readable], starts[readable], excess[readable]
    width = min(window, len(readable))
    means = np.convolve(excess, np.ones(width) / width, mode="valid")
    same = turns[: len(means)] == turns[width - 1 :]
    chosen = _apart(np.where(same, means, -np.inf), most, width)
    return tuple(_span(conversation, turns, starts, readable, at, width, float(means[at])) for at in chosen)


def _apart(means: FloatArray, most: int, width: int) -> list[int]:
    chosen: list[int] = []
    for at in np.argsort(-means, kind="stable"):
        if len(chosen) == most or not np.isfinite(means[at]):
            break
        if all(abs(at - other) >= width for other in chosen):
            chosen.append(int(at))
    return chosen


def _span(
    conversation: Conversation,
    turns: NDArray[np.int16],
    starts: NDArray[np.int32],
    places: NDArray[np.intp],
    at: int,
    width: int,
    surprise: float,
) -> Span:
    """The window of ``width`` readable tokens from ``at``; ``places`` are their positions in the row."""
    turn, last = int(turns[at]), at + width - 1
    text = conversation.messages[turn].text
    followed = last + 1 < len(turns) and turns[last + 1] == turn and places[last + 1] == places[last] + 1
    # Where truncation took the next token, or the text ends, the last token reaches to the end of its word.
    word = _WORD_END.search(text, int(starts[last]) + 1)
    start, end = int(starts[at]), int(starts[last + 1]) if followed else word.start() if word else len(text)
    return Span(turn, start, end, text[start:end], surprise)
