import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from offmap.calibration import (
    SMALLEST_P,
    ConformalCalibrator,
    Threshold,
    certified_threshold,
    marginal_threshold,
    realised_fpr_interval,
    suspicion,
)
from offmap.errors import InputError

SCORES = st.lists(st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float), min_size=1, max_size=400)


def ranks(safe, scores):
    return np.array([(1 + sum(x >= s for x in safe)) / (len(safe) + 1) for s in scores])


def test_p_values_are_ranks_among_the_safe_scores():
    rng = np.random.default_rng(0)
    safe, scores = rng.integers(0, 30, 100), rng.integers(-5, 40, 60)
    assert np.array_equal(ConformalCalibrator.fit(safe, 0).p_values(scores), ranks(safe, scores))


def test_below_the_tail_p_values_are_ranks():
    rng = np.random.default_rng(1)
    safe, scores = rng.normal(size=1000), rng.normal(size=200)
    fitted = ConformalCalibrator.fit(safe, 0.1)
    body = scores <= np.sort(safe)[-100]
    assert np.array_equal(fitted.p_values(scores)[body], ranks(safe, scores[body]))
    assert fitted.no_tail == ""


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(size=n), lambda rng, n: rng.integers(0, 4, n)])
def test_randomised_p_values_are_uniform_for_exchangeable_rows_ties_or_not(draw):
    rng = np.random.default_rng(2)
    p = np.array([ConformalCalibrator.fit(draw(rng, 19)).p_values(draw(rng, 1), rng)[0] for _ in range(4000)])
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_each_tied_row_is_randomised_by_itself():
    p = ConformalCalibrator.fit(np.zeros(50)).p_values(np.zeros(500), np.random.default_rng(0))
    assert len(np.unique(p)) == 500
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_exact_p_values_are_conservative_at_every_level():
    rng = np.random.default_rng(3)
    tied = np.array(
        [ConformalCalibrator.fit(rng.integers(0, 4, 9)).p_values(rng.integers(0, 4, 1)) for _ in range(4000)]
    )
    untied = np.array([ConformalCalibrator.fit(rng.normal(size=9)).p_values(rng.normal(size=1)) for _ in range(4000)])
    for level in np.arange(1, 11) / 10:
        noise = 4 * math.sqrt(0.25 / 4000)
        assert np.mean(tied <= level + 1e-9) <= level + noise
        assert np.mean(untied <= level + 1e-9) == pytest.approx(level, abs=noise)


@pytest.mark.parametrize("law", [stats.norm(), stats.chi2(64), stats.expon(), stats.genpareto(0.3), stats.lognorm(0.5)])
def test_tail_continues_to_p_values_far_below_one_over_n(law):
    rng = np.random.default_rng(4)
    levels = np.array([1e-2, 1e-3])
    scores = law.isf(levels)
    p = np.array([ConformalCalibrator.fit(law.rvs(2000, random_state=rng)).p_values(scores) for _ in range(40)])
    assert np.abs(np.log10(p / levels).mean(axis=0)).max() < 0.35
    far = ConformalCalibrator.fit(law.rvs(2000, random_state=rng)).p_values(law.isf(np.array([1e-6])))
    assert SMALLEST_P < far[0] < 1 / 2001


@pytest.mark.parametrize(
    ("law", "held"), [(stats.genpareto(0.25), None), (stats.genpareto(1.2), 0.5), (stats.uniform(), 0)]
)
def test_tail_has_the_largest_likelihood(law, held):
    safe = law.rvs(3000, random_state=np.random.default_rng(5))
    tail = ConformalCalibrator.fit(safe, 0.1).tail
    excesses = safe[safe > tail.start] - tail.start

    def likelihood(shape, scale):
        return stats.genpareto.logpdf(excesses, shape, scale=scale).sum()

    best = likelihood(tail.shape, tail.scale)
    near = [(tail.shape + a, tail.scale * (1 + b)) for a in (-0.02, 0, 0.02) for b in (-0.02, 0, 0.02)]
    assert all(likelihood(*at) <= best + 1e-6 for at in near if 0 <= at[0] <= 0.5)
    if held is None:
        shape, _, scale = stats.genpareto.fit(excesses, floc=0)
        assert (tail.shape, tail.scale) == (pytest.approx(shape, abs=2e-3), pytest.approx(scale, rel=2e-3))
    else:
        assert tail.shape == held


