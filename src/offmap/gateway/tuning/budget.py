"""What may be spent, in the units of those who pay, and as shares of safe traffic. Knows no rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import accumulate

from offmap.errors import InputError
from offmap.gateway.config import StageTable
from offmap.gateway.policy import TIERS
from offmap.gateway.tuning.shares import Counted, Shares

_PER_DAY = ("false_alarms_per_day", "reviewer_minutes_per_day", "cost_per_day")
_NONE_MAY_BE = ("reviewer_minutes_per_day", "cost_per_day")


@dataclass(frozen=True)
class Budget:
    """What a stage may cost. None: no bound; of false alarms the tier's, of calls what is handed on now.

    Attributes:
        alpha: the share of safe traffic that may be a false alarm; or ``false_alarms_per_day``.
        false_alarms_per_day: of ``requests_per_day``.
        requests_per_day: wanted wherever something is said per day.
        counted: what a false alarm is.
        reviewer_minutes_per_day, minutes_per_review: of people.
        p99_ms: 99 % of requests are decided within it.
        cost: of one call of a monitor, by name; what is not named is free.
        cost_per_day: of all calls, in the same currency.

    Raises:
        InputError: a number out of range, two that say the same, or one without the other that it needs.
    """

    alpha: float | None = None
    false_alarms_per_day: float | None = None
    requests_per_day: float | None = None
    counted: Counted = "stopped"
    reviewer_minutes_per_day: float | None = None
    minutes_per_review: float = 2.0
    p99_ms: float | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    cost_per_day: float | None = None

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("counted", "cost")}
        for name, value in {**given, **{f"cost of {name!r}": value for name, value in self.cost.items()}}.items():
            least = "at least" if name in _NONE_MAY_BE or name.startswith("cost of") else "above"
            if value is not None and not (math.isfinite(value) and (value > 0 or (value == 0 and least == "at least"))):
                raise InputError(f"{name}: found {value:g}, wanted a number {least} 0")
        if self.alpha is not None and self.false_alarms_per_day is not None:
            raise InputError("alpha: found beside false_alarms_per_day, wanted one of them")
        for name in _PER_DAY:
            if given[name] is not None and self.requests_per_day is None:
                raise InputError(f"{name}: found without requests_per_day, wanted both")
        if self.cost_per_day is not None and not any(self.cost.values()):
            raise InputError("cost_per_day: found without the cost of a call of any monitor, wanted one")

    def shares(self, table: StageTable) -> Shares:
        """The budget as shares of the safe traffic of a stage; all requests are taken to be safe.

        Raises:
            InputError: a cost of a monitor that the stage does not ask, a false-alarm rate that is none, or so little
                money that the first monitor alone is too dear, or nothing is left for a later one.
        """
        review = None
        if self.reviewer_minutes_per_day is not None and self.requests_per_day is not None:
            review = min(1.0, self.reviewer_minutes_per_day / self.minutes_per_review / self.requests_per_day)
        late = None if self.p99_ms is None else self.p99_ms / 1000
        return Shares(self._alpha(table), self.counted, review, self._reach(table), late)

    def cost_of(self, table: StageTable, reached: tuple[float, ...]) -> float | None:
        """What calls cost a day where each monitor is asked about such a share; None where that is not known."""
        if self.requests_per_day is None or not self.cost:
            return None
        costs = (self.cost.get(step.monitor, 0.0) for step in table.steps)
        return self.requests_per_day * sum(cost * share for cost, share in zip(costs, reached, strict=True))

    def _alpha(self, table: StageTable) -> float:
        alpha = self.alpha if self.alpha is not None else TIERS[table.tier].alpha
        if self.false_alarms_per_day is not None and self.requests_per_day is not None:
            alpha = self.false_alarms_per_day / self.requests_per_day
        if not 0 < alpha < 1:
            raise InputError(f"false alarms: found a share of {alpha:g} of all requests, wanted one between 0 and 1")
        return alpha

    def _reach(self, table: StageTable) -> tuple[float, ...] | None:
        names = [step.monitor for step in table.steps]
        if strange := sorted(set(self.cost) - set(names)):
            raise InputError(f"cost: found {strange[0]!r}, wanted a monitor of the cascade: {', '.join(names)}")
        if self.cost_per_day is None or self.requests_per_day is None:
            return None
        costs = [self.requests_per_day * self.cost.get(name, 0.0) for name in names]
        left = self.cost_per_day - costs[0]
        if left < 0:
            raise InputError(
                f"cost_per_day: found {self.cost_per_day:g}, wanted at least {costs[0]:g}: {names[0]!r} is asked about "
                "every request"
            )
        shares = _shared(costs[1:], left)
        if any(share <= 0 for share in shares):
            raise InputError(
                f"cost_per_day: found {self.cost_per_day:g}, which leaves nothing to ask a later monitor; wanted more"
            )
        return shares


def _shared(costs: list[float], left: float) -> tuple[float, ...]:
    """What share of requests each later step may be asked about: equal money each; what one cannot use is the others'.

    Args:
        costs: of asking about every request.
        left: money.
    """
    shares = [1.0] * len(costs)
    paid = sorted((step for step, cost in enumerate(costs) if cost > 0), key=lambda step: costs[step])
    for number, step in enumerate(paid):
        spent = min(costs[step], left / (len(paid) - number))
        shares[step], left = spent / costs[step], left - spent
    return tuple(accumulate(shares, min))
