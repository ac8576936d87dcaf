"""Which rows each step of a cascade hands on to the next: ``pass`` cut-offs within budgets of calls and of time.

Every cut-off is a split conformal one (Vovk, Gammerman & Shafer 2005), of rows with weights where they have some
(Tibshirani, Barber, Candes & Ramdas 2019, arXiv 1904.06019); for latency a certified one (Vovk 2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import certified_threshold
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.config import StageTable
from offmap.gateway.policy import bands, heard
from offmap.gateway.tuning.routes import lowest, unscored_rows
from offmap.gateway.tuning.shares import DOUBT, LATE, ROUNDING, Shares, heard_questions, rows_for, rows_worth
from offmap.gateway.tuning.traffic import Traffic
from offmap.weighting import WeightedCalibrator

Limit = Literal["reach", "latency"]
Passing = Sequence[Mapping[Question, float]]
"""Of each step but the last, the p-value above which a question passes a row."""
ALWAYS, NEVER = -1.0, 2.0
"""In place of a p-value: below any cut-off, and above all."""


def cut(p: FloatArray, weight: FloatArray, share: float, what: str) -> float:
    """The largest cut-off with P(p <= cut-off) <= ``share`` for the next row, if it weighs no more than any of these.

    Args:
        p: (n,) p-values, ``ALWAYS`` or ``NEVER``.
        weight: (n,), above 0.
        share: of all traffic.
        what: the share is of, for errors.

    Raises:
        InputError: too few rows, or more than that share below any cut-off.
    """
    needed = rows_for(share)
    found = rows_worth(weight)
    if found < needed * (1 - ROUNDING):
        worth = "" if math.isclose(found, len(p)) else f" that count for {found:.1f} of equal weight"
        raise InputError(f"{what}: a share of {share:g} needs {needed} safe rows; found {len(p)}{worth}")
    value = -WeightedCalibrator.fit(-p, weight).threshold(share)
    below = math.nextafter(value, -1.0)
    if below < 0:
        lost = int((p <= 0).sum())
        raise InputError(f"{what}: {lost} of {len(p)} safe rows have no p-value or one of 0: more than {share:g}")
    return min(below, 1.0)


def reached(traffic: Traffic, table: StageTable, passing: Passing) -> NDArray[np.bool_]:
    """(n, 1 + len(passing)) whether a row reaches a step by ``pass`` cut-offs alone, as if nothing were stopped."""
    silent = unscored_rows(traffic, heard_questions(table))
    there = np.ones((len(traffic), len(passing) + 1), bool)
    for at, cut_offs in enumerate(passing):
        on = silent[:, at] & (table.actions.unscored == "allow")
        for question, cut_off in cut_offs.items():
            on |= traffic.p(question)[:, at] <= cut_off
        there[:, at + 1] = there[:, at] & on & traffic.asked[:, at]
    return there


def present_cut_offs(table: StageTable) -> Passing:
    """Those that a stage has now."""
    return [{question: high for question, (_, high) in heard(table, step).items()} for step in bands(table)[:-1]]


def pass_cut_offs(mine: Traffic, table: StageTable, shares: Shares) -> tuple[Passing, set[Limit]]:
    """The largest within the limits, one for all questions of a step; and which limits made some of them smaller.

    Where a monitor was not asked, none hands on more than it does now: else it is not known what became of rows.

    Raises:
        InputError: see ``cut``.
    """
    passing: list[Mapping[Question, float]] = []
    binding: set[Limit] = set()
    low = lowest(mine, heard_questions(table))
    unscored = ALWAYS if table.actions.unscored == "allow" else NEVER
    later = len(table.steps) - 1
    for at, share in enumerate(shares.reach or (1.0,) * later):
        there = reached(mine, table, passing)
        # Of all rows, those that are still there; the others have passed, so they count as least suspicious.
        p = np.where(there[:, at], np.nan_to_num(low[:, at], nan=unscored), NEVER)
        p[there[:, at] & ~mine.asked[:, at]] = ALWAYS
        limits: dict[Limit, float] = {}
        if share < 1:
            limits["reach"] = cut(p, mine.weight, share, f"asking {table.steps[at + 1].monitor!r}")
        if shares.late_s is not None:
            limits["latency"] = _in_time(p, there, mine, shares.late_s, (at + 1) / later)
        most = min([1.0, *limits.values()])
        present = present_cut_offs(table)[at]
        passing.append({q: most if mine.asked.all() else min(most, high) for q, high in present.items()})
        binding |= {name for name, limit in limits.items() if limit == most < 1}
    return passing, binding


def _in_time(p: FloatArray, there: NDArray[np.bool_], mine: Traffic, late_s: float, part: float) -> float:
    """The largest cut-off at the last step that is reached with few rows late, each by its own seconds.

    Of the share that may be late and is not after the first step, ``part`` may be used up to here. A percentile leaps
    where one row too many is late, so it is kept for all but a share ``DOUBT`` of samples and not on average.
    """
    seconds, at = np.nan_to_num(mine.seconds, nan=np.inf), there.shape[1] - 1
    first = float(np.average(seconds[:, 0] > late_s, weights=mine.weight))
    so_far = np.sum(seconds[:, : at + 1], axis=1, where=there)
    slow = so_far + seconds[:, at + 1] > late_s
    late = np.where(so_far > late_s, ALWAYS, np.where(slow, p, NEVER))
    share, worth = first + max(LATE - first, 0.0) * part, math.floor(rows_worth(mine.weight))
    sure = certified_threshold(np.zeros(worth), share, DOUBT)
    what = f"{1000 * late_s:g} ms for all but {share:.3g} of requests"
    if sure.missing:
        raise InputError(f"{what}: needs {worth + sure.missing} safe rows to fix what is handed on; found {worth}")
    return cut(late, mine.weight, (sure.exceedances + 1) / (worth + 1), what)
