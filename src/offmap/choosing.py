"""Which fusion, and what share for the guards: chosen on training rows alone, and the reasons kept.

Candidates keep known harm: of held-out unsafe rows they flag at most a point less than the first guard alone. Among
those, the one that catches most of what it was not trained for wins: the rows of each in-distribution domain, left out
in turn from what the OOD detectors learn, and made-up shifts of safe rows, both as if no guard had met them. Thresholds
are the calibrate rows' own here, so the safe threshold rows stay unseen. Knows nothing of test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import marginal_threshold, suspicion
from offmap.combination import Columns, Combination
from offmap.errors import InputError
from offmap.features import Features, FloatArray
from offmap.fusion import Fusion, Method
from offmap.made_up import made_up_shifts
from offmap.members import Member, Rows, by_question, fit_members, require_safe

METHODS: tuple[Method, ...] = ("harmonic", "bonferroni", "acat")
WEIGHTS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
TOLERANCE = 0.01
"""How much recall of known harm may be given up for the unknown."""


@dataclass(frozen=True)
class Considered:
    """One candidate and what training rows say of it.

    Attributes:
        method: the fusion's.
        guard_weight: the fusion's.
        known: share of held-out unsafe rows that it flags.
        margin: ``known`` less the guard's own share.
        caught: mean share flagged of the domains left out and of the made-up shifts.
    """

    method: Method
    guard_weight: float
    known: float
    margin: float
    caught: float


@dataclass(frozen=True)
class Choice:
    """A fusion and why it is this one.

    Attributes:
        fusion: the rule and the guard's weight.
        reason: in a sentence.
        considered: every candidate; empty where the fusion was given.
        unknown: name -> rows of everything that played the unknown.
    """

    fusion: Fusion
    reason: str = "given, not chosen"
    considered: tuple[Considered, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """Members beside the rows that play the unknown for them, by name."""

    members: Sequence[Member]
    calibrate: Features
    unknown: Mapping[str, Features]


def choose_fusion(members: Sequence[Member], fit: Rows, calibrate: Rows, threshold: Rows, alpha: float) -> Choice:
    """The fusion for fitted members. Of the threshold rows only the unsafe ones are looked at.

    Where there is nothing to weigh (detectors of one question alone), no unsafe row to hold on to, or nothing to play
    the unknown, it is the default ``Fusion()``, and the reason says so.

    Raises:
        InputError: a split without safe rows.
    """
    asked = {member.detector.question for member in members}
    harmful = [rows.harmful for rows in (calibrate, threshold)]
    known = [rows for rows in harmful if rows is not None]
    if asked != {"unsafe", "unknown"} or not known:
        return _default("no held-out unsafe row" if known == [] else f"every detector asks {min(asked)!r}")
    held_out = require_safe(calibrate, "calibrate")
    trials = [Trial(members, held_out, dict(made_up_shifts(held_out))), *left_out(members, fit, calibrate, threshold)]
    unknown = {name: len(rows) for trial in trials for name, rows in trial.unknown.items()}
    if not unknown:
        return _default("no domain could be left out and no shift made up")
    flagged = _guard_alone(members, held_out, Features.concat(known), alpha)
    considered = []
    for method in METHODS:
        judges = [_Judge.fit(trial, Fusion(method)) for trial in trials]
        harm = by_question(members, {m.name: m.p_values(Features.concat(known)) for m in members})
        for weight in WEIGHTS:
            kept = judges[0].flagged(harm, weight, alpha)
            caught = [share for judge in judges for share in judge.caught(weight, alpha)]
            share, margin = float(kept.mean()), float(kept.mean() - flagged.mean())
            considered.append(Considered(method, weight, share, margin, float(np.mean(caught))))
    return _best(considered, float(flagged.mean()), unknown)


def left_out(members: Sequence[Member], fit: Rows, calibrate: Rows, threshold: Rows) -> list[Trial]:
    """A trial for each in-distribution domain: OOD detectors that never met it, and its held-out rows as the unknown.

    The rows are its unsafe ones where it has any, else its safe ones. Guards stay as they are: they answer another
    question. A domain without which nothing could be fitted is passed over.
    """
    trials = []
    domains = sorted(set(fit.features.groups))
    for domain in domains if len(domains) > 1 else []:
        rest = [_part(rows, domain, inside=False) for rows in (fit, calibrate)]
        unknown = _unknown(_part(calibrate, domain, inside=True), _part(threshold, domain, inside=True).harmful)
        try:
            others = {m.name: m.detector for m in members if m.detector.question == "unknown"}
            conditional = any(m.studentiser is not None for m in members)
            again = {m.name: m for m in fit_members(others, *rest, conditional=conditional)}
        except InputError:
            continue
        if len(unknown):
            team = [again.get(member.name, member) for member in members]
            trials.append(Trial(team, rest[1].safe, {f"{domain} left out": unknown}))
    return trials


def blind(member: Member, rows: Features, scores: FloatArray | None = None) -> FloatArray:
    """(n,) p-values of rows that play the unknown; ``scores`` are the detector's, if they are known already.

    A guard may have met their like: it is held to find them ordinary, 0.5.
    """
    return member.p_values(rows, scores) if member.detector.question == "unknown" else np.full(len(rows), 0.5)


@dataclass(frozen=True)
class _Judge:
    """A combination of a trial's members, with the p-values of its calibrate rows and of what plays the unknown."""

    combination: Combination
    calibrate: Columns
    unknown: Sequence[Columns]

    @classmethod
    def fit(cls, trial: Trial, fusion: Fusion) -> _Judge:
        own = by_question(trial.members, {m.name: m.own_p_values(trial.calibrate) for m in trial.members})
        unknown = [
            by_question(trial.members, {m.name: blind(m, rows) for m in trial.members})
            for rows in trial.unknown.values()
        ]
        return cls(Combination.fit(own, fusion), own, unknown)

    def flagged(self, rows: Columns, weight: float, alpha: float) -> NDArray[np.bool_]:
        """Which rows lie beyond the threshold; one without a score is missed."""
        combination = replace(self.combination, fusion=replace(self.combination.fusion, guard_weight=weight))
        own, found = (suspicion(combination(columns)[1]) for columns in (self.calibrate, rows))
        return marginal_threshold(own[~np.isnan(own)], alpha).alarms(found) & ~np.isnan(found)

    def caught(self, weight: float, alpha: float) -> list[float]:
        return [float(self.flagged(rows, weight, alpha).mean()) for rows in self.unknown]


