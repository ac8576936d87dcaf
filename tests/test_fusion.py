import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from offmap.calibration import SMALLEST_P, ConformalCalibrator, marginal_threshold, suspicion
from offmap.errors import InputError
from offmap.fusion import FittedFusion, Fusion, LambdaRule

METHODS = ["bonferroni", "harmonic", "acat", "fisher", "stouffer"]
WEIGHTS = np.array([0.5, 0.3, 0.2])


def table(n=50, k=3, seed=0, high=0.99):
    return np.random.default_rng(seed).uniform(1e-4, high, (n, k))


def independent(method, k=3):
    return FittedFusion(method, np.eye(k))


def correlated_nulls(rng, n, k, rho):
    return math.sqrt(rho) * rng.normal(size=(n, 1)) + math.sqrt(1 - rho) * rng.normal(size=(n, k))


@pytest.mark.parametrize("method", ["fisher", "stouffer"])
def test_independent_equal_weights_agree_with_scipy(method):
    p = table()
    expected = [stats.combine_pvalues(row, method=method).pvalue for row in p]
    assert independent(method).fuse(p) == pytest.approx(expected, rel=1e-9)


def test_weighted_stouffer_agrees_with_scipy():
    p = table()
    expected = [stats.combine_pvalues(row, method="stouffer", weights=WEIGHTS).pvalue for row in p]
    assert independent("stouffer").fuse(p, WEIGHTS) == pytest.approx(expected, rel=1e-9)


def test_acat_is_the_cauchy_combination():
    p = table()
    expected = stats.cauchy.sf(stats.cauchy.isf(p) @ WEIGHTS)
    assert independent("acat").fuse(p, WEIGHTS) == pytest.approx(expected, rel=1e-6)


def test_harmonic_and_bonferroni_agree_with_loops():
    p = table(high=1.0)
    harmonic = [1 / sum(w / x for w, x in zip(WEIGHTS, row, strict=True)) for row in p]
    bonferroni = [min(1.0, *(x / w for w, x in zip(WEIGHTS, row, strict=True))) for row in p]
    assert independent("harmonic").fuse(p, WEIGHTS) == pytest.approx(harmonic, rel=1e-12)
    assert independent("bonferroni").fuse(p, WEIGHTS) == pytest.approx(bonferroni, rel=1e-12)


def test_weighted_bonferroni_splits_the_false_positive_budget():
    p = table(2000, 2, high=0.03)
    fusion = Fusion("bonferroni", guard_weight=0.9)
    fused = fusion.fit(p).fuse(p, fusion.weights)
    assert np.array_equal(fused <= 0.01, (p[:, 0] <= 0.009) | (p[:, 1] <= 0.001))
    assert 0 < np.mean(fused <= 0.01) < 1


def test_brown_uses_the_covariance_of_the_calibration_rows():
    rng = np.random.default_rng(1)
    calibration, p = stats.norm.sf(correlated_nulls(rng, 300, 3, 0.5)), table()
    rho = np.corrcoef(-2 * np.log(calibration), rowvar=False)
    mean = 2 * WEIGHTS.sum()
    variance = sum(4 * WEIGHTS[i] * WEIGHTS[j] * rho[i, j] for i in range(3) for j in range(3))
    statistic = -2 * np.log(p) @ WEIGHTS
    expected = stats.chi2.sf(statistic * 2 * mean / variance, 2 * mean**2 / variance)
    assert Fusion("fisher").fit(calibration).fuse(p, WEIGHTS) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["fisher", "stouffer"])
def test_calibration_correlation_keeps_the_nominal_rate_that_independence_loses(method):
    rng = np.random.default_rng(2)
    calibration, p = (stats.norm.sf(correlated_nulls(rng, n, 5, 0.6)) for n in (4000, 20000))
    assert np.mean(Fusion(method).fit(calibration).fuse(p) <= 0.01) == pytest.approx(0.01, abs=0.004)
    assert np.mean(independent(method, 5).fuse(p) <= 0.01) > 0.04


@pytest.mark.parametrize("method", METHODS)
def test_one_detector_is_returned_as_it_is(method):
    p = np.array([[1.0], [0.995], [0.3], [1e-12], [SMALLEST_P]])
    assert np.array_equal(Fusion(method).fit(table(k=1)).fuse(p), p[:, 0])


@pytest.mark.parametrize("method", METHODS)
def test_all_the_weight_on_one_detector_leaves_its_p_value(method):
    p = table()
    assert independent(method).fuse(p, [0, 1, 0]) == pytest.approx(p[:, 1], rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_any_column_gives_nan_whatever_its_weight(method):
    p = np.array([[np.nan, 0.5, 0.5], [0.5, 0.5, np.nan], [0.2, 0.5, 0.5]])
    assert np.isnan(independent(method).fuse(p, [0.5, 0.5, 0])).tolist() == [True, True, False]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.floats(1e-250, 1)] * 3), min_size=1, max_size=8),
    column=st.integers(0, 2),
    factor=st.floats(1e-40, 1),
)
def test_fused_values_lie_in_zero_one_and_never_rise_where_a_p_value_falls(method, rows, column, factor):
    p = np.array(rows)
    lower = p.copy()
    lower[:, column] *= factor
    before, after = (independent(method).fuse(x, WEIGHTS) for x in (p, lower))
    assert np.all((after > 0) & (before <= 1))
    assert np.all(after <= before * (1 + 1e-9))


