"""What past traffic would have met under other bands.

Intervals are of 95 %: Clopper & Pearson's (1934) where rows count alike. With weights they are Clopper & Pearson's of
the effective number of rows (Korn & Graubard 1998): that at which a plain sample would have the variance of the
weighted share, and never more than Kish's (1965), so that no interval collapses where nothing or everything is hit, as
one of a bootstrap does.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.calibration import realised_fpr_interval
from offmap.features import FloatArray
from offmap.gateway.config import StageTable
from offmap.gateway.tuning.routes import Routes, route
from offmap.gateway.tuning.traffic import Traffic
from offmap.weighting import effective_size

NOT_KNOWN = "not known"
LEVEL = 0.95


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


class Change(msgspec.Struct, frozen=True):
    """How many rows met ``was`` under the old bands and meet ``becomes`` under the new: an action, or "not known"."""

    was: str
    becomes: str
    rows: int


class Side(msgspec.Struct, frozen=True):
    """What happens under one set of bands.

    Attributes:
        flagged: share of all rows that are not let through; every row counts once.
        held: share of all rows that go to a person; a part of ``flagged``.
        false_alarms: share of the rows labelled safe that are not let through, by the rows' weights.
        recall: of those labelled unsafe, likewise.
    """

    flagged: Rate
    held: Rate
    false_alarms: Rate
    recall: Rate


class Comparison(msgspec.Struct, frozen=True):
    """Old bands and new ones on the same past rows.

    Attributes:
        rows: how many.
        unknown: of these those whose outcome cannot be known under one of both, since a monitor was not asked. They are
            in no rate.
        changes: every pair of outcomes that occurs, unchanged ones too, the most frequent first.
        old, new: rates.
    """

    rows: int
    unknown: int
    changes: tuple[Change, ...]
    old: Side
    new: Side


def compare(traffic: Traffic, old: StageTable, new: StageTable) -> Comparison:
    """Two sets of bands on the same rows, as if both were enforced. A monitor not in ``traffic`` was not asked."""
    before, after = route(traffic, old), route(traffic, new)
    known = before.known & after.known
    pairs = Counter(zip(_names(before), _names(after), strict=True))
    changes = tuple(Change(*pair, count) for pair, count in sorted(pairs.items(), key=lambda each: (-each[1], each[0])))
    sides = (_side(traffic, ends, known) for ends in (before, after))
    return Comparison(len(traffic), int(np.sum(~known)), changes, *sides)


def share_of(hits: NDArray[np.bool_], weight: FloatArray) -> Rate:
    """The weighted share of (n,) rows that are hit, with its interval."""
    n = len(hits)
    if not n:
        return Rate(None, None, None, 0)
    if np.all(weight == weight[0]):
        count = int(hits.sum())
        return Rate(count / n, *realised_fpr_interval(n, count, LEVEL), n)
    share = float(np.average(hits, weights=weight))
    return Rate(share, *_interval(share, _effective_number(hits, weight, share)), n)


def _effective_number(hits: NDArray[np.bool_], weight: FloatArray, share: float) -> float:
    """How many rows of a plain sample tell as much about the share (Korn & Graubard 1998)."""
    variance = float(np.sum((weight * (hits - share)) ** 2) / weight.sum() ** 2)
    kish = effective_size(weight)
    return max(1.0, min(kish, share * (1 - share) / variance) if variance > 0 else kish)


def _interval(share: float, number: float) -> tuple[float, float]:
    """Clopper & Pearson's interval of a share of so many rows, which need be no whole number."""
    from scipy.special import betaincinv

    hit, missed = share * number, (1 - share) * number
    low = betaincinv(hit, missed + 1, (1 - LEVEL) / 2) if hit > 0 else 0.0
    high = betaincinv(hit + 1, missed, (1 + LEVEL) / 2) if missed > 0 else 1.0
    return float(low), float(high)


def _side(traffic: Traffic, ends: Routes, known: NDArray[np.bool_]) -> Side:
    def labelled(label: float) -> Rate:
        mine = known & (traffic.unsafe == label)
        return share_of(ends.stopped[mine], traffic.weight[mine])

    ones = np.ones(int(known.sum()))
    flagged, held = (share_of(each[known], ones) for each in (ends.stopped, ends.held))
    return Side(flagged, held, labelled(0.0), labelled(1.0))


def _names(ends: Routes) -> list[str]:
    return [name or NOT_KNOWN for name in ends.names()]
