"""Detectors that have learned, each with the distribution of its scores on safe rows: scores in, p-values out.

Knows nothing of fusion and thresholds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import ConformalCalibrator
from offmap.combination import QUESTIONS, VIEWS, Columns, Combination, View
from offmap.conditioning import Studentiser, context
from offmap.detectors.base import Detector, Fitted, Question
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.fusion import Fusion


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
    """A detector that has learned, and the distribution of its scores on safe calibration rows.

    ``studentiser`` takes out of a score what length, tools and turns explain, before it is ranked; None: nothing.
    """

    name: str
    detector: Detector
    fitted: Fitted
    calibrator: ConformalCalibrator
    studentiser: Studentiser | None = None

    def ranked(self, features: Features, scores: FloatArray) -> FloatArray:
        """What the calibrator ranks, (n,): the detector's ``scores`` of these rows, studentised where that is asked."""
        return scores if self.studentiser is None else self.studentiser(scores, context(features))

    def p_values(self, features: Features, scores: FloatArray | None = None) -> FloatArray:
        """(n,) p-values of these rows; ``scores`` are the detector's, if they are known already."""
        scores = self.fitted.score(features) if scores is None else scores
        return self.calibrator.p_values(self.ranked(features, scores))

    def own_p_values(self, calibrate: Features) -> FloatArray:
        """(n,) p-values of the very rows that it was calibrated on; see ``ConformalCalibrator.own_p_values``."""
        return self.calibrator.own_p_values(self.ranked(calibrate, self.fitted.score(calibrate)))


def needs(detectors: Sequence[Detector]) -> FeatureSpec:
    """What one forward pass must yield for all of them."""
    return reduce(or_, (detector.needs() for detector in detectors))


def fit_members(
    detectors: Mapping[str, Detector], fit: Rows, calibrate: Rows, *, conditional: bool = False
) -> tuple[Member, ...]:
    """Fit every detector, then learn the distribution of its scores on the safe calibration rows.

    ``conditional`` takes length, tools and turns out of the scores of OOD detectors (``Studentiser``); a guard's
    stay as they are, for there they may be part of the harm.

    Raises:
        InputError: a split without safe rows, or a detector that cannot learn from these rows.
    """
    safe, harmful, held_out = require_safe(fit, "fit"), fit.harmful, require_safe(calibrate, "calibrate")
    members = []
    for name, detector in detectors.items():
        try:
            fitted = detector.fit(safe, harmful)
            scores, taken_out = fitted.score(held_out), None
            if conditional and detector.question == "unknown":
                taken_out = Studentiser.fit(scores, context(held_out))
                scores = taken_out(scores, context(held_out))
            calibrator = ConformalCalibrator.fit(scores[~np.isnan(scores)])
            members.append(Member(name, detector, fitted, calibrator, taken_out))
        except ValueError as error:
            raise InputError(f"detector {name}: {error}") from error
    return tuple(members)


def by_question(members: Sequence[Member], p_values: Mapping[str, FloatArray]) -> Columns:
    """The members' p-values, side by side for each question and view."""
    asked: dict[Question, dict[View, FloatArray]] = {}
    for question, view in itertools.product(QUESTIONS, VIEWS):
        columns = [p_values[m.name] for m in members if (m.detector.question, view_of(m.detector)) == (question, view)]
        if columns:
            asked.setdefault(question, {})[view] = np.column_stack(columns)
    return asked


def combine(members: Sequence[Member], own: Mapping[str, FloatArray], fusion: Fusion) -> Combination:
    """The members' combination, fitted to their own p-values of the calibrate rows, each at its share."""
    return Combination.fit(by_question(members, own), fusion, shares(members, fusion))


def shares(members: Sequence[Member], fusion: Fusion) -> Columns:
    """What each member weighs within its view, side by side as in ``by_question``: one row."""
    return by_question(members, {member.name: np.array([fusion.shares.get(member.name, 1.0)]) for member in members})


def view_of(detector: Detector) -> View:
    """What a detector looks at; the first of states, tokens and scalars that it needs."""
    if detector.question == "unsafe":
        return "guards"
    wanted = detector.needs()
    return "states" if wanted.hidden else "tokens" if wanted.tokens else "scalars"


def require_safe(rows: Rows, split: str) -> Features:
    """The safe rows of a split.

    Raises:
        InputError: it has none.
    """
    if rows.unsafe.all():
        raise InputError(f"the {split} split has no safe rows; give more labelled safe conversations")
    return rows.safe
