"""What is measured: each phase starts its servers, sends, stops them, and says what was seen in plain numbers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gateway_rig import figures
from gateway_rig.disk import disk
from gateway_rig.figures import Array
from gateway_rig.load import Client, Target, closed_loop
from gateway_rig.processes import environment, module
from gateway_rig.rounds import FAILED, Seen, Taken, Try, add, take_turns
from gateway_rig.serving import exact_loop
from gateway_rig.setting import DIRECT, GATEWAY, IN_MEMORY, LITELLM, LITELLM_COMMAND, PEER, Setting, bodies
from gateway_rig.traffic import Exchange
from offmap.gateway.store import find, open_store, verify

Told = dict[str, Any]
"""Of JSON."""
T = TypeVar("T")
SHARES = (0.3, 0.5, 0.7, 0.85)
"""Of what a gateway that is never idle could answer: the rates that are tried with the embedded monitor."""


def overhead(setting: Setting) -> Told:
    """What the hop adds without a model: against the bare upstream and against peers, all in one run."""
    return _compared(setting, "overhead", stream=False)


def stream(setting: Setting) -> Told:
    """The same for answers in pieces."""
    return _compared(setting, "stream", stream=True)


def _compared(setting: Setting, name: str, *, stream: bool) -> Told:
    alone = [disk(setting.plan.work, setting.plan.rate, setting.plan.seconds)]
    with _arms(setting, name) as arms:
        found = run(take_turns(setting.plan, arms, setting.exchanges, stream=stream))
    alone.append(disk(setting.plan.work, setting.plan.rate, setting.plan.seconds))
    return {
        "rate": setting.plan.rate,
        **taken_told(found, stream=stream),
        "disk_ms": _spread(np.concatenate(alone)),
        "audit": audited(setting.store(name), found.every[GATEWAY].decisions),
    }


def taken_told(found: Taken, *, stream: bool = False) -> Told:
    """Every arm's figures of the rounds that count, those of first tries, and what the host took in each try."""
    arms = {arm: arm_told(seen, found.counted[DIRECT], stream=stream) for arm, seen in found.counted.items()}
    first = {arm: arm_told(seen, found.first[DIRECT], stream=stream) for arm, seen in found.first.items()}
    for arm, told in arms.items():
        told["first_tries"] = {name: first[arm][name] for name in ("added_ms", "first_added_ms") if name in first[arm]}
    return {
        "arms": arms,
        "host_taken_at_most": max(max(each.taken.values()) for each in found.tries if each.counts),
        "tries": [_try_told(each, number, found.every) for number, each in enumerate(found.tries)],
    }


def _try_told(once: Try, number: int, every: Mapping[str, Seen]) -> Told:
    """One try of a round, ``number`` in the order of all: what the host took, and how long the answers did."""
    told = {arm: _spread(_there(seen.rounds[number])) for arm, seen in every.items()}
    return {"round": once.number, "counts": once.counts, "host_taken": once.taken, "seconds_ms": told}


def parts(setting: Setting) -> Told:
    """Where the time goes, in one round: by timers around the gateway's parts (``served.Timers``)."""
    file, plan = setting.plan.work / "timers.json", replace(setting.plan, rounds=1, tries=1)
    with setting.served("parts", "--constant", "--timers", file) as (target, _):
        found = run(take_turns(plan, {GATEWAY: target}, setting.exchanges)).counted
    timed = _timers(file, found[GATEWAY])
    whole = np.array([row["whole"] for row in timed["requests"]])
    seen = found[GATEWAY].rounds[0]
    outside = figures.quantile(seen[~np.isnan(seen)], 0.5) - figures.quantile(whole, 0.5)
    told = {name: _spread([row.get(name, 0.0) for row in timed["requests"]]) for name in PARTS}
    rest = [row["whole"] - sum(row.get(name, 0.0) for name in TURNS) for row in timed["requests"]]
    return {
        "parts_ms": told | {"the rest": _spread(rest)},
        "outside_ms": 1e3 * outside,
        "outcomes": dict(found[GATEWAY].outcomes),
        "audit": audited(setting.store("parts"), found[GATEWAY].decisions),
        "batches": _sizes(timed["batches"]),
        "commits": _sizes(timed["commits"]),
        "full_collections_ms": [1e3 * seconds for generation, seconds in timed["collections"] if generation == 2],
    }


