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

A streamed reply is decided about several times while it comes. It is one row: of its beginnings that were let go none
is, since the whole is looked at again where it ends; one that was stopped is all that there is of its reply. What its
beginnings would have met under other bands is not known, so of streams rates are lower bounds, which is told.

Rows of one conversation bear one id. They count as if they were independent; where conversations have many decisions,
rates are known less well than the intervals say. Of a long log the newest decisions are read, so that memory and time
do not grow with it. Knows nothing of thresholds.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.decision import Action, Outcome, Stage
from offmap.gateway.policy import ERRORS
from offmap.gateway.store import Store
from offmap.gateway.store.tables import AUDIT, REVIEW
from offmap.gateway.tuning.shares import rows_for, rows_worth
from offmap.gateway.tuning.traffic import Traffic

FEW_ANSWERED = 0.8
"""Share of what was to be looked at with a label, below which that is told."""
NEWEST = 200_000
"""Decisions read at most, of all stages together."""


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
    action: Action = "allow"
    partial: bool = False


@dataclass(frozen=True)
class _Row:
    decision: _Decision
    reason: str | None
    probability: float
    verdict: str | None


_FAILED = "with a monitor that failed, which no threshold decides about"
_OTHERS = "by other monitors, or by none"
_OLD = "by other versions of these monitors"
_PARTIAL = "about the beginning of a streamed reply that went on, which is decided about as a whole where it ends,"
_LABELS = {"safe": 0.0, "unsafe": 1.0}
_FINDINGS: dict[str, tuple[Outcome, ...]] = {
    "p_unsafe": ("scored",),
    "p_unknown": ("scored",),
    "seconds": ("scored", "unscored"),
}
"""Columns of numbers, and the outcomes that bring them."""


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
    """The decisions of a stage by one cascade, in the versions that decided last, joined with their labels.

    Args:
        store: its audit chain and review queue.
        stage: which decisions.
        monitors: names of the cascade, in order.
        since: seconds since the epoch; earlier decisions are left out.

    Raises:
        InputError: there is none.
        StoreError: see ``Store.read``.
    """
    columns = _Columns(tuple(monitors))
    n_read = 0
    for n_read, row in enumerate(_rows(store), 1):  # noqa: B007 - how many there were
        if row.decision.stage == stage and row.decision.at >= since:
            columns.add(row)
    if not columns.ids:
        raise InputError(f"stages.{stage}: found no decision of {', '.join(monitors)} in the log, wanted some")
    notes = [f"{count} decisions {what} are left out" for what, count in columns.others.items() if count]
    if columns.others[_PARTIAL]:
        notes.append("streamed replies are looked at several times: under other bands more of them may be stopped")
    if n_read == NEWEST:
        notes.append(f"only the newest {NEWEST:,} decisions of the log were read")
    weights, labels, said = _weighted(columns)
    escalated = columns.reasons("escalated")
    return Logged(columns.traffic(stage, labels, weights), escalated, (*notes, *said), columns.policies[0])


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
            f"{held} labels of escalations and none of the random sample. Only those of the sample say how often safe "
            "traffic lies above the cut, since escalations were chosen by their p-values: label what [review] sample "
            "brings, and set it where it is 0"
        )
    if np.any(logged.escalated) and not np.any(labelled & logged.escalated):
        raise InputError(
            f"{int(logged.escalated.sum())} escalations, none of them labelled: nothing is known of the traffic that "
            "lies nearest to the cut. Label some before they time out"
        )
    weights = traffic.weight[traffic.unsafe == 0]
    needed, counted = rows_for(alpha), rows_worth(weights)
    if counted < needed * (1 - 1e-9):
        missing = math.ceil(needed - counted - 1e-6)
        raise InputError(
            f"{len(weights)} safe labels, which count for {counted:.1f} of equal weight; a false-alarm rate of "
            f"{alpha:g} needs {needed}: at least {missing} more safe labels of the sample are wanted"
        )


def _rows(store: Store) -> Iterator[_Row]:
    """The newest decisions, the newest first."""
    columns = AUDIT.c.record, REVIEW.c.reason, REVIEW.c.probability, REVIEW.c.state, REVIEW.c.verdict
    joined = AUDIT.outerjoin(REVIEW, AUDIT.c.decision_id == REVIEW.c.decision_id)
    wanted = sa.select(*columns).select_from(joined).where(AUDIT.c.kind == "decision")
    wanted = wanted.order_by(AUDIT.c.seq.desc()).limit(NEWEST).execution_options(yield_per=500)
    decoder = msgspec.json.Decoder(_Decision)
    with store.read() as connection, connection.execute(wanted) as found:
        for record, reason, probability, state, verdict in found:
            yield _Row(decoder.decode(record), reason, probability or 0.0, verdict if state == "decided" else None)


def _together(decision: _Decision) -> str:
    """The same for all decisions of one conversation."""
    return f"{decision.caller}/{decision.conversation}" if decision.conversation else decision.id


