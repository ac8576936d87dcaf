"""From labels to a stored proposal: past traffic, new bands, and what they would have changed. Nothing goes live.

Knows neither a page nor a terminal.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from offmap.errors import InputError
from offmap.gateway.config import StageTable
from offmap.gateway.decision import Stage
from offmap.gateway.live import Live
from offmap.gateway.policy import bands, false_positive_rate, heard
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.promotions import Draft, add_proposal
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.compare import Comparison, compare
from offmap.gateway.tuning.from_log import Logged, logged_traffic, require_labels
from offmap.gateway.tuning.proposal import Proposal, apply_proposal, propose

RATES = {
    "flagged": "stopped or held, of all",
    "held": "held for a person, of all",
    "false_alarms": "false alarms, of safe",
    "recall": "found, of unsafe",
}
"""Names of ``compare.Side``, in words."""
SAME_ROWS = (
    "The false alarms of the proposed bands are counted on the very labels that set them, so they look as they were "
    "wanted; labels of later traffic will tell"
)


@dataclass(frozen=True)
class Recalibration:
    """A proposal that was made and stored.

    Attributes:
        id: its number.
        logged: the traffic that it was made from.
        proposal, comparison: what it says; compared with what is in force now.
        old, new: the stage as it is in force, and as it would be.
    """

    id: int
    logged: Logged
    proposal: Proposal
    comparison: Comparison
    old: StageTable
    new: StageTable


_AT_WORK = threading.Lock()


def recalibrate(live: Live, stage: Stage, alpha: float | None = None, *, since: float = -math.inf) -> Recalibration:
    """Propose bands for a stage from what people said of its past traffic, and keep the proposal; one at a time.

    Args:
        live: the policy, and where its decisions and labels are.
        stage: which stage.
        alpha: the share of safe traffic that may be stopped or held; None: what the file's own bands promise.
        since: seconds since the epoch; earlier decisions are left out.

    Raises:
        InputError: the policy has no such stage, alpha is no share, or the labels do not suffice: the message says how
            many more are wanted, or why no number of such labels would do. Or this process is at another one.
        StoreError: see ``Store``.
    """
    if not _AT_WORK.acquire(blocking=False):
        raise InputError("another proposal is being made, wanted one at a time; try again when it is done")
    try:
        return _recalibrate(live, stage, alpha, since)
    finally:
        _AT_WORK.release()


def _recalibrate(live: Live, stage: Stage, alpha: float | None, since: float) -> Recalibration:
    if stage not in live.file.stages:
        raise InputError(f"stages.{stage}: found none, wanted one of {', '.join(live.file.stages)}")
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha:g}; wanted a number between 0 and 1, both excluded")
    own, old = live.file.stages[stage], live.read().gateway.stages[stage]
    budget = promised(own, alpha)
    logged = logged_traffic(live.store, stage, tuple(step.monitor for step in own.steps), since)
    require_labels(logged, budget.shares(own).alpha)
    made = propose(logged.traffic, old, budget)
    said = (*logged.notes, *made.notes, SAME_ROWS, *_elsewhere(live, logged))
    made = msgspec.structs.replace(made, notes=said)
    new = apply_proposal(live.file, made).stages[stage]
    comparison = compare(logged.traffic, old, new)
    versions = dict(zip(logged.traffic.monitors, logged.traffic.versions, strict=True))
    draft = Draft(stage, live.policy, versions, canonical(made), canonical(comparison))
    return Recalibration(add_proposal(live.store, draft, time.time()), logged, made, comparison, old, new)


def _elsewhere(live: Live, logged: Logged) -> Iterator[str]:
    """What to mind where the gateway seems to serve another file, for which no promotion from here counts."""
    found = live.read()
    if not found.seq and logged.policy != found.policy:
        yield (
            f"The last decision was made by policy {logged.policy} and this file is {found.policy}: what is promoted "
            "is for this file as it stands, named as it is here"
        )


def promised(table: StageTable, alpha: float | None = None) -> Budget:
    """What the bands of a stage promise by their p-values, as a budget; with another ``alpha`` in the same proportion.

    The share of safe traffic that is stopped or held, and, where the last monitor's doubts go to a person, how much of
    that people are asked about.
    """
    nominal = false_positive_rate(table)
    rate = nominal if alpha is None else alpha
    last = heard(table, bands(table)[-1]).values()
    doubts = sum(high - low for low, high in last) if table.actions.uncertain == "escalate" else 0.0
    if not doubts or not nominal:
        return Budget(alpha=rate)
    held = doubts + sum(
        band[0]
        for step in bands(table)
        for question, band in heard(table, step).items()
        if getattr(table.actions, question) == "escalate"
    )
    # Of one request a day and one minute each: minutes are the share itself.
    share = min(1.0, held / nominal) * rate
    return Budget(alpha=rate, requests_per_day=1.0, reviewer_minutes_per_day=share, minutes_per_review=1.0)
