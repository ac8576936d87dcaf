"""Every monitor of a stage's cascade asked about every row of a file, as the gateway asks it: windows and all.

Only time-outs are off. How long an answer took is measured with as many rows under way as the caller says, so one at
a time is what it takes by itself. Answers are kept (``findings``); who is asked again is asked only about the rest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offmap.backbones.trained_on import require_unseen
from offmap.conversation import Conversation
from offmap.errors import EndpointError
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Finding, Stage
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.tuning.findings import Findings, Kept, key_of
from offmap.gateway.tuning.traffic import Traffic

FAILURES_IN_A_ROW = 10
"""After so many a monitor is taken to be out of order, and not the texts."""


@dataclass(frozen=True)
class Asking:
    """How monitors are asked.

    Attributes:
        at_once: rows under way; above 1 the seconds hold some waiting for others.
        progress: told how many more answers there are.
    """

    at_once: int = 1
    progress: Callable[[int], None] = lambda _: None


def left_to_ask(
    gateway: Gateway, stage: Stage, rows: Sequence[Conversation], opened: Mapping[str, Opened], findings: Findings
) -> dict[str, int]:
    """How many answers of each monitor of the cascade are not there yet."""
    return {
        step.monitor: len(_unanswered(gateway, step.monitor, opened[step.monitor], rows, findings))
        for step in gateway.stages[stage].steps
    }


def score_rows(
    gateway: Gateway,
    stage: Stage,
    rows: Sequence[Conversation],
    opened: Mapping[str, Opened],
    findings: Findings,
    asking: Asking = Asking(),
) -> Traffic:
    """What each monitor of the cascade finds of each row. One that fails about a row counts as not asked about it.

    Args:
        gateway: the policy.
        stage: whose cascade; each row is what that stage looks at.
        rows: conversations with or without labels.
        opened: the monitors, by name.
        findings: what is known, and where it is kept.
        asking: how they are asked.

    Raises:
        InputError: a monitor was trained on a row.
        EndpointError: a monitor fails again and again; what was found by then is kept.
    """
    names = tuple(step.monitor for step in gateway.stages[stage].steps)
    for name in names:
        require_unseen(_seen_by(opened[name]), {"tuning": rows})
    for name in names:
        todo = _unanswered(gateway, name, opened[name], rows, findings)
        if todo:
            asyncio.run(_ask(_running(gateway, name, opened[name], asking), todo, findings, asking))
    answers = [[findings.known.get(_key(gateway, name, opened[name], row)) for name in names] for row in rows]
    columns = np.array([[each.row if each else (math.nan,) * 3 for each in row] for row in answers])
    p_unsafe, p_unknown, seconds = np.moveaxis(columns.reshape(len(rows), len(names), 3), -1, 0)
    return Traffic(
        stage=stage,
        monitors=names,
        versions=tuple(opened[name].version for name in names),
        ids=tuple(row.id for row in rows),
        p_unsafe=p_unsafe,
        p_unknown=p_unknown,
        asked=np.array([[each is not None for each in row] for row in answers]).reshape(len(rows), len(names)),
        unsafe=np.array([math.nan if row.unsafe is None else float(row.unsafe) for row in rows]),
        weight=np.ones(len(rows)),
        seconds=seconds,
    )


def _key(gateway: Gateway, name: str, opened: Opened, row: Conversation) -> str:
    return key_of(gateway, name, opened.version, row)


def _unanswered(
    gateway: Gateway, name: str, opened: Opened, rows: Sequence[Conversation], findings: Findings
) -> dict[str, Conversation]:
    """By key; of rows that say the same, one."""
    keyed = {_key(gateway, name, opened, row): row for row in rows}
    return {key: row for key, row in keyed.items() if key not in findings.known}


def _seen_by(opened: Opened) -> Any:
    """What of a monitor says what it was trained on: its backbone or its judge."""
    return getattr(opened.scorer, "judge", None) or getattr(opened.scorer, "backbone", None)


def _running(gateway: Gateway, name: str, opened: Opened, asking: Asking) -> Running:
    return Running(
        name,
        opened,
        timeout=math.inf,
        limits=gateway.limits,
        queue=asking.at_once,
        window_tokens=gateway.monitors[name].window_tokens,
    )


async def _ask(running: Running, todo: Mapping[str, Conversation], findings: Findings, asking: Asking) -> None:
    left, failed = iter(todo.items()), 0

    async def worker() -> None:
        nonlocal failed
        for key, row in left:
            found = await running.ask(row)
            failed = 0 if _answered(found) else failed + 1
            if failed >= FAILURES_IN_A_ROW:
                raise EndpointError(f"monitor {running.name!r} failed about {failed} conversations in a row")
            if _answered(found):
                findings.add(Kept.of(key, found))
            asking.progress(1)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(asking.at_once, len(todo))):
                workers.create_task(worker())
    except* EndpointError as errors:
        raise errors.exceptions[0] from None
    finally:
        await running.drain(0)


def _answered(finding: Finding) -> bool:
    return finding.outcome in ("scored", "unscored")
