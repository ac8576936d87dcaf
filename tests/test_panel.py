"""The panel: p-values that hold on safe rows, whichever detector fires, and no row let through unscored."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from offmap.combination import Combination
from offmap.detectors import GuardProbe, Mahalanobis
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec
from offmap.fusion import Fusion
from offmap.members import Rows, fit_members
from offmap.panel import Panel, assemble, count_rows


@dataclass(frozen=True)
class Reading:
    """A detector that scores a row by a number that came with it."""

    question: ClassVar = "unknown"
    name: str = "novel"

    def needs(self):
        return FeatureSpec(scalars=frozenset({self.name}))

    def fit(self, safe, unsafe=None):
        return replace(self)

    def restore(self, arrays):
        return replace(self)

    def score(self, x):
        return x.scalars[self.name]

    def arrays(self):
        return {}


@dataclass(frozen=True)
class Grade(Reading):
    """The same, as a guard."""

    question: ClassVar = "unsafe"
    name: str = "grade"


def rows(seed: int, n: int, grade: float = 0.0, novel: float = 0.0, unsafe: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    scalars = {"grade": rng.normal(grade, 1, n), "novel": rng.normal(novel, 1, n), "other": rng.normal(novel, 1, n)}
    ids = tuple(f"{seed}-{i}" for i in range(n))
    counts = np.full(n, 9, np.int32), np.zeros(n, np.int32), np.ones(n, np.int32), np.zeros(n, bool)
    return Rows(Features(ids, ("",) * n, *counts, scalars=scalars), np.full(n, unsafe))


DETECTORS = {"guard": Grade(), "novel": Reading(), "other": Reading("other")}


def panel(names: str = "guard novel other", n: int = 2000, **options) -> Panel:
    calibrate, threshold = rows(1, n), rows(2, n)
    members = fit_members({name: DETECTORS[name] for name in names.split()}, rows(0, n), calibrate)
    return assemble(members, calibrate, threshold, **options)


@pytest.mark.parametrize("method", ["bonferroni", "harmonic", "acat", "fisher", "stouffer"])
def test_false_positives_on_fresh_safe_rows_are_as_asked(method):
    rates = [
        panel(fusion=Fusion(method), alpha=alpha).judge(rows(9, 40_000).features).flagged.mean()
        for alpha in (0.01, 0.05)
    ]
    assert rates[0] == pytest.approx(0.01, abs=0.006)
    assert rates[1] == pytest.approx(0.05, abs=0.015)


def test_answers_are_uniform_on_safe_rows():
    judgement = panel().judge(rows(9, 20_000).features)
    for p_values in [*judgement.p_values.values(), *judgement.answers.values()]:
        for level in (0.05, 0.2, 0.5):
            assert np.mean(p_values <= level) == pytest.approx(level, abs=0.03)


def test_answers_are_p_values_in_the_smallest_sample():
    """Fused from independent detectors and calibrated again on the same 150 rows, and still not too small."""
    smallest = []
    for seed in range(60):
        calibrate = rows(1000 + seed, 150)
        members = fit_members({name: DETECTORS[name] for name in ("novel", "other")}, rows(0, 50), calibrate)
        own = {member.name: member.calibrator.own_p_values(member.fitted.score(calibrate.safe)) for member in members}
        columns = {"unknown": {"scalars": np.column_stack([own["novel"], own["other"]])}}
        combination = Combination.fit(columns, Fusion("harmonic", within="harmonic"))
        fresh = rows(2000 + seed, 400).safe
        p_values = [member.calibrator.p_values(member.fitted.score(fresh)) for member in members]
        _, fused = combination({"unknown": {"scalars": np.column_stack(p_values)}})
        smallest.append(np.mean(fused <= 1 / 151 + 1e-12))
    assert np.mean(smallest) < 2 / 151


def test_a_panel_that_could_never_raise_an_alarm_is_refused():
    calibrate, threshold = rows(1, 120), rows(2, 400)
    members = fit_members(DETECTORS, rows(0, 50), calibrate)
    with pytest.raises(
        InputError,
        match=r"could never raise an alarm: p falls to .* more safe calibrate rows or a larger",
    ):
        assemble(members, calibrate, threshold)
    assert assemble(members, calibrate, threshold, alpha=0.1).threshold.value > 0


def test_too_many_unscorable_rows_are_refused():
    calibrate, threshold = rows(1, 2000), rows(2, 2000)
    threshold.features.scalars["novel"][:40] = np.nan
    members = fit_members(DETECTORS, rows(0, 2000), calibrate)
    with pytest.raises(InputError, match="40 of 2000 threshold rows have no score"):
        assemble(members, calibrate, threshold)


def test_each_question_reacts_to_its_own_detectors_and_either_raises_the_flag():
    monitor = panel()
    harmful, strange = (monitor.judge(rows(9, 500, **shift).features) for shift in ({"grade": 8}, {"novel": 8}))
    assert harmful.flagged.mean() > 0.99
    assert strange.flagged.mean() > 0.99
    assert np.median(harmful.answers["unsafe"]) < 1e-3 < 0.1 < np.median(harmful.answers["unknown"])
    assert np.median(strange.answers["unknown"]) < 1e-3 < 0.1 < np.median(strange.answers["unsafe"])


def test_a_panel_may_answer_one_question_only():
    guard, detectors = panel("guard"), panel("novel other")
    assert set(guard.judge(rows(9, 10).features).answers) == {"unsafe"}
    assert set(detectors.judge(rows(9, 10).features).answers) == {"unknown"}
    judgement = guard.judge(rows(9, 50).features)
    assert np.array_equal(judgement.fused, judgement.p_values["guard"])


def test_a_row_that_cannot_be_scored_is_flagged():
    judged = rows(9, 5)
    judged.features.scalars["novel"][3] = np.nan
    judgement = panel().judge(judged.features)
    assert np.isnan(judgement.fused).tolist() == [False, False, False, True, False]
    assert judgement.flagged[3]


def test_unscorable_safe_rows_count_as_alarms_when_the_threshold_is_chosen():
    calibrate, threshold = rows(1, 2000), rows(2, 2000)
    threshold.features.scalars["novel"][:10] = np.nan
    members = fit_members(DETECTORS, rows(0, 2000), calibrate)
    strict = assemble(members, calibrate, threshold).threshold
    assert strict.value > panel().threshold.value
    assert strict.alarms(np.full(10, np.nan)).all()


def test_a_certified_threshold_is_refused_with_the_number_of_missing_rows():
    calibrate, threshold = rows(1, 500), rows(2, 250)
    members = fit_members(DETECTORS, rows(0, 500), calibrate)
    with pytest.raises(InputError, match="needs 299 safe rows; found 250, 49 are missing"):
        assemble(members, calibrate, threshold, confidence=0.95)
    certified = assemble(members, calibrate, rows(2, 299), confidence=0.95).threshold
    assert (certified.exceedances, certified.delta) == (0, pytest.approx(0.05))


def test_splits_without_safe_rows_and_detectors_that_cannot_learn_are_refused():
    with pytest.raises(InputError, match="calibrate split has no safe rows"):
        fit_members(DETECTORS, rows(0, 50), rows(1, 50, unsafe=True))
    with pytest.raises(InputError, match="detector probe:"):
        fit_members({"probe": GuardProbe()}, rows(0, 50), rows(1, 50))


def test_rows_are_counted_by_split():
    counts = count_rows(rows(0, 5), rows(1, 4), rows(2, 3))
    assert counts == {"fit_safe": 5, "calibrate_safe": 4, "threshold_safe": 3, "fit_unsafe": 0}


def test_needs_joins_what_the_detectors_need():
    members = fit_members(DETECTORS, rows(0, 50), rows(1, 50))
    joined = Panel(members, None, None, {}).needs
    assert joined.scalars == {"grade", "novel", "other"}
    assert Mahalanobis().needs() | joined != joined