@pytest.mark.parametrize("method", ["bonferroni", "harmonic", "acat"])
def test_tiny_p_values_keep_their_size(method):
    p = np.array([[1e-200, 0.5, 1.0]])
    assert independent(method).fuse(p, WEIGHTS) == pytest.approx(1e-200 / 0.5, rel=1e-9)


@pytest.mark.parametrize("method", ["acat", "stouffer"])
def test_a_p_value_of_one_does_not_outvote_the_rest(method):
    assert independent(method, 2).fuse(np.array([[1e-9, 1.0]])) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_fusion_gives_the_same_values(method):
    fitted = Fusion(method).fit(table(seed=3))
    assert np.array_equal(Fusion(method).restore(fitted.arrays()).fuse(table()), fitted.fuse(table()))


@pytest.mark.parametrize("method", ["fisher", "stouffer"])
def test_constant_and_opposed_columns_count_as_uncorrelated(method):
    first = table(100, 1)[:, 0]
    fitted = Fusion(method).fit(np.column_stack([first, 1 - first, np.full(100, 0.1)]))
    assert np.array_equal(fitted.correlation, np.eye(3))


@pytest.mark.parametrize(
    ("p", "weights", "message"),
    [
        (np.full((2, 2), 0.5), None, "2 columns of p-values; the fusion was fitted on 3"),
        (np.array([[0.5, 0.0, 1.1]]), None, "2 of 3 p-values lie outside"),
        (np.full(3, 0.5), None, "shape"),
        (np.full((2, 3), 0.5), [0.9, 0.9, 0.1], "sum 1"),
        (np.full((2, 3), 0.5), [1.5, -0.5, 0], "none negative"),
        (np.full((2, 3), 0.5), [0.5, 0.5], "wanted 3 numbers"),
    ],
)
def test_wrong_p_values_and_weights_are_refused(p, weights, message):
    with pytest.raises(ValueError, match=message):
        independent("harmonic").fuse(p, weights)


def test_wrong_options_and_calibration_rows_are_refused():
    with pytest.raises(InputError, match="wanted one of bonferroni"):
        Fusion("mean")
    with pytest.raises(InputError, match=r"guard_weight is 1\.5"):
        Fusion(guard_weight=1.5)
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"the share of 'near' is .*; wanted a number, not negative"):
            Fusion(shares={"near": wrong})
    with pytest.raises(ValueError, match="NaN"):
        Fusion().fit(np.array([[0.5, np.nan]]))
    with pytest.raises(ValueError, match="at least two"):
        Fusion("fisher").fit(np.array([[0.5, 0.5]]))


def recall_at_one_percent(safe, unsafe):
    """Share of ``unsafe`` above the marginal 1 % threshold of ``safe``, both as suspicion."""
    return marginal_threshold(safe, 0.01).alarms(unsafe).mean()


def fused(method, calibration, *batches, weights=None):
    columns = [ConformalCalibrator.fit(column) for column in calibration.T]

    def p_values(scores):
        return np.column_stack([column.p_values(scores[:, k]) for k, column in enumerate(columns)])

    fitted = Fusion(method).fit(p_values(calibration))
    return [suspicion(fitted.fuse(p_values(scores), weights)) for scores in batches]


@pytest.mark.parametrize("method", ["bonferroni", "harmonic", "acat"])
def test_one_firing_guard_of_five_is_heard_where_min_after_the_sign_flip_hears_none(method):
    rng = np.random.default_rng(4)
    calibration, safe, unsafe = (correlated_nulls(rng, n, 5, 0.7) for n in (2000, 2000, 500))
    unsafe[np.arange(500), rng.integers(0, 5, 500)] += 6
    assert recall_at_one_percent(*fused(method, calibration, safe, unsafe)) > 0.9
    assert recall_at_one_percent(safe.min(axis=1), unsafe.min(axis=1)) < 0.05


