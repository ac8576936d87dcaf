"""What a stage does to many rows at once: ``policy.signals`` and ``policy.rule`` on columns. numpy only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Question
from offmap.features import FloatArray
from offmap.gateway.config import StageTable, Step
from offmap.gateway.decision import Action
from offmap.gateway.policy import SEVERITY, Bands, bands, heard
from offmap.gateway.tuning.traffic import Traffic

NOT_KNOWN = -1
_ALLOW, _ESCALATE = SEVERITY.index("allow"), SEVERITY.index("escalate")


@dataclass(frozen=True, eq=False)
class Routes:
    """Where rows end, each (n,).

    Attributes:
        action: places in ``SEVERITY``; ``NOT_KNOWN`` where a monitor that the row reaches was not asked.
        steps: how many monitors are asked, that one not counted.
        seconds: what these took together; NaN where that is not known.
    """

    action: NDArray[np.int64]
    steps: NDArray[np.int64]
    seconds: FloatArray

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether it is known what would be done."""
        return np.asarray(self.action != NOT_KNOWN)

    @property
    def stopped(self) -> NDArray[np.bool_]:
        """Anything but let through."""
        return np.asarray(self.action > _ALLOW)

    @property
    def alarms(self) -> NDArray[np.bool_]:
        """Stopped, or not known to be let through: a row that reaches a monitor that was not asked counts as one."""
        return self.stopped | ~self.known

    @property
    def reached(self) -> NDArray[np.int64]:
        """How many monitors the row reaches, the one that was not asked among them."""
        return np.asarray(self.steps + ~self.known)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Goes to a person."""
        return np.asarray(self.action == _ESCALATE)

    def names(self) -> list[Action | None]:
        """The actions by name; None where it is not known."""
        return [None if each == NOT_KNOWN else SEVERITY[each] for each in self.action.tolist()]


def route(traffic: Traffic, table: StageTable) -> Routes:
    """What a stage that is enforced does to each row; outages are no part of it."""
    steps = bands(table)
    traffic = traffic.of(tuple(step.monitor for step in steps))
    n = len(traffic)
    action, count, seconds = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    going, unknown = np.ones(n, bool), np.zeros(n, bool)
    unscored = unscored_rows(traffic, [*heard(table, steps[0])])
    for at, step in enumerate(steps):
        unknown |= going & ~traffic.asked[:, at]
        going &= traffic.asked[:, at]
        count += going
        seconds[going] += traffic.seconds[going, at]
        met, between = _meets(traffic, table, step, at)
        silent = unscored[:, at]
        met[silent] = SEVERITY.index(table.actions.unscored)
        between |= silent & (table.actions.unscored == "allow")
        if at == len(steps) - 1:
            met[between & ~silent] = SEVERITY.index(table.actions.uncertain)
        action[going] = np.maximum(action, met)[going]
        going &= between
    seconds[unknown] = np.nan
    return Routes(np.where(unknown, NOT_KNOWN, action), count, seconds)


def unscored_rows(traffic: Traffic, questions: Collection[Question]) -> NDArray[np.bool_]:
    """(n, K) whether a monitor was asked and gave no p-value of any of these questions."""
    return np.asarray(traffic.asked & np.isnan(lowest(traffic, questions)))


def lowest(traffic: Traffic, questions: Collection[Question]) -> FloatArray:
    """(n, K) the smallest p-value of these questions; NaN where there is none."""
    found = np.full(traffic.asked.shape, np.nan)
    for question in questions:
        found = np.fmin(found, traffic.p(question))
    return found


def with_bands(table: StageTable, steps: Sequence[Bands]) -> StageTable:
    """The stage with these bands for the questions that it hears; the other question's stay as they are."""
    old = {step.monitor: step for step in table.steps}
    cascade = tuple(
        msgspec.structs.replace(old.get(step.monitor) or Step(step.monitor), **heard(table, step)) for step in steps
    )
    return msgspec.structs.replace(table, cascade=cascade)


def _meets(traffic: Traffic, table: StageTable, step: Bands, at: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The most severe action that the answers of one step meet, and whether they leave the matter open."""
    met = np.zeros(len(traffic), np.int64)
    found, between = np.zeros(len(traffic), bool), np.zeros(len(traffic), bool)
    for question, (stop, passing) in heard(table, step).items():
        p = traffic.p(question)[:, at]
        met[p <= stop] = np.maximum(met, SEVERITY.index(getattr(table.actions, question)))[p <= stop]
        found |= p <= stop
        between |= (p > stop) & (p <= passing)
    return met, between & ~found
