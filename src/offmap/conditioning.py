"""Takes out of a score what length, tools and turns explain, so that a long conversation is not suspicious for that.

Where such a nuisance drives the scores of all detectors at once, the safe rows' tails are its tails: the threshold
follows the long conversations, and short ones must be monstrous to reach it. A ``Studentiser`` learns a smooth robust
centre and spread of a score in the context, and ``(score - centre) / spread`` is what is then ranked. It improves
power and evens out false positives; it promises nothing, the calibration after it does.
Knows nothing of detectors and p-values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offmap.features import Features, FloatArray

MIN_ROWS = 100
MIN_STRATUM = 30
"""Below ``MIN_ROWS`` safe rows centre and spread are constants; below ``MIN_STRATUM`` with tools, or without them, the
two kinds are treated alike."""

KNOTS = (0.05, 0.35, 0.65, 0.95)
RIDGE = 10.0
HUBER = 1.345
NORMAL_QUARTILE = 0.6744897501960817
_STEPS = 50
_PASSES = 2
_FLOOR = 1e-6
_FAR = 1e6
_ROUNDING = 1e-12


def context(features: Features) -> FloatArray:
    """(n, 3) float64: log(1 + n_tokens), has_tools (0 or 1), log(n_turns)."""
    n_turns = np.maximum(np.asarray(features.n_turns, dtype=np.float64), 1.0)
    n_tokens = np.asarray(features.n_tokens, dtype=np.float64)
    return np.column_stack([np.log1p(n_tokens), np.asarray(features.has_tools, dtype=np.float64), np.log(n_turns)])


@dataclass(frozen=True, eq=False)
class Studentiser:
    """A centre and a spread of a safe score, each a few coefficients on the context.

    The columns: a natural cubic spline in log length (Hastie, Tibshirani & Friedman 2009, eq. 5.4), log turns and its
    square, tools, tools times log length. Outside the range of the context seen in the fit its nearest end counts.

    Attributes:
        low: (3,), of the context in the fit.
        high: (3,).
        knots: of the spline, at least 3, or none for a straight line.
        mean: (q,) of the columns in the fit.
        scale: (q,) what standardises them; 0 for a column that is not used.
        centre: (1 + q,) intercept and slopes.
        log_spread: (1 + q,).
    """

    low: FloatArray
    high: FloatArray
    knots: FloatArray
    mean: FloatArray
    scale: FloatArray
    centre: FloatArray
    log_spread: FloatArray

    @classmethod
    def fit(cls, scores: FloatArray, context: FloatArray) -> Studentiser:
        """Learn from the scores (n,) and the context (n, 3) of safe rows; rows whose score is not finite are left out.

        The centre is a Huber regression with a ridge penalty; the spread is exp of the same regression of
        log |score - centre| (Harvey 1976), scaled so that the median |result| on these rows is a normal law's. On few
        rows, or where over half of the scores are equal, both are constants. The detector must not have been fitted
        on these rows, as scores of its own rows spread less.

        Raises:
            ValueError: no finite score, or scores and context that do not fit each other.
        """
        rows = _table(context)
        values = np.asarray(scores, dtype=np.float64)
        if values.shape != (len(rows),):
            raise ValueError(f"scores have shape {values.shape}; the context has {len(rows)} rows")
        finite = np.isfinite(values)
        if not finite.any():
            raise ValueError(f"none of {len(values)} scores is finite; a centre needs at least one")
        rows, values = rows[finite], values[finite]
        low, high, knots = rows.min(axis=0), rows.max(axis=0), _knots(rows[:, 0])
        columns = _columns(rows, knots)
        mean, unit = columns.mean(axis=0), _unit(columns, rows[:, 1] > 0.5)
        design = np.column_stack([np.ones(len(rows)), (columns - mean) * unit])
        centre, log_spread = _centre_and_spread(values, design)
        return cls(low, high, knots, mean, unit, centre, log_spread)

    def __call__(self, scores: FloatArray, context: FloatArray) -> FloatArray:
        """(scores - centre) / spread, (n,); NaN stays NaN and infinities stay as they are.

        Raises:
            ValueError: scores and context that do not fit each other, or a context that is not finite.
        """
        values = np.asarray(scores, dtype=np.float64)
        centre, spread = self.moments(context)
        if values.shape != centre.shape:
            raise ValueError(f"scores have shape {values.shape}; the context has {len(centre)} rows")
        with np.errstate(over="ignore"):
            return np.asarray((values - centre) / spread)

    def moments(self, context: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The centre and the spread, above 0, that a safe row of this context has, (n,) each."""
        columns = _columns(np.clip(_table(context), self.low, self.high), self.knots)
        design = np.column_stack([np.ones(len(columns)), (columns - self.mean) * self.scale])
        return np.asarray(design @ self.centre), np.asarray(np.exp(design @ self.log_spread))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state."""
        return {
            "range": np.stack([self.low, self.high]),
            "knots": self.knots,
            "standard": np.stack([self.mean, self.scale]),
            "coefficients": np.stack([self.centre, self.log_spread]),
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Studentiser:
        """The studentiser whose ``arrays()`` these are."""
        low, high = arrays["range"]
        mean, scale = arrays["standard"]
        centre, log_spread = arrays["coefficients"]
        return cls(low, high, arrays["knots"], mean, scale, centre, log_spread)


def _table(context: FloatArray) -> FloatArray:
    rows = np.asarray(context, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(f"the context has shape {rows.shape}; wanted (n, 3), as `context` gives it")
    if n_bad := int(np.sum(~np.isfinite(rows).all(axis=1))):
        raise ValueError(f"{n_bad} of {len(rows)} rows of context are not finite")
    return rows


def _knots(log_length: FloatArray) -> FloatArray:
    """Quantiles of the length that are clearly apart; none where there are fewer than three."""
    quantiles = np.quantile(log_length, KNOTS)
    apart = np.concatenate([[True], np.diff(quantiles) > 1e-3])
    return np.asarray(quantiles[apart] if apart.sum() >= 3 else quantiles[:0])


def _columns(context: FloatArray, knots: FloatArray) -> FloatArray:
    length, tools, turns = context.T
    return np.column_stack([length, *_bends(length, knots), turns, turns**2, tools, tools * length])


def _bends(x: FloatArray, knots: FloatArray) -> list[FloatArray]:
    """The columns that a natural cubic spline has beyond a straight line: straight outside the outer knots."""
    if not len(knots):
        return []
    last = knots[-1]
    cubes = [(np.maximum(x - k, 0) ** 3 - np.maximum(x - last, 0) ** 3) / (last - k) for k in knots[:-1]]
    return [cube - cubes[-1] for cube in cubes[:-1]]


def _unit(columns: FloatArray, tools: NDArray[np.bool_]) -> FloatArray:
    """One over each column's standard deviation; 0 for columns that do not vary or that too few rows could teach."""
    used = np.ptp(columns, axis=0) > 1e-9
    if min(tools.sum(), (~tools).sum()) < MIN_STRATUM:
        used[-2:] = False
    return np.asarray(np.divide(1.0, columns.std(axis=0), out=np.zeros(columns.shape[1]), where=used))


