"""Disjoint splits of labelled training rows: fit, calibrate, threshold. The test rows are never seen here.

Rows that share a ``pair`` or the user's opening words stay together: no split has met a twin or an earlier turn of
another's row. Openings too short to tell a situation ("hi") are read together with what follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from offmap.conversation import Conversation

FRACTIONS = (0.5, 0.25, 0.25)
"""The shares of fit, calibrate and threshold."""
OPENING = 20
"""Characters that the user has said before an opening counts as one."""


@dataclass(frozen=True)
class Splits:
    """Three disjoint lists of labelled conversations.

    Detectors learn on ``fit``, scores become p-values on ``calibrate``, the threshold is chosen on ``threshold``.
    """

    fit: tuple[Conversation, ...]
    calibrate: tuple[Conversation, ...]
    threshold: tuple[Conversation, ...]


def split(rows: Sequence[Conversation], seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> Splits:
    """Deal rows into the three splits by a hash of what they share; a row's place depends on no row unlike it."""
    places: tuple[list[Conversation], ...] = ([], [], [])
    for row, group in zip(rows, _groups([_names(row) for row in rows]), strict=True):
        share = _unit(f"{seed}\n{group}")
        places[(share >= fractions[0]) + (share >= fractions[0] + fractions[1])].append(row)
    return Splits(*(tuple(place) for place in places))


def _groups(names: Sequence[Sequence[str]]) -> list[str]:
    """For each row the first, in alphabetical order, of all names that are linked to its own by rows that bear both."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for each in names:
        roots = {root(name) for name in each}
        parent.update(dict.fromkeys(roots, min(roots)))
    return [root(each[0]) for each in names]


def opening(row: Conversation) -> str:
    """What the user says first: whole turns until they come to ``OPENING`` characters; "" if the user says nothing."""
    said = ""
    for message in row.messages:
        if message.role == "user" and len(said) < OPENING:
            said = f"{said}\n{message.text}".strip()
    return said


def _names(row: Conversation) -> list[str]:
    """What a row may share with others: its opening, also but for case and white space, or else its id; its pair."""
    said = opening(row)
    alike = " ".join(said.casefold().split())
    named = [f"opening {said}", f"similar {alike}"] if said else [f"id {row.id}"]
    return [*named, f"pair {row.pair}"] if row.pair else named


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