def _guard_alone(members: Sequence[Member], calibrate: Features, harmful: Features, alpha: float) -> NDArray[np.bool_]:
    """Which unsafe rows the first guard flags by itself; one without a score is missed."""
    guard = next(member for member in members if member.detector.question == "unsafe")
    own, found = suspicion(guard.own_p_values(calibrate)), suspicion(guard.p_values(harmful))
    return marginal_threshold(own[~np.isnan(own)], alpha).alarms(found) & ~np.isnan(found)


def _default(missing: str) -> Choice:
    return Choice(Fusion(), f"the default: {missing}, so that there was nothing to weigh")


def _best(considered: list[Considered], guard: float, unknown: Mapping[str, int]) -> Choice:
    admitted = [each for each in considered if each.margin >= -TOLERANCE]
    if admitted:
        best = max(admitted, key=lambda each: (each.caught, each.known))
        reason = (
            f"of the {len(admitted)} of {len(considered)} fusions that keep the guard's recall of known harm (it alone "
            f"{guard:.1%}, this fusion {best.known:.1%}), the one that catches most of what was left out or made up "
            f"({best.caught:.1%})"
        )
    else:
        best = max(considered, key=lambda each: each.margin)
        reason = f"none keeps the guard's recall of known harm ({guard:.1%}); this one loses least"
    return Choice(Fusion(best.method, best.guard_weight), reason, tuple(considered), unknown)


def _part(rows: Rows, domain: str, *, inside: bool) -> Rows:
    mask = (np.array(rows.features.groups) == domain) == inside
    return Rows(rows.features.take(mask), rows.unsafe[mask])


def _unknown(calibrate: Rows, more: Features | None) -> Features:
    """The unsafe rows of both splits where there are any, else the safe calibrate rows."""
    found = [rows for rows in (calibrate.harmful, more) if rows is not None]
    return Features.concat(found) if found else calibrate.safe
