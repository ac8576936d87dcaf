"""Past traffic with its labels, from the audit chain and the review queue: what ``propose`` and ``compare`` are given.

Who is labelled is not who passes by. Escalations were chosen by their p-values and all of them are looked at; of
everything else a random sample is. So a label of the sample stands for many decisions and a label of an escalation for
few, and only with these weights do labels say something about the traffic (Horvitz & Thompson 1952). With weights 1 /
probability and a threshold that counts them, the false-alarm rate of the next safe decision is held as if every
decision had been labelled (weighted conformal prediction: Tibshirani, Barber, Candes & Ramdas 2019, arXiv 1904.06019).

Within each of the two classes, escalated and not, the labels' weights are brought to the number of decisions of the
class in the log (post-stratification: Holt & Smith 1979). Given how many there are, that is the inverse of the
probability with which each was labelled, whatever the share of the sample was and although some escalations timed out
or were "unsure". It takes for granted that within a class nobody chose what to label by what it was; a class in which
few of those that were to be looked at got a label is told.

Without a sample the labels are all of escalations, at or below the cut that was in force. How many safe decisions lie
where a new cut might be, and even how many safe decisions there are, they cannot say: that is refused. A policy under
which no sample was drawn has no part in the labels for the same reason.

Rows of one conversation bear one id, so that they stay together where rows are divided. They count as if they were
independent; where conversations have many decisions, rates are known less well than the intervals say. Knows nothing of
thresholds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.decision import Outcome, Stage
from offmap.gateway.policy import ERRORS
from offmap.gateway.store import Store
from offmap.gateway.store.tables import AUDIT, REVIEW
from offmap.gateway.tuning.traffic import Traffic
from offmap.weighting import effective_size

FEW_ANSWERED = 0.8
"""Share of what was to be looked at with a label, below which that is told."""


class _Finding(msgspec.Struct, frozen=True):
    """Of ``decision.Finding`` what is read here."""

    monitor: str
    version: str
    outcome: Outcome
    p_unsafe: float | None = None
    p_unknown: float | None = None
    seconds: float = 0.0


class _Decision(msgspec.Struct, frozen=True):
    """Of ``decision.Decision`` what is read here."""

    id: str
    at: float
    stage: Stage
    policy: str
    conversation: str = ""
    caller: str = ""
    findings: tuple[_Finding, ...] = ()


@dataclass(frozen=True)
class _Row:
    decision: _Decision
    reason: str | None
    probability: float
    verdict: str | None

    @property
    def escalated(self) -> bool:
        return self.reason == "escalated"


@dataclass(frozen=True)
class Logged:
    """Past traffic of a stage.

    Attributes:
        traffic: its rows; a label that cannot be weighted is none, and the weight of a row without one is 1.
        escalated: (n,), whether a person was asked because of its p-values.
        notes: what was left out and what to mind, in sentences.
        policy: of the last of these decisions.
    """

    traffic: Traffic
    escalated: NDArray[np.bool_]
    notes: tuple[str, ...]
    policy: str

    @property
    def sampled(self) -> int:
        """Labels that come from the random sample."""
        return int(np.sum(~np.isnan(self.traffic.unsafe) & ~self.escalated))


def logged_traffic(store: Store, stage: Stage, monitors: Sequence[str], since: float = -math.inf) -> Logged:
    """Every decision of a stage by one cascade, in the versions that decided last, joined with its label.

    Args:
        store: its audit chain and review queue.
        stage: which decisions.
        monitors: names of the cascade, in order.
        since: seconds since the epoch; earlier decisions are left out.

    Raises:
        InputError: there is none.
        StoreError: see ``Store.read``.
    """
    wanted = tuple(monitors)
    rows, others = [], Counter[str]()
    for row in _rows(store, stage, since):
        if tuple(each.monitor for each in row.decision.findings) != wanted:
            others["by other monitors, or by none"] += 1
        elif any(each.outcome in ERRORS for each in row.decision.findings):
            others["with a monitor that failed, which no threshold decides about"] += 1
        else:
            rows.append(row)
    if not rows:
        raise InputError(f"stages.{stage}: found no decision of {', '.join(wanted)} in the log, wanted some")
    versions = _versions(rows[-1])
    mine = [row for row in rows if _versions(row) == versions]
    others["by other versions of these monitors"] = len(rows) - len(mine)
    notes = [f"{count} decisions {what} are left out" for what, count in others.items() if count]
    weights, labels, said = _weighted(mine)
    traffic = _traffic(mine, stage, versions, (labels, weights))
    escalated = np.array([row.escalated for row in mine])
    return Logged(traffic, escalated, (*notes, *said), mine[-1].decision.policy)


def require_labels(logged: Logged, alpha: float) -> None:
    """Refuse labels from which no threshold with a false-alarm rate of ``alpha`` can be told.

    Raises:
        InputError: no sample, or too few safe labels; the message says how many more are wanted.
    """
    traffic = logged.traffic
    labelled = ~np.isnan(traffic.unsafe)
    if not logged.sampled:
        held = int(np.sum(labelled & logged.escalated))
        raise InputError(
            f"{held} labels of escalations and none of a random sample: those were chosen by their p-values, so they "
            "say nothing about how often safe traffic lies above the cut. Set [review] sample, and label what it brings"
        )
    if np.any(logged.escalated) and not np.any(labelled & logged.escalated):
        raise InputError(
            f"{int(logged.escalated.sum())} escalations, none of them labelled: nothing is known of the traffic that "
            "lies nearest to the cut. Label some before they time out"
        )
    weights = traffic.weight[traffic.unsafe == 0]
    needed = math.ceil(round(1 / alpha, 9)) - 1
    counted = min(effective_size(weights), float(weights.sum() / weights.max())) if len(weights) else 0.0
    if counted < needed * (1 - 1e-9):
        missing = math.ceil(needed - counted - 1e-6)
        raise InputError(
            f"{len(weights)} safe labels, which count for {counted:.1f} of equal weight; a false-alarm rate of "
            f"{alpha:g} needs {needed}: at least {missing} more safe labels of the sample are wanted"
        )


def _rows(store: Store, stage: Stage, since: float) -> Iterator[_Row]:
    columns = AUDIT.c.record, REVIEW.c.reason, REVIEW.c.probability, REVIEW.c.state, REVIEW.c.verdict
    joined = AUDIT.outerjoin(REVIEW, AUDIT.c.decision_id == REVIEW.c.decision_id)
    wanted = sa.select(*columns).select_from(joined).where(AUDIT.c.kind == "decision").order_by(AUDIT.c.seq)
    decoder = msgspec.json.Decoder(_Decision)
    with store.read() as connection, connection.execute(wanted.execution_options(yield_per=500)) as found:
        for record, reason, probability, state, verdict in found:
            decision = decoder.decode(record)
            if decision.stage == stage and decision.at >= since:
                yield _Row(decision, reason, probability or 0.0, verdict if state == "decided" else None)


def _versions(row: _Row) -> tuple[str, ...]:
    return tuple(each.version for each in row.decision.findings)


def _together(decision: _Decision) -> str:
    """The same for all decisions of one conversation."""
    return f"{decision.caller}/{decision.conversation}" if decision.conversation else decision.id


def _weighted(rows: Sequence[_Row]) -> tuple[FloatArray, FloatArray, list[str]]:
    """Weights and labels (1 unsafe, 0 safe, NaN none), and what to mind."""
    label = {"safe": 0.0, "unsafe": 1.0}
    labels = np.array([label.get(row.verdict or "", math.nan) for row in rows])
    sampled = {row.decision.policy for row in rows if row.reason == "sample"}
    drawn = np.array([row.reason in ("escalated", "sample") for row in rows])
    covered = np.array([row.decision.policy in sampled for row in rows])
    notes = []
    if chosen := int(np.sum(~drawn & ~np.isnan(labels))):
        notes.append(f"{chosen} labels of decisions that somebody chose, not chance, are not used")
    # Without any sample at all there is nothing to weight, and `require_labels` says so.
    if sampled and (alone := int(np.sum(drawn & ~covered & ~np.isnan(labels)))):
        notes.append(f"{alone} labels of policies under which no sample was drawn are not used")
    labels[~drawn | (~covered & bool(sampled))] = math.nan
    weights = np.ones(len(rows))
    held = np.array([row.escalated for row in rows])
    for of, mine in (("escalations", held & covered), ("decisions of the sample", ~held & covered)):
        answered = mine & ~np.isnan(labels)
        if not answered.any():
            continue
        weights[answered] = [1 / row.probability for row, here in zip(rows, answered, strict=True) if here]
        weights[answered] *= mine.sum() / weights[answered].sum()
        asked = int(np.sum(mine & drawn))
        if answered.sum() < FEW_ANSWERED * asked:
            notes.append(
                f"only {int(answered.sum())} of {asked} {of} have a label; that the others are like them is taken for "
                "granted"
            )
    return weights, labels, notes


def _traffic(
    rows: Sequence[_Row], stage: Stage, versions: tuple[str, ...], weighed: tuple[FloatArray, FloatArray]
) -> Traffic:
    findings = [row.decision.findings for row in rows]
    labels, weights = weighed

    def column(name: str, *outcomes: Outcome) -> FloatArray:
        values = [[getattr(f, name) if f.outcome in outcomes else None for f in found] for found in findings]
        return np.array(values, dtype=np.float64)  # None is NaN

    return Traffic(
        stage=stage,
        monitors=tuple(each.monitor for each in findings[0]),
        versions=versions,
        ids=tuple(_together(row.decision) for row in rows),
        p_unsafe=column("p_unsafe", "scored"),
        p_unknown=column("p_unknown", "scored"),
        asked=np.array([[each.outcome != "skipped" for each in found] for found in findings]),
        unsafe=labels,
        weight=weights,
        seconds=column("seconds", "scored", "unscored"),
    )
