"""Cut-offs of a whole cascade from safe held-out rows: one false-alarm rate however many monitors, within budgets.

A row enters at the first monitor; a p-value at or below its ``stop`` ends it, one above ``pass`` lets it go on, between
them the next monitor is asked, and what lies between the last one's goes to a person.

With ``pass`` cut-offs that were fixed before a set of rows is seen and one ``stop`` for all steps and questions, a row
is stopped exactly if S <= stop, S the smallest p-value among the monitors that it reaches by ``pass`` alone. So S is
one score, and the split conformal threshold on it (Vovk, Gammerman & Shafer 2005) keeps the rate at most alpha for the
next row, over the draw of the rows: whatever the monitors' dependence, and whether or not their p-values are honest.
Of rows sampled with known probabilities the same holds with weights 1 / probability (Tibshirani, Barber, Candes &
Ramdas 2019, arXiv 1904.06019), the next row given the largest weight there is: the cut-off falls as that weight grows,
so one cut-off serves rows of every weight. The ``pass`` cut-offs are fixed on other rows by the same threshold.

Where only blocked traffic is a false alarm, and one question blocks while the other one is for a person, each has a
``stop`` of its own: a row is blocked only if the smallest p-value of the question that blocks, among the monitors that
it reaches by ``pass`` alone, is at or below that question's, whatever the other one does. So it is too where people
have less time than there may be false alarms: what goes to them gets its share, what is blocked the rest, and by the
union bound both together keep to alpha. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.config import Band, StageTable
from offmap.gateway.policy import Bands, bands
from offmap.gateway.tuning.handing_on import (
    ALWAYS,
    NEVER,
    Limit,
    Passing,
    cut,
    pass_cut_offs,
    present_cut_offs,
    reached,
)
from offmap.gateway.tuning.routes import Routes, lowest, route, unscored_rows, with_bands
from offmap.gateway.tuning.shares import ROUNDING, Shares, heard_questions, require_shares, review_share
from offmap.gateway.tuning.traffic import Traffic, halves

Binding = Limit | Literal["false alarms", "reviews"]


@dataclass(frozen=True, eq=False)
class CascadeBands:
    """Bands for a cascade, and what they cost on the rows that the rate was set on.

    Attributes:
        steps: the bands of each monitor.
        rows: those that the rate was set on.
        ends: where they end.
        parts: the share that each cut-off keeps, of those that stand for false alarms; their sum is alpha at most.
        binding: what a larger budget of would change.
    """

    steps: tuple[Bands, ...]
    rows: Traffic
    ends: Routes
    parts: tuple[float, ...]
    binding: frozenset[Binding]


def calibrate_cascade(traffic: Traffic, table: StageTable, shares: Shares, seed: int = 0) -> CascadeBands:
    """Bands under which at most a share ``alpha`` of safe traffic is a false alarm, on average over sets of safe rows.

    Where a monitor that a row reaches was not asked, the row counts as a false alarm; and then no step hands on more
    than under the present bands.

    Args:
        traffic: safe rows that no monitor was calibrated on, of the monitors of the stage's cascade in its order.
        table: the stage: what it does with what is found.
        shares: the budget.
        seed: of the division of the rows.

    Returns:
        A review budget is kept on these rows with one row to spare, so that it holds on average up to what is lost by
        choosing on the rows that are counted.

    Raises:
        InputError: no rows, too few of them or of ids to divide, too many without an answer, or a budget out of range.
    """
    names = tuple(step.monitor for step in table.steps)
    if traffic.monitors != names:
        raise ValueError(f"traffic is of {traffic.monitors}; wanted {names}")
    require_shares(shares, table)
    if not len(traffic):
        raise InputError("traffic: found no safe rows, wanted some")
    if len(names) > 1 and shares.divides:
        rows, mine = halves(traffic, seed)
        passing, limited = pass_cut_offs(mine, table, shares)
    else:
        rows, limited = traffic, set()
        passing = _undivided(traffic, table, shares)
    stops, parts, bound = _stops(rows, table, reached(rows, table, passing), shares)
    steps, used_up = _for_people(rows, _Chosen(table, stops, passing), shares)
    binding: set[Binding] = {*limited, *bound} | ({"reviews"} if used_up else set())
    return CascadeBands(steps, rows, route(rows, with_bands(table, steps)), parts, frozenset(binding))


@dataclass(frozen=True)
class _Chosen:
    """Cut-offs of a stage that are settled."""

    table: StageTable
    stops: dict[Question, float]
    passing: Passing

    def steps(self, last: Callable[[float], Band]) -> tuple[Bands, ...]:
        """Bands, those of the last step by its ``stop``; a question that is not heard keeps what it has."""
        found = []
        for at, step in enumerate(bands(self.table)):
            each = {
                question: (stop, max(stop, self.passing[at][question])) if at < len(self.passing) else last(stop)
                for question, stop in self.stops.items()
            }
            found.append(Bands(step.monitor, each.get("unsafe", step.unsafe), each.get("unknown", step.unknown)))
        return tuple(found)

    def nobody(self, _: float = 0.0) -> tuple[Bands, ...]:
        """The last monitor leaves nothing in doubt."""
        return self.steps(lambda stop: (stop, stop))

    def ending(self, level: float) -> tuple[Bands, ...]:
        """Where all that is stopped counts: the last monitor's answers above ``level`` are for a person."""
        return self.steps(lambda stop: (min(level, stop), stop))

    def escalating(self, level: float) -> tuple[Bands, ...]:
        """Where blocks count: what is above a block and at or below ``level`` is for a person."""
        own = {q: level if getattr(self.table.actions, q) == "escalate" else stop for q, stop in self.stops.items()}
        doubt = self.table.actions.uncertain == "escalate"
        return replace(self, stops=own).steps(lambda stop: (stop, max(stop, level) if doubt else stop))


