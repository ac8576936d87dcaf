"""Which fusion, and what share for the guards: chosen on training rows alone, and the reasons kept.

Candidates keep known harm: of held-out unsafe rows they flag at most a point less than the first guard alone. Among
those, the one that catches most of what it was not trained for wins: the rows of each in-distribution domain, left out
in turn from what the OOD detectors learn, and made-up shifts of safe rows, both as if no guard had met them. Within its
view an OOD detector weighs what it catches of the same by itself. Thresholds are the calibrate rows' own here, so the
safe threshold rows stay unseen. Knows nothing of test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from offmap.calibration import Threshold, marginal_threshold, suspicion
from offmap.combination import Combination
from offmap.features import Features, FloatArray
from offmap.fusion import Fusion, Method
from offmap.members import Member, Rows, by_question, combine, require_safe
from offmap.trials import all_trials

METHODS: tuple[Method, ...] = ("harmonic", "bonferroni", "acat")
WEIGHTS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The guards hold at least half: what is known to be harm is not given up for what is merely new."""
TOLERANCE = 0.01
"""How much recall of known harm may be given up for the unknown."""
FOLDS = 5
P = Mapping[str, FloatArray]
"""p-values, (n,), by the name of a member."""


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


def choose_fusion(members: Sequence[Member], fit: Rows, calibrate: Rows, threshold: Rows, alpha: float) -> Choice:
    """The fusion for fitted members. Of the threshold rows only the unsafe ones are looked at.

    Where there is nothing to weigh (detectors of one question alone), no unsafe row to hold on to, or nothing to play
    the unknown, it is the default ``Fusion()``, and the reason says so.

    Raises:
        InputError: a split without safe rows.
    """
    asked = {member.detector.question for member in members}
    known = [rows for rows in (calibrate.harmful, threshold.harmful) if rows is not None]
    if asked != {"unsafe", "unknown"} or not known:
        return _default("no held-out unsafe row" if known == [] else f"every detector asks {min(asked)!r}")
    held_out = require_safe(calibrate, "calibrate")
    if not _enough(held_out, alpha):
        return _default(f"{len(held_out)} safe calibrate rows are too few for a threshold at {alpha:g}")
    trials = [trial for trial in all_trials(members, fit, calibrate, threshold) if _enough(trial.calibrate, alpha)]
    unknown = {name: len(rows) for trial in trials for name, rows in trial.unknown.items()}
    if not unknown:
        return _default("no domain could be left out and no shift made up")
    harmful = Features.concat(known)
    harm = {member.name: member.p_values(harmful) for member in members}
    cases = [_Case(trial.members, trial.own_p_values(), trial.p_values()) for trial in trials]
    first = next(member.name for member in members if member.detector.question == "unsafe")
    guard = _caught(cases[0].own[first], harm[first], alpha)
    shares = _shares(cases, alpha)
    considered = _consider(cases, harm, guard, shares, alpha)
    if not considered:
        return _default(f"with {len(held_out)} safe calibrate rows neither question could raise an alarm alone")
    return _best(considered, guard, shares, unknown)


def _enough(calibrate: Features, alpha: float) -> bool:
    """Whether these safe rows can be folded, and carry a threshold."""
    return len(calibrate) >= 2 * FOLDS and not marginal_threshold(np.zeros(len(calibrate)), alpha).missing


@dataclass(frozen=True)
class _Case:
    """A trial in numbers: the members' p-values of the safe calibrate rows, and of all that plays the unknown."""

    members: Sequence[Member]
    own: P
    unknown: Sequence[P]


def _shares(cases: Sequence[_Case], alpha: float) -> dict[str, float]:
    """What each OOD detector catches by itself of all that plays the unknown: the mean share."""
    names = [member.name for member in cases[0].members if member.detector.question == "unknown"]
    return {name: float(np.mean([share for case in cases for share in _alone(case, name, alpha)])) for name in names}


