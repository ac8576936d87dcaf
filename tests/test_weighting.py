import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression

from offmap.calibration import ConformalCalibrator, marginal_threshold
from offmap.errors import InputError
from offmap.weighting import DensityRatio, WeightedCalibrator, effective_size

ROWS = st.lists(st.tuples(st.integers(-5, 5), st.floats(0.01, 50)), min_size=1, max_size=60)


def shifted(rng, n, move):
    """Rows whose score rises with a covariate, and the weights of traffic where the covariate has moved by 1."""
    x = rng.normal(size=n) + move
    return x + rng.normal(size=n), np.exp(x - 0.5), x


def tilted(rng, n, target):
    """Rows with a covariate of density 1 or, in the target, 2x on [0, 1]: weights are bounded by 2."""
    x = np.sqrt(rng.random(n)) if target else rng.random(n)
    return 4 * x + rng.normal(size=n), 2 * x


def test_p_values_are_weighted_ranks():
    rng = np.random.default_rng(0)
    safe, weights = rng.integers(0, 20, 200) * 1.0, rng.exponential(size=200)
    scores, own = rng.integers(-3, 25, 50) * 1.0, rng.exponential(size=50)
    found = WeightedCalibrator.fit(safe, weights).p_values(scores, own)
    total = weights.sum()
    wanted = [
        (w + sum(v for s, v in zip(safe, weights, strict=True) if s >= score)) / (total + w)
        for score, w in zip(scores, own, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("common", [1.0, 7.5])
def test_equal_weights_give_what_unweighted_rows_give(common):
    rng = np.random.default_rng(1)
    safe, scores = rng.integers(0, 400, 999) * 1.0, rng.normal(200, 150, 300)
    weighted = WeightedCalibrator.fit(safe, np.full(999, common))
    plain = ConformalCalibrator.fit(safe, tail_fraction=0)
    np.testing.assert_allclose(weighted.p_values(scores, np.full(300, common)), plain.p_values(scores), rtol=1e-12)
    assert weighted.effective_n == pytest.approx(999)
    for alpha in (0.001, 0.01, 0.05, 0.3):
        assert weighted.threshold(alpha) == marginal_threshold(safe, alpha).value


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, weight=st.floats(0.01, 50), alpha=st.floats(0.02, 0.9))
def test_a_score_is_above_the_threshold_exactly_where_its_p_value_is_at_most_alpha(rows, weight, alpha):
    safe, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    calibrator = WeightedCalibrator.fit(safe, weights)
    scores = np.arange(-6, 7.0)
    p = calibrator.p_values(scores, np.full(13, weight))
    assert np.all((p > 0) & (p <= 1))
    assert np.all(np.diff(p) <= 0)
    try:
        threshold = calibrator.threshold(alpha, weight)
    except InputError:
        total = weights.sum()
        assert min(total / weight, total**2 / (weights**2).sum()) < 1 / alpha - 1
        return
    clear = np.abs(p - alpha) > 1e-6
    assert np.array_equal((scores > threshold)[clear], (p <= alpha)[clear])


def test_a_threshold_rises_with_the_weight_it_is_for():
    rng = np.random.default_rng(2)
    scores, weights, _ = shifted(rng, 2000, 0)
    calibrator = WeightedCalibrator.fit(scores, weights)
    thresholds = [calibrator.threshold(0.05, weight) for weight in (0.1, 20.0, 80.0)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[2]
    assert calibrator.threshold(0.05) == calibrator.threshold(0.05, float(weights.max()))


def test_under_a_known_shift_the_unweighted_threshold_misses_alpha_and_the_weighted_one_holds_it():
    rng = np.random.default_rng(3)
    alpha, rates = 0.05, []
    for _ in range(400):
        scores, weights = tilted(rng, 1000, target=False)
        live, own = tilted(rng, 1000, target=True)
        calibrator = WeightedCalibrator.fit(scores, weights)
        unweighted = live > marginal_threshold(scores, alpha).value
        alarms = [unweighted, live > calibrator.threshold(alpha, 2.0), calibrator.p_values(live, own) <= alpha]
        rates.append(np.mean(alarms, axis=1))
    unweighted, one_threshold, by_p_value = np.mean(rates, axis=0)
    noise = 4 * np.std(rates, axis=0) / math.sqrt(400)
    assert unweighted > 1.6 * alpha
    for rate, error in [(one_threshold, noise[1]), (by_p_value, noise[2])]:
        assert alpha - 0.005 < rate <= alpha + error


def test_randomised_p_values_are_uniform_under_the_shift_ties_or_not():
    rng = np.random.default_rng(4)
    for rounded in (False, True):
        p = []
        for _ in range(3000):
            scores, weights, _ = shifted(rng, 25, 0)
            live, own, _ = shifted(rng, 1, 1)
            if rounded:
                scores, live = np.rint(scores), np.rint(live)
            p.append(WeightedCalibrator.fit(scores, weights).p_values(live, own, rng)[0])
        assert stats.kstest(p, "uniform").pvalue > 0.01


def test_estimated_weights_hold_alpha_where_the_shift_is_unknown():
    rng = np.random.default_rng(5)
    alpha, rates = 0.05, []
    for _ in range(100):
        scores, _, x = shifted(rng, 1500, 0)
        live, _, seen = shifted(rng, 1500, 1)
        ratio = DensityRatio.fit(x[:, None], seen[:, None])
        calibrator = WeightedCalibrator.fit(scores, ratio(x[:, None]))
        rates.append(np.mean(calibrator.p_values(live, ratio(seen[:, None])) <= alpha))
    assert np.mean(rates) == pytest.approx(alpha, abs=0.01)


@pytest.mark.parametrize("ridge", [0.1, 1.0, 100.0])
def test_the_density_ratio_is_penalised_logistic_regression(ridge):
    rng = np.random.default_rng(6)
    before, after = rng.normal(size=(700, 3)) * [1, 50, 0.01], rng.normal([0.5, 20, 0], [1, 50, 0.01], (300, 3))
    ratio = DensityRatio.fit(before, after, ridge=ridge, clip=1e9)
    rows = np.concatenate([before, after])
    z = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    oracle = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(z, np.repeat([0, 1], [700, 300]))
    np.testing.assert_allclose(np.log(ratio(rows)), oracle.decision_function(z) + math.log(7 / 3), atol=1e-4)


def test_the_density_ratio_finds_the_true_ratio_and_cuts_it_at_the_clip():
    rng = np.random.default_rng(7)
    before, after = rng.normal(size=(20_000, 1)), rng.normal(1, 1, (20_000, 1))
    ratio = DensityRatio.fit(before, after, clip=10)
    at = np.array([[-1.0], [0.5], [2.0], [50.0], [-50.0]])
    assert np.log(ratio(at[:3])) == pytest.approx(at[:3, 0] - 0.5, abs=0.1)
    assert ratio(at[3:]) == pytest.approx([10, 0.1])
    assert ratio.clipped(at) == pytest.approx(0.4)
    assert ratio(before).mean() == pytest.approx(1, abs=0.1)
    assert effective_size(ratio(before)) < 20_000 / 2


def test_separated_and_constant_covariates_still_give_weights():
    ratio = DensityRatio.fit(np.c_[np.zeros(50), np.ones(50)], np.c_[np.ones(20) * 1e6, np.ones(20)])
    apart = ratio(np.array([[0.0, 1.0], [1e6, 1.0]]))
    assert 1 / 20 <= apart[0] < 0.1
    assert apart[1] == pytest.approx(20)
    alike = DensityRatio.fit(np.ones((50, 2)), np.ones((20, 2)))
    assert alike(np.ones((3, 2))) == pytest.approx([1, 1, 1])


def test_effective_size_counts_equal_weights_fully_and_one_heavy_one_as_one():
    assert effective_size([3.0] * 40) == pytest.approx(40)
    assert effective_size([1e-9] * 40 + [1e9]) == pytest.approx(1)
    assert effective_size([1e300, 1e300]) == pytest.approx(2)
    assert effective_size([1, 2, 3]) == pytest.approx(36 / 14)


def test_too_few_effective_rows_are_refused_and_counted():
    weights = np.r_[np.full(1000, 0.001), np.full(30, 10.0)]
    calibrator = WeightedCalibrator.fit(np.arange(1030.0), weights)
    with pytest.raises(InputError, match=r"1030 weighted rows count for 30\.\d of equal weight; alpha 0\.01 needs 99"):
        calibrator.threshold(0.01)
    with pytest.raises(InputError, match=r"count for 30\.\d"):
        calibrator.threshold(0.01, 0.001)
    assert np.isfinite(calibrator.threshold(0.05))
    with pytest.raises(InputError, match=r"count for 3\.0"):
        calibrator.threshold(0.05, 100.0)


def test_nan_stays_nan_and_infinities_are_the_ends():
    calibrator = WeightedCalibrator.fit(np.arange(4.0), np.ones(4))
    p = calibrator.p_values(np.array([np.nan, -np.inf, np.inf]), np.ones(3))
    assert np.isnan(p[0])
    assert p[1:] == pytest.approx([1, 0.2])


def test_restored_objects_give_the_same_numbers():
    rng = np.random.default_rng(8)
    scores, weights, x = shifted(rng, 300, 0)
    ratio = DensityRatio.fit(x[:, None], x[:, None] + 1)
    assert np.array_equal(DensityRatio.restore(ratio.arrays())(x[:, None]), ratio(x[:, None]))
    calibrator = WeightedCalibrator.fit(scores, weights)
    again = WeightedCalibrator.restore(calibrator.arrays())
    assert np.array_equal(again.p_values(scores, weights), calibrator.p_values(scores, weights))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_weights_that_are_no_weights_are_refused(bad):
    with pytest.raises(ValueError, match="1 of 3 weights are not finite numbers above 0"):
        WeightedCalibrator.fit(np.zeros(3), np.array([1.0, bad, 1.0]))
    fitted = WeightedCalibrator.fit(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="1 of 2 weights"):
        fitted.p_values(np.zeros(2), np.array([1.0, bad]))
    with pytest.raises(ValueError, match="1 of 1 weights"):
        fitted.threshold(0.5, bad)
    with pytest.raises(ValueError, match="1 of 2 weights"):
        effective_size([1.0, bad])


def test_wrong_input_is_refused():
    fitted = WeightedCalibrator.fit(np.zeros(3), np.ones(3))
    for scores, weights, message in [
        (np.zeros(3), np.ones(2), "wanted"),
        (np.zeros(0), np.ones(0), "at least 1"),
        (np.array([np.nan, 1]), np.ones(2), "1 of 2 scores are NaN"),
        (np.zeros((2, 2)), np.ones((2, 2)), "one column"),
    ]:
        with pytest.raises(ValueError, match=message):
            WeightedCalibrator.fit(scores, weights)
    with pytest.raises(ValueError, match="wanted"):
        fitted.p_values(np.zeros(3), np.ones(2))
    with pytest.raises(ValueError, match="no weights"):
        effective_size([])
    with pytest.raises(InputError, match="alpha is 1"):
        fitted.threshold(1.0)


def test_wrong_covariates_are_refused():
    rows = np.zeros((3, 2))
    for before, after, message in [
        (rows, rows[:, :1], "rows of one width"),
        (rows, rows[:0], "rows of one width"),
        (rows, np.zeros(3), "a row a conversation"),
        (rows, np.full((3, 2), np.nan), "3 of 3 rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            DensityRatio.fit(before, after)
    with pytest.raises(InputError, match="clip is 1"):
        DensityRatio.fit(rows, rows, clip=1.0)
    with pytest.raises(InputError, match="ridge is 0"):
        DensityRatio.fit(rows, rows, ridge=0.0)
    with pytest.raises(ValueError, match="1 covariates a row; the ratio was fitted on 2"):
        DensityRatio.fit(rows, rows)(rows[:, :1])
