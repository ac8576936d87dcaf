"""An ablation: every detector, set, calibration and fusion of a plan on the same cached features, in one table.

Everything is fitted on training rows; test rows are only counted. Knows nothing of tables and terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from offmap.backbones import Backbone
from offmap.bench.ablation_columns import Column, Columns, learn_all
from offmap.bench.ablation_plan import CALIBRATIONS, Calibration, Candidate, Plan, Section
from offmap.bench.evaluation import evaluate
from offmap.bench.metrics import mean, number
from offmap.bench.results import Deployed, Interval, MonitorResult
from offmap.bench.run import Data
from offmap.bench.scores import GUARD, MonitorScores, Run, Scores
from offmap.calibration import marginal_threshold, suspicion
from offmap.choosing import choose_fusion
from offmap.combination import Columns as ByQuestion
from offmap.combination import Combination
from offmap.errors import InputError
from offmap.evidence import SPAN_STATS
from offmap.features import FloatArray
from offmap.fusion import Fusion
from offmap.members import by_question, needs
from offmap.monitor import DEFAULT_DETECTORS, rows_of
from offmap.panel import _require_reach as require_reach
from offmap.panel import choose_threshold, count_rows
from offmap.splits import split
from offmap.suites.base import Suite

CAVEAT = (
    "The columns of test rows describe; to choose a line by them would be to choose on test rows. Only the column"
    " left_out comes from training rows alone."
)
BATCH = 16
"""Monitors measured between two steps of the progress bar."""


class AblationRow(msgspec.Struct, frozen=True):
    """One candidate. At the published threshold (a quantile of in-distribution safe test rows) unless "deployed".

    Attributes:
        section: see ``ablation_plan.Section``.
        name: unique within section and calibration.
        calibration: of the OOD detectors' scores.
        members: names of the detectors.
        method: the fusion's; "" for a detector alone.
        guard_weight: the fusion's; None for a detector alone.
        left_out: share caught of the in-distribution domains left out in turn, as the OOD detectors never saw them, at
            the threshold of the other domains; of training rows alone. None where no domain could be left out.
        gain_over_guard: in recall_ood over the guard alone, on the same resamples; None without a guard.
        domains: domain -> recall, None where it has no unsafe row.
        deployed: at the threshold chosen on training rows.
        unscored: test rows without a score.

    The others are those of ``results.MonitorResult``.
    """

    section: Section
    name: str
    calibration: Calibration
    members: list[str]
    method: str
    guard_weight: float | None
    left_out: float | None
    recall_ood: Interval
    gain_over_guard: Interval | None
    id_recall: Interval
    benign_ood_false_alarms: Interval
    lift: Interval
    twin_auroc: float | None
    domains: dict[str, float | None]
    deployed: Deployed | None
    unscored: int


class NotRun(msgspec.Struct, frozen=True):
    """A candidate without figures, and why."""

    section: Section
    name: str
    calibration: Calibration
    reason: str


class Ablation(msgspec.Struct, frozen=True):
    """Every candidate of a plan on one suite: what ``ablation.json`` holds. ``caveat`` says how to read it."""

    suite: str
    source: str
    licence: str
    backbone: str
    alpha: float
    seed: int
    resamples: int
    splits: dict[str, int]
    detectors: dict[str, str]
    caveat: str
    rows: list[AblationRow]
    not_run: list[NotRun]


@dataclass(frozen=True)
class _Tried:
    """A candidate with its scores of the test rows."""

    candidate: Candidate
    fusion: Fusion | None
    scores: FloatArray
    threshold: float
    left_out: float


def read_rows(suite: Suite, backbone: Backbone, plan: Plan, seed: int = 0) -> Data:
    """The features of a suite's rows, dealt into splits as ``bench.run`` does.

    What all standard detectors read is asked for, whichever the plan holds, so that plans share a store.

    Raises:
        InputError: a row without a label.
    """
    splits = split(suite.train, seed)
    wanted = needs([*Plan().everything.values(), *plan.everything.values()]) | SPAN_STATS
    fit, calibrate, threshold, test = (
        rows_of(backbone, rows, wanted) for rows in (splits.fit, splits.calibrate, splits.threshold, suite.test)
    )
    return Data(suite, splits, fit, calibrate, threshold, test)


def ablate(
    data: Data,
    plan: Plan,
    *,
    backbone: str = "",
    alpha: float = 0.01,
    seed: int = 0,
    resamples: int = 300,
    progress: Callable[[int], None] = lambda _: None,
) -> Ablation:
    """Fit every detector of a plan once, and measure every candidate on the test rows.

    Args:
        data: as ``read_rows`` gives it for this plan.
        plan: what to try. What cannot be fitted or given a threshold here is listed in ``not_run``.
        backbone: its fingerprint, for the record.
        alpha: the false-positive rate aimed at.
        seed: of the bootstrap.
        resamples: behind the intervals.
        progress: told how many detectors and candidates more are done; ``steps(plan)`` in all.

    Raises:
        InputError: no safe in-distribution test row, or nothing could be run.
    """
    learned, reasons = learn_all(plan.everything, data, progress)
    chosen = {calibration: plan.fusion or _choose(learned, calibration, data, alpha) for calibration in CALIBRATIONS}
    tried, not_run = [], []
    for candidate in plan.candidates():
        fusion = None if candidate.section == "alone" else candidate.fusion or chosen[candidate.calibration]
        try:
            tried.append(_try(candidate, fusion, _columns(candidate, learned, reasons), alpha))
        except ValueError as error:
            not_run.append(NotRun(candidate.section, candidate.name, candidate.calibration, str(error)))
            progress(1)
    if not tried:
        raise InputError(f"suite {data.suite.name}: nothing could be run: {not_run[0].reason}")
    results = _measure(_all_scores(tried, data, alpha, seed), resamples, progress)
    return Ablation(
        suite=data.suite.name,
        source="; ".join(filter(None, (data.suite.source, data.suite.citation))),
        licence=data.suite.licence,
        backbone=backbone,
        alpha=alpha,
        seed=seed,
        resamples=resamples,
        splits=count_rows(data.fit, data.calibrate, data.threshold),
        detectors={name: repr(detector) for name, detector in plan.everything.items()},
        caveat=CAVEAT,
        rows=[_row(one, result) for one, result in zip(tried, results, strict=True)],
        not_run=not_run,
    )


def steps(plan: Plan) -> int:
    """How much progress ``ablate`` will tell of."""
    return len(plan.everything) + sum(1 for _ in plan.candidates())


def _choose(learned: Mapping[str, Columns], calibration: Calibration, data: Data, alpha: float) -> Fusion:
    """What ``Monitor.fit`` would choose for the default set, as far as it could be fitted."""
    columns = [_under(calibration, learned[name]) for name in DEFAULT_DETECTORS if name in learned]
    members = [column.member for column in columns]
    return choose_fusion(members, data.fit, data.calibrate, data.threshold, alpha).fusion if members else Fusion()


def _columns(candidate: Candidate, learned: Mapping[str, Columns], reasons: Mapping[str, str]) -> list[Column]:
    """The columns of its members.

    Raises:
        InputError: a member that could not be fitted.
    """
    for name in candidate.members:
        if name in reasons:
            raise InputError(reasons[name])
    return [_under(candidate.calibration, learned[name]) for name in candidate.members]


def _under(calibration: Calibration, columns: Columns) -> Column:
    return columns.get(calibration, columns["plain"])


def _try(candidate: Candidate, fusion: Fusion | None, columns: Sequence[Column], alpha: float) -> _Tried:
    """The candidate's scores and its threshold, as ``panel.assemble`` and ``Panel.judge`` give them.

    Raises:
        ValueError: no threshold can be given, or it could never raise an alarm.
    """
    if fusion is None:
        (column,) = columns
        safe, scores = column.ranked
        cut = choose_threshold(safe, alpha)
        if np.isinf(scores).any():
            raise InputError(f"{candidate.name} scores {int(np.isinf(scores).sum())} test rows infinity")
    else:
        members = [column.member for column in columns]
        combination = Combination.fit(_side_by_side(columns, [column.own for column in columns]), fusion)
        safe, scores = (
            suspicion(combination(_side_by_side(columns, [column.p_values[part] for column in columns]))[1])
            for part in (0, 1)
        )
        cut = choose_threshold(safe, alpha)
        require_reach(members, combination, cut)
    return _Tried(candidate, fusion, scores, cut.value, _left_out(columns, fusion, alpha))


def _side_by_side(columns: Sequence[Column], values: Sequence[FloatArray]) -> ByQuestion:
    members = [column.member for column in columns]
    return by_question(members, {member.name: p for member, p in zip(members, values, strict=True)})


def _left_out(columns: Sequence[Column], fusion: Fusion | None, alpha: float) -> float:
    """Mean share caught of the left-out domains; NaN where none could be left out."""
    shares = []
    for domain in sorted(set.intersection(*(set(column.trials) for column in columns))):
        own, unknown = (_side_by_side(columns, [column.trials[domain][part] for column in columns]) for part in (0, 1))
        combination = Combination.fit(own, fusion or Fusion())
        safe = suspicion(combination(own)[1])
        cut = marginal_threshold(safe[~np.isnan(safe)], alpha)
        if not cut.missing:
            shares.append(float(cut.alarms(suspicion(combination(unknown)[1])).mean()))
    return mean(shares)


def _all_scores(tried: Sequence[_Tried], data: Data, alpha: float, seed: int) -> Scores:
    """The guard alone under the name that gains are measured against, the others numbered."""
    guard, rows = Candidate("alone", GUARD, (GUARD,)), data.suite.test
    names = [GUARD if one.candidate == guard else str(at) for at, one in enumerate(tried)]
    return Scores(
        run=Run(data.suite.name),
        ids=tuple(row.id for row in rows),
        domain=tuple(row.domain for row in rows),
        kind=tuple(row.kind for row in rows),
        pair=tuple(row.pair for row in rows),
        unsafe=data.test.unsafe,
        monitors=tuple(MonitorScores(name, one.scores, one.threshold) for name, one in zip(names, tried, strict=True)),
        in_distribution=data.suite.in_distribution,
        alpha=alpha,
        seed=seed,
    )


def _measure(scores: Scores, resamples: int, progress: Callable[[int], None]) -> Iterator[MonitorResult]:
    """The figures of every monitor, in order; every batch draws the same resamples, so that all are paired."""
    guard = scores.monitor(GUARD)
    for start in range(0, len(scores.monitors), BATCH):
        batch = scores.monitors[start : start + BATCH]
        beside = (guard,) if guard and all(monitor is not guard for monitor in batch) else ()
        yield from evaluate(replace(scores, monitors=batch + beside), resamples=resamples).monitors[: len(batch)]
        progress(len(batch))


def _row(tried: _Tried, result: MonitorResult) -> AblationRow:
    candidate, fusion = tried.candidate, tried.fusion
    return AblationRow(
        section=candidate.section,
        name=candidate.name,
        calibration=candidate.calibration,
        members=list(candidate.members),
        method=fusion.method if fusion else "",
        guard_weight=fusion.guard_weight if fusion else None,
        left_out=number(tried.left_out),
        recall_ood=result.recall_ood,
        gain_over_guard=result.gain_over_guard,
        id_recall=result.in_distribution.recall_interval,
        benign_ood_false_alarms=result.benign_ood_false_alarms_interval,
        lift=result.lift,
        twin_auroc=result.twin_auroc,
        domains={name: domain.recall for name, domain in result.domains.items()},
        deployed=result.deployed,
        unscored=result.unscored,
    )
