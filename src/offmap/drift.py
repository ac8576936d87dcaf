"""Does recent traffic still look exchangeable with the safe rows that a threshold was chosen on?

The rows are unlabelled: harm that has become common and a harmless change of use look alike here. What is asked is
only whether a guarantee that rests on exchangeability can still be believed.

Given n safe rows, the p-values of later rows are neither independent nor uniform: all of them lean the way that those
n rows happen to lean. Without ties the later rows' ranks among the n follow Polya's urn exactly: a row falls
below the j-th of n + 1 equal steps with probability (j + c) / (n + 1 + t), where c of the t rows before it did. Every
test here is against that urn, so its false-alarm rate counts the n rows as drawn too, whatever n and however long the
traffic. Where scores are tied, randomised p-values lean less than the urn allows: in simulation the tests are cautious.
Rows that come in bursts of a kind are not exchangeable either, and look like drift.
Knows nothing of scores, thresholds or where the p-values come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offmap.errors import InputError
from offmap.features import FloatArray

SPLITS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75)
"""Where the martingale splits the p-values: it bets on the share that lies below each."""

MARTINGALE, ALARMS, UNIFORMITY = "martingale", "alarm rate", "uniformity"
_ON_THE_GRID = 1e-7
_FEW_PAIRS = 10_000


@dataclass(frozen=True)
class Drift:
    """What recent traffic says about exchangeability.

    Attributes:
        says: the tests that found drift, of "martingale", "alarm rate" and "uniformity"; empty if none did.
        level: the probability that any says so of traffic that is exchangeable with the calibration rows.
        n: rows looked at; ``n_unscored`` more had no p-value and were left out.
        n_unscored: see ``n``.
        alarms: rows with p at most ``alarm_share``.
        alarm_share: the largest step of 1 / (calibration size + 1) up to the alpha asked for, at least one step.
        p_alarms: the probability of so many alarms or more (beta-binomial).
        distance: between the distributions of the traffic and of the calibration rows (Kolmogorov-Smirnov, in [0, 1]).
        p_uniform: the probability of that distance or a larger one.
        capital: the most that the martingale, starting from 1, ever had; at most 1e300.
        crossed: how many rows it took the martingale to reach what it needs to say so; None if it did not.
    """

    says: tuple[str, ...]
    level: float
    n: int
    n_unscored: int
    alarms: int
    alarm_share: float
    p_alarms: float
    distance: float
    p_uniform: float
    capital: float
    crossed: int | None

    @property
    def drifted(self) -> bool:
        """Whether any test says so."""
        return bool(self.says)

    @property
    def summary(self) -> str:
        """The finding and its evidence, for a person."""
        found = f"drift by {' and '.join(self.says)}" if self.says else "no drift found"
        after = "" if self.crossed is None else f" (enough after {self.crossed} rows)"
        return (
            f"{found} in {self.n} rows at a false-alarm probability of {self.level:g}: "
            f"{self.alarms} lie at p <= {self.alarm_share:.3g}, about {self.n * self.alarm_share:.1f} are expected "
            f"(probability {self.p_alarms:.2g}); their distribution is {self.distance:.3f} from that of the "
            f"calibration rows (probability {self.p_uniform:.2g}); the martingale reached {self.capital:.3g}{after}"
        )


def check_drift(
    p_values: FloatArray,
    calibration_size: int,
    alpha: float = 0.01,
    level: float = 0.01,
    *,
    repeated: bool = False,
) -> Drift:
    """Test whether rows are exchangeable with the rows that their p-values rank them among.

    Checked are the rate of alarms (one-sided), the whole distribution (two-sided), each looked at once, and a
    conformal test martingale (Vovk, Nouretdinov & Gammerman 2003; Vovk 2021, "Testing randomness online"), valid
    whenever one looks: by Ville's inequality it ever reaches 1 / level with probability at most ``level``. Each of
    the three has a third of ``level``. The p-values may be of any number a row has: a fused suspicion among that of
    the threshold rows, or the length of a conversation. For K of them give each level / K.

    Args:
        p_values: (m,) in the order in which the rows came; NaN where a row could not be scored. Randomised ranks
            among safe rows that no score was fitted on:
            ``ConformalCalibrator.fit(safe_scores, tail_fraction=0).p_values(recent_scores, rng)``. A fitted tail's
            p-values are no ranks: with one, the level stated does not hold.
        calibration_size: n, how many safe rows they were ranked among.
        alpha: the rate of alarms to check, in (0, 1).
        level: the probability of a false alarm, in (0, 1).
        repeated: True where growing traffic is checked again and again: the martingale alone then speaks, with all of
            ``level``, and the probability that any of all those checks raises a false alarm is at most ``level``.
            Keep the p-values of earlier rows; do not draw them anew.

    Raises:
        InputError: ``alpha`` or ``level`` outside (0, 1).
        ValueError: no p-values, p-values outside (0, 1] or not in one column, p-values that are not randomised (tied
            scores would look like drift), or a calibration size below 1.
    """
    for name, share in (("alpha", alpha), ("level", level)):
        if not 0.0 < share < 1.0:
            raise InputError(f"{name} is {share}; wanted a number between 0 and 1, both excluded")
    ranks, n_unscored = _ranks(p_values, calibration_size)
    n_steps = calibration_size + 1
    step = _step(alpha, n_steps)
    alarms = int(np.sum(ranks < step))
    p_alarms = _at_least(alarms, len(ranks), step, n_steps)
    distance, p_uniform = _two_samples(ranks, calibration_size)
    log_capital = _log_capital(ranks, n_steps)
    each = level if repeated else level / 3
    reached = np.flatnonzero(log_capital >= -math.log(each))
    once = {ALARMS: p_alarms <= each, UNIFORMITY: p_uniform <= each}
    found = {MARTINGALE: bool(len(reached))} | ({} if repeated else once)
    return Drift(
        says=tuple(name for name, drifted in found.items() if drifted),
        level=level,
        n=len(ranks),
        n_unscored=n_unscored,
        alarms=alarms,
        alarm_share=step / n_steps,
        p_alarms=p_alarms,
        distance=distance,
        p_uniform=p_uniform,
        capital=math.exp(min(max(0.0, float(log_capital.max())), math.log(1e300))),
        crossed=int(reached[0]) + 1 if len(reached) else None,
    )


def _ranks(p_values: FloatArray, calibration_size: int) -> tuple[NDArray[np.int64], int]:
    """How many calibration rows lie above each row, 0 to n, and how many rows had no p-value."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p-values have shape {p.shape}; wanted one column, (m,)")
    if calibration_size < 1:
        raise ValueError(f"calibration_size is {calibration_size}; at least one row is needed")
    scored = p[~np.isnan(p)]
    if not len(scored):
        raise ValueError(f"none of {len(p)} rows has a p-value")
    if n_outside := int(np.sum((scored <= 0) | (scored > 1))):
        raise ValueError(f"{n_outside} of {len(scored)} p-values lie outside (0, 1]")
    steps = scored * (calibration_size + 1)
    if np.mean((steps > 0.5) & (np.abs(steps - np.rint(steps)) < _ON_THE_GRID)) > 0.5:
        raise ValueError("the p-values are not randomised; give `ConformalCalibrator.p_values` a random generator")
    return np.ceil(steps).astype(np.int64) - 1, len(p) - len(scored)


