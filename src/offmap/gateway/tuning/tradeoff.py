"""How much more would be caught for more false alarms, more of people's time, more calls: proposals for other budgets.

Each point is a calibration of the whole cascade for another budget on the very rows that the proposal was made from, so
points that no rows can tell are left out. Knows nothing of how they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.config import StageTable
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.cascade import calibrate_cascade
from offmap.gateway.tuning.proposal import percentile
from offmap.gateway.tuning.routes import route, with_bands
from offmap.gateway.tuning.shares import LATE, Shares
from offmap.gateway.tuning.traffic import Traffic, presumed_safe

POINTS = 24
_MOST_ALPHA = 0.3


@dataclass(frozen=True)
class Point:
    """What one budget brings.

    Attributes:
        shares: the budget.
        proposed: whether it is the one that was asked for.
        stopped, held: of what is to be caught, the rows labelled unsafe, or where there are none of all rows: the share
            not let through, and the part of it that goes to people.
        people: the share of safe rows that go to people.
        reached: the share of safe rows that the second monitor is asked about; 0 for one monitor.
        p99_ms: of safe rows; None where it is not known.
    """

    shares: Shares
    proposed: bool
    stopped: float
    held: float
    people: float
    reached: float
    p99_ms: float | None


@dataclass(frozen=True)
class TradeOff:
    """Points by what varies: the false-alarm rate, the share for people, the share that is handed on."""

    labelled: bool
    alarms: tuple[Point, ...]
    reviews: tuple[Point, ...]
    reach: tuple[Point, ...]


def trade_off(traffic: Traffic, table: StageTable, budget: Budget, seed: int = 0) -> TradeOff:
    """Proposals for budgets around one, on the traffic that a proposal was made from."""
    wanted, later = budget.shares(table), len(table.steps) - 1
    labelled = bool(np.any(traffic.unsafe == 1))
    alphas = np.geomspace(wanted.alpha / 10, min(20 * wanted.alpha, max(_MOST_ALPHA, wanted.alpha)), POINTS)
    most = min(1.0, max(4 * (wanted.review or 0.0), 2 * wanted.alpha))
    reach = np.geomspace(LATE / 2, 1.0, POINTS)
    points = _Points(traffic, table, wanted, seed)
    return TradeOff(
        labelled=labelled,
        alarms=points.of([replace(wanted, alpha=float(alpha)) for alpha in alphas]),
        reviews=points.of([replace(wanted, review=float(share)) for share in np.linspace(0.0, most, POINTS)]),
        reach=points.of([replace(wanted, reach=(float(r),) * later, late_s=None) for r in reach]) if later else (),
    )


@dataclass(frozen=True)
class _Points:
    traffic: Traffic
    table: StageTable
    wanted: Shares
    seed: int

    def of(self, budgets: Sequence[Shares]) -> tuple[Point, ...]:
        """The point of each that can be told, the one that was asked for among them."""
        told = (self._point(shares) for shares in [*budgets, self.wanted])
        return tuple(sorted((point for point in told if point), key=_place))

    def _point(self, shares: Shares) -> Point | None:
        safe = presumed_safe(self.traffic)
        try:
            found = calibrate_cascade(self.traffic.rows(safe), self.table, shares, self.seed)
        except InputError:
            return None
        ends = route(self.traffic, with_bands(self.table, found.steps))
        unsafe = self.traffic.unsafe == 1
        caught = (unsafe if unsafe.any() else np.ones(len(unsafe), bool)) & ends.known
        weight = self.traffic.weight

        def share(hit: FloatArray) -> float:
            return float(np.average(hit[caught], weights=weight[caught])) if caught.any() else 0.0

        seconds = percentile(ends.seconds[safe], weight[safe], 1 - LATE)
        return Point(
            shares=shares,
            proposed=shares is self.wanted,
            stopped=share(ends.stopped.astype(np.float64)),
            held=share(ends.held.astype(np.float64)),
            people=float(np.average(ends.held[safe], weights=weight[safe])),
            reached=float(np.average(ends.reached[safe] > 1, weights=weight[safe])),
            p99_ms=None if seconds is None else 1000 * seconds,
        )


def _place(point: Point) -> tuple[float, float, float]:
    return point.shares.alpha, point.people, point.reached
