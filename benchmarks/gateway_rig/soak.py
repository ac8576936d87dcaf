"""Hours in minutes: one gateway under steady load, and what grows. Memory must not, the store must."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway_rig import figures
from gateway_rig.figures import Array
from gateway_rig.load import Client, Target, open_loop
from gateway_rig.phases import Told, audited, run
from gateway_rig.processes import Seen, look
from gateway_rig.setting import Setting, bodies

MIB = 2.0**20
BLOCKS = "allocated_blocks"
TURNS = 4
"""Requests of one conversation."""
AGAIN = 0.4
"""The share of the time after which conversations come again, forgotten: what remembers a stated number of them, as the
watch over drift does, is full before the second half begins."""
WINDOW = 10.0
"""Seconds of a window that is one point of a slope: its median; of allocated blocks the lowest, after a collection."""


class Sample(NamedTuple):
    """One moment: the process, and the bytes of the store with what SQLite keeps beside it."""

    process: Seen
    stored: int


def soak(setting: Setting, seconds: float) -> Told:
    """Load for that long, half of it with conversations that are remembered; verdicts on its second half."""
    watched = setting.plan.work / "blocks"
    with setting.served("soak", "--constant", "--watch", watched, soon=True) as (target, pid):
        outcomes, samples = run(_drive(setting, target, pid, seconds))
    times = np.array([each.process.at for each in samples])
    lines = [line.split() for line in watched.read_text().splitlines()]
    at, blocks = (np.array([float(line[n]) for line in lines]) for n in (0, 1))
    during = (at >= times[0]) & (at <= times[-1])
    series = {
        "resident_mib": (times, np.array([each.process.resident / MIB for each in samples])),
        BLOCKS: (at[during], blocks[during]),
        "handles": (times, np.array([float(each.process.handles) for each in samples])),
        "threads": (times, np.array([float(each.process.threads) for each in samples])),
    }
    stored = np.array([each.stored / MIB for each in samples])
    return {
        "seconds": seconds,
        "rate": setting.plan.rate,
        "outcomes": dict(outcomes),
        "series": {n: grown(*each, np.min if n == BLOCKS else np.median) for n, each in series.items()},
        "store_mib_per_1000_requests": float((stored[-1] - stored[0]) / (sum(outcomes.values()) / 1000)),
        "audit": audited(setting.store("soak"), []),
        "samples": [
            [float(each.process.at - times[0]), each.process.resident / MIB, each.stored / MIB] for each in samples
        ],
    }


def grown(times: Array, values: Array, of: Callable[[Array], float] = np.median) -> Told:
    """What a series came to, and its growth in the second half: a day of it, and whether that half was flat."""
    later, level = figures.second_half(times, values)
    growth = figures.slope(*figures.thinned(later, level, WINDOW, of))
    return {
        "first": float(values[0]),
        "median": float(np.median(level)),
        "most": float(values.max()),
        "growth_per_day": {name: figures.DAY * value for name, value in asdict(growth).items()},
        "flat": figures.is_flat(growth, float(np.median(level))),
    }


async def _drive(setting: Setting, target: Target, pid: int, seconds: float) -> tuple[Counter[str], list[Sample]]:
    due = figures.arrivals(setting.plan.rate, seconds, setting.plan.seed)
    rows = setting.exchanges
    known = bodies(rows)
    different = max(1, int(AGAIN * len(due) / (2 * TURNS)))
    names: list[list[tuple[str, str]]] = []
    for number in range(len(due)):
        remembered = [("x-offmap-conversation", f"soak-{number // (2 * TURNS) % different}")]
        names.append(remembered if number % 2 else [])
    client, samples = Client(target), list[Sample]()
    sampling = asyncio.create_task(_sample(pid, setting.store("soak"), samples))
    answers = await open_loop(client, [known[n % len(rows)] for n in range(len(due))], due, names, keep=False)
    sampling.cancel()
    await client.aclose()
    return Counter("answered" if each.status == 200 else f"status {each.status}" for each in answers), samples


async def _sample(pid: int, store: Path, samples: list[Sample]) -> None:
    """Every second, until cancelled."""
    while True:
        stored = sum(path.stat().st_size for path in store.parent.glob(f"{store.name}*"))
        samples.append(Sample(look(pid), stored))
        await asyncio.sleep(1)