def _centre_and_spread(values: FloatArray, design: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients of the centre and of the log spread."""
    middle = float(np.median(values))
    with np.errstate(over="ignore"):
        typical = float(np.median(np.abs(values - middle)))
        u = np.clip((values - middle) / (typical or 1.0), -_FAR, _FAR)
    if len(values) < MIN_ROWS or typical <= _ROUNDING * abs(middle):
        return _constant(middle, design), _constant(np.log(typical / NORMAL_QUARTILE or 1.0), design)
    centre, log_spread = _huber(design, u, np.ones(len(u))), _constant(0.0, design)
    for _ in range(_PASSES):
        residual = np.abs(u - design @ centre)
        log_spread = _huber(design, np.log(np.maximum(residual, _FLOOR)), np.ones(len(u)))
        log_spread[0] += _log_unit(residual / np.exp(design @ log_spread))
        centre = _huber(design, u, np.exp(design @ log_spread))
    log_spread[0] += _log_unit(np.abs(u - design @ centre) / np.exp(design @ log_spread)) + np.log(typical)
    return centre * typical + _constant(middle, design), log_spread


def _log_unit(deviations: FloatArray) -> float:
    """The log of what makes their median that of a standard normal law."""
    return float(np.log(max(float(np.median(deviations)), _FLOOR) / NORMAL_QUARTILE))


def _constant(value: float, design: FloatArray) -> FloatArray:
    return np.concatenate([[value], np.zeros(design.shape[1] - 1)])


def _huber(design: FloatArray, y: FloatArray, spread: FloatArray) -> FloatArray:
    """Huber regression, ridge on the slopes, by reweighted least squares; residuals count in units of ``spread``."""
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 0.0
    beta = _constant(float(np.median(y)), design)
    for _ in range(_STEPS):
        residual = np.abs(y - design @ beta) / spread
        bound = HUBER * max(float(np.median(residual)) / NORMAL_QUARTILE, _FLOOR)
        weights = np.minimum(1.0, bound / np.maximum(residual, bound)) / spread**2
        weighted = design * weights[:, None]
        step = np.linalg.solve(weighted.T @ design + np.diag(penalty), weighted.T @ y) - beta
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    return beta
