"""A benchmark run: a suite and a backbone in, every monitor's scores of the test rows out.

One pass over the conversations serves all monitors. Everything that is fitted or chosen comes from the training rows;
the two exceptions are the reference's own, are made on test rows as published or in its favour, and say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import numpy as np

from offmap.backbones.base import Backbone
from offmap.bench.baseline import bag_of_words
from offmap.bench.metrics import recall, threshold_at
from offmap.bench.scores import DEFAULT, GUARD, REFERENCE, MonitorScores, Run, Scores
from offmap.calibration import marginal_threshold, suspicion
from offmap.detectors import Detector, GuardProbe, Mahalanobis, Neighbours, Perplexity
from offmap.evidence import SPAN_STATS
from offmap.features import FloatArray
from offmap.fusion import LambdaRule
from offmap.monitor import Monitor, rows_of
from offmap.panel import Member, Panel, Rows, assemble, count_rows, fit_members, needs
from offmap.splits import Splits, split
from offmap.suites.base import Suite

OURS: Mapping[str, Detector] = {
    GUARD: GuardProbe(),
    "mahalanobis": Mahalanobis(),
    "neighbours": Neighbours(),
    "perplexity": Perplexity(),
}
PUBLISHED: Mapping[str, Detector] = {
    "mahalanobis (reference)": Mahalanobis(reference=True),
    "perplexity (reference)": Perplexity(over="conversation"),
}
COMBINATIONS: Mapping[str, tuple[str, ...]] = {
    "guard + mahalanobis": ("mahalanobis (reference)",),
    "guard + perplexity": ("perplexity (reference)",),
    "guard + both": tuple(PUBLISHED),
}
PACKAGES = ("offmap", "torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the scores to be evaluated, and the default monitor, ready to be saved."""

    scores: Scores
    monitor: Monitor


@dataclass(frozen=True)
class Data:
    """The rows of a run: the three training splits and the test rows, as conversations and as features."""

    suite: Suite
    splits: Splits
    fit: Rows
    calibrate: Rows
    threshold: Rows
    test: Rows