class _Columns:
    """What is kept of each row, a few numbers and its id. Rows come newest first; what it gives is oldest first.

    Attributes:
        ids: newest first.
        versions: of the monitors, by the newest decision.
        policies: that decided, by the newest of theirs.
        others: how many rows are left out, by why.
    """

    def __init__(self, monitors: tuple[str, ...]) -> None:
        self.monitors = monitors
        self.ids: list[str] = []
        self.versions: tuple[str, ...] = ()
        self.policies: list[str] = []
        self.others = Counter(dict.fromkeys((_FAILED, _OTHERS, _OLD, _PARTIAL), 0))
        self._reasons: list[str] = []
        self._codes = {name: array("l") for name in ("policy", "reason")}
        self._values = {name: array("d") for name in ("probability", "label", *_FINDINGS)}

    def add(self, row: _Row) -> None:
        """Keep a row, or count why it is left out."""
        findings = row.decision.findings
        versions = tuple(each.version for each in findings)
        if tuple(each.monitor for each in findings) != self.monitors:
            self.others[_OTHERS] += 1
        elif row.decision.partial and row.decision.action == "allow":
            self.others[_PARTIAL] += 1
        elif any(each.outcome in ERRORS for each in findings):
            self.others[_FAILED] += 1
        elif versions != (self.versions or versions):
            self.others[_OLD] += 1
        else:
            self.versions = versions
            self._keep(row)

    def _keep(self, row: _Row) -> None:
        self.ids.append(_together(row.decision))
        for name, known, value in (
            ("policy", self.policies, row.decision.policy),
            ("reason", self._reasons, row.reason or ""),
        ):
            if value not in known:
                known.append(value)
            self._codes[name].append(known.index(value))
        self._values["probability"].append(row.probability)
        self._values["label"].append(_LABELS.get(row.verdict or "", math.nan))
        for column, outcomes in _FINDINGS.items():
            for each in row.decision.findings:
                number = getattr(each, column) if each.outcome in outcomes else None
                self._values[column].append(math.nan if number is None else number)

    def values(self, name: str) -> FloatArray:
        """(n,) of the row."""
        return np.array(self._values[name])[::-1].copy()

    def reasons(self, *names: str) -> NDArray[np.bool_]:
        """(n,) whether it is in the queue for one of these."""
        return self._among("reason", [at for at, reason in enumerate(self._reasons) if reason in names])

    def of_policies(self, names: Collection[str]) -> NDArray[np.bool_]:
        """(n,) whether one of these decided."""
        return self._among("policy", [at for at, policy in enumerate(self.policies) if policy in names])

    def sampled_policies(self) -> set[str]:
        """Under which a sample was drawn."""
        codes = np.array(self._codes["policy"])[::-1][self.reasons("sample")]
        return {self.policies[at] for at in np.unique(codes)}

    def _among(self, name: str, codes: Sequence[int]) -> NDArray[np.bool_]:
        return np.isin(np.array(self._codes[name])[::-1], codes)

    def traffic(self, stage: Stage, labels: FloatArray, weights: FloatArray) -> Traffic:
        """The rows, oldest first."""
        found = {name: np.array(self._values[name]).reshape(len(self.ids), -1)[::-1].copy() for name in _FINDINGS}
        return Traffic(
            stage=stage,
            monitors=self.monitors,
            versions=self.versions,
            ids=tuple(reversed(self.ids)),
            p_unsafe=found["p_unsafe"],
            p_unknown=found["p_unknown"],
            asked=~np.isnan(found["seconds"]),  # else it was skipped: rows with a failure are left out
            unsafe=labels,
            weight=weights,
            seconds=found["seconds"],
        )


def _weighted(columns: _Columns) -> tuple[FloatArray, FloatArray, list[str]]:
    """Weights and labels (1 unsafe, 0 safe, NaN none), and what to mind."""
    labels, sampled = columns.values("label"), columns.sampled_policies()
    drawn, covered = columns.reasons("escalated", "sample"), columns.of_policies(sampled)
    notes = []
    if chosen := int(np.sum(~drawn & ~np.isnan(labels))):
        notes.append(f"{chosen} labels of decisions that somebody chose, not chance, are not used")
    # Without any sample at all there is nothing to weight, and `require_labels` says so.
    if sampled and (alone := int(np.sum(drawn & ~covered & ~np.isnan(labels)))):
        notes.append(f"{alone} labels of policies under which no sample was drawn are not used")
    labels[~drawn | (~covered & bool(sampled))] = math.nan
    weights = np.ones(len(labels))
    probability, held = columns.values("probability"), columns.reasons("escalated")
    for of, mine in (("escalations", held & covered), ("decisions of the sample", ~held & covered)):
        answered = mine & ~np.isnan(labels)
        if not answered.any():
            continue
        weights[answered] = 1 / probability[answered]
        weights[answered] *= mine.sum() / weights[answered].sum()
        asked = int(np.sum(mine & drawn))
        if answered.sum() < FEW_ANSWERED * asked:
            notes.append(
                f"only {int(answered.sum())} of {asked} {of} have a label; that the others are like them is taken for "
                "granted"
            )
    return weights, labels, notes
