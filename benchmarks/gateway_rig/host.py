"""What the host of a virtual machine takes of its processors: in that time there are fewer than the machine says."""

from __future__ import annotations

import os
from pathlib import Path

MOST_TAKEN = 0.02
"""Seconds in a second, of all processors together: a convention; of two it is a hundredth of their time. A round in
which the host took more in any arm's turn is taken again."""
_STEAL = 8
"""The place of that count in the kernel's line, proc(5): cpu, user, nice, system, idle, iowait, irq, softirq, steal."""


def taken(stat: Path = Path("/proc/stat")) -> float:
    """Seconds since the start in which a processor had work and the host ran others on it.

    0 where there is no host, and where it tells nothing of this.
    """
    line = stat.read_text().partition("\n")[0].split()
    return int(line[_STEAL]) / os.sysconf("SC_CLK_TCK")
