"""Ids that sort by time. Knows nothing of what they name."""

from __future__ import annotations

import os
from collections.abc import Callable


def uuid7(now: float, random: Callable[[int], bytes] = os.urandom) -> str:
    """A UUID of version 7 (RFC 9562) for a time in seconds: sortable as text to a quarter of a microsecond.

    48 bits of milliseconds, 12 bits of the millisecond's fraction (the RFC's method 3), 62 random bits.
    """
    ticks = int(now * 1000 * 4096)
    low = int.from_bytes(random(8)) & ((1 << 62) - 1)
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | low
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