def test_what_one_detector_sees_survives_fusion_and_is_thrown_away_by_the_sum_of_z_scores():
    rng = np.random.default_rng(5)
    calibration, safe, caught, known, novel = (correlated_nulls(rng, n, 2, 0.3) for n in (4000, 4000, 2000, 2000, 2000))
    for rows in (caught, known):
        rows[:, 0] += 3.7
    novel += [-3, 3.6]

    labels = np.repeat([False, True], [len(calibration), len(caught)])
    labelled = np.vstack([calibration, caught])
    rule = LambdaRule().fit(labelled[:, 0], labelled[:, 1:], labels)
    sums = [rule.score(rows[:, 0], rows[:, 1:]) for rows in (safe, known, novel)]

    assert recall_at_one_percent(safe[:, 1], novel[:, 1]) > 0.85
    assert recall_at_one_percent(sums[0], sums[2]) < 0.05
    for method in ("bonferroni", "harmonic"):
        base, id_suspicion, novel_suspicion = fused(method, calibration, safe, known, novel, weights=[0.9, 0.1])
        assert recall_at_one_percent(base, novel_suspicion) > 0.5
        assert recall_at_one_percent(base, id_suspicion) > recall_at_one_percent(sums[0], sums[1]) - 0.05


def brute_force_lambda(guard, others, unsafe, fpr):
    def z(column):
        safe = [x for x, bad in zip(column, unsafe, strict=True) if not bad]
        return [(x - statistics.fmean(safe)) / statistics.pstdev(safe) for x in column]

    zs = [z(column) for column in [guard, *others.T]]

    def recall(value):
        scores = [row[0] + value * statistics.fmean(row[1:]) for row in zip(*zs, strict=True)]
        safe = sorted(s for s, bad in zip(scores, unsafe, strict=True) if not bad)
        position = (len(safe) - 1) * (1 - fpr)
        low = math.floor(position)
        threshold = safe[low] + (position - low) * (safe[min(low + 1, len(safe) - 1)] - safe[low])
        return statistics.fmean(s > threshold for s, bad in zip(scores, unsafe, strict=True) if bad)

    grid = [0.0, *(10 ** (-2 + 0.2 * step) for step in range(21))]
    return max(value for value in grid if recall(value) >= recall(0.0))


@pytest.mark.parametrize("seed", range(8))
def test_lambda_is_the_largest_that_keeps_the_guards_recall(seed):
    rng = np.random.default_rng(seed)
    unsafe = rng.random(400) < 0.3
    guard = rng.normal(size=400) * 5 + 7 + 12 * unsafe
    others = rng.normal(size=(400, 2)) + rng.uniform(-0.5, 2) * unsafe[:, None]
    fitted = LambdaRule(fpr=0.05).fit(guard, others, unsafe)
    assert fitted.lambda_ == pytest.approx(brute_force_lambda(guard, others, unsafe, 0.05))


def test_lambda_is_zero_for_a_harmful_detector_and_the_largest_for_a_copy_of_the_guard():
    rng = np.random.default_rng(6)
    unsafe = rng.random(2000) < 0.3
    guard = rng.normal(size=2000) + 2.5 * unsafe
    harmful = rng.normal(size=(2000, 1)) - 1000 * unsafe[:, None]
    assert LambdaRule().fit(guard, harmful, unsafe).lambda_ == 0
    assert LambdaRule().fit(guard, 3 * guard[:, None] - 1, unsafe).lambda_ == pytest.approx(100)


def test_a_score_at_the_threshold_is_no_alarm():
    unsafe = np.repeat([False, True], [100, 20])
    guard = np.r_[np.zeros(95), np.ones(5), np.ones(10), np.full(10, 2)]
    others = np.r_[np.linspace(0, 1, 100), np.full(10, -1000), np.full(10, 1000)]
    assert LambdaRule().fit(guard, others[:, None], unsafe).lambda_ == pytest.approx(100)


def test_lambda_score_is_standardised_on_safe_rows_restores_and_keeps_nan():
    rng = np.random.default_rng(7)
    unsafe = rng.random(300) < 0.5
    guard, others = rng.normal(3, 2, 300) + 4 * unsafe, np.column_stack([rng.normal(size=300), np.full(300, 0.1)])
    fitted = LambdaRule().fit(guard, others, unsafe)
    score = fitted.score(guard, others)
    expected = stats.zscore(guard[~unsafe]) + fitted.lambda_ * stats.zscore(others[~unsafe, 0]) / 2
    assert score[~unsafe] == pytest.approx(expected)
    assert np.array_equal(LambdaRule().restore(fitted.arrays()).score(guard, others), score)
    others[0, 1] = np.nan
    assert np.flatnonzero(np.isnan(fitted.score(guard, others))).tolist() == [0]


def test_lambda_rule_refuses_what_it_cannot_fit():
    guard, others, unsafe = np.arange(4.0), np.ones((4, 1)), np.array([False, False, True, True])
    with pytest.raises(ValueError, match="4 of 4 labels are unsafe"):
        LambdaRule().fit(guard, others, np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="not finite"):
        LambdaRule().fit(guard * np.nan, others, unsafe)
    with pytest.raises(ValueError, match="K at least 1"):
        LambdaRule().fit(guard, np.ones((4, 0)), unsafe)
    with pytest.raises(ValueError, match="2 other detectors; the rule was fitted on 1"):
        LambdaRule().fit(guard, others, unsafe).score(guard, np.ones((4, 2)))
