"""One number of one monitor at one stage, decision by decision, ranked among rows that it is compared with.

Two looks at it, each with a half of the level. One over all decisions: a martingale that never ends and bets on more
alone (``capital``). One over windows, each tested by ``offmap.drift.check_drift`` when it is full; the k-th has the
share 1 / (k (k + 1)) of the half, which sums to 1 over all of them, so the level is that of the whole run, however long
it goes. What changed long after the start is found by a window, which nothing before it dilutes.

Where ranks are too large by nature only tests of more are valid: where reference p-values are tied, and in a window
with decisions whose p-values were corrected for being read in parts. Knows nothing of decisions, monitors or threads.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from offmap.drift import ALARMS, MARTINGALE, check_drift
from offmap.features import FloatArray
from offmap.gateway.decision import Stage
from offmap.gateway.drift.capital import log_capital, p_more, steps
from offmap.gateway.drift.told import Alarm, Direction, Kind, Watched, Window, in_words

_WINDOWS_TOLD = 24
_TOLERATED = 0.01
_EVERY = 16
_LARGEST = math.log(1e300)


class Look(NamedTuple):
    """One decision's number: larger is more of it. ``whole``: it was not corrected for parts."""

    value: float
    at: float
    decision_id: str
    whole: bool = True


@dataclass(frozen=True)
class Setup:
    """What is watched, and how.

    Attributes:
        stage, monitor, version, kind: which number.
        level: the probability of a false alarm, over the whole run.
        window: decisions of a window.
        size: rows of the reference.
        reference: (n,) numbers of calibration rows; None: those of the first ``size`` decisions.
        alpha: the share whose rate is told and tested.
        beyond: from which number on a decision counts into that rate; None: from what ``alpha`` of the reference reach.
        since: when the bands were promoted whose cut this is about; 0: of no promoted ones.
        share: for numbers that are 0 or 1: a window is tested for more than a point of a hundred above the reference's
            share of ones, and there is no other test.
    """

    stage: Stage
    monitor: str
    version: str
    kind: Kind
    level: float
    window: int
    size: int
    reference: FloatArray | None = None
    alpha: float = 0.01
    beyond: float | None = None
    share: bool = False
    since: float = 0.0


class SeriesState(msgspec.Struct):
    """What a series goes on from; all of it but the window that is not full yet."""

    version: str
    reference: list[float]
    below: list[int]
    total: int = 0
    windows: int = 0
    lowest: float = 0.0
    lowest_at: float = 0.0
    log_capital: float = 0.0
    told: list[Window] = msgspec.field(default_factory=list)
    alarm: Alarm | None = None
    since: float = 0.0


