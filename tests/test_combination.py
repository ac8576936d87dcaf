"""Three steps from many p-values to one: a plain loop says the same, and what comes out of each step is a p-value."""

import numpy as np
import pytest
from scipy import stats

from offmap.calibration import ConformalCalibrator, marginal_threshold, suspicion
from offmap.combination import Answer, Combination, Pooled
from offmap.fusion import Fusion

SHAPE = {"unsafe": {"guards": 2}, "unknown": {"states": 3, "tokens": 1, "scalars": 2}}
N_COLUMNS = 8


def columns(table, shape=SHAPE):
    """The (n, 8) table dealt out by question and view, in order."""
    ends = iter(np.cumsum([k for views in shape.values() for k in views.values()]))
    return {
        q: {view: table[:, (end := next(ends)) - k : end] for view, k in views.items()} for q, views in shape.items()
    }


def uniform(n, seed):
    return np.random.default_rng(seed).uniform(1e-4, 1, (n, N_COLUMNS))


def dependent(rng, n, rho):
    """P-values of safe rows: all from one normal factor, to a share ``rho`` of their variance."""
    common, own = rng.normal(size=(n, 1)), rng.normal(size=(n, N_COLUMNS))
    return stats.norm.sf(np.sqrt(rho) * common + np.sqrt(1 - rho) * own)


def calibrated(rng, n, fresh, rho):
    """The calibrate rows' own p-values and those of fresh rows, of detectors whose scores depend on each other."""
    calibrate, new = (suspicion(dependent(rng, size, rho)) for size in (n, fresh))
    fitted = [ConformalCalibrator.fit(scores) for scores in calibrate.T]
    own = np.column_stack([each.own_p_values(scores) for each, scores in zip(fitted, calibrate.T, strict=True)])
    return own, np.column_stack([each.p_values(scores) for each, scores in zip(fitted, new.T, strict=True)])


def ranks(calibration, values):
    """P-values by the rank of suspicion among calibration rows: of these rows themselves, and of others."""
    known, n = suspicion(calibration), len(calibration) + 1
    own, others = ([sum(each >= row for each in known) for row in suspicion(of)] for of in (calibration, values))
    return np.array(own) / n, (1 + np.array(others)) / n


def pool(rule, own, new):
    """One step as it is meant: fuse, then rank among the calibration rows, unless there is nothing to fuse."""
    fitted = Fusion(rule).fit(own)
    fused = fitted.fuse(own), fitted.fuse(new)
    return fused if own.shape[1] == 1 else ranks(*fused)


def test_within_a_view_detectors_weigh_their_shares():
    own, new = uniform(150, 0), uniform(80, 1)
    (question, views), *_ = columns(own).items()
    (view, table), *_ = ((v, t) for v, t in views.items() if t.shape[1] > 1)
    share = np.arange(1.0, table.shape[1] + 1)[None, :]
    fitted = Fusion("stouffer").fit(table)
    weights = share[0] / share.sum()
    fresh = columns(new)[question][view]
    _, wanted = ranks(fitted.fuse(table, weights), fitted.fuse(fresh, weights))
    only = Combination.fit({question: {view: table}}, Fusion(), {question: {view: share}})
    np.testing.assert_allclose(only({question: {view: fresh}})[0][question], wanted, rtol=1e-12)
    equal, none = (
        Combination.fit({question: {view: table}}, Fusion(), {question: {view: s}}) for s in (share * 0 + 2, share * 0)
    )
    for each in (equal, none):
        plain = Combination.fit({question: {view: table}}, Fusion())
        np.testing.assert_allclose(each({question: {view: fresh}})[1], plain({question: {view: fresh}})[1], rtol=1e-12)


