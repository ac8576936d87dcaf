"""A panel of fitted detectors: features in, p-values for two questions out, and one threshold on their fusion.

Scores become p-values by each detector's calibrator, p-values become one number by a ``Combination``, and the threshold
is on that number. This is all of a monitor but its backbone: what the bench measures is what runs. Knows nothing of
models and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isinf
from operator import or_

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import ConformalCalibrator, Threshold, certified_threshold, marginal_threshold, suspicion
from offmap.combination import QUESTIONS, Columns, Combination
from offmap.detectors.base import Detector, Fitted, Question
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.fusion import Fusion

DEFAULT_FUSION = Fusion()


@dataclass(frozen=True)
class Rows:
    """Features with their labels: ``unsafe`` is (n,) bool."""

    features: Features
    unsafe: NDArray[np.bool_]

    @property
    def safe(self) -> Features:
        """The safe rows."""
        return self.features.take(~self.unsafe)

    @property
    def harmful(self) -> Features | None:
        """The unsafe rows, or None if there are none."""
        return self.features.take(self.unsafe) if self.unsafe.any() else None


@dataclass(frozen=True)
class Member:
    """A detector that has learned, and the distribution of its scores on safe calibration rows."""

    name: str
    detector: Detector
    fitted: Fitted
    calibrator: ConformalCalibrator


@dataclass(frozen=True)
class Judgement:
    """A scored batch in columns, all (n,) float64; NaN where a row could not be scored.

    Attributes:
        scores: of each detector.
        p_values: of each detector.
        answers: the p-value for each question that the panel has a detector for.
        fused: the fusion of the answers.
        flagged: (n,) bool, fused beyond the threshold or NaN: a row that cannot be scored is not let through.
    """

    scores: Mapping[str, FloatArray]
    p_values: Mapping[str, FloatArray]
    answers: Mapping[Question, FloatArray]
    fused: FloatArray
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Panel:
    """Fitted detectors with their calibration, combination and threshold. Immutable.

    Attributes:
        members: the fitted detectors.
        combination: how their p-values become one.
        threshold: on the suspicion (-log10) of that one.
        n_rows: how many safe and unsafe rows each split held.
    """

    members: tuple[Member, ...]
    combination: Combination
    threshold: Threshold
    n_rows: Mapping[str, int]

    @property
    def needs(self) -> FeatureSpec:
        """The features that its detectors read."""
        return needs([member.detector for member in self.members])

    def judge(self, features: Features) -> Judgement:
        """Scores, p-values and flags of a batch."""
        scores = {member.name: member.fitted.score(features) for member in self.members}
        p_values = {member.name: member.calibrator.p_values(scores[member.name]) for member in self.members}
        answers, fused = self.combination(_by_question(self.members, p_values))
        return Judgement(scores, p_values, answers, fused, self.threshold.alarms(suspicion(fused)))


def needs(detectors: Sequence[Detector]) -> FeatureSpec:
    """What one forward pass must yield for all of them."""
    return reduce(or_, (detector.needs() for detector in detectors))


def fit_members(detectors: Mapping[str, Detector], fit: Rows, calibrate: Rows) -> tuple[Member, ...]:
    """Fit every detector, then learn the distribution of its scores on the safe calibration rows.

    Raises:
        InputError: a split without safe rows, or a detector that cannot learn from these rows.
    """
    safe, harmful, held_out = _some(fit, "fit"), fit.harmful, _some(calibrate, "calibrate")
    members = []
    for name, detector in detectors.items():
        try:
            fitted = detector.fit(safe, harmful)
            scores = fitted.score(held_out)
            members.append(Member(name, detector, fitted, ConformalCalibrator.fit(scores[~np.isnan(scores)])))
        except ValueError as error:
            raise InputError(f"detector {name}: {error}") from error
    return tuple(members)


def assemble(
    members: Sequence[Member],
    calibrate: Rows,
    threshold: Rows,
    *,
    alpha: float = 0.01,
    confidence: float | None = None,
    fusion: Fusion = DEFAULT_FUSION,
    n_rows: Mapping[str, int] | None = None,
) -> Panel:
    """Fuse fitted detectors and choose their threshold, on rows that they were not fitted on.

    ``confidence`` None asks for a threshold that holds ``alpha`` on average; 0.95 for one that holds it with 95 %
    confidence given these rows.

    Raises:
        InputError: a split without safe rows, too few of them for a threshold or for a question to ever raise an
            alarm, or too many that could not be scored; the message says how many.
    """
    held_out = _some(calibrate, "calibrate")
    own = {member.name: member.calibrator.own_p_values(member.fitted.score(held_out)) for member in members}
    combination = Combination.fit(_by_question(members, own), fusion)
    fresh = _some(threshold, "threshold")
    p_values = {member.name: member.calibrator.p_values(member.fitted.score(fresh)) for member in members}
    _, fused = combination(_by_question(members, p_values))
    chosen = choose_threshold(suspicion(fused), alpha, confidence)
    _require_reach(members, combination, chosen)
    return Panel(tuple(members), combination, chosen, {} if n_rows is None else n_rows)


def choose_threshold(suspicions: FloatArray, alpha: float, confidence: float | None = None) -> Threshold:
    """The threshold that safe held-out rows ask for. A row without a score raises an alarm, so it counts as one here.

    Raises:
        InputError: too few rows, or so many without a score that no threshold keeps to ``alpha``.
    """
    counted = np.where(np.isnan(suspicions), np.inf, suspicions)
    if confidence is None:
        chosen = marginal_threshold(counted, alpha)
    else:
        chosen = certified_threshold(counted, alpha, 1 - confidence)
    if chosen.missing:
        raise InputError(f"too few threshold rows: {chosen.shortfall}")
    if isinf(chosen.value):
        found = f"{int(np.isnan(suspicions).sum())} of {len(counted)} threshold rows have no score"
        raise InputError(f"{found}; at most {alpha:g} of them may lack one")
    return chosen


def count_rows(fit: Rows, calibrate: Rows, threshold: Rows) -> dict[str, int]:
    """What each split held, for the record."""
    splits = {"fit": fit, "calibrate": calibrate, "threshold": threshold}
    safe = {f"{name}_safe": int((~rows.unsafe).sum()) for name, rows in splits.items()}
    return safe | {"fit_unsafe": int(fit.unsafe.sum())}


def _require_reach(members: Sequence[Member], combination: Combination, threshold: Threshold) -> None:
    """Refuse a panel in which a question that has a share could never raise an alarm alone."""
    smallest = {member.name: np.array([member.calibrator.smallest]) for member in members}
    shares = dict(zip(QUESTIONS, combination.fusion.weights, strict=True))
    for question, reached in combination.most_suspicious(_by_question(members, smallest)).items():
        alone = len(combination.answers) == 1
        if (alone or shares[question] > 0) and not threshold.alarms(suspicion(np.array([reached])))[0]:
            reasons = {member.calibrator.no_tail for member in members if member.detector.question == question} - {""}
            raise InputError(
                f"the detectors that ask {question!r} could never raise an alarm: p falls to {reached:.2g} at best and "
                f"an alarm is below {threshold.p_value:.2g}; more safe calibrate rows are needed "
                f"({'; '.join(sorted(reasons)) or 'their scores hardly differ'})"
            )


def _by_question(members: Sequence[Member], p_values: Mapping[str, FloatArray]) -> Columns:
    asked: dict[Question, list[FloatArray]] = {}
    for question in QUESTIONS:
        for member in members:
            if member.detector.question == question:
                asked.setdefault(question, []).append(p_values[member.name])
    return {question: np.column_stack(columns) for question, columns in asked.items()}


def _some(rows: Rows, split: str) -> Features:
    if rows.unsafe.all():
        raise InputError(f"the {split} split has no safe rows; give more labelled safe conversations")
    return rows.safe
