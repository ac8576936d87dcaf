"""Where a conversation surprised the model: the stretches of text whose tokens were least expected."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.conversation import Conversation
from offmap.features import FeatureSpec, FloatArray, TokenColumns, TokenStat

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
    return tuple(_span(conversation, turns, starts, means, at, width) for at in chosen)


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
    means: FloatArray,
    at: int,
    width: int,
) -> Span:
    turn, after = int(turns[at]), at + width
    text = conversation.messages[turn].text
    inside = after < len(turns) and turns[after] == turn
    start, end = int(starts[at]), int(starts[after]) if inside else len(text)
    return Span(turn, start, end, text[start:end], float(means[at]))
