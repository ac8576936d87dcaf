"""What is watched of a policy: every question that a monitor is asked and that a stage acts on, lengths, and failures.

The p-values of a cascade's first monitor are compared with those of the rows that it was calibrated on, until a person
promotes bands for its stage. A later monitor sees only what the one before it left in doubt, which is not exchangeable
with these: it is compared with its own first decisions, as are lengths and the shares of what is unscored and of what
fails, of which bundles keep nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from offmap.detectors.base import Question
from offmap.features import FloatArray
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Stage
from offmap.gateway.drift.series import Setup
from offmap.gateway.drift.told import Kind
from offmap.gateway.monitors import Running
from offmap.gateway.opening import JudgeScorer
from offmap.gateway.policy import bands, heard
from offmap.monitor import Monitor
from offmap.panel import Panel

_SHARES: tuple[Kind, ...] = ("unscored", "error")


class Versioned(Protocol):
    """What is asked of a running monitor."""

    @property
    def version(self) -> str:
        """A hash of what it is."""
        ...


def setups(
    gateway: Gateway, monitors: Mapping[str, Versioned], promoted: Mapping[Stage, float] = MappingProxyType({})
) -> list[Setup]:
    """Every number that is watched; those of one monitor at one stage share the level.

    Args:
        gateway: with the bands in force.
        monitors: that run, by name.
        promoted: stages whose bands a person promoted -> when. What these promise they promise of the traffic that they
            were set on, so that is what p-values are compared with there: the first decisions under them.
    """
    return [
        setup
        for stage, table in gateway.stages.items()
        for number, step in enumerate(bands(table))
        for setup in _of_monitor(gateway, stage, number, monitors[step.monitor], promoted.get(stage, 0.0))
    ]


def calibration_p_values(monitor: object) -> dict[Question, FloatArray]:
    """The p-values of the rows that a running monitor's p-values rank among, by question; empty where it keeps none."""
    scorer = monitor.opened.scorer if isinstance(monitor, Running) else None
    if isinstance(scorer, JudgeScorer):
        return {scorer.question: scorer.calibrator.p_values(scorer.calibrator.scores)}
    return _of_panel(scorer.panel) if isinstance(scorer, Monitor) else {}


def _of_panel(panel: Panel) -> dict[Question, FloatArray]:
    """Of each answer's last calibrator: where a p-value stands alone that of the step before, at last a detector's."""
    found: dict[Question, FloatArray] = {}
    for question, answer in panel.combination.answers.items():
        pooled = (step.calibrator for step in (answer.union, *answer.views.values()))
        alone = (member.calibrator for member in panel.members if member.detector.question == question)
        last = next(calibrator for calibrator in (*pooled, *alone) if calibrator is not None)
        found[question] = last.p_values(last.scores)
    return found


def _of_monitor(gateway: Gateway, stage: Stage, number: int, monitor: Versioned, since: float) -> Iterator[Setup]:
    table, drift = gateway.stages[stage], gateway.drift
    step = bands(table)[number]
    cuts = {question: band[0] for question, band in heard(table, step).items() if band[0] > 0}
    known = calibration_p_values(monitor) if number == 0 and not since else {}
    share = drift.level / (len(cuts) + 1 + len(_SHARES))
    same = stage, step.monitor, monitor.version
    sizes = share, drift.window, drift.reference
    for question, cut in cuts.items():
        reference = -known[question] if question in known else None
        yield Setup(*same, question, *sizes, reference, min(cut, 0.5), -cut, since=since)
    yield Setup(*same, "length", *sizes)
    for kind in _SHARES:
        yield Setup(*same, kind, *sizes, beyond=0.5, share=True)
