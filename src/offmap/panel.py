"""A panel of fitted detectors: features in, p-values for two questions out, and one threshold on their fusion.

Scores become p-values by each detector's calibrator, p-values become one number by a ``Combination``, and the threshold
is on that number. This is all of a monitor but its backbone: what the bench measures is what runs. Knows nothing of
models and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf

import numpy as np
from numpy.typing import NDArray

from offmap.calibration import Threshold, certified_threshold, marginal_threshold, suspicion
from offmap.choosing import Choice
from offmap.combination import QUESTIONS, Combination
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.fusion import Fusion
from offmap.members import Member, Rows, by_question, combine, needs, require_safe
from offmap.shift import FittedShiftReader, ShiftReader

DEFAULT_FUSION = Fusion()
DEFAULT_CHOICE = Choice(DEFAULT_FUSION)
NO_SHIFT = FittedShiftReader(ShiftReader().level, ShiftReader().window, {})


@dataclass(frozen=True)
class Judgement:
    """A scored batch in columns, all (n,) float64; NaN where a row could not be scored.

    Attributes:
        scores: of each detector.
        p_values: of each detector.
        answers: the p-value for each question that the panel has a detector for.
        fused: the fusion of the answers.
        flagged: (n,) bool, fused beyond the threshold or NaN: a row that cannot be scored is not let through.
    """

    scores: Mapping[str, FloatArray]
    p_values: Mapping[str, FloatArray]
    answers: Mapping[Question, FloatArray]
    fused: FloatArray
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Panel:
    """Fitted detectors with their calibration, combination and threshold. Immutable.

    Attributes:
        members: the fitted detectors.
        combination: how their p-values become one.
        threshold: on the suspicion (-log10) of that one.
        n_rows: how many safe and unsafe rows each split held.
        shift: tells the shift kind of a row; it has no say in the flag.
        choice: how the fusion was chosen, and why.
    """

    members: tuple[Member, ...]
    combination: Combination
    threshold: Threshold
    n_rows: Mapping[str, int]
    shift: FittedShiftReader = NO_SHIFT
    choice: Choice = DEFAULT_CHOICE

    @property
    def needs(self) -> FeatureSpec:
        """The features that its detectors read."""
        return needs([member.detector for member in self.members])

    def judge(self, features: Features) -> Judgement:
        """Scores, p-values and flags of a batch."""
        scores = {member.name: member.fitted.score(features) for member in self.members}
        p_values = {member.name: member.p_values(features, scores[member.name]) for member in self.members}
        answers, fused = self.combination(by_question(self.members, p_values))
        return Judgement(scores, p_values, answers, fused, self.threshold.alarms(suspicion(fused)))


def assemble(
    members: Sequence[Member],
    calibrate: Rows,
    threshold: Rows,
    *,
    alpha: float = 0.01,
    confidence: float | None = None,
    fusion: Fusion | Choice = DEFAULT_FUSION,
    n_rows: Mapping[str, int] | None = None,
) -> Panel:
    """Fuse fitted detectors and choose their threshold, on rows that they were not fitted on.

    ``confidence`` None asks for a threshold that holds ``alpha`` on average; 0.95 for one that holds it with 95 %
    confidence given these rows. A ``Choice`` is a fusion with its reasons.

    Raises:
        InputError: a split without safe rows, too few of them for a threshold or for a question to ever raise an
            alarm, or too many that could not be scored; the message says how many.
    """
    choice = fusion if isinstance(fusion, Choice) else Choice(fusion)
    held_out = require_safe(calibrate, "calibrate")
    own = {member.name: member.own_p_values(held_out) for member in members}
    combination = combine(members, own, choice.fusion)
    fresh = require_safe(threshold, "threshold")
    p_values = {member.name: member.p_values(fresh) for member in members}
    _, fused = combination(by_question(members, p_values))
    chosen = choose_threshold(suspicion(fused), alpha, confidence)
    require_reach(members, combination, chosen)
    shift = ShiftReader().fit(held_out)
    return Panel(tuple(members), combination, chosen, {} if n_rows is None else n_rows, shift, choice)


def choose_threshold(suspicions: FloatArray, alpha: float, confidence: float | None = None) -> Threshold:
    """The threshold that safe held-out rows ask for. A row without a score raises an alarm, so it counts as one here.

    Raises:
        InputError: too few rows, or so many without a score that no threshold keeps to ``alpha``.
    """
    counted = np.where(np.isnan(suspicions), np.inf, suspicions)
    if confidence is None:
        chosen = marginal_threshold(counted, alpha)
    else:
        chosen = certified_threshold(counted, alpha, 1 - confidence)
    if chosen.missing:
        raise InputError(f"too few threshold rows: {chosen.shortfall}")
    if isinf(chosen.value):
        found = f"{int(np.isnan(suspicions).sum())} of {len(counted)} threshold rows have no score"
        raise InputError(f"{found}; at most {alpha:g} of them may lack one")
    return chosen


def count_rows(fit: Rows, calibrate: Rows, threshold: Rows) -> dict[str, int]:
    """What each split held, for the record."""
    splits = {"fit": fit, "calibrate": calibrate, "threshold": threshold}
    safe = {f"{name}_safe": int((~rows.unsafe).sum()) for name, rows in splits.items()}
    return safe | {"fit_unsafe": int(fit.unsafe.sum())}


def require_reach(members: Sequence[Member], combination: Combination, threshold: Threshold) -> None:
    """Refuse a panel in which a question that has a share could never raise an alarm alone.

    Raises:
        InputError: it is one; the message says why.
    """
    smallest = {member.name: np.array([member.calibrator.smallest]) for member in members}
    shares = dict(zip(QUESTIONS, combination.fusion.weights, strict=True))
    for question, reached in combination.most_suspicious(by_question(members, smallest)).items():
        alone = len(combination.answers) == 1
        if (alone or shares[question] > 0) and not threshold.alarms(suspicion(np.array([reached])))[0]:
            reasons = {member.calibrator.no_tail for member in members if member.detector.question == question} - {""}
            raise InputError(
                f"the detectors that ask {question!r} could never raise an alarm: p falls to {reached:.2g} at best and "
                f"an alarm is below {threshold.p_value:.2g}; more safe calibrate rows or a larger alpha are "
                f"needed ({'; '.join(sorted(reasons)) or 'their scores hardly differ'})"
            )
