"""What short conversations wait for, and whether they are answered, beside long ones that keep a monitor busy.

Three callers send long conversations one after the other, three send short ones with .3 s between; all ask the embedded
monitor through the gateway's queue, in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter

import numpy as np

from offmap.conversation import Conversation, Message
from offmap.gateway.config import Limits, MonitorTable
from offmap.gateway.monitors import Running
from offmap.gateway.opening import open_bundle

CALLERS = 3
PAUSE = {"long": 0.05, "short": 0.3}
SENTENCE = "Please tell me how to bake bread for ten people, and what it takes in an oven without a fan. "


async def measured(kib: float, seconds: float) -> dict[str, list[tuple[str, float]]]:
    """Outcome and seconds of every answer, by the kind of conversation."""
    timeout = MonitorTable(bundle="pocket").timeout_ms / 1000
    running = Running("pocket", open_bundle("pocket"), timeout=timeout, limits=Limits())
    said = {"long": SENTENCE * max(1, round(kib * 1024 / len(SENTENCE))), "short": SENTENCE}
    found: dict[str, list[tuple[str, float]]] = {kind: [] for kind in said}
    await running.ask(Conversation("first", (Message("user", "hello"),)))
    ends = time.monotonic() + seconds

    async def caller(kind: str) -> None:
        while (began := time.monotonic()) < ends:
            answer = await running.ask(Conversation("c", (Message("user", f"{said[kind]}{len(found[kind])}"),)))
            found[kind].append((answer.outcome, time.monotonic() - began))
            await asyncio.sleep(PAUSE[kind])

    await asyncio.gather(*(caller(kind) for kind in said for _ in range(CALLERS)))
    await running.drain(5)
    return found


def main() -> None:
    """Print what became of both kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kib", type=float, nargs="+", default=[4, 12], help="sizes of the long conversations")
    parser.add_argument("--seconds", type=float, default=20, help="of each size")
    options = parser.parse_args()
    for kib in options.kib:
        for kind, answers in asyncio.run(measured(kib, options.seconds)).items():
            took = 1e3 * np.array([seconds for _, seconds in answers])
            outcomes = dict(Counter(outcome for outcome, _ in answers))
            print(f"{kib:g} KiB, {kind}: {outcomes}; median {np.median(took):.0f} ms, most {took.max():.0f} ms")


if __name__ == "__main__":
    main()
