"""Where the evidence lies: the stretches of text whose tokens were least expected, and the part of a detector."""

from __future__ import annotations

import re

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.conversation import Conversation, Role
from offmap.detectors.base import Explained, Fitted
from offmap.features import Features, FeatureSpec, FloatArray, TokenColumns
from offmap.shift import EXCESS_STATS, ShiftKind, excess_nats, tokens_of, window_sums

_WORD_END = re.compile(r"\s")

WINDOW = 8
"""Tokens in a span."""
SPAN_STATS = EXCESS_STATS
"""What finding spans reads."""


def with_span_stats(wanted: FeatureSpec) -> FeatureSpec:
    """What is wanted and, where that has token statistics, what finding spans reads."""
    return wanted | SPAN_STATS if wanted.tokens else wanted


class Span(msgspec.Struct, frozen=True):
    """A stretch of one message, and whose it is. ``start`` and ``end`` count characters in ``Message.text``.

    ``surprise`` is the mean excess surprise of its tokens in nats: -log p(token) minus the entropy that the model
    itself expected there. Zero is what an ordinary sentence has.
    """

    message: int
    role: Role
    start: int
    end: int
    text: str
    surprise: float


def surprising_spans(
    conversation: Conversation,
    tokens: TokenColumns,
    row: int,
    kind: ShiftKind = "",
    most: int = 3,
    window: int = WINDOW,
) -> tuple[Span, ...]:
    """The ``most`` windows of row ``row`` with the highest sums of excess surprise, none overlapping, best first.

    With a ``kind`` only among the tokens that this kind of shift is read from. A stretch shorter than a window, such as
    a short message, is a window of its own.
    """
    mine = _row(tokens, row)
    readable = mine.starts >= 0
    places = np.flatnonzero(readable & tokens_of(mine)[kind] if kind else readable)
    turns, starts = mine.turns[places], mine.starts[places]
    sums, lengths = window_sums(excess_nats(mine)[places], turns, window)
    whole = (lengths == window) | (np.diff(turns, prepend=-1) != 0)
    return tuple(
        _span(conversation, turns, starts, places, at, int(lengths[at]), float(sums[at] / lengths[at]))
        for at in _apart(np.where(whole, sums, -np.inf), lengths, most)
    )


def largest_part(fitted: Fitted, features: Features) -> tuple[str, ...]:
    """For each row the name of the part of a detector that was highest: a layer, a window.

    "" for a detector that tells no parts, and where it could score none. See ``detectors.base.Explained``: parts are
    standardised, so they compare.
    """
    parts = fitted.parts(features) if isinstance(fitted, Explained) else {}
    if not parts:
        return ("",) * len(features)
    names, table = (*parts, ""), np.column_stack(list(parts.values()))
    unscored = np.isnan(table)
    best = np.where(unscored, -np.inf, table).argmax(axis=1)
    return tuple(names[at] for at in np.where(unscored.all(axis=1), len(parts), best).tolist())


def _row(tokens: TokenColumns, row: int) -> TokenColumns:
    """One row alone, without copying."""
    part = slice(tokens.offsets[row], tokens.offsets[row + 1])
    offsets = np.array([0, part.stop - part.start], np.int64)
    stats = {name: column[part] for name, column in tokens.stats.items()}
    return TokenColumns(offsets, tokens.ids[part], tokens.roles[part], tokens.turns[part], tokens.starts[part], stats)


def _apart(sums: FloatArray, lengths: NDArray[np.int64], most: int) -> list[int]:
    chosen: list[int] = []
    for at in np.argsort(-sums, kind="stable"):
        if len(chosen) == most or not np.isfinite(sums[at]):
            break
        if all(at + lengths[at] <= other or other + lengths[other] <= at for other in chosen):
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
    message = conversation.messages[turn]
    followed = last + 1 < len(turns) and turns[last + 1] == turn and places[last + 1] == places[last] + 1
    # Where truncation took the next token, or the text ends, the last token reaches to the end of its word.
    word = _WORD_END.search(message.text, int(starts[last]) + 1)
    start = int(starts[at])
    end = int(starts[last + 1]) if followed else word.start() if word else len(message.text)
    return Span(turn, message.role, start, end, message.text[start:end], surprise)
