"""A budget as shares of safe traffic, and how many rows it takes to keep them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from offmap.calibration import certified_threshold
from offmap.combination import QUESTIONS
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.config import StageTable
from offmap.weighting import effective_size

Counted = Literal["stopped", "blocked"]
"""What a false alarm is: anything but let through; or that without what goes to a person."""
LATE = 0.01
"""The share of rows that may take longer than a 99th percentile."""
DOUBT = 0.05
"""How sure it is that no more are late: but for this share of samples."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Shares:
    """A budget as shares of safe traffic.

    Attributes:
        alpha, counted: what may be a false alarm, and what counts as one.
        review: what may go to a person; None: no bound, and no band is made for people. With "stopped" they take the
            least suspicious of what the last monitor would block; with "blocked" they come on top of alpha.
        reach: what each step but the first may be asked about; None: each step hands on what it hands on now.
        late_s: what 99 % of rows are decided within, by the seconds of the traffic; None: no bound.
    """

    alpha: float
    counted: Counted = "stopped"
    review: float | None = None
    reach: tuple[float, ...] | None = None
    late_s: float | None = None

    @property
    def divides(self) -> bool:
        """Whether half of the rows fixes which rows are handed on, so that the other half alone sets the rate."""
        return self.late_s is not None or any(share < 1 for share in self.reach or ())


def rows_for(share: float) -> int:
    """How many rows of equal weight a cut-off below which at most this share lies takes."""
    return max(1, math.ceil((1 / share - 1) * (1 - ROUNDING)))


def rows_worth(weight: FloatArray) -> float:
    """How many rows of equal weight, (n,) above 0, tell as much where the next row may be as heavy as any of these."""
    return min(effective_size(weight), float(weight.sum() / weight.max())) if len(weight) else 0.0


def rows_below(share: float, n: int) -> int:
    """How many of n rows of equal weight lie at or below a cut-off of ``handing_on.cut``; fewer where rows are tied."""
    return max(0, math.floor(share * (1 + ROUNDING) * (n + 1)) - 1)


def rows_needed(shares: Shares, table: StageTable) -> int:
    """How many safe rows the cascade of a stage needs, at least: where all weigh the same and none share an id."""
    reviews = review_share(shares, table)
    rate = max(map(rows_for, (shares.alpha, *((reviews, shares.alpha - reviews) if reviews else ()))))
    if len(table.steps) == 1 or not shares.divides:
        return rate
    fixed = [rows_for(share) for share in shares.reach or () if share < 1]
    late = [] if shares.late_s is None else [certified_threshold(np.zeros(0), LATE, DOUBT).missing]
    # The half that sets the rate is the larger one of an odd number.
    return max(2 * rate - 1, *(2 * rows for rows in (*fixed, *late)))


def review_share(shares: Shares, table: StageTable) -> float | None:
    """The part of ``alpha`` that goes to people, where they have less time than there may be false alarms; else None.

    Where some of what is found goes to people and some does not it is at most half of ``alpha``, so that what is
    blocked has a share that rows can tell.
    """
    found = [getattr(table.actions, each) for each in heard_questions(table)]
    asked = "escalate" in (*found, table.actions.unscored)
    if shares.counted != "stopped" or shares.review is None or shares.review >= shares.alpha or not asked:
        return None
    mixed = "escalate" in found and set(found) != {"escalate"}
    return min(shares.review, shares.alpha / 2) if mixed else shares.review


def heard_questions(table: StageTable) -> tuple[Question, ...]:
    """The questions that a stage acts on."""
    return tuple(question for question in QUESTIONS if getattr(table.actions, question) != "allow")


def require_shares(shares: Shares, table: StageTable) -> None:
    """Refuse what no cascade of a stage can keep.

    Raises:
        InputError: a share out of range, or a count of blocks where nothing is blocked.
    """
    later = len(table.steps) - 1
    if not 0 < shares.alpha < 1:
        raise InputError(f"alpha is {shares.alpha:g}; wanted a number between 0 and 1, both excluded")
    if shares.reach is not None and len(shares.reach) != later:
        raise InputError(f"reach: found {len(shares.reach)} shares, wanted one for each of {later} later steps")
    if shares.reach is not None and not all(0 < share <= 1 for share in shares.reach):
        raise InputError(f"reach: found {list(shares.reach)}, wanted shares in (0, 1]")
    if shares.review is not None and not 0 <= shares.review <= 1:
        raise InputError(f"review: found {shares.review}, wanted a share from 0 to 1")
    if shares.counted not in ("stopped", "blocked"):
        raise InputError(f"counted: found {shares.counted!r}, wanted 'stopped' or 'blocked'")
    acts = {getattr(table.actions, question) for question in heard_questions(table)}
    if shares.counted == "blocked" and acts == {"escalate"}:
        raise InputError("counted: found 'blocked', but all that this stage finds goes to a person; wanted 'stopped'")