def pocket(setting: Setting, repeats: int = 5) -> Told:
    """With the embedded monitor: its bare pass, itself, and the gateway around it; then as many as the CPU can bear."""
    rows, out = setting.exchanges[: min(60, len(setting.exchanges))], setting.plan.work / "bare.json"
    _call("bare", setting.plan.work / "exchanges.json", out, repeats, len(rows))
    alone = {name: np.array(each) for name, each in json.loads(out.read_text()).items()}
    with setting.command("pocket") as (target, _):
        seen = run(_one_by_one({DIRECT: setting.direct, GATEWAY: target}, rows, repeats))
    added = _median_added(seen[GATEWAY], seen[DIRECT])
    right = ~np.isnan(added)
    above = {name: added[right] - alone[name][right] for name in alone}
    told = {
        "exchanges": len(rows),
        "outcomes": dict(seen[GATEWAY].outcomes),
        "bare_pass_ms": _spread(alone["bare pass"][right]),
        "monitor_ms": _spread(alone["monitor"][right]),
        "added_ms": _spread(added[right]),
        "added_over_bare_pass_ms": _spread(above["bare pass"]),
        "added_over_monitor_ms": _spread(above["monitor"]),
        "ratio_to_bare_pass": float(added[right].sum() / alone["bare pass"][right].sum()),
    }
    return told | {"load": _borne(setting, 1 / float(np.mean(added[right])))}


def arm_told(seen: Seen, bare: Seen, *, stream: bool = False) -> Told:
    """An arm's figures, and what it adds to the bare upstream's; milliseconds."""
    told: Told = {
        "outcomes": dict(seen.outcomes),
        "seconds_ms": _quantiles([_there(each) for each in seen.rounds]),
        "added_ms": _quantiles(figures.added(seen.rounds, bare.rounds)),
        "sent_late_p99_ms": 1e3 * figures.quantile(np.concatenate(seen.late), 0.99),
    }
    if stream:
        own = [a - b for a, b in zip(seen.first, bare.held, strict=True)]
        told["first_ms"] = _quantiles([_there(each) for each in seen.first])
        told["first_added_ms"] = _quantiles(figures.added(seen.first, bare.first))
        told["first_added_beyond_hold_ms"] = _quantiles(figures.added(own, bare.first))
        told["held_back_ms"] = _quantiles([_there(each) for each in bare.held])
    return told


def audited(store: Path, decisions: Sequence[str]) -> Told:
    """Whether every decision that was told is in the chain, and the chain holds."""
    opened = open_store(f"sqlite:///{store}")
    try:
        checked = verify(opened)
        missing = [each for each in decisions if find(opened, each) is None]
    finally:
        opened.close()
    return {"told": len(decisions), "missing": len(missing), "rows": checked.n, "holds": checked.broken_at is None}


TURNS = ("gate", "read request", "check request", "upstream", "read reply", "check reply")
"""What ``served.install`` times: one after the other, and with "the rest" they are the "whole"."""
PARTS = (*TURNS, "whole", "monitor", "audit")
"""The same, and what lies within the checks: the log writes about the request while the upstream works."""


@contextmanager
def _arms(setting: Setting, name: str) -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        arms = {DIRECT: setting.direct, PEER: stack.enter_context(setting.peer())}
        arms[GATEWAY], _ = stack.enter_context(setting.served(name, "--constant"))
        arms[IN_MEMORY], _ = stack.enter_context(setting.served(f"{name} {IN_MEMORY}", "--constant"))
        if LITELLM_COMMAND.is_file():
            arms[LITELLM] = stack.enter_context(setting.litellm())
        yield arms