def test_tail_meets_the_ranks_within_one_step():
    safe = np.random.default_rng(6).normal(size=1000)
    fitted = ConformalCalibrator.fit(safe)
    start = fitted.tail.start
    after = fitted.p_values(np.array([np.nextafter(start, np.inf)]))
    assert after == pytest.approx((1 + np.sum(safe > start)) / 1001, rel=1e-9)
    assert fitted.p_values(np.array([start])) - after == pytest.approx(1 / 1001, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(safe=SCORES, scores=SCORES, fraction=st.sampled_from([0.0, 0.075, 0.5]))
def test_p_values_fall_with_the_score_and_lie_in_zero_one(safe, scores, fraction):
    p = ConformalCalibrator.fit(np.array(safe), fraction).p_values(np.sort(np.array([*scores, *safe])))
    assert np.all((p > 0) & (p <= 1))
    assert np.all(np.diff(p) <= 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(300, 600), law=st.sampled_from(["normal", "standard_t", "uniform"]))
def test_p_values_fall_into_the_tail_and_along_it(seed, n, law):
    rng = np.random.default_rng(seed)
    safe = {"normal": rng.normal(size=n), "standard_t": rng.standard_t(2, n), "uniform": rng.random(n)}[law]
    fitted = ConformalCalibrator.fit(safe)
    p = fitted.p_values(np.sort(np.r_[safe, rng.normal(size=50), safe.max() + rng.exponential(5, 50)]))
    assert fitted.tail is not None
    assert np.all(np.diff(p) <= 0)
    assert 0 < p[-1] < 1 / (n + 1)


def test_nan_stays_nan_and_infinities_are_the_ends():
    safe = np.random.default_rng(7).normal(size=1000)
    p = ConformalCalibrator.fit(safe).p_values(np.array([np.nan, -np.inf, 0.0, 1e308, np.inf]))
    assert np.isnan(p[0])
    assert p[1] == 1
    assert 0 < p[4] <= p[3] < 1e-10
    short = ConformalCalibrator.fit(safe[:9]).p_values(np.array([np.inf]))
    assert short == pytest.approx(1 / 10)


@pytest.mark.parametrize(
    ("safe", "why"),
    [
        (np.zeros(1000), "0 of them to fit a tail on"),
        (np.ones(1), "0 of them to fit a tail on"),
        (np.arange(100.0), "about 267 are wanted"),
        (np.r_[np.arange(1000.0), np.full(60, 1000.0)], "tied"),
        (np.r_[np.arange(1000.0), np.inf], "infinite"),
        (np.full(1000, np.inf), "infinite"),
    ],
)
def test_scores_that_carry_no_tail_say_so_and_keep_their_ranks(safe, why):
    fitted = ConformalCalibrator.fit(safe)
    scores = np.array([-1.0, safe[0], safe[-1], np.inf])
    assert fitted.tail is None
    assert why in fitted.no_tail
    assert np.array_equal(fitted.p_values(scores), ranks(safe, scores))


@pytest.mark.parametrize("n", [5, 1000])
def test_a_restored_calibrator_gives_the_same_p_values(n):
    rng = np.random.default_rng(8)
    fitted = ConformalCalibrator.fit(rng.normal(size=n))
    again = ConformalCalibrator.restore(fitted.arrays())
    scores = rng.normal(size=500) * 3
    assert (fitted.tail is None) == (n == 5)
    assert np.array_equal(fitted.p_values(scores), again.p_values(scores))
    assert again.no_tail == fitted.no_tail


@pytest.mark.parametrize(
    ("safe", "message"), [([], "no calibration scores"), ([0.0, np.nan], "1 of 2 scores are NaN"), ([[1.0]], "shape")]
)
def test_wrong_calibration_scores_are_refused(safe, message):
    with pytest.raises(ValueError, match=message):
        ConformalCalibrator.fit(np.array(safe))


def most_exceedances(n, alpha, delta):
    passing = [above for above in range(n) if stats.beta.cdf(alpha, above + 1, n - above) >= 1 - delta]
    return max(passing, default=-1)


@pytest.mark.parametrize(("n", "published"), [(300, 0), (500, 1), (1000, 4), (2000, 12), (5000, 38), (10000, 83)])
def test_certified_threshold_leaves_the_largest_number_above(n, published):
    scores = np.random.default_rng(n).permutation(n).astype(float)
    chosen = certified_threshold(scores, 0.01, 0.05)
    assert chosen.exceedances == published == most_exceedances(n, 0.01, 0.05)
    assert np.sum(scores > chosen.value) == chosen.exceedances
    assert chosen.missing == 0
    assert chosen.shortfall == ""


@pytest.mark.parametrize("power", range(1, 8))
def test_missing_rows_are_exact_where_the_bound_holds_with_equality(power):
    assert certified_threshold(np.array([]), 0.5, 0.5**power).missing == power


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 80), alpha=st.floats(0.01, 0.9), delta=st.floats(0.01, 0.9))
def test_certified_threshold_agrees_with_brute_force_and_counts_what_is_missing(n, alpha, delta):
    chosen = certified_threshold(np.arange(n, dtype=float), alpha, delta)
    above = most_exceedances(n, alpha, delta)
    assert chosen.value == (np.arange(n)[n - 1 - above] if above >= 0 else np.inf)
    if above < 0:
        assert most_exceedances(n + chosen.missing, alpha, delta) >= 0
        assert most_exceedances(n + chosen.missing - 1, alpha, delta) < 0


