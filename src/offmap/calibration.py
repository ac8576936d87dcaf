"""Scores become p-values, p-values become suspicion, and suspicion gets a threshold with a stated false-positive rate.

One orientation up to the p-value and one after it: a score is higher where a row is more suspicious, a p-value is
lower, and ``suspicion`` (-log10 p) is higher again. Every threshold is on scores or on suspicion: alarm above it.
All guarantees are for traffic exchangeable with the safe rows given here; they end where traffic drifts.
Knows nothing of detectors, features or how p-values are fused.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offmap.errors import InputError
from offmap.features import FloatArray

SMALLEST_P = 1e-300
"""Where p-values end, so that 1/p, log p and weighted sums of them stay finite."""

TAIL_FRACTION = 0.075
MIN_EXCEEDANCES = 20
MAX_TIED_SHARE = 0.1
MAX_SHAPE = 0.5


def suspicion(p: FloatArray) -> FloatArray:
    """-log10 p: 0 for the least suspicious row, 2 for one in a hundred. NaN stays NaN."""
    return np.asarray(0.0 - np.log10(p))


@dataclass(frozen=True)
class ParetoTail:
    """The upper tail of the safe scores beyond ``start``: P(S >= s) = mass (1 + shape (s - start) / scale)^(-1/shape).

    At shape 0 it is exponential. A generalized Pareto law (Pickands 1975), by maximum likelihood with the shape held
    in [0, 0.5]: no tail is believed to be bounded, and none heavier than a finite variance allows.
    """

    start: float
    mass: float
    shape: float
    scale: float

    def p_values(self, scores: FloatArray) -> FloatArray:
        """P(S >= s) for scores beyond ``start``, at least ``SMALLEST_P``."""
        with np.errstate(over="ignore"):
            excess = (scores - self.start) / self.scale
        log_survival = -excess if self.shape == 0.0 else -np.log1p(self.shape * excess) / self.shape
        return np.maximum(self.mass * np.exp(log_survival), SMALLEST_P)


@dataclass(frozen=True, eq=False)
class ConformalCalibrator:
    """Scores to p-values, by their rank among held-out safe scores, with a fitted tail beyond the largest of them.

    p = (1 + #{s_i >= s}) / (n + 1) (Vovk, Gammerman & Shafer 2005): for a row exchangeable with the safe ones,
    P(p <= t) <= t for every t. Ranks end at 1/(n + 1); above the ``tail_fraction`` n-th largest safe score a
    generalized Pareto tail goes on from the value that the rank has just above that score. There p is a model's
    estimate and no longer a guarantee, so what is made of p-values needs a threshold of its own.

    Attributes:
        scores: (n,) float64, the safe scores, ascending; infinities allowed.
        tail_fraction: the share of safe scores that the tail was to be fitted on; 0 for none.
        tail: None where the scores carry no tail; ``no_tail`` then says why.
    """

    scores: FloatArray
    tail_fraction: float
    tail: ParetoTail | None

    @classmethod
    def fit(cls, scores: FloatArray, tail_fraction: float = TAIL_FRACTION) -> ConformalCalibrator:
        """Learn from the scores of safe rows that the detector was not fitted on.

        Raises:
            ValueError: no scores, scores that are not one column, NaN among them, or a fraction outside [0, 0.5].
        """
        if not 0.0 <= tail_fraction <= 0.5:
            raise ValueError(f"tail_fraction is {tail_fraction}; wanted a number in [0, 0.5]")
        ascending = _ascending(scores)
        if not len(ascending):
            raise ValueError("no calibration scores; at least one safe row is needed")
        tail = None if _no_tail(ascending, tail_fraction) else _fit_tail(ascending, tail_fraction)
        return cls(ascending, tail_fraction, tail)

    @property
    def no_tail(self) -> str:
        """Why there is no tail below 1/(n + 1); "" where there is one."""
        return _no_tail(self.scores, self.tail_fraction)

    def p_values(self, scores: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
        """One p-value in (0, 1] for each score, of the same shape; NaN for NaN.

        Without ``rng`` p never rises with the score. With it, p = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1), U
        uniform: exactly uniform for exchangeable rows, ties or not, wherever the tail is not used.
        """
        values = np.asarray(scores, dtype=np.float64)
        n = len(self.scores)
        above = n - np.searchsorted(self.scores, values, side="right")
        at_least = n - np.searchsorted(self.scores, values, side="left")
        share = np.ones(values.shape) if rng is None else 1.0 - rng.random(values.shape)
        p = np.asarray((above + share * (1 + at_least - above)) / (n + 1))
        if self.tail is not None:
            beyond = values > self.tail.start
            p[beyond] = self.tail.p_values(values[beyond])
        p[np.isnan(values)] = np.nan
        return p

    def own_p_values(self, scores: FloatArray) -> FloatArray:
        """The p-values of the very rows that were fitted on, without counting any row against itself twice.

        A fitted row is already among the n, so its rank is #{s_i >= s} and p = rank / (n + 1): from 1/(n + 1) up, as
        for a row that comes after.
        """
        p = self.p_values(scores)
        counted = np.asarray(scores, dtype=np.float64)
        ranked = np.ones(len(p), bool) if self.tail is None else ~(counted > self.tail.start)
        p[ranked] = np.rint(p[ranked] * (len(self.scores) + 1) - 1) / (len(self.scores) + 1)
        return p

    @property
    def smallest(self) -> float:
        """The smallest p-value that any row can be given."""
        return float(self.p_values(np.array([np.inf]))[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state. ``tail`` is (fraction), or (fraction, start, mass, shape, scale)."""
        tail = self.tail
        fitted = [] if tail is None else [tail.start, tail.mass, tail.shape, tail.scale]
        return {"scores": self.scores, "tail": np.array([self.tail_fraction, *fitted])}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> ConformalCalibrator:
        """The calibrator whose ``arrays()`` these are."""
        fraction, *fitted = (float(value) for value in arrays["tail"])
        return cls(np.asarray(arrays["scores"], dtype=np.float64), fraction, ParetoTail(*fitted) if fitted else None)


