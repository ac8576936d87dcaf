"""What the gateway adds to a request, with and without a model, and whether it grows: a load test on one machine.

    python benchmarks/gateway.py [--soak 600] [--out runs/gateway]

Starts a mock upstream, a plain proxy and the gateway as processes, sends the same requests at the same moments through
each in turn, and prints what the hop added. Writes ``gateway.json``, ``table.md`` and ``gateway.svg``; exits with 1 if
a goal is missed or could not be measured. README.md says what is compared and how. Linux only.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from gateway_rig import phases, show
from gateway_rig.interpreter import interpreter
from gateway_rig.setting import Plan, Setting, setting
from gateway_rig.soak import soak

from offmap.atomic import write_whole

PHASES = ("overhead", "parts", "stream", "pocket")
STREAM_RATE = 10.0
"""Streams a second: each is some thirty events long, and the sender and both servers before it are Python too."""
_WORDS = {True: "reached", False: "MISSED", None: "NOT MEASURED"}
SHORTEST_SOAK = 60.0
"""Seconds: three points of a slope in the second half."""


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gateway"))
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round of one arm")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tries", type=int, default=8, help="of a round, until the host leaves the processors alone")
    parser.add_argument("--think", type=float, default=0.02, help="seconds that the upstream takes")
    parser.add_argument("--max-wait-ms", type=float, default=0.0, help="of the gateway's batches")
    parser.add_argument("--phases", nargs="*", choices=PHASES, default=list(PHASES))
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of the soak; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    if (
        min(asked.rate, asked.seconds, asked.rounds, asked.tries) <= 0
        or min(asked.think, asked.soak, asked.max_wait_ms) < 0
    ):
        parser.error("wanted a rate, seconds, rounds and tries above 0, and no negative number")
    if 0 < asked.soak < SHORTEST_SOAK:
        parser.error(f"--soak is {asked.soak:g}; wanted 0, or at least {SHORTEST_SOAK:g} seconds")
    return asked


def measure(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Every phase that was asked for; stores and logs go into ``work``."""
    plan = Plan(
        work,
        asked.rate,
        asked.seconds,
        asked.rounds,
        asked.think,
        seed=asked.seed,
        max_wait_ms=asked.max_wait_ms,
        tries=asked.tries,
    )
    slower = replace(plan, rate=min(STREAM_RATE, plan.rate), work=work / "stream")
    runs: dict[str, tuple[Plan, Callable[[Setting], dict[str, Any]]]] = {
        "overhead": (plan, phases.overhead),
        "parts": (plan, phases.parts),
        "stream": (slower, phases.stream),
        "pocket": (replace(plan, work=work / "pocket"), phases.pocket),
        "soak": (replace(plan, work=work / "soak"), lambda made: soak(made, asked.soak)),
    }
    found: dict[str, Any] = {
        "rate": plan.rate,
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "think": plan.think,
        "max_wait_ms": plan.max_wait_ms,
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}",
        "interpreter_ms": 1e3 * interpreter(),
    }
    for name in (*asked.phases, *(["soak"] if asked.soak else [])):
        print(f"{name} ...", file=sys.stderr)
        planned, run = runs[name]
        with setting(planned) as made:
            found[name] = run(made)
        # Each phase is written when it is done: those behind it take long.
        write_whole(asked.out / "gateway.json", msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, write; 1 if a goal was missed or not measured."""
    asked = options(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=asked.out) as work:  # a disk, where /tmp may be memory
        found = measure(asked, Path(work).resolve())
    told = show.table(found)
    write_whole(asked.out / "table.md", told.encode())
    if "overhead" in found:
        write_whole(asked.out / "gateway.svg", show.picture(found).encode())
    print(told)
    goals = show.goals(found)
    for words, reached in goals.items():
        print(f"{_WORDS[reached]}: {words}")
    return not all(goals.values())


if __name__ == "__main__":
    sys.exit(main())