@pytest.mark.parametrize("method", ["harmonic", "bonferroni", "acat", "fisher"])
@pytest.mark.parametrize("within", ["stouffer", "harmonic"])
def test_every_step_is_that_of_a_plain_loop(method, within):
    own, new, fusion = uniform(120, 0), uniform(60, 1), Fusion(method, 0.6, within)
    answers = {}
    for question, views in columns(own).items():
        pooled = [pool(within, table, columns(new)[question][view]) for view, table in views.items()]
        answers[question] = pool(method, *(np.column_stack(side) for side in zip(*pooled, strict=True)))
    across = fusion.fit(np.column_stack([own for own, _ in answers.values()]))
    wanted = across.fuse(np.column_stack([new for _, new in answers.values()]), [0.6, 0.4])
    found, fused = Combination.fit(columns(own), fusion)(columns(new))
    assert list(found) == ["unsafe", "unknown"]
    for question, (_, p_values) in answers.items():
        np.testing.assert_allclose(found[question], p_values, rtol=1e-12)
    np.testing.assert_allclose(fused, wanted, rtol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    ("within", "method"), [("stouffer", "harmonic"), ("fisher", "acat"), ("harmonic", "bonferroni")]
)
def test_each_step_gives_p_values_whatever_the_dependence(rho, within, method):
    rng, levels = np.random.default_rng(int(100 * rho)), np.array([0.05, 0.1, 0.2, 0.5])
    reached = {name: [] for name in ("unsafe", "unknown", "states", "scalars")}
    for _ in range(60):
        own, fresh = calibrated(rng, 200, 400, rho)
        combination = Combination.fit(columns(own), Fusion(method, within=within))
        found, _ = combination(columns(fresh))
        views = combination.answers["unknown"].views
        found |= {view: views[view](columns(fresh)["unknown"][view]) for view in ("states", "scalars")}
        for name, p_values in found.items():
            reached[name].append((p_values[:, None] <= levels).mean(axis=0))
    for name, shares in reached.items():
        # A share has a standard deviation of sqrt(t (1 - t) (1/200 + 1/400)) in one repetition.
        allowed = 1 / 200 + 4 * np.sqrt(levels * (1 - levels) * (1 / 200 + 1 / 400) / 60)
        more = np.mean(shares, axis=0) - levels
        assert (more < allowed).all(), name
        if method != "bonferroni":  # whose many ties make p-values too large
            assert (more > -allowed).all(), name


def test_a_harmonic_mean_is_no_p_value_until_it_is_calibrated_again():
    own, fresh = calibrated(np.random.default_rng(3), 4000, 20_000, 0.0)
    fused = Fusion("harmonic").fit(own).fuse(fresh)
    assert np.mean(fused <= 0.05) > 0.065
    pooled, _ = Pooled.fit(own, Fusion("harmonic"))
    assert np.mean(pooled(fresh) <= 0.05) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("method", ["harmonic", "bonferroni", "acat", "fisher", "stouffer"])
def test_a_single_detector_passes_through_unchanged(method):
    own, new = uniform(50, 2)[:, :1], uniform(30, 3)[:, :1]
    for question, view in (("unsafe", "guards"), ("unknown", "tokens")):
        answers, fused = Combination.fit({question: {view: own}}, Fusion(method))({question: {view: new}})
        np.testing.assert_array_equal(answers[question], new[:, 0])
        np.testing.assert_array_equal(fused, new[:, 0])
    pooled, back = Pooled.fit(own, Fusion(method))
    assert pooled.calibrator is None
    np.testing.assert_array_equal(back, own[:, 0])


def test_two_single_detectors_are_only_weighed():
    shape, fusion = {"unsafe": {"guards": 1}, "unknown": {"states": 1}}, Fusion("harmonic", 0.8)
    own, new = uniform(50, 4)[:, :2], uniform(30, 5)[:, :2]
    answers, fused = Combination.fit(columns(own, shape), fusion)(columns(new, shape))
    np.testing.assert_array_equal(answers["unknown"], new[:, 1])
    np.testing.assert_allclose(fused, 1 / (0.8 / new[:, 0] + 0.2 / new[:, 1]))