@dataclass
class Clock:
    """Announces each step and notes how many seconds it took."""

    announce: Callable[[str], object]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block as step ``name``."""
        self.announce(name)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def run(
    suite: Suite,
    backbone: Backbone,
    *,
    alpha: float = 0.01,
    confidence: float | None = None,
    seed: int = 0,
    announce: Callable[[str], object] = str,
) -> Outcome:
    """Fit every monitor on the suite's training rows and score its test rows.

    Args:
        suite: the conversations.
        backbone: gives the features; wrap it in ``Cached`` to make a second run short.
        alpha: the false-positive rate aimed at.
        confidence: of the default monitor's threshold; see ``Monitor.fit``.
        seed: of the deal into splits and of the bootstrap.
        announce: told the name of each step as it begins.

    Raises:
        InputError: the suite's rows are too few or lack labels.
    """
    clock = Clock(announce)
    with clock.step("features"):
        data = _read(suite, backbone, seed)
    with clock.step("detectors"):
        members = fit_members({**OURS, **PUBLISHED}, data.fit, data.calibrate)
        ours = [member for member in members if member.name in OURS]
        counts = count_rows(data.fit, data.calibrate, data.threshold)
        panel = assemble(ours, data.calibrate, data.threshold, alpha=alpha, confidence=confidence, n_rows=counts)
    with clock.step("scores"):
        alone = [_alone(member, data, alpha) for member in members]
        combined = _combinations({member.name: member for member in members}, data, alpha)
        monitors = [_words(data, alpha, seed), *alone, *combined, _default(panel, data)]
    record = Run(
        suite=suite.name,
        source=suite.source,
        licence=suite.licence,
        backbone=backbone.fingerprint,
        versions={name: version(name) for name in PACKAGES},
        splits=counts,
        timings=clock.seconds,
    )
    return Outcome(_scores(record, data, monitors, alpha, seed), Monitor(backbone, panel))


def _read(suite: Suite, backbone: Backbone, seed: int) -> Data:
    splits = split(suite.train, seed)
    wanted = needs([*OURS.values(), *PUBLISHED.values()]) | SPAN_STATS
    fit, calibrate, threshold, test = (
        rows_of(backbone, rows, wanted) for rows in (splits.fit, splits.calibrate, splits.threshold, suite.test)
    )
    return Data(suite, splits, fit, calibrate, threshold, test)


def _words(data: Data, alpha: float, seed: int) -> MonitorScores:
    held_out = [row for row in data.splits.threshold if not row.unsafe]
    safe, test = bag_of_words(data.splits.fit, held_out, data.suite.test, seed=seed)
    return MonitorScores("bag-of-words", test, marginal_threshold(safe, alpha).value, "TF-IDF, logistic regression")


def _alone(member: Member, data: Data, alpha: float) -> MonitorScores:
    threshold = marginal_threshold(member.fitted.score(data.threshold.safe), alpha)
    return MonitorScores(member.name, member.fitted.score(data.test.features), threshold.value)


def _default(panel: Panel, data: Data) -> MonitorScores:
    fusion = panel.fusion
    note = f"{fusion.method} fusion, {fusion.guard_weight:g} of the false-positive budget to the guard"
    fused = suspicion(panel.judge(data.test.features).fused)
    return MonitorScores(DEFAULT, fused, panel.threshold.value, note)


def _combinations(members: Mapping[str, Member], data: Data, alpha: float) -> list[MonitorScores]:
    """The published lambda rule for each set of detectors: on calibration rows, and on test rows as published."""
    honest, published = [], []
    for name, others in COMBINATIONS.items():
        chosen = [members[GUARD], *(members[other] for other in others)]
        calibrate, threshold, test = (_table(chosen, rows) for rows in (data.calibrate, data.threshold, data.test))
        rule = LambdaRule(alpha).fit(*calibrate, data.calibrate.unsafe)
        safe = rule.score(*threshold)[~data.threshold.unsafe]
        note = f"lambda {rule.lambda_:.3g} on calibration rows"
        honest.append(MonitorScores(name, rule.score(*test), marginal_threshold(safe, alpha).value, note))
        familiar = np.isin(data.test.features.groups, data.suite.in_distribution)
        guard, rest = test
        rule = LambdaRule(alpha).fit(guard[familiar], rest[familiar], data.test.unsafe[familiar])
        note = f"lambda {rule.lambda_:.3g} on test rows, as published"
        published.append(MonitorScores(f"{name} (as published)", rule.score(*test), None, note))
    best = max(honest, key=lambda monitor: _recall_ood(monitor, data, alpha))
    note = f"{best.name}, {best.note}; the best of the published combinations on the test rows, in its favour"
    return [*honest, *published, replace(best, name=REFERENCE, note=note)]


def _table(members: list[Member], rows: Rows) -> tuple[FloatArray, FloatArray]:
    guard, *others = (member.fitted.score(rows.features) for member in members)
    return guard, np.column_stack(others)


def _recall_ood(monitor: MonitorScores, data: Data, alpha: float) -> float:
    groups, unsafe = np.array(data.test.features.groups), data.test.unsafe
    familiar = np.isin(groups, data.suite.in_distribution)
    threshold = threshold_at(monitor.scores[familiar & ~unsafe], alpha)
    return float(
        np.mean([recall(monitor.scores[unsafe & (groups == name)], threshold) for name in data.suite.failures])
    )


def _scores(record: Run, data: Data, monitors: list[MonitorScores], alpha: float, seed: int) -> Scores:
    rows = data.suite.test
    return Scores(
        run=record,
        ids=tuple(row.id for row in rows),
        domain=tuple(row.domain for row in rows),
        kind=tuple(row.kind for row in rows),
        pair=tuple(row.pair for row in rows),
        unsafe=data.test.unsafe,
        monitors=tuple(monitors),
        in_distribution=data.suite.in_distribution,
        alpha=alpha,
        seed=seed,
    )