def _alone(case: _Case, name: str, alpha: float) -> list[float]:
    return [_caught(case.own[name], rows[name], alpha) for rows in case.unknown]


def _consider(
    cases: Sequence[_Case], harm: P, guard: float, shares: Mapping[str, float], alpha: float
) -> list[Considered]:
    """Every candidate with which either question could raise an alarm.

    The members of the first case are those that ``harm``, the held-out unsafe rows, is of.
    """
    considered = []
    for method in METHODS:
        judges = [_Judge.fit(case, Fusion(method, shares=shares)) for case in cases]
        for weight in WEIGHTS:
            bars = [judge.at(weight, alpha) for judge in judges]
            if not bars[0].reachable:
                continue
            kept = bars[0].flagged(harm)
            caught = [bar.flagged(rows) for bar, case in zip(bars, cases, strict=True) for rows in case.unknown]
            considered.append(Considered(method, weight, kept, kept - guard, float(np.mean(caught))))
    return considered


@dataclass(frozen=True)
class _Judge:
    """The combination of a case's members, and others, each fitted without a fold of the safe calibrate rows.

    What a combination makes of rows that it was fitted on is too even, and a threshold on that too low.
    """

    members: Sequence[Member]
    whole: Combination
    folds: Sequence[tuple[Combination, P]]

    @classmethod
    def fit(cls, case: _Case, fusion: Fusion) -> _Judge:
        fold = np.arange(len(next(iter(case.own.values())))) % FOLDS
        parts = [
            ({n: p[fold != k] for n, p in case.own.items()}, {n: p[fold == k] for n, p in case.own.items()})
            for k in range(FOLDS)
        ]
        folds = [(combine(case.members, rest, fusion), held) for rest, held in parts]
        return cls(case.members, combine(case.members, case.own, fusion), folds)

    def at(self, weight: float, alpha: float) -> _Bar:
        """The combination at a weight of the guards, and its threshold."""
        (whole, _), *folds = (
            (replace(combination, fusion=replace(combination.fusion, guard_weight=weight)), rows)
            for combination, rows in ((self.whole, {}), *self.folds)
        )
        own = np.concatenate([combination(by_question(self.members, rows))[1] for combination, rows in folds])
        return _Bar(self.members, whole, _threshold(own, alpha))


@dataclass(frozen=True)
class _Bar:
    """A combination at one weight, and its threshold."""

    members: Sequence[Member]
    combination: Combination
    threshold: Threshold

    def flagged(self, rows: P) -> float:
        """The share of rows beyond the threshold; one without a score is missed."""
        return _beyond(self.threshold, self.combination(by_question(self.members, rows))[1])

    @property
    def reachable(self) -> bool:
        """Whether either question alone can raise an alarm."""
        smallest = by_question(self.members, {m.name: np.array([m.calibrator.smallest]) for m in self.members})
        return _beyond(self.threshold, np.array(list(self.combination.most_suspicious(smallest).values()))) == 1.0


def _caught(own: FloatArray, found: FloatArray, alpha: float) -> float:
    """The share of p-values beyond the threshold of the safe rows' own."""
    return _beyond(_threshold(own, alpha), found)


def _threshold(own: FloatArray, alpha: float) -> Threshold:
    return marginal_threshold(suspicion(own[~np.isnan(own)]), alpha)


def _beyond(threshold: Threshold, p_values: FloatArray) -> float:
    """The share that raises an alarm; a row without a score is missed."""
    return float((threshold.alarms(suspicion(p_values)) & ~np.isnan(p_values)).mean())


def _default(missing: str) -> Choice:
    return Choice(Fusion(), f"the default: {missing}, so that there was nothing to weigh")


def _best(
    considered: list[Considered], guard: float, shares: Mapping[str, float], unknown: Mapping[str, int]
) -> Choice:
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
    return Choice(Fusion(best.method, best.guard_weight, shares=shares), reason, tuple(considered), unknown)
