"""Arithmetic that detectors share, in float64: moments, shrinkage, whitening, distances, ragged sums.

Rows may come as float32; they are widened a block at a time, and no intermediate result is ever narrower.
Knows nothing of features or labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BLOCK = 2048
"""Rows widened to float64 at a time."""


def blocks(rows: NDArray[Any], size: int = BLOCK) -> Iterator[FloatArray]:
    """The rows in order, at most ``size`` at a time, as float64; one empty block if there are none."""
    for start in range(0, max(len(rows), 1), size):
        yield np.asarray(rows[start : start + size], dtype=np.float64)


def spaced(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """At most ``most`` of the rows, evenly spaced from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.intp)]


def row_sums(values: NDArray[Any], offsets: NDArray[np.int64]) -> FloatArray:
    """Sum of each ragged row ``values[offsets[i]:offsets[i + 1]]``, (n,); 0 for an empty row.

    A row's sum does not depend, to the last bit, on the rows around it: a difference of cumulative sums would.
    """
    starts, filled = offsets[:-1], np.diff(offsets) > 0
    sums = np.zeros(len(starts))
    if filled.any():
        wide = np.asarray(values[: offsets[-1]], dtype=np.float64)
        sums[filled] = np.add.reduceat(wide, starts[filled])
    return sums


def unit_rows(rows: NDArray[Any]) -> FloatArray:
    """Rows divided by their Euclidean length, (n, d); a row of zeros stays zero."""
    wide = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(length == 0, 1.0, length))


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean (d,) and scatter (d, d), the sum of (x - mean)(x - mean)^T, of rows that need not be kept."""

    n: int
    mean: FloatArray
    scatter: FloatArray

    @staticmethod
    def of(parts: Iterable[NDArray[Any]]) -> Moments:
        """Moments of all rows of all (n_i, d) parts, in one pass.

        Raises:
            ValueError: no parts, or no rows in any.
        """
        total: Moments | None = None
        for part in parts:
            rows = np.asarray(part, dtype=np.float64)
            if len(rows):
                mean = rows.mean(axis=0)
                centred = rows - mean
                found = Moments(len(rows), mean, centred.T @ centred)
                total = found if total is None else total.merge(found)
        if total is None:
            raise ValueError("no rows: moments need at least one")
        return total

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together (Chan, Golub and LeVeque 1979, updating formula)."""
        n = self.n + other.n
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), scatter)


def fourth_moment(parts: Iterable[NDArray[Any]], mean: FloatArray) -> float:
    """Sum over all rows of ||x - mean||^4, the one number that shrinkage needs beyond the moments."""
    return sum(float((((rows - mean) ** 2).sum(axis=1) ** 2).sum()) for rows in parts)


def ledoit_wolf(moments: Moments, fourth: float) -> tuple[FloatArray, float]:
    """Covariance (d, d) shrunk towards a multiple of the identity, and the shrinkage in [0, 1].

    Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", lemma 3.2-3.4.

    Args:
        moments: of the rows.
        fourth: ``fourth_moment`` of the same rows about their mean.
    """
    n, d = moments.n, len(moments.mean)
    sigma = moments.scatter / n
    level = float(np.trace(sigma)) / d
    squared = float((sigma**2).sum())
    spread = (squared - d * level**2) / d
    noise = min(spread, (fourth / n**2 - squared / n) / d)
    shrinkage = noise / spread if noise > 0 else 0.0
    shrunk = (1 - shrinkage) * sigma
    shrunk.flat[:: d + 1] += shrinkage * level
    return shrunk, shrinkage