@dataclass(frozen=True)
class Threshold:
    """Alarm where a score lies above ``value``.

    Attributes:
        value: on the scale of the scores it was chosen on; +infinity where there were too few of them.
        alpha: the false-positive rate aimed at.
        delta: None for a marginal threshold: the false-positive rate is at most ``alpha`` on average over safe
            samples. Otherwise certified: it is at most ``alpha`` in all but a share ``delta`` of safe samples.
        n: safe rows it was chosen on.
        exceedances: how many of them may lie above ``value`` (fewer do where scores are tied).
        missing: how many more safe rows the smallest sample that allows a finite threshold has.
    """

    value: float
    alpha: float
    delta: float | None
    n: int
    exceedances: int
    missing: int

    @property
    def p_value(self) -> float:
        """The threshold on p where scores are ``suspicion``: alarm exactly for p below it; 0 where nothing can be."""
        p = float(10.0**-self.value)
        if math.isinf(self.value):
            return p
        while p < 1 and float(suspicion(np.array(p))) > self.value:
            p = math.nextafter(p, 1.0)
        while p > 0 and float(suspicion(np.array(math.nextafter(p, 0.0)))) <= self.value:
            p = math.nextafter(p, 0.0)
        return p

    @property
    def shortfall(self) -> str:
        """Why the threshold is +infinity, in a sentence for a person; "" if rows were not missing."""
        if not self.missing:
            return ""
        bound = "on average" if self.delta is None else f"with confidence {1 - self.delta:g}"
        wanted = f"a false-positive rate of {self.alpha:g} {bound} needs {self.n + self.missing} safe rows"
        return f"{wanted}; found {self.n}, {self.missing} are missing: the threshold is +infinity"

    def alarms(self, scores: FloatArray) -> NDArray[np.bool_]:
        """True where a score lies above the threshold or is NaN: a row that cannot be scored is not let through."""
        return np.asarray(~(np.asarray(scores) <= self.value))

    def fpr_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval of the true false-positive rate, which is Beta(l + 1, n - l) distributed.

        Exact for continuous scores, too high for tied ones; (0, 0) where the threshold is +infinity for want of rows.
        """
        from scipy.special import betaincinv

        _check_share("level", level)
        if self.missing:
            return 0.0, 0.0
        low, high = betaincinv(self.exceedances + 1, self.n - self.exceedances, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def marginal_threshold(scores: FloatArray, alpha: float) -> Threshold:
    """The ceil((n + 1)(1 - alpha))-th smallest score: P(next safe score above it) <= alpha.

    The probability is over the safe sample and the next row together; with one sample in hand the realised rate may
    be higher (``fpr_interval`` says how much). ``alpha`` is read as the decimal number that it prints as.

    Raises:
        InputError: alpha outside (0, 1).
        ValueError: NaN among the scores, or not one column.
    """
    _check_share("alpha", alpha)
    exact = Fraction(str(float(alpha)))
    n_needed = math.ceil(1 / exact) - 1
    return _above(_ascending(scores), math.floor((np.size(scores) + 1) * exact) - 1, (alpha, None), n_needed)


def certified_threshold(scores: FloatArray, alpha: float, delta: float) -> Threshold:
    """The lowest threshold whose false-positive rate is at most ``alpha`` with probability 1 - ``delta``.

    With l of n safe scores above it the rate is Beta(l + 1, n - l) distributed (Vovk 2012, training-conditional
    validity); the largest l with BetaCDF(alpha; l + 1, n - l) >= 1 - delta is taken. Below
    log(delta) / log(1 - alpha) rows no l will do: the threshold is +infinity and ``missing`` counts the rows wanted.

    Raises:
        InputError: alpha or delta outside (0, 1).
        ValueError: NaN among the scores, or not one column.
    """
    from scipy.special import betainc

    _check_share("alpha", alpha)
    _check_share("delta", delta)

    def certified(above: int, n: int) -> bool:
        return bool(betainc(above + 1, n - above, alpha) >= 1 - delta)

    n = np.size(scores)
    # The Beta distribution moves right as l grows and left as n grows: one change of answer along either.
    n_allowed = bisect_left(range(n), True, key=lambda above: not certified(above, n))
    n_bound = math.ceil(math.log(delta) / math.log1p(-alpha)) + 1
    n_needed = 1 + bisect_left(range(1, n_bound), True, key=lambda size: certified(0, size))
    return _above(_ascending(scores), n_allowed - 1, (alpha, delta), n_needed)


def realised_fpr_interval(n: float, exceedances: float, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a false-positive rate: ``exceedances`` alarms on ``n`` fresh safe rows.

    For rows that chose no threshold; on the rows that chose it, ask ``Threshold.fpr_interval``. Neither need be a whole
    number: of weighted rows they are effective ones (Korn & Graubard 1998), see ``rates``.

    Raises:
        ValueError: not 0 <= exceedances <= n, n below 1, or a level outside (0, 1).
    """
    from scipy.special import betaincinv

    _check_share("level", level)
    if n < 1 or not 0 <= exceedances <= n:
        raise ValueError(f"{exceedances} alarms on {n} rows; wanted at least one row and no more alarms than rows")
    low = betaincinv(exceedances, n - exceedances + 1, (1 - level) / 2) if exceedances else 0.0
    high = betaincinv(exceedances + 1, n - exceedances, (1 + level) / 2) if exceedances < n else 1.0
    return float(low), float(high)


