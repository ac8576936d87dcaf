"""Members: what a detector learned beside the ranks of its safe scores, given length where that is asked."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from offmap.calibration import ConformalCalibrator
from offmap.conditioning import Studentiser, context
from offmap.detectors import (
    Excess,
    GuardEnsemble,
    GuardProbe,
    LexicalGuard,
    Mahalanobis,
    Neighbours,
    Perplexity,
    Scalar,
    SurpriseWindow,
)
from offmap.errors import InputError
from offmap.features import Features, Pool
from offmap.members import Rows, by_question, fit_members, needs, require_safe, view_of

GUARD, NOVEL = Scalar("grade"), Scalar("novel", "unknown")


def rows(seed, n=200, unsafe=0.0):
    """Rows whose ``novel`` reading rises with their length, and whose ``grade`` with their harm."""
    rng = np.random.default_rng(seed)
    harm, lengths, none = rng.random(n) < unsafe, rng.integers(10, 2000, n).astype(np.int32), np.zeros(n, np.int32)
    scalars = {"grade": rng.normal(size=n) + 3 * harm, "novel": 2 * np.log(lengths) + rng.normal(size=n)}
    ids, turns, tools = tuple(f"{seed}-{i}" for i in range(n)), rng.integers(1, 9, n).astype(np.int32), none > 0
    return Rows(Features(ids, ("",) * n, lengths, none, turns, tools, scalars=scalars), harm)


def fitted(fit=None, calibrate=None, **options):
    both = {"guard": GUARD, "novel": NOVEL}
    return fit_members(both, fit or rows(0), calibrate or rows(1), **options)


def test_plain_members_rank_scores_as_they_are():
    calibrate, fresh = rows(1, unsafe=0.3), rows(2).features
    for member in fitted(calibrate=calibrate):
        safe = calibrate.features.scalars[member.detector.name][~calibrate.unsafe]
        wanted = [(1 + sum(known >= score for known in safe)) / (len(safe) + 1) for score in member.fitted.score(fresh)]
        assert member.studentiser is None
        np.testing.assert_allclose(member.p_values(fresh), wanted, rtol=1e-12)


def test_conditional_studentises_ood_detectors_only():
    calibrate, fresh = rows(1, unsafe=0.3), rows(2).features
    guard, novel = fitted(calibrate=calibrate, conditional=True)
    plain, _ = fitted(calibrate=calibrate)
    assert guard.studentiser is None
    np.testing.assert_array_equal(guard.p_values(fresh), plain.p_values(fresh))
    safe = calibrate.safe
    studentiser = Studentiser.fit(safe.scalars["novel"], context(safe))
    known = studentiser(safe.scalars["novel"], context(safe))
    np.testing.assert_array_equal(novel.calibrator.scores, np.sort(known))
    found = studentiser(fresh.scalars["novel"], context(fresh))
    wanted = [(1 + sum(known >= score)) / (len(known) + 1) for score in found]
    np.testing.assert_allclose(novel.p_values(fresh), wanted, rtol=1e-12)


def test_given_their_length_long_rows_are_no_more_suspicious_than_short_ones():
    (_, plain), (_, given) = fitted(), fitted(conditional=True)
    fresh = rows(3, 4000).features
    quarter = fresh.n_tokens > np.quantile(fresh.n_tokens, 0.75)
    assert np.mean(plain.p_values(fresh)[quarter] <= 0.1) > 0.2
    assert np.mean(given.p_values(fresh)[quarter] <= 0.1) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("conditional", [False, True])
def test_own_p_values_count_no_row_twice(conditional):
    calibrate = rows(1)
    calibrate.features.scalars["novel"][:6] = 1.25, 1.25, 1.25, np.nan, 99.0, -99.0
    _, novel = fitted(calibrate=calibrate, conditional=conditional)
    ranked = novel.ranked(calibrate.features, calibrate.features.scalars["novel"])
    known = ranked[~np.isnan(ranked)]
    wanted = [np.nan if np.isnan(score) else sum(known >= score) / 200 for score in ranked]
    np.testing.assert_allclose(novel.own_p_values(calibrate.features), wanted, rtol=1e-12)
    assert np.isnan(novel.p_values(calibrate.features)[3])
    assert len(novel.calibrator.scores) == 199


def test_unsafe_calibrate_rows_are_not_ranked_and_a_detector_learns_from_both_kinds():
    fit, calibrate = rows(0, unsafe=0.3), rows(1, unsafe=0.3)
    asked = []

    @dataclass(frozen=True)
    class Curious(Scalar):
        def fit(self, safe, unsafe=None):
            asked.append((safe.ids, unsafe and unsafe.ids))
            return super().fit(safe, unsafe)

    def ids(kind):
        return tuple(i for i, harm in zip(fit.features.ids, fit.unsafe, strict=True) if harm == kind)

    (member,) = fit_members({"guard": Curious("grade")}, fit, calibrate)
    fit_members({"guard": Curious("grade")}, Rows(fit.safe, np.zeros(len(fit.safe), bool)), calibrate)
    assert asked == [(ids(False), ids(True)), (ids(False), None)]
    safe = Rows(calibrate.safe, np.zeros(len(calibrate.safe), bool))
    (same,) = fit_members({"guard": GUARD}, fit, safe)
    np.testing.assert_array_equal(member.calibrator.scores, same.calibrator.scores)


def test_known_scores_are_not_computed_again():
    class Mute:
        def score(self, x):
            raise AssertionError("scored again")

    guard, _ = fitted()
    fresh = rows(2).features
    member = replace(guard, fitted=Mute())
    np.testing.assert_array_equal(member.p_values(fresh, fresh.scalars["grade"]), guard.p_values(fresh))
    with pytest.raises(AssertionError, match="scored again"):
        member.p_values(fresh)


def test_errors_name_the_detector_or_the_split():
    safe, harmful = rows(0, 20), rows(1, 20, unsafe=1.0)
    with pytest.raises(InputError, match=r"^detector the probe: 0 unsafe rows to fit on: wanted at least 2"):
        fit_members({"novel": NOVEL, "the probe": GuardProbe()}, safe, safe)
    silent = rows(2, 20)
    silent.features.scalars["novel"][:] = np.nan
    with pytest.raises(InputError, match=r"^detector novel: no calibration scores"):
        fitted(safe, silent)
    with pytest.raises(InputError, match=r"^detector novel: none of 20 scores is finite"):
        fitted(safe, silent, conditional=True)
    with pytest.raises(InputError, match=r"^the fit split has no safe rows"):
        fitted(harmful, safe)
    with pytest.raises(InputError, match=r"^the calibrate split has no safe rows"):
        fitted(safe, harmful)


def test_rows_know_their_kinds():
    labelled = rows(4, 50, unsafe=0.4)
    assert len(labelled.safe) + len(labelled.harmful) == 50
    assert set(labelled.harmful.ids) == {f"4-{i}" for i in np.flatnonzero(labelled.unsafe)}
    assert rows(4, 50).harmful is None
    assert require_safe(labelled, "fit").ids == labelled.safe.ids


@pytest.mark.parametrize(
    ("detector", "view"),
    [
        (GuardProbe(), "guards"),
        (LexicalGuard(), "guards"),  # reads tokens, but for known harm
        (Scalar("grade"), "guards"),
        (GuardEnsemble("pessimistic", scalars=("a", "b")), "guards"),
        (Mahalanobis(), "states"),
        (Neighbours(), "states"),
        (Perplexity(), "tokens"),
        (Excess(), "tokens"),
        (SurpriseWindow(), "tokens"),
        (Scalar("novel", "unknown"), "scalars"),
    ],
    ids=str,
)
def test_a_view_is_what_a_detector_looks_at(detector, view):
    assert view_of(detector) == view


def test_columns_stand_by_question_and_view_in_the_members_order():
    team = {"far": Mahalanobis(), "odd": NOVEL, "probe": GUARD, "near": Neighbours(), "words": Scalar("words")}
    members = [replace(fitted()[0], name=name, detector=detector) for name, detector in team.items()]
    p_values = {name: np.array([i + 0.25, i + 0.5]) for i, name in enumerate(team)}
    found = by_question(members, p_values)
    assert {question: list(views) for question, views in found.items()} == {
        "unsafe": ["guards"],
        "unknown": ["states", "scalars"],
    }
    assert found["unsafe"]["guards"].tolist() == [[2.25, 4.25], [2.5, 4.5]]
    assert found["unknown"]["states"].tolist() == [[0.25, 3.25], [0.5, 3.5]]
    assert found["unknown"]["scalars"].tolist() == [[1.25], [1.5]]
    assert list(by_question(members[:1], p_values)) == ["unknown"]


def test_needs_are_joined():
    joined = needs([Mahalanobis(layers=(-1,), pools=(Pool.LAST,)), NOVEL, Perplexity()])
    assert joined.hidden == {(-1, Pool.LAST)}
    assert joined.scalars == {"novel"}
    assert joined.tokens == Perplexity().needs().tokens


def test_members_hold_what_the_calibrator_would_say_itself():
    guard, _ = fitted()
    same = ConformalCalibrator.fit(rows(1).features.scalars["grade"])
    np.testing.assert_array_equal(guard.calibrator.scores, same.scores)
    assert guard.calibrator.tail == same.tail
