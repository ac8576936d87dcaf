"""Small helpers for clauses that stand in the middle or at the beginning of a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def upper_first(clause: str) -> str:
    """The clause as the beginning of a sentence."""
    return clause[:1].upper() + clause[1:]


def listed(items: Sequence[object]) -> str:
    """``a, b and c``."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
