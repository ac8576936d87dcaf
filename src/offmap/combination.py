"""Many p-values to one, in three steps: detectors of one view, then the views of a question, then the two questions.

Detectors that look at the same thing err together, so their p-values are averaged (``Fusion.within``): one noisy
reading counts for less than two that agree. Views and questions are united (``Fusion.method``): what shows in hidden
states need not show in tokens. After each step but the last the value is calibrated again, on the same rows, so that
``p_unsafe`` and ``p_unknown`` are p-values whatever the detectors' dependence, but for a little optimism: with some
hundred rows P(p <= .01) may be .014. The monitor's rate does not rest on them but on a threshold from other rows. Knows
nothing of detectors and features: its columns are p-values, by question and view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from offmap.calibration import ConformalCalibrator, suspicion
from offmap.detectors.base import Question
from offmap.features import FloatArray
from offmap.fusion import FittedFusion, Fusion

QUESTIONS: tuple[Question, ...] = get_args(Question)
View = Literal["guards", "states", "tokens", "scalars"]
"""What a detector looks at: guards whether it is known harm; out-of-distribution detectors at one of these features."""
VIEWS: tuple[View, ...] = get_args(View)
Columns = Mapping[Question, Mapping[View, FloatArray]]
"""For each question that is asked and each view on it, the (n, K) p-values of its K detectors."""


@dataclass(frozen=True)
class Pooled:
    """How several p-values become one p-value.

    Attributes:
        fusion: fitted to K p-values.
        calibrator: on the suspicion of the fused value; None where there is one p-value, which stands.
        weights: (K,), of sum 1; None for equal ones.
    """

    fusion: FittedFusion
    calibrator: ConformalCalibrator | None
    weights: FloatArray | None = None

    @classmethod
    def fit(cls, p_values: FloatArray, fusion: Fusion, weights: FloatArray | None = None) -> tuple[Pooled, FloatArray]:
        """Learn from calibration rows, (n, K); beside it stand the pooled p-values of these very rows, (n,)."""
        fitted = fusion.fit(_whole(p_values))
        fused = fitted.fuse(p_values, weights)
        if p_values.shape[1] == 1:
            return cls(fitted, None, weights), fused
        calibrator = ConformalCalibrator.fit(suspicion(fused[~np.isnan(fused)]))
        return cls(fitted, calibrator, weights), calibrator.own_p_values(suspicion(fused))

    def __call__(self, p_values: FloatArray) -> FloatArray:
        """(n, K) p-values to (n,)."""
        fused = self.fusion.fuse(p_values, self.weights)
        return fused if self.calibrator is None else self.calibrator.p_values(suspicion(fused))


@dataclass(frozen=True)
class Answer:
    """How the detectors of one question become one p-value: each view's, and their union."""

    views: Mapping[View, Pooled]
    union: Pooled

    @classmethod
    def fit(
        cls, columns: Mapping[View, FloatArray], fusion: Fusion, shares: Mapping[View, FloatArray] | None = None
    ) -> tuple[Answer, FloatArray]:
        """As ``Pooled.fit``."""
        within, each = Fusion(fusion.within), {} if shares is None else shares
        pooled = {view: Pooled.fit(p_values, within, weights(each.get(view))) for view, p_values in columns.items()}
        union, own = Pooled.fit(np.column_stack([p_value for _, p_value in pooled.values()]), fusion)
        return cls({view: each for view, (each, _) in pooled.items()}, union), own

    def __call__(self, columns: Mapping[View, FloatArray]) -> FloatArray:
        """The question's p-value, (n,)."""
        return self.union(np.column_stack([pooled(columns[view]) for view, pooled in self.views.items()]))


@dataclass(frozen=True)
class Combination:
    """The answers and their fusion.

    Attributes:
        answers: for each question that is asked, how its p-values become one.
        fusion: the rules.
        across: ``fusion.method``, fitted to the two answers.
    """

    answers: Mapping[Question, Answer]
    fusion: Fusion
    across: FittedFusion

    @classmethod
    def fit(cls, columns: Columns, fusion: Fusion, shares: Columns | None = None) -> Combination:
        """Learn from the calibration rows' own p-values; see ``ConformalCalibrator.own_p_values``.

        ``shares``: what each detector weighs within its view, one row of them, not negative; None for equal ones.
        """
        each = {} if shares is None else shares
        fitted = {question: Answer.fit(views, fusion, each.get(question)) for question, views in columns.items()}
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


def weights(shares: FloatArray | None) -> FloatArray | None:
    """Shares, (1, K), as weights of sum 1, (K,); None, for equal ones, where there are none or all are 0."""
    if shares is None or not shares.any():
        return None
    return np.asarray(shares.ravel() / shares.sum())


def _whole(columns: FloatArray) -> FloatArray:
    return columns[~np.isnan(columns).any(axis=1)]