@dataclass(frozen=True, eq=False)
class Whitener:
    """An affine map to coordinates of unit covariance: x -> (x - mean) @ factor.

    Attributes:
        mean: (d,).
        factor: (d, r), r the rank kept; ``factor @ factor.T`` is the (pseudo-)inverse of the covariance.
    """

    mean: FloatArray
    factor: FloatArray

    @staticmethod
    def of(mean: FloatArray, covariance: FloatArray) -> Whitener:
        """Factor a covariance once. Directions with eigenvalues below d * eps of the largest are dropped, as in pinv.

        Raises:
            ValueError: a covariance without any variance, or one that is not finite.
        """
        if not np.isfinite(covariance).all():
            raise ValueError("the covariance is not finite: the rows hold NaN or infinity")
        values, vectors = np.linalg.eigh(covariance)
        kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
        if not kept.any():
            raise ValueError("the rows do not vary: no distance can be learned from them")
        return Whitener(mean, np.ascontiguousarray(vectors[:, kept] / np.sqrt(values[kept])))

    def whiten(self, rows: FloatArray) -> FloatArray:
        """The rows in coordinates of unit covariance, (n, r)."""
        return np.asarray((rows - self.mean) @ self.factor)

    def squared_distance(self, rows: NDArray[Any]) -> FloatArray:
        """Squared Mahalanobis distance of each row to the mean, (n,); never negative."""
        return np.concatenate([(self.whiten(part) ** 2).sum(axis=1) for part in blocks(rows)])


def shrunk_gaussian(rows: FloatArray) -> tuple[Whitener, float]:
    """The Gaussian of the rows, its covariance by ``ledoit_wolf``, and the shrinkage.

    Raises:
        ValueError: no rows, or rows that do not vary.
    """
    moments = Moments.of(blocks(rows))
    covariance, shrinkage = ledoit_wolf(moments, fourth_moment(blocks(rows), moments.mean))
    return Whitener.of(moments.mean, covariance), shrinkage


def leave_one_out(squared: FloatArray, shrinkage: float) -> FloatArray:
    """Squared distance of each fitted row to the Gaussian of all the others, without fitting n Gaussians.

    Without the row, x once centred, the mean moves by -x/(n-1) and the covariance becomes n/(n-1) (S - c x x^T) with
    c = (1 - rho)/(n-1), the ridge scaled alike; so by Sherman and Morrison d^2 becomes n/(n-1) d^2 / (1 - c d^2).

    Args:
        squared: (n,) squared distances of the rows that fitted the Gaussian, its covariance normalised by n.
        shrinkage: its rho, in [0, 1].
    """
    n = len(squared)
    left = 1 - (1 - shrinkage) / (n - 1) * squared
    return np.asarray(n / (n - 1) * squared / np.maximum(left, np.finfo(np.float64).eps))


def centre_and_spread(values: FloatArray) -> FloatArray:
    """Median and interquartile range, (2,); where the range is 0 the size of the median, and failing that 1."""
    low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
    return np.array([centre, (high - low) or abs(centre) or 1.0])


def standardise(values: FloatArray, usual: FloatArray) -> FloatArray:
    """``values`` less a centre, divided by a spread; ``usual`` is (2,) of both."""
    return np.asarray((values - usual[0]) / usual[1])


def kth_cosine_distance(queries: NDArray[Any], bank: NDArray[Any], k: int, size: int = BLOCK) -> FloatArray:
    """Cosine distance (1 - cosine) of each query to its k-th nearest row of the bank, (n,).

    Memory stays at a few ``size`` x ``size`` blocks whatever the length of either.

    Args:
        queries: (n, d) rows of unit length.
        bank: (m, d) rows of unit length.
        k: 1 for the nearest; at most m.
        size: rows in a block.

    Raises:
        ValueError: ``k`` outside 1 to m.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k={k}: wanted 1 to {len(bank)}, the rows in the bank")
    return np.concatenate([_kth(part, bank, k, size) for part in blocks(queries, size)])


def _kth(queries: FloatArray, bank: NDArray[Any], k: int, size: int) -> FloatArray:
    nearest = np.empty((len(queries), 0))
    for part in blocks(bank, size):
        nearest = np.concatenate([nearest, np.maximum(1.0 - queries @ part.T, 0.0)], axis=1)
        if nearest.shape[1] > k:
            nearest = np.partition(nearest, k - 1, axis=1)[:, :k]
    return np.asarray(nearest.max(axis=1, initial=0.0))
