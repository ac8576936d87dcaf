"""A share of rows with its 95 % interval. Knows nothing of what a row is or what hits it.

Intervals are Clopper & Pearson's (1934) where rows count alike. With weights they are Clopper & Pearson's of the
effective number of rows (Korn & Graubard 1998): that at which a plain sample would have the variance of the weighted
share, and never more than Kish's (1965), so that no interval collapses where nothing or everything is hit, as one of a
bootstrap does.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from offmap.calibration import realised_fpr_interval
from offmap.features import FloatArray
from offmap.weighting import effective_size


class Rate(msgspec.Struct, frozen=True):
    """A share with its 95 % interval.

    Attributes:
        value, low, high: None where there are no rows.
        n: rows behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def count(self) -> int:
        """How many rows are hit, where all count alike."""
        return round((self.value or 0.0) * self.n)


def rate_of(hits: ArrayLike, weight: FloatArray | None = None) -> Rate:
    """The share of (n,) rows that are hit, by their (n,) weights where there are any."""
    hit = np.asarray(hits, dtype=bool)
    n = len(hit)
    if not n:
        return Rate(None, None, None, 0)
    if weight is None or np.all(weight == weight[0]):
        count = int(hit.sum())
        return Rate(count / n, *realised_fpr_interval(n, count), n)
    share = float(np.average(hit, weights=weight))
    number = _effective_number(hit, weight, share)
    return Rate(share, *realised_fpr_interval(number, share * number), n)


def _effective_number(hit: NDArray[np.bool_], weight: FloatArray, share: float) -> float:
    """How many rows of a plain sample tell as much about the share (Korn & Graubard 1998)."""
    variance = float(np.sum((weight * (hit - share)) ** 2) / weight.sum() ** 2)
    kish = effective_size(weight)
    return max(1.0, min(kish, share * (1 - share) / variance) if variance > 0 else kish)
