"""Several p-values become one, and the published rule that adds z-scores instead.

The same rules serve three times: for detectors that look at the same thing, for what is seen from several sides, and
for the two questions "is it unsafe?" and "is it unknown?" (``combination``). P-values are lower where a row is more
suspicious. A fused value lies in (0, 1] but is a p-value only as far as the detectors' dependence is as its method
assumes: recalibrate it. NaN in any column gives NaN, whatever its weight: a monitor that misses a detector must decide
for itself. Knows nothing of detectors, thresholds or what a column stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offmap.calibration import SMALLEST_P
from offmap.errors import InputError
from offmap.features import FloatArray

Method = Literal["bonferroni", "harmonic", "acat", "fisher", "stouffer"]

CEILING = 0.99
"""p-values above it count as it in ``acat`` and ``stouffer``, where a single p of 1 would outvote everything."""

SMALLEST_SPREAD = 1e-6
"""The published rule divides by no smaller standard deviation."""
LAMBDA_GRID = (0.0, *(float(value) for value in np.geomspace(1e-2, 1e2, 21)))


@dataclass(frozen=True)
class Fusion:
    """How K p-values become one.

    ``bonferroni``: min_k p_k / w_k (weighted Bonferroni; Genovese, Roeder & Wasserman 2006): alarm where any detector
    does at its own share of the false-positive budget. Weight 0.9 on the guard at level alpha means: the guard at
    0.9 alpha OR the other at 0.1 alpha. Valid under any dependence.
    ``harmonic``: 1 / sum_k w_k / p_k, the weighted harmonic mean p-value (Wilson 2019).
    ``acat``: the Cauchy combination, T = sum_k w_k tan((1/2 - p_k) pi), p = 1/2 - arctan(T) / pi (Liu & Xie 2020).
    These three follow whichever detector fires. The next two average, and reward detectors that agree:
    ``fisher``: sum_k -2 w_k log p_k as a scaled chi-squared (Brown 1975), its variance from the calibration rows.
    ``stouffer``: the weighted sum of normal scores, divided by its standard deviation on the calibration rows.

    Attributes:
        method: one of the above.
        guard_weight: the weight of "unsafe" against "unknown" where the two are fused, in [0, 1].
        within: the method for detectors that look at the same thing; see ``combination``.
        shares: name of a detector -> what it weighs among those that look at the same thing, not negative; 1 where none
            is named.
    """

    method: Method = "harmonic"
    guard_weight: float = 0.7
    within: Method = "stouffer"
    shares: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for method in (self.method, self.within):
            if method not in get_args(Method):
                raise InputError(f"fusion method is {method!r}; wanted one of {', '.join(get_args(Method))}")
        if not 0.0 <= self.guard_weight <= 1.0:
            raise InputError(f"guard_weight is {self.guard_weight}; wanted a number in [0, 1]")
        for name, share in self.shares.items():
            if not 0.0 <= share < np.inf:
                raise InputError(f"the share of {name!r} is {share}; wanted a number, not negative")

    @property
    def weights(self) -> FloatArray:
        """(2,): of the unsafe and of the unknown p-value."""
        return np.array([self.guard_weight, 1.0 - self.guard_weight])

    def fit(self, p_calibration: FloatArray) -> FittedFusion:
        """Learn how detectors' p-values hang together on safe rows, (n, K), where the method asks for it.

        Negative correlations count as none: they would make agreement look rarer than the few rows can show.

        Raises:
            ValueError: not a table of p-values in (0, 1] without NaN, or under two rows where they are correlated.
        """
        p = _p_table(p_calibration)
        if np.isnan(p).any():
            raise ValueError("NaN among the calibration p-values; give only rows that every detector could score")
        normal = {"fisher": _chi_squared, "stouffer": _normal_scores}.get(self.method)
        correlation = np.eye(p.shape[1]) if normal is None else _correlation(normal(p))
        return FittedFusion(self.method, correlation)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> FittedFusion:
        """The fitted fusion whose ``arrays()`` these are."""
        return FittedFusion(self.method, np.asarray(arrays["correlation"], dtype=np.float64))


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A fusion that knows the number of its detectors and, for ``fisher`` and ``stouffer``, their correlation.

    Attributes:
        method: as in ``Fusion``.
        correlation: (K, K), of -2 log p or of normal scores; the identity where the method needs none.
    """

    method: Method
    correlation: FloatArray

    def fuse(self, p: FloatArray, weights: ArrayLike | None = None) -> FloatArray:
        """One value in (0, 1] for each row, (n,), lower where more suspicious. One detector alone is returned as it is.

        Args:
            p: (n, K) p-values in (0, 1]; NaN in a row gives NaN.
            weights: (K,), not negative, with sum 1; equal if None.

        Raises:
            ValueError: another K than was fitted, p outside (0, 1], or weights that are not as wanted.
        """
        table = _p_table(p)
        n_detectors = len(self.correlation)
        if table.shape[1] != n_detectors:
            raise ValueError(f"{table.shape[1]} columns of p-values; the fusion was fitted on {n_detectors}")
        w = _weights(weights, n_detectors)
        if n_detectors == 1:
            return table[:, 0].copy()
        fused = _RULES[self.method](table, w, self.correlation)
        return np.asarray(np.clip(fused, SMALLEST_P, 1.0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was fitted."""
        return {"correlation": self.correlation}


def _bonferroni(p: FloatArray, w: FloatArray, _: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(np.min(p / w, axis=1))


def _harmonic(p: FloatArray, w: FloatArray, _: FloatArray) -> FloatArray:
    return np.asarray(1.0 / np.sum(w / p, axis=1))


def _acat(p: FloatArray, w: FloatArray, _: FloatArray) -> FloatArray:
    # tan((1/2 - p) pi) = 1 / tan(p pi) and 1/2 - arctan(T) / pi = arctan2(1, T) / pi keep small p-values exact.
    total = np.sum(w / np.tan(np.pi * np.minimum(p, CEILING)), axis=1)
    return np.asarray(np.arctan2(1.0, total) / np.pi)


def _fisher(p: FloatArray, w: FloatArray, correlation: FloatArray) -> FloatArray:
    from scipy.special import gammaincc

    # -2 log p has mean 2 and variance 4, so with weights of sum 1: E = 2, Var = 4 w'Rw; the total is c chi2(f) with
    # c = Var / 2E = w'Rw and f = 2 E^2 / Var = 2 / w'Rw.
    scale = w @ correlation @ w
    return np.asarray(gammaincc(1.0 / scale, _chi_squared(p) @ w / (2.0 * scale)))


def _stouffer(p: FloatArray, w: FloatArray, correlation: FloatArray) -> FloatArray:
    from scipy.special import ndtr

    return np.asarray(ndtr(-(_normal_scores(p) @ w) / np.sqrt(w @ correlation @ w)))


_RULES: Mapping[Method, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "bonferroni": _bonferroni,
    "harmonic": _harmonic,
    "acat": _acat,
    "fisher": _fisher,
    "stouffer": _stouffer,
}


def _chi_squared(p: FloatArray) -> FloatArray:
    return np.asarray(-2.0 * np.log(p))


def _normal_scores(p: FloatArray) -> FloatArray:
    from scipy.special import ndtri

    return np.asarray(-ndtri(np.minimum(p, CEILING)))


def _correlation(columns: FloatArray) -> FloatArray:
    """Pearson's, at least 0; 0 with a column that does not vary."""
    if len(columns) < 2:
        raise ValueError(f"{len(columns)} calibration rows; a correlation needs at least two")
    centred = columns - columns.mean(axis=0)
    norms = np.sqrt(np.sum(centred**2, axis=0))
    varies = np.ptp(columns, axis=0) > 0
    unit = np.divide(centred, norms, out=np.zeros_like(centred), where=varies)
    correlation = np.clip(unit.T @ unit, 0.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def _p_table(p: FloatArray) -> FloatArray:
    table = np.asarray(p, dtype=np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(f"p-values have shape {table.shape}; wanted a row a conversation, a column a detector")
    if n_outside := int(np.sum((table <= 0) | (table > 1))):
        raise ValueError(f"{n_outside} of {table.size} p-values lie outside (0, 1]")
    return np.maximum(table, SMALLEST_P)


def _weights(weights: ArrayLike | None, n_detectors: int) -> FloatArray:
    if weights is None:
        return np.full(n_detectors, 1.0 / n_detectors)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n_detectors,) or not (w >= 0).all() or abs(w.sum() - 1) > 1e-6:
        raise ValueError(f"weights are {w.tolist()}; wanted {n_detectors} numbers, none negative, with sum 1")
    return w


@dataclass(frozen=True)
class LambdaRule:
    """The fusion published with the MOOD benchmark (arXiv 2605.21602): guard + lambda * mean of the other detectors.

    Every score is standardised on safe rows; lambda is the largest of ``grid`` at which recall at ``fpr`` on the rows
    given is not below the guard's alone. As published the rows are the in-distribution test rows; on calibration rows
    the rule is honest. As in the source's package (mood-bench 1.0.0) the standard deviation divides by n and counts as
    at least ``SMALLEST_SPREAD``, the threshold is numpy's default (linear) quantile, and an alarm lies strictly above.
    """

    fpr: float = 0.01
    grid: tuple[float, ...] = LAMBDA_GRID

    def fit(self, guard: FloatArray, others: FloatArray, unsafe: NDArray[np.bool_]) -> FittedLambdaRule:
        """Choose lambda on labelled in-distribution rows.

        Args:
            guard: (n,) scores, higher is more suspicious.
            others: (n, K) scores of the OOD detectors, K at least 1.
            unsafe: (n,) labels.

        Raises:
            ValueError: shapes that do not fit, scores that are not finite, or labels of one kind only.
        """
        scores = _score_table(guard, others)
        labels = np.asarray(unsafe, dtype=bool)
        if labels.shape != (len(scores),) or labels.all() or not labels.any():
            raise ValueError(f"{int(labels.sum())} of {labels.size} labels are unsafe; wanted both, one for each row")
        if not np.isfinite(scores).all():
            raise ValueError("scores that are not finite; lambda is chosen on rows that every detector could score")
        safe = scores[~labels]
        means, spreads = safe.mean(axis=0), np.maximum(safe.std(axis=0), SMALLEST_SPREAD)
        candidates = [FittedLambdaRule(value, means, spreads) for value in sorted({0.0, *self.grid})]
        n_caught = [_n_caught(rule.score(guard, others), labels, self.fpr) for rule in candidates]
        return [rule for rule, n in zip(candidates, n_caught, strict=True) if n >= n_caught[0]][-1]

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> FittedLambdaRule:
        """The fitted rule whose ``arrays()`` these are."""
        return FittedLambdaRule(float(arrays["lambda"]), arrays["means"], arrays["spreads"])


@dataclass(frozen=True, eq=False)
class FittedLambdaRule:
    """A chosen lambda, and the (1 + K,) safe means and standard deviations (above 0) of the guard and the K others."""

    lambda_: float
    means: FloatArray
    spreads: FloatArray

    def score(self, guard: FloatArray, others: FloatArray) -> FloatArray:
        """(n,) combined z-scores, higher is more suspicious; NaN in any score gives NaN.

        Raises:
            ValueError: shapes that do not fit each other or the fitted number of detectors.
        """
        scores = _score_table(guard, others)
        if scores.shape[1] != len(self.means):
            raise ValueError(f"{scores.shape[1] - 1} other detectors; the rule was fitted on {len(self.means) - 1}")
        z = (scores - self.means) / self.spreads
        return np.asarray(z[:, 0] + self.lambda_ * z[:, 1:].mean(axis=1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state."""
        return {"lambda": np.array(self.lambda_), "means": self.means, "spreads": self.spreads}


def _score_table(guard: FloatArray, others: FloatArray) -> FloatArray:
    first, rest = np.asarray(guard, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if first.ndim != 1 or rest.ndim != 2 or len(rest) != len(first) or not rest.shape[1]:
        raise ValueError(f"guard scores {first.shape}, other scores {rest.shape}; wanted (n,) and (n, K), K at least 1")
    return np.column_stack([first, rest])


def _n_caught(scores: FloatArray, unsafe: NDArray[np.bool_], fpr: float) -> int:
    return int(np.sum(scores[unsafe] > np.quantile(scores[~unsafe], 1 - fpr)))
