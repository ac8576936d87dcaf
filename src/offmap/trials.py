"""What plays the unknown while a monitor is made: made-up shifts, and in-distribution domains left out in turn.

Each trial holds the members beside rows that its OOD detectors never met. Knows nothing of fusions and test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from offmap.errors import InputError
from offmap.features import Features, FloatArray
from offmap.made_up import made_up_shifts
from offmap.members import Member, Rows, fit_members


@dataclass(frozen=True)
class Trial:
    """Members beside the rows that play the unknown for them, by name."""

    members: Sequence[Member]
    calibrate: Features
    unknown: Mapping[str, Features]

    def own_p_values(self) -> dict[str, FloatArray]:
        """Each member's, of the safe calibrate rows."""
        return {member.name: member.own_p_values(self.calibrate) for member in self.members}

    def p_values(self) -> list[dict[str, FloatArray]]:
        """Each member's, of everything that plays the unknown; see ``blind``."""
        return [{member.name: blind(member, rows) for member in self.members} for rows in self.unknown.values()]


def all_trials(members: Sequence[Member], fit: Rows, calibrate: Rows, threshold: Rows) -> list[Trial]:
    """The made-up shifts of the safe calibrate rows, and every domain that can be left out."""
    return [
        Trial(members, calibrate.safe, dict(made_up_shifts(calibrate.safe))),
        *left_out(members, fit, calibrate, threshold),
    ]


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


def _part(rows: Rows, domain: str, *, inside: bool) -> Rows:
    mask = (np.array(rows.features.groups) == domain) == inside
    return Rows(rows.features.take(mask), rows.unsafe[mask])


def _unknown(calibrate: Rows, more: Features | None) -> Features:
    """The unsafe rows of both splits where there are any, else the safe calibrate rows."""
    found = [rows for rows in (calibrate.harmful, more) if rows is not None]
    return Features.concat(found) if found else calibrate.safe
