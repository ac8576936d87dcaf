"""A panel of fitted detectors: features in, p-values for two questions out, and one threshold on their fusion.

Scores become p-values by each detector's calibrator; the p-values of detectors that answer the same question fuse into
one, which is calibrated again; the two answers fuse into the number that the threshold is on. This is all of a monitor
but its backbone: what the bench measures is what runs. Knows nothing of models and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import ConformalCalibrator, Threshold, certified_threshold, marginal_threshold, suspicion
from offmap.detectors.base import Detector, Fitted, Question
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.fusion import FittedFusion, Fusion

QUESTIONS: tuple[Question, ...] = get_args(Question)
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
class Answer:
    """How the p-values of the detectors of one question become one p-value.

    ``calibrator`` is on the suspicion of the fused value; None where there is one detector, whose p-value stands.
    """

    fusion: FittedFusion
    calibrator: ConformalCalibrator | None

    def __call__(self, p_values: FloatArray) -> FloatArray:
        """(n, K) p-values to (n,)."""
        fused = self.fusion.fuse(p_values)
        return fused if self.calibrator is None else self.calibrator.p_values(suspicion(fused))


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
    """Fitted detectors with their calibration, fusion and threshold. Immutable.

    Attributes:
        members: the fitted detectors.
        answers: for each question that has a member, how its p-values become one.
        fusion: the rule; ``across`` is that rule fitted to the two answers.
        threshold: on the suspicion (-log10) of the fused p-value.
        n_rows: how many safe and unsafe rows each split held.
    """

    members: tuple[Member, ...]
    answers: Mapping[Question, Answer]
    fusion: Fusion
    across: FittedFusion
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
        answers = {
            question: answer(_columns(self.members, p_values, question)) for question, answer in self.answers.items()
        }
        fused = _fuse_answers(answers, self.fusion, self.across)
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
        except ValueError as error:
            raise InputError(f"detector {name}: {error}") from error
        scores = fitted.score(held_out)
        members.append(Member(name, detector, fitted, ConformalCalibrator.fit(scores[~np.isnan(scores)])))
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
        InputError: a split without safe rows, or too few of them for a threshold; the message says how many.
    """
    answers, held_out = {}, {}
    p_values = _p_values(members, _some(calibrate, "calibrate"))
    for question in QUESTIONS:
        columns = _columns(members, p_values, question)
        if columns.shape[1]:
            answers[question] = _fit_answer(columns, fusion)
            held_out[question] = answers[question](columns)
    across = fusion.fit(_complete(np.column_stack(list(held_out.values()))))
    unset = Threshold(np.inf, alpha, None, 0, 0, 0)
    panel = Panel(tuple(members), answers, fusion, across, unset, {} if n_rows is None else n_rows)
    fused = suspicion(panel.judge(_some(threshold, "threshold")).fused)
    return replace(panel, threshold=_choose(fused, alpha, confidence))


def count_rows(fit: Rows, calibrate: Rows, threshold: Rows) -> dict[str, int]:
    """What each split held, for the record."""
    splits = {"fit": fit, "calibrate": calibrate, "threshold": threshold}
    safe = {f"{name}_safe": int((~rows.unsafe).sum()) for name, rows in splits.items()}
    return safe | {"fit_unsafe": int(fit.unsafe.sum())}


def _fit_answer(columns: FloatArray, fusion: Fusion) -> Answer:
    complete = _complete(columns)
    fitted = fusion.fit(complete)
    if columns.shape[1] == 1:
        return Answer(fitted, None)
    return Answer(fitted, ConformalCalibrator.fit(suspicion(fitted.fuse(complete))))


def _choose(suspicions: FloatArray, alpha: float, confidence: float | None) -> Threshold:
    # A safe row that cannot be scored raises an alarm in service, so it counts as one here.
    counted = np.where(np.isnan(suspicions), np.inf, suspicions)
    if confidence is None:
        chosen = marginal_threshold(counted, alpha)
    else:
        chosen = certified_threshold(counted, alpha, 1 - confidence)
    if chosen.missing:
        raise InputError(f"too few threshold rows: {chosen.shortfall}")
    return chosen


def _fuse_answers(answers: Mapping[Question, FloatArray], fusion: Fusion, across: FittedFusion) -> FloatArray:
    columns = np.column_stack(list(answers.values()))
    return across.fuse(columns, fusion.weights if columns.shape[1] == len(QUESTIONS) else None)


def _columns(members: Sequence[Member], p_values: Mapping[str, FloatArray], question: Question) -> FloatArray:
    chosen = [p_values[member.name] for member in members if member.detector.question == question]
    n = len(next(iter(p_values.values())))
    return np.column_stack(chosen) if chosen else np.empty((n, 0))


def _p_values(members: Sequence[Member], features: Features) -> dict[str, FloatArray]:
    return {member.name: member.calibrator.p_values(member.fitted.score(features)) for member in members}


def _complete(columns: FloatArray) -> FloatArray:
    return columns[~np.isnan(columns).any(axis=1)]


def _some(rows: Rows, split: str) -> Features:
    if rows.unsafe.all():
        raise InputError(f"the {split} split has no safe rows; give more labelled safe conversations")
    return rows.safe
