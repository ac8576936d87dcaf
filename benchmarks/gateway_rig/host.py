"""What the host of a virtual machine takes of its processors: in that time there are fewer than the machine says."""

from __future__ import annotations

from pathlib import Path

MOST_STOLEN = 0.01
"""Of the processors' time in a turn, above which the turn says more of the host than of what is measured."""
_STOLEN = 7
"""The place of that count in the kernel's line, proc(5): user, nice, system, idle, iowait, irq, softirq, steal."""


def clocks(stat: Path = Path("/proc/stat")) -> tuple[int, ...]:
    """What the processors have done since the start, in ticks, by kind."""
    line = stat.read_text().partition("\n")[0]
    return tuple(int(each) for each in line.split()[1 : _STOLEN + 2])


def stolen(before: tuple[int, ...], after: tuple[int, ...]) -> float:
    """The share of the processors' time that they wanted to run and the host ran others; 0 without a host."""
    passed = [b - a for a, b in zip(before, after, strict=True)]
    return passed[_STOLEN] / max(1, sum(passed))
