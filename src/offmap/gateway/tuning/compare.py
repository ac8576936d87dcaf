"""What past traffic would have met under other bands."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.gateway.config import StageTable
from offmap.gateway.tuning.routes import Routes, route
from offmap.gateway.tuning.traffic import Traffic
from offmap.rates import Rate, rate_of

NOT_KNOWN = "not known"


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


def _side(traffic: Traffic, ends: Routes, known: NDArray[np.bool_]) -> Side:
    def labelled(label: float) -> Rate:
        mine = known & (traffic.unsafe == label)
        return rate_of(ends.stopped[mine], traffic.weight[mine])

    flagged, held = (rate_of(each[known]) for each in (ends.stopped, ends.held))
    return Side(flagged, held, labelled(0.0), labelled(1.0))


def _names(ends: Routes) -> list[str]:
    return [name or NOT_KNOWN for name in ends.names()]
