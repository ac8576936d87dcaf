"""Many p-values to one, in two steps: detectors of one question to an answer, then the answers to what is judged.

The fused p-value of a question is calibrated again, so that ``p_unsafe`` and ``p_unknown`` are p-values whatever the
detectors' dependence. Knows nothing of detectors and features: its columns are p-values, grouped by question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from offmap.calibration import ConformalCalibrator, suspicion
from offmap.detectors.base import Question
from offmap.features import FloatArray
from offmap.fusion import FittedFusion, Fusion

QUESTIONS: tuple[Question, ...] = get_args(Question)
Columns = Mapping[Question, FloatArray]
"""For each question that is asked, the (n, K) p-values of its K detectors."""


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
class Combination:
    """The answers and their fusion.

    Attributes:
        answers: for each question that is asked, how its p-values become one.
        fusion: the rule.
        across: that rule, fitted to the two answers.
    """

    answers: Mapping[Question, Answer]
    fusion: Fusion
    across: FittedFusion

    @classmethod
    def fit(cls, columns: Columns, fusion: Fusion) -> Combination:
        """Learn from the calibration rows' own p-values; see ``ConformalCalibrator.own_p_values``."""
        fitted = {question: _fit_answer(p_values, fusion) for question, p_values in columns.items()}
        answered = np.column_stack([p_value for _, p_value in fitted.values()])
        return cls({question: answer for question, (answer, _) in fitted.items()}, fusion, fusion.fit(_whole(answered)))

    def __call__(self, columns: Columns) -> tuple[dict[Question, FloatArray], FloatArray]:
        """The p-value of each answer, and their fusion; NaN where any p-value is NaN."""
        answered = {question: answer(columns[question]) for question, answer in self.answers.items()}
        return answered, self._fuse(answered)

    def most_suspicious(self, smallest: Columns) -> dict[Question, float]:
        """The fused p-value of a row that one question finds as suspicious as can be, and the other ordinary.

        Args:
            smallest: (1, K), the smallest p-value of each detector; see ``ConformalCalibrator.smallest``.
        """
        reached = {}
        for question, answer in self.answers.items():
            ordinary = {other: np.array([0.5]) for other in self.answers}
            reached[question] = float(self._fuse(ordinary | {question: answer(smallest[question])})[0])
        return reached

    def _fuse(self, answered: Mapping[Question, FloatArray]) -> FloatArray:
        table = np.column_stack(list(answered.values()))
        return self.across.fuse(table, self.fusion.weights if len(answered) == len(QUESTIONS) else None)


def _fit_answer(p_values: FloatArray, fusion: Fusion) -> tuple[Answer, FloatArray]:
    """The answer, and its p-values of the rows that it was fitted on."""
    fitted = fusion.fit(_whole(p_values))
    fused = fitted.fuse(p_values)
    if p_values.shape[1] == 1:
        return Answer(fitted, None), fused
    calibrator = ConformalCalibrator.fit(suspicion(fused[~np.isnan(fused)]))
    return Answer(fitted, calibrator), calibrator.own_p_values(suspicion(fused))


def _whole(columns: FloatArray) -> FloatArray:
    return columns[~np.isnan(columns).any(axis=1)]