class Series:
    """The watch over one number. Not safe for several threads.

    Args:
        setup: what is watched.
        rng: breaks ties among ranks.
    """

    def __init__(self, setup: Setup, rng: np.random.Generator) -> None:
        self.setup, self._rng = setup, rng
        known = setup.reference
        self._reference = None if known is None else np.sort(known)
        self._only_more = setup.share or (known is not None and len(np.unique(known)) < len(known))
        self.state = SeriesState(setup.version, [], [], since=setup.since)
        self._window: deque[tuple[Look, float]] = deque()

    @property
    def alarm(self) -> Alarm | None:
        """What was found first."""
        return self.state.alarm

    def resume(self, state: SeriesState) -> None:
        """Go on from there; nothing where that was another version's, or another reference's, or under other bands."""
        known = self.setup.reference
        size = self.setup.size if known is None else len(known)
        if (state.version, state.since) != (self.setup.version, self.setup.since):
            return
        if state.below and len(state.below) != len(steps(size)):
            return
        self.state = state
        if known is None and len(state.reference) == size:
            self._reference = np.sort(np.array(state.reference))

    def add(self, looks: Sequence[Look]) -> Alarm | None:
        """Look at decisions in the order in which they came; an alarm that they raised, the first of this series."""
        before = self.state.alarm
        looks = self._collect(looks)
        if self._reference is not None and looks:
            ranked = self._ranked(looks, self._reference)
            if not self.setup.share:
                self._bet(looks, ranked, len(self._reference))
            for pair in zip(looks, ranked.tolist(), strict=True):
                self.state.total += 1
                self._window.append(pair)
                if len(self._window) == self.setup.window:
                    self._close(len(self._reference))
        return None if before else self.state.alarm

    def stands(self) -> Watched:
        """How it stands."""
        setup, state = self.setup, self.state
        capital = (
            math.exp(min(state.log_capital, _LARGEST)) if not setup.share and self._reference is not None else None
        )
        return Watched(
            setup.stage,
            setup.monitor,
            setup.version,
            setup.kind,
            self._compared(),
            self._only_more,
            state.total,
            capital,
            state.told[-1].rate if state.told else None,
            None if self._reference is None else self._expected(),
            self._cut(),
            tuple(state.told),
            state.alarm,
        )

    def _collect(self, looks: Sequence[Look]) -> Sequence[Look]:
        """What is left when the reference has what it lacks."""
        if self._reference is not None:
            return looks
        missing = self.setup.size - len(self.state.reference)
        self.state.reference += [each.value for each in looks[:missing]]
        if len(self.state.reference) == self.setup.size:
            self._reference = np.sort(np.array(self.state.reference))
        return looks[missing:]

    def _ranked(self, looks: Sequence[Look], reference: FloatArray) -> FloatArray:
        """Randomised p-values: shares of the reference that have as much or more of it.

        A calibrated p-value does not tell whether the row is tied with its neighbour: there the rank is the largest
        that it can be.
        """
        values, n = np.array([each.value for each in looks]), len(reference)
        at_least = n - np.searchsorted(reference, values, side="left")
        above = n - np.searchsorted(reference, values, side="right")
        if self.setup.reference is not None:
            above = at_least
        share = 1.0 - self._rng.random(len(values))
        return np.asarray((above + share * (1 + at_least - above)) / (n + 1))

    def _bet(self, looks: Sequence[Look], ranked: FloatArray, n: int) -> None:
        """Look at the capital at every few decisions and at the last: the level holds whenever one looks."""
        state, at = self.state, np.append(np.arange(_EVERY - 1, len(looks) - 1, _EVERY), len(looks) - 1)
        start = np.array(state.below or [0] * len(steps(n)), np.int64)
        small = (np.ceil(ranked * (n + 1)) - 1)[:, None] < np.array(steps(n))
        below = (start + np.cumsum(small, axis=0, dtype=np.int64))[at]
        capital = np.maximum(log_capital(below, state.total + at + 1, n), -_LARGEST)
        reached = np.flatnonzero(capital >= -math.log(self.setup.level / 2))
        lowest = int(np.argmin(capital[: reached[0] + 1] if len(reached) else capital))
        if not state.total or capital[lowest] <= state.lowest:
            state.lowest, state.lowest_at = float(capital[lowest]), looks[at[lowest]].at
        state.below, state.log_capital = below[-1].tolist(), float(capital[-1])
        if len(reached) and state.alarm is None:
            until = int(at[reached[0]]) + 1
            recent = [*self._window, *zip(looks[:until], ranked[:until].tolist(), strict=True)][-self.setup.window :]
            rate = self._rate([look for look, _ in recent], np.array([p for _, p in recent]))
            self._raise(MARTINGALE, "more", looks[until - 1], state.lowest_at, state.total + until, rate)

    def _close(self, n: int) -> None:
        """Test a window that is full."""
        state, looks = self.state, [look for look, _ in self._window]
        ranked = np.array([p for _, p in self._window])
        self._window.clear()
        state.windows += 1
        part = self.setup.level if self.setup.share else self.setup.level / 2
        level = part / (state.windows * (state.windows + 1))
        rate, one_sided = self._rate(looks, ranked), self._only_more or not all(each.whole for each in looks)
        shares = self.setup.share
        found = self._grown(rate, n, level) if shares else self._tests(ranked, n, level, one_sided=one_sided)
        told = Window(looks[0].at, looks[-1].at, len(looks), rate, found)
        state.told = [*state.told, told][-_WINDOWS_TOLD:]
        if found and state.alarm is None:
            more = found[0] == ALARMS or one_sided
            direction: Direction = "more" if more or float(np.mean(ranked)) < 0.5 else "less"
            self._raise(found[0], direction, looks[-1], looks[0].at, state.total, rate)

    def _tests(self, ranked: FloatArray, n: int, level: float, *, one_sided: bool) -> tuple[str, ...]:
        """Which tests of a window find drift, together at ``level``."""
        if not one_sided:
            return check_drift(ranked, n, self.setup.alpha, level).says
        small = (np.ceil(ranked * (n + 1)) - 1)[:, None] < np.array(steps(n))
        at = np.arange(len(ranked) - 1, 0, -_EVERY)[::-1]
        capital = log_capital(np.cumsum(small, axis=0, dtype=np.int64)[at], at + 1, n)
        grown = capital.max() >= -math.log(level / 2)
        more = check_drift(ranked, n, self.setup.alpha, level).p_alarms <= level / 2
        return (MARTINGALE,) * bool(grown) + (ALARMS,) * bool(more)

    def _grown(self, rate: float, n: int, level: float) -> tuple[str, ...]:
        """The same for shares."""
        before = round(self._expected() * n) + math.ceil(_TOLERATED * n)
        size = self.setup.window
        return (ALARMS,) if p_more(round(rate * size), size, min(before, n), n) <= level else ()

    def _rate(self, looks: Sequence[Look], ranked: FloatArray) -> float:
        """The share beyond the cut."""
        beyond = self.setup.beyond
        if beyond is None:
            return float(np.mean(ranked <= self.setup.alpha))
        return float(np.mean([each.value >= beyond for each in looks]))

    def _expected(self) -> float:
        beyond = self.setup.beyond
        if beyond is None or self.setup.reference is not None or self._reference is None:
            return self.setup.alpha
        return float(np.mean(self._reference >= beyond))

    def _raise(self, test: str, direction: Direction, look: Look, since: float, total: int, rate: float) -> None:
        setup = self.setup
        named = setup.stage, setup.monitor, setup.version, setup.kind, test, direction
        rates = rate, self._expected(), self._cut()
        told = Alarm(*named, look.at, look.decision_id, since, total, *rates, self._compared())
        self.state.alarm = in_words(told)

    def _cut(self) -> str:
        if self.setup.kind in ("unscored", "error"):
            return "of decisions"
        if self.setup.kind == "length":
            return "are as long as the longest 1 % were"
        return f"at p <= {-(self.setup.beyond or 0.0):.3g}"

    def _compared(self) -> str:
        if self.setup.reference is not None:
            return f"on the {len(self.setup.reference):,} rows that it was calibrated on"
        there = len(self.state.reference)
        so_far = "" if there == self.setup.size else f", of which {there:,} are there"
        under = " under the promoted bands" if self.setup.since else ""
        return f"in the first {self.setup.size:,} decisions{under}{so_far}"