def test_too_few_rows_give_an_infinite_threshold_and_say_how_many_are_missing():
    chosen = certified_threshold(np.arange(120.0), 0.01, 0.05)
    assert (chosen.value, chosen.missing, chosen.p_value) == (np.inf, 179, 0.0)
    assert "needs 299 safe rows; found 120, 179 are missing" in chosen.shortfall
    assert certified_threshold(np.arange(299.0), 0.01, 0.05).missing == 0
    assert marginal_threshold(np.arange(98.0), 0.01).missing == 1
    assert not certified_threshold(np.array([]), 0.01, 0.05).alarms(np.array([0.0, 1e300])).any()


@pytest.mark.parametrize("n", [99, 100, 198, 199, 1000])
@pytest.mark.parametrize("alpha", [0.01, 0.07, 0.29, 0.5])
def test_marginal_threshold_is_the_order_statistic(n, alpha):
    scores = np.random.default_rng(0).permutation(n) + 1.0
    percent = round(100 * alpha)
    order = -(-(n + 1) * (100 - percent) // 100)
    chosen = marginal_threshold(scores, alpha)
    assert chosen.value == order
    assert (n + 1 - order) / (n + 1) <= alpha + 1e-12


def test_tied_scores_never_alarm_more_often_than_promised():
    scores = np.r_[np.zeros(400), np.ones(600)]
    assert certified_threshold(scores, 0.01, 0.05).alarms(scores).mean() == 0


def test_a_row_without_a_score_alarms():
    chosen = marginal_threshold(np.arange(200.0), 0.01)
    assert chosen.alarms(np.array([np.nan, np.inf, chosen.value, 0.0])).tolist() == [True, True, False, False]


def deployed_rates(choose, shift=0.0, n=1000, times=1000):
    """The true false-positive rates of thresholds chosen on normal samples, for traffic moved by ``shift``."""
    rng = np.random.default_rng(9)
    return np.array([stats.norm.sf(choose(rng.normal(size=n)).value - shift) for _ in range(times)])


def test_certified_bound_holds_in_all_but_delta_of_deployments_and_marginal_on_average():
    certified = deployed_rates(lambda scores: certified_threshold(scores, 0.01, 0.05))
    marginal = deployed_rates(lambda scores: marginal_threshold(scores, 0.01))
    assert np.mean(certified <= 0.01) >= 0.95
    assert marginal.mean() == pytest.approx(10 / 1001, abs=4 * marginal.std() / math.sqrt(1000))
    assert np.mean(marginal <= 0.01) < 0.7


def test_the_bound_ends_where_traffic_is_not_exchangeable_with_the_safe_rows():
    shifted = deployed_rates(lambda scores: certified_threshold(scores, 0.01, 0.05), shift=0.5, times=200)
    assert np.mean(shifted <= 0.01) < 0.2


def test_interval_of_a_chosen_threshold_covers_its_true_rate():
    rng = np.random.default_rng(10)
    hits = []
    for _ in range(1000):
        chosen = marginal_threshold(rng.normal(size=500), 0.02)
        low, high = chosen.fpr_interval(0.9)
        hits.append(low <= stats.norm.sf(chosen.value) <= high)
    assert np.mean(hits) == pytest.approx(0.9, abs=0.04)
    assert certified_threshold(np.arange(10.0), 0.01, 0.05).fpr_interval() == (0, 0)


@pytest.mark.parametrize(("n", "alarms"), [(1, 0), (1, 1), (200, 0), (200, 3), (200, 200)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_realised_interval_is_clopper_pearson(n, alarms, level):
    exact = stats.binomtest(alarms, n).proportion_ci(level, method="exact")
    assert realised_fpr_interval(n, alarms, level) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_p_and_suspicion_thresholds_are_one():
    p = np.array([1.0, 0.1, 0.001, np.nan])
    assert suspicion(p)[:3] == pytest.approx([0, 1, 3])
    assert np.isnan(suspicion(p)[3])
    chosen = marginal_threshold(suspicion(np.linspace(0.001, 1, 999)), 0.01)
    assert chosen.p_value == pytest.approx(10**-chosen.value)
    assert np.array_equal(chosen.alarms(suspicion(p[:3])), p[:3] < chosen.p_value)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_rates_outside_zero_one_are_refused(share):
    with pytest.raises(InputError, match="alpha"):
        marginal_threshold(np.arange(5.0), share)
    with pytest.raises(InputError, match="delta"):
        certified_threshold(np.arange(5.0), 0.1, share)


def test_thresholds_refuse_nan_and_impossible_counts():
    with pytest.raises(ValueError, match="NaN"):
        marginal_threshold(np.array([1.0, np.nan]), 0.5)
    with pytest.raises(ValueError, match="3 alarms on 2 rows"):
        realised_fpr_interval(2, 3)


@pytest.mark.parametrize("n", [299, 1000])
def test_a_p_value_is_below_the_threshold_exactly_where_there_is_an_alarm(n):
    ranks = np.arange(1, n + 1) / (n + 1)
    for p in ranks[: n // 4]:
        chosen = Threshold(float(suspicion(np.array(p))), 0.01, None, n, 0, 0)
        assert np.array_equal(ranks < chosen.p_value, chosen.alarms(suspicion(ranks)))


def test_own_p_values_rank_each_row_among_all():
    scores = np.array([3.0, 1.0, 2.0, 2.0, 5.0])
    calibrator = ConformalCalibrator.fit(scores, tail_fraction=0.0)
    expected = [sum(other >= score for other in scores) / 6 for score in scores]
    np.testing.assert_allclose(calibrator.own_p_values(scores), expected)
    assert calibrator.smallest == pytest.approx(1 / 6)


def test_own_p_values_follow_the_tail_where_there_is_one():
    scores = np.random.default_rng(0).normal(size=1000)
    calibrator = ConformalCalibrator.fit(scores)
    own = calibrator.own_p_values(scores)
    beyond = scores > calibrator.tail.start
    np.testing.assert_array_equal(own[beyond], calibrator.p_values(scores[beyond]))
    np.testing.assert_allclose(own[~beyond], calibrator.p_values(scores[~beyond]) - 1 / 1001)