@pytest.fixture(scope="module")
def usual():
    """The default fusion fitted to independent detectors of 4,000 safe rows, and its threshold at 1 %."""
    own, fresh = calibrated(np.random.default_rng(6), 4000, 4000, 0.0)
    combination = Combination.fit(columns(own), Fusion())
    return combination, marginal_threshold(suspicion(combination(columns(fresh))[1]), 0.01)


def judged(combination, **p_values):
    """Answers and fused value of a row that all detectors find ordinary but those named: column -> p."""
    row = np.full((1, N_COLUMNS), 0.5)
    row[0, [int(name[1:]) for name in p_values]] = list(p_values.values())
    answers, fused = combination(columns(row))
    return {question: float(p[0]) for question, p in answers.items()}, fused


def test_two_detectors_of_a_view_that_agree_count_for_more_than_one(usual):
    combination, threshold = usual
    one, both = (judged(combination, **found) for found in ({"c2": 1e-3}, {"c2": 1e-3, "c3": 1e-3}))
    assert both[0]["unknown"] < one[0]["unknown"] / 5
    assert one[0]["unsafe"] == both[0]["unsafe"] > 0.3
    assert threshold.alarms(suspicion(both[1]))
    assert not threshold.alarms(suspicion(one[1]))


def test_a_detector_alone_in_its_view_raises_the_flag_where_one_noisy_reading_among_three_does_not(usual):
    combination, threshold = usual
    alone, among = judged(combination, c5=1e-4), judged(combination, c2=1e-4)
    assert threshold.alarms(suspicion(alone[1]))
    assert not threshold.alarms(suspicion(among[1]))


def test_either_question_raises_the_flag(usual):
    combination, threshold = usual
    guard, novel = judged(combination, c0=1e-4, c1=1e-4), judged(combination, c2=1e-4, c3=1e-4, c4=1e-4)
    assert guard[0]["unsafe"] < 1e-3 < 0.3 < guard[0]["unknown"]
    assert novel[0]["unknown"] < 1e-3 < 0.3 < novel[0]["unsafe"]
    assert threshold.alarms(suspicion(guard[1]))
    assert threshold.alarms(suspicion(novel[1]))


def test_the_most_suspicious_row_of_a_question_is_ordinary_to_the_other(usual):
    combination, _ = usual
    smallest = np.full((1, N_COLUMNS), 0.1)
    reached = combination.most_suspicious(columns(smallest))
    for question, weight in (("unsafe", 0.7), ("unknown", 0.3)):
        answer = combination.answers[question](columns(smallest)[question])[0]
        assert reached[question] == pytest.approx(1 / (weight / answer + (1 - weight) / 0.5))


def test_a_missing_p_value_is_missing_and_teaches_nothing():
    own, new = uniform(80, 7), uniform(5, 8)
    gaps = own.copy()
    gaps[3, 0], gaps[9, 5], gaps[11, 2] = np.nan, np.nan, np.nan
    new[1, 0], new[2, 7] = np.nan, np.nan
    answers, fused = Combination.fit(columns(gaps), Fusion())(columns(new))
    assert np.isnan(answers["unsafe"]).tolist() == [False, True, False, False, False]
    assert np.isnan(answers["unknown"]).tolist() == [False, False, True, False, False]
    assert np.isnan(fused).tolist() == [False, True, True, False, False]
    for question, rows in (("unsafe", [3]), ("unknown", [9, 11])):
        answer, back = Answer.fit(columns(gaps)[question], Fusion())
        assert np.flatnonzero(np.isnan(back)).tolist() == rows
        assert not np.isnan(answer(columns(own)[question])).any()
    pooled, _ = Pooled.fit(gaps[:, 2:5], Fusion())
    whole, _ = Pooled.fit(np.delete(own, 11, axis=0)[:, 2:5], Fusion())
    np.testing.assert_array_equal(pooled(own[:, 2:5]), whole(own[:, 2:5]))
