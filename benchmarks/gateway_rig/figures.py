"""The rig's arithmetic: when requests are due, quantiles, what a hop adds, and whether memory grows.

Knows nothing of HTTP or processes. Times are in seconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DAY = 86_400.0


@dataclass(frozen=True)
class Estimate:
    """A value, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def arrivals(rate: float, seconds: float, seed: int) -> Array:
    """When requests are due, from the start: a Poisson process of ``rate`` a second, cut at ``seconds``.

    The times do not depend on when anything is answered: an open loop.

    Raises:
        ValueError: a rate or a duration that is not positive.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"found {rate} requests a second for {seconds} s, wanted both above 0")
    rng = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = rng.exponential(1 / rate, int(expected + 10 * np.sqrt(expected) + 10))
    due = np.cumsum(gaps)
    return due[due < seconds]


def quantile(values: Array, share: float) -> float:
    """The smallest value that at least this share of all is not above: a time that was really seen.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values, so no quantile")
    return float(np.quantile(values, share, method="inverted_cdf"))


def quantile_of(rounds: Sequence[Array], share: float, *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """A quantile of what was seen in several rounds; its interval resamples whole rounds (percentile bootstrap).

    Requests of one round wait for each other, so they are not resampled one by one. With fewer than two rounds there
    is no interval: its ends are NaN.
    """
    rng, value = np.random.default_rng(seed), quantile(np.concatenate(rounds), share)
    if len(rounds) < 2:
        return Estimate(value, float("nan"), float("nan"))
    drawn = rng.integers(len(rounds), size=(resamples, len(rounds)))
    found = [quantile(np.concatenate([rounds[i] for i in picked]), share) for picked in drawn]
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def added(through: Sequence[Array], bare: Sequence[Array]) -> list[Array]:
    """What a hop added to each request: its time less that of the same request at the same moment of a bare round.

    Pairs in which either has no time (NaN: not answered as it should be) are left out; count them elsewhere.

    Raises:
        ValueError: rounds of different lengths, which cannot be paired.
    """
    if [len(each) for each in through] != [len(each) for each in bare]:
        raise ValueError("rounds of different requests cannot be paired")
    differences = [a - b for a, b in zip(through, bare, strict=True)]
    return [each[~np.isnan(each)] for each in differences]


def slope(times: Array, values: Array) -> Estimate:
    """Growth for each second by Theil and Sen: the median of all pairwise slopes, with Sen's (1968) interval.

    The interval takes neighbouring values for independent: thin them out first (``thinned``).

    Raises:
        ValueError: fewer than three points.
    """
    if len(times) < 3:
        raise ValueError(f"{len(times)} points, wanted at least 3")
    from scipy.stats import theilslopes

    found = theilslopes(values, times, alpha=0.95)
    return Estimate(float(found.slope), float(found.low_slope), float(found.high_slope))


def thinned(times: Array, values: Array, width: float, of: Callable[[Array], float] = np.median) -> tuple[Array, Array]:
    """One value for each window of ``width`` seconds that has any, at its middle: the median, or what ``of`` says."""
    places = np.floor((times - times[0]) / width).astype(int)
    kept = np.unique(places)
    middles = times[0] + (kept + 0.5) * width
    return middles, np.array([float(of(values[places == place])) for place in kept])


def second_half(times: Array, values: Array) -> tuple[Array, Array]:
    """What was seen after the middle of the time: caches are full and what expires has begun to."""
    later = times >= (times[0] + times[-1]) / 2
    return times[later], values[later]


def is_flat(growth: Estimate, level: float) -> bool:
    """Whether nothing grows for sure (the interval reaches 0), or so little that doubling takes more than a day."""
    return growth.low <= 0 or growth.high * DAY <= level
