"""What the disk takes by itself: the least that a durable commit can."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from gateway_rig.figures import Array

PAGES = bytes(8192)
"""About what a decision writes."""
_LENGTH = 16 << 20


def disk(directory: Path, rate: float, seconds: float) -> Array:
    """Seconds of each of ``rate`` writes a second of two pages and their flush, into a file that is there already.

    No file grows and nothing is renamed, so the file system has nothing to do but to pass them on.
    """
    path = directory / "disk"
    path.write_bytes(bytes(_LENGTH))
    file = os.open(path, os.O_RDWR)
    try:
        os.fsync(file)
        start, found = time.monotonic(), []
        for number in range(max(1, round(rate * seconds))):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            begun = time.perf_counter()
            os.pwrite(file, PAGES, number * len(PAGES) % _LENGTH)
            os.fdatasync(file)
            found.append(time.perf_counter() - begun)
        return np.array(found)
    finally:
        os.close(file)
        path.unlink()
