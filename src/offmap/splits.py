"""Disjoint splits of labelled training rows: fit, calibrate, threshold. The test rows are never seen here.

Rows that share a ``pair``, or where they have none all that was said before the last reply, stay together: no split
has met a twin of another's row, and rows that only open alike are dealt one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from offmap.conversation import Conversation

FRACTIONS = (0.5, 0.25, 0.25)
"""The shares of fit, calibrate and threshold."""


@dataclass(frozen=True)
class Splits:
    """Three disjoint lists of labelled conversations.

    Detectors learn on ``fit``, scores become p-values on ``calibrate``, the threshold is chosen on ``threshold``.
    """

    fit: tuple[Conversation, ...]
    calibrate: tuple[Conversation, ...]
    threshold: tuple[Conversation, ...]


def split(rows: Sequence[Conversation], seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> Splits:
    """Deal rows into the three splits by a hash of what they share, so that a row's place depends on no other row."""
    places: tuple[list[Conversation], ...] = ([], [], [])
    for row in rows:
        share = _unit(f"{seed}\n{_group(row)}")
        places[(share >= fractions[0]) + (share >= fractions[0] + fractions[1])].append(row)
    return Splits(*(tuple(place) for place in places))


def _group(row: Conversation) -> str:
    if row.pair:
        return row.pair
    replies = [at for at, message in enumerate(row.messages) if message.role == "assistant"]
    before = row.messages[: replies[-1]] if replies else row.messages
    return "\n".join(f"{message.role}: {message.text}" for message in before) or row.id


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
