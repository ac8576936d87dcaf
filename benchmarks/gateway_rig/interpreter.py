"""What the interpreter takes by itself: builds of one version differ by what they were optimised with."""

from __future__ import annotations

import time

TURNS = 100_000


def interpreter(repeats: int = 20) -> float:
    """Seconds of ``TURNS`` turns of a plain loop; the fastest of ``repeats``, so that other work falls out."""
    return min(_timed() for _ in range(repeats))


def _timed() -> float:
    start, seen = time.perf_counter(), {}
    for number in range(TURNS):
        seen[number % 100] = _step(number)
    return time.perf_counter() - start


def _step(number: int) -> tuple[int, ...]:
    return tuple(each for each in (number, 1) if isinstance(each, int))
