"""What one fitted detector says of every row of a run, computed once: all fusions of it are then cheap.

Knows nothing of fusions and sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from offmap.bench.ablation_plan import Calibration
from offmap.bench.run import Data
from offmap.calibration import ConformalCalibrator
from offmap.choosing import left_out
from offmap.detectors import Detector
from offmap.features import Features, FloatArray
from offmap.members import Member, fit_members, require_safe


@dataclass(frozen=True)
class Column:
    """A detector under one calibration.

    Attributes:
        member: fitted and calibrated.
        ranked: what its calibrator ranks, of the safe threshold rows and of the test rows.
        own: p-values of the safe calibrate rows.
        p_values: of the safe threshold rows and of the test rows.
        trials: left-out domain -> p-values of the other domains' safe calibrate rows and of its own rows; see
            ``choosing.left_out``.
    """

    member: Member
    ranked: tuple[FloatArray, FloatArray]
    own: FloatArray
    p_values: tuple[FloatArray, FloatArray]
    trials: Mapping[str, tuple[FloatArray, FloatArray]]


Columns = Mapping[Calibration, Column]
"""A detector's column plain and, for an OOD detector, conditional."""


def learn_all(
    detectors: Mapping[str, Detector], data: Data, progress: Callable[[int], None]
) -> tuple[dict[str, Columns], dict[str, str]]:
    """The columns of each detector by name, and the reason of each that has none."""
    learned, reasons = {}, {}
    for name, detector in detectors.items():
        try:
            learned[name] = learn(name, detector, data)
        except ValueError as error:
            reasons[name] = str(error)
        progress(1)
    return learned, reasons


def learn(name: str, detector: Detector, data: Data) -> Columns:
    """Fit a detector once, and again without each in-distribution domain; calibrate it both ways.

    Raises:
        ValueError: it cannot learn from these rows or score them.
    """
    (member,) = fit_members({name: detector}, data.fit, data.calibrate, conditional=True)
    held_out = require_safe(data.calibrate, "calibrate")
    rows = (held_out, require_safe(data.threshold, "threshold"), data.test.features)
    scored = [(part, member.fitted.score(part)) for part in rows]
    trials: dict[Calibration, dict[str, tuple[FloatArray, FloatArray]]] = {"plain": {}, "conditional": {}}
    for trial in left_out([member], data.fit, data.calibrate, data.threshold):
        (again,) = trial.members
        ((domain, unknown),) = trial.unknown.items()
        parts = [(part, again.fitted.score(part)) for part in (trial.calibrate, unknown)]
        for calibration, calibrated in both(again, parts[0][1]).items():
            own, other = _p_values(calibrated, parts)
            trials[calibration][domain] = (own, other)
    return {
        calibration: _column(calibrated, scored, trials[calibration])
        for calibration, calibrated in both(member, scored[0][1]).items()
    }


def both(member: Member, scores: FloatArray) -> dict[Calibration, Member]:
    """A member as it is and, where it is studentised, calibrated on its plain ``scores`` of the same rows."""
    if member.studentiser is None:
        return {"plain": member}
    calibrator = ConformalCalibrator.fit(scores[~np.isnan(scores)])
    return {"plain": replace(member, calibrator=calibrator, studentiser=None), "conditional": member}


def _column(
    member: Member, scored: list[tuple[Features, FloatArray]], trials: Mapping[str, tuple[FloatArray, FloatArray]]
) -> Column:
    own, threshold, test = _p_values(member, scored)
    ranked = [member.ranked(*part) for part in scored]
    return Column(member, (ranked[1], ranked[2]), own, (threshold, test), trials)


def _p_values(member: Member, scored: list[tuple[Features, FloatArray]]) -> list[FloatArray]:
    """p-values of rows with their scores; the first are those that the member was calibrated on."""
    calibrate, *others = scored
    own = member.calibrator.own_p_values(member.ranked(*calibrate))
    return [own, *(member.p_values(*part) for part in others)]