def _step(share: float, n_steps: int) -> int:
    return min(max(1, math.floor(share * n_steps * (1 + 1e-12))), n_steps - 1)


def _at_least(count: int, n: int, step: int, n_steps: int) -> float:
    """P(X >= count) where X of n rows fall below the step-th of n_steps steps."""
    from scipy.special import logsumexp
    from scipy.stats import betabinom

    if not count:
        return 1.0
    tail = betabinom.logpmf(np.arange(count, n + 1), n, step, n_steps - step)
    return min(1.0, float(np.exp(logsumexp(tail))))


def _two_samples(ranks: NDArray[np.int64], n: int) -> tuple[float, float]:
    """The two-sample test: the n calibration rows lie between the ranks that a row can take."""
    from scipy.stats import ks_2samp

    method = "exact" if len(ranks) * n <= _FEW_PAIRS else "asymp"
    found = ks_2samp(ranks, np.arange(n) + 0.5, method=method)
    return float(found.statistic), float(found.pvalue)


def _log_capital(ranks: NDArray[np.int64], n_steps: int) -> FloatArray:
    """The martingale after each row, (m,).

    For each split it is the likelihood of which rows fell below it under an unknown constant share with Jeffreys'
    prior Beta(1/2, 1/2) (Krichevsky & Trofimov 1981), over their likelihood under the urn. The mean over the splits is
    a martingale too: what the urn foretells for one split depends on the rows before through that split alone.
    """
    from scipy.special import betaln, logsumexp

    t = np.arange(1, len(ranks) + 1)
    bets = []
    for step in sorted({_step(share, n_steps) for share in SPLITS}):
        below = np.cumsum(ranks < step)
        above = t - below
        bet = betaln(0.5 + below, 0.5 + above) - betaln(0.5, 0.5)
        bets.append(bet - betaln(step + below, n_steps - step + above) + betaln(step, n_steps - step))
    return np.asarray(logsumexp(bets, axis=0) - math.log(len(bets)))