async def _one_by_one(arms: Mapping[str, Target], rows: Sequence[Exchange], repeats: int) -> dict[str, Seen]:
    """Every exchange alone, through one arm after the other."""
    found = {name: Seen() for name in arms}
    clients = {name: Client(target) for name, target in arms.items()}
    for client in clients.values():
        await closed_loop(client, bodies(rows[:5]))
    for _ in range(repeats):
        answers: dict[str, list[Any]] = {name: [] for name in arms}
        for body in bodies(rows):
            for name, client in clients.items():
                answers[name] += await closed_loop(client, [body])
        for name, seen in found.items():
            add(seen, rows, answers[name])
    for client in clients.values():
        await client.aclose()
    return found


def _borne(setting: Setting, capacity: float) -> Told:
    """Open loops at growing rates, until the gateway cannot keep up: the highest rate that it bears."""
    file = setting.plan.work / "pocket-timers.json"
    tried: list[Told] = []
    for number, share in enumerate(SHARES):
        plan = replace(setting.plan, rate=share * capacity, seconds=max(20.0, setting.plan.seconds), rounds=1, tries=1)
        with setting.served(f"pocket-{number}", "--timers", file) as (target, _):
            seen = run(take_turns(plan, {GATEWAY: target}, setting.exchanges)).counted[GATEWAY]
        times, timed = _there(seen.rounds[0]), _timers(file, seen)
        half = len(times) // 2
        growth = figures.quantile(times[half:], 0.5) / figures.quantile(times[:half], 0.5)
        tried.append(
            {
                "rate": plan.rate,
                "of_capacity": share,
                "outcomes": dict(seen.outcomes),
                "seconds_ms": _spread(times),
                "later_to_earlier_median": growth,
                "batches": _sizes(timed["batches"]),
                "borne": not seen.outcomes[FAILED] and growth < 1.5,
            }
        )
        if not tried[-1]["borne"]:
            break
    borne = [each["rate"] for each in tried if each["borne"]]
    return {"capacity": capacity, "tried": tried, "highest_borne_rate": max(borne, default=0.0)}


def _median_added(through: Seen, bare: Seen) -> Array:
    """For each exchange the median over repetitions; NaN where it was not answered each time."""
    return np.median(np.array(through.rounds) - np.array(bare.rounds), axis=0)


def _timers(file: Path, seen: Seen) -> Told:
    """What ``served.Timers`` wrote of the requests that count: warming up is left out."""
    timed: Told = json.loads(file.read_text())
    return timed | {"requests": timed["requests"][-sum(map(len, seen.rounds)) :]}


def _there(values: Array) -> Array:
    return values[~np.isnan(values)]


def _quantiles(rounds: Sequence[Array]) -> dict[str, dict[str, float]]:
    """p50, p90 and p99 in milliseconds, with intervals over rounds."""
    scaled = [1e3 * each for each in rounds if len(each)]
    return {f"p{round(100 * q)}": asdict(figures.quantile_of(scaled, q)) for q in (0.5, 0.9, 0.99)} if scaled else {}


def _spread(seconds: Sequence[float] | Array) -> dict[str, float]:
    """Mean, p50 and p99 in milliseconds."""
    values = 1e3 * np.asarray(seconds, dtype=np.float64)
    if not len(values):
        return {}
    return {"mean": float(values.mean()), "p50": figures.quantile(values, 0.5), "p99": figures.quantile(values, 0.99)}


def _sizes(calls: Sequence[tuple[int, float]]) -> Told:
    """How many calls there were of each size, and their times."""
    sizes = np.bincount([size for size, _ in calls]) if calls else np.zeros(0, int)
    counted = {str(size): int(n) for size, n in enumerate(sizes) if n}
    return {"sizes": counted, "calls_ms": _spread([seconds for _, seconds in calls])}


def run(work: Coroutine[Any, Any, T]) -> T:
    """On a loop with exact timers."""
    with asyncio.Runner(loop_factory=exact_loop) as runner:
        return runner.run(work)


def _call(name: str, *arguments: object) -> None:
    subprocess.run(module(name, *arguments), check=True, env=environment())  # noqa: S603 - a module of the rig