def _above(ascending: FloatArray, exceedances: int, aim: tuple[float, float | None], n_needed: int) -> Threshold:
    n = len(ascending)
    if exceedances < 0:
        return Threshold(math.inf, *aim, n, 0, max(1, n_needed - n))
    return Threshold(float(ascending[n - 1 - exceedances]), *aim, n, exceedances, 0)


def _ascending(scores: FloatArray) -> FloatArray:
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if values.ndim != 1:
        raise ValueError(f"scores have shape {values.shape}; wanted one column, (n,)")
    if n_nan := int(np.isnan(values).sum()):
        raise ValueError(f"{n_nan} of {len(values)} scores are NaN; give only rows that could be scored")
    return values


def _check_share(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} is {value}; wanted a number between 0 and 1, both excluded")


def _excesses(ascending: FloatArray, fraction: float) -> tuple[float, FloatArray]:
    """The k-th largest score and how far the scores above it lie from it, ascending."""
    k = max(1, round(fraction * len(ascending)))
    start = ascending[-k]
    return float(start), ascending[np.searchsorted(ascending, start, side="right") :] - start


def _no_tail(ascending: FloatArray, fraction: float) -> str:
    if fraction == 0.0:
        return "none was asked for"
    with np.errstate(over="ignore", invalid="ignore"):
        _, excesses = _excesses(ascending, fraction)
    if not np.isfinite(ascending[-1]) or not np.isfinite(excesses).all():
        return "infinite scores among the largest"
    if len(excesses) < MIN_EXCEEDANCES:
        wanted = math.ceil(MIN_EXCEEDANCES / fraction)
        return f"{len(ascending)} safe scores, {len(excesses)} of them to fit a tail on; about {wanted} are wanted"
    if len(np.unique(excesses)) < (1 - MAX_TIED_SHARE) * len(excesses):
        return "tied scores among the largest; a tail needs continuous ones"
    return ""


def _fit_tail(ascending: FloatArray, fraction: float) -> ParetoTail:
    """Maximise the likelihood over the shape, with the scale that is best for each shape."""
    from scipy.optimize import brentq, minimize_scalar

    start, excesses = _excesses(ascending, fraction)
    unit = float(np.sum(excesses / len(excesses)))
    y = excesses / unit

    def best_scale(shape: float) -> float:
        # The likelihood equation of the scale: its left side falls as b grows and changes sign between these ends.
        def slope(b: float) -> float:
            return float((1 + shape) * np.mean(y / (b + shape * y)) - 1)

        return float(brentq(slope, float(y[0]) / 2, 2 * (1 + shape))) if shape else 1.0

    def loss(shape: float) -> float:
        b = best_scale(shape)
        return float(np.log(b) + ((1 + 1 / shape) * np.mean(np.log1p(shape * y / b)) if shape else 1.0))

    inside = float(minimize_scalar(loss, bounds=(0.0, MAX_SHAPE), method="bounded").x)
    shape = min((0.0, inside, MAX_SHAPE), key=loss)
    # The rank just above `start`, so that the tail goes on from where the ranks stop.
    mass = (1 + len(excesses)) / (len(ascending) + 1)
    return ParetoTail(start, mass, shape, best_scale(shape) * unit)