def _undivided(traffic: Traffic, table: StageTable, shares: Shares) -> Passing:
    """What hands on all that may be handed on, or what is handed on now."""
    present = present_cut_offs(table)
    if shares.reach is None or not traffic.asked.all():
        return present
    return [dict.fromkeys(each, 1.0) for each in present]


def _stops(
    rows: Traffic, table: StageTable, there: NDArray[np.bool_], shares: Shares
) -> tuple[dict[Question, float], tuple[float, ...], set[Binding]]:
    """The ``stop`` of each question that is heard, the shares whose sum bounds false alarms, and what bound them."""
    questions, unscored = heard_questions(table), table.actions.unscored
    people = [each for each in questions if getattr(table.actions, each) == "escalate"]
    sure = [each for each in questions if each not in people]
    blocks, escalates = ("block", "modify"), ("escalate",)

    def at_most(share: float, asked: Collection[Question], acts: Collection[str], what: str) -> float:
        always = ~rows.asked | (unscored_rows(rows, questions) & (unscored in acts))
        return cut(_smallest_reached(lowest(rows, asked), always, there), rows.weight, share, what)

    if shares.counted == "blocked":
        stop = at_most(shares.alpha, sure, blocks, "false alarms")
        return dict.fromkeys(questions, stop), (shares.alpha,), {"false alarms"}
    reviews = review_share(shares, table)
    if reviews == 0:
        raise InputError("reviews: found a budget of 0, but the stage escalates; wanted more, or other actions")
    if reviews is not None and people and sure:
        stops = dict.fromkeys(people, at_most(reviews, people, escalates, "reviews"))
        stops |= dict.fromkeys(sure, at_most(shares.alpha - reviews, sure, blocks, "false alarms"))
        return stops, (reviews, shares.alpha - reviews), {"false alarms", "reviews"}
    stop = at_most(shares.alpha, questions, (*blocks, *escalates), "false alarms")
    limit = 1.0 if reviews is None else at_most(reviews, people, escalates, "reviews")
    bound: Binding = "reviews" if limit < stop else "false alarms"
    return dict.fromkeys(questions, min(stop, limit)), (shares.alpha,), {bound}


def _smallest_reached(low: FloatArray, always: NDArray[np.bool_], there: NDArray[np.bool_]) -> FloatArray:
    """(n,) the smallest p-value among the monitors that a row reaches; ``ALWAYS`` where one is marked so."""
    p = np.where(always, ALWAYS, np.nan_to_num(low, nan=NEVER))
    return np.asarray(np.where(there, p, NEVER).min(axis=1))


def _for_people(rows: Traffic, chosen: _Chosen, shares: Shares) -> tuple[tuple[Bands, ...], bool]:
    """The bands, with as many rows for people as the budget allows; and whether more would have liked to go."""
    actions, stopped = chosen.table.actions, shares.counted == "stopped"
    if shares.review is None:
        return chosen.nobody(), False
    asks = any(getattr(actions, question) == "escalate" for question in chosen.stops)
    made: Callable[[float], tuple[Bands, ...]] = chosen.ending if stopped else chosen.escalating
    levels = _ending_levels(rows, chosen) if stopped else _escalating_levels(rows, chosen)
    if actions.uncertain != "escalate" and (stopped or not asks):
        made, levels = chosen.nobody, levels[:1]
    budget, own = shares.review, float(rows.weight.max())  # the next row counts as one of them

    def fits(at: int) -> bool:
        held = route(rows, with_bands(chosen.table, made(float(levels[at])))).held
        share = (rows.weight[held].sum() + own) / (rows.weight.sum() + own)
        return bool(share <= budget * (1 + ROUNDING) or (at == 0 and not held.any()))

    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(middle) else (low, middle)
    if not low:
        raise InputError(f"reviews: more than {budget:g} of safe traffic goes to people whatever the cut-offs")
    return made(float(levels[low - 1])), low < len(levels)


def _ending_levels(rows: Traffic, chosen: _Chosen) -> FloatArray:
    """From the ``stop`` down to the most suspicious of the rows: the lower, the more rows for people.

    What is as suspicious as that one is blocked all the same: else a large budget would leave no block at all.
    """
    stop = max(chosen.stops.values())
    last = np.unique(lowest(rows, chosen.stops)[:, -1])
    return np.concatenate([last[last <= stop], [stop]])[::-1]


def _escalating_levels(rows: Traffic, chosen: _Chosen) -> FloatArray:
    """Nothing, then just below each p-value, then all."""
    p = np.unique(lowest(rows, chosen.stops))
    return np.concatenate([[0.0], np.nextafter(p[p > 0], 0.0), [1.0]])
