"""Shares with intervals, against scipy's exact interval of a proportion and quantiles of the beta distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from offmap.calibration import realised_fpr_interval
from offmap.rates import Rate, rate_of
from offmap.weighting import effective_size


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 7), (7, 7), (39, 100)])
def test_of_rows_that_count_alike_it_is_the_exact_interval(count, n):
    found = rate_of([True] * count + [False] * (n - count))
    exact = stats.binomtest(count, n).proportion_ci(0.95, "exact")
    assert (found.count, found.n, found.value) == (count, n, count / n)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@given(st.integers(1, 10**6), st.data())
def test_a_count_is_that_of_the_hits(n, data):
    count = data.draw(st.integers(0, n))
    assert Rate(count / n, None, None, n).count == count


def test_without_rows_nothing_is_known():
    assert rate_of([]) == rate_of(np.zeros(0, bool), np.zeros(0)) == Rate(None, None, None, 0)
    assert rate_of([]).count == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 10)), min_size=2, max_size=40))
def test_weighted_rows_count_as_so_many_plain_ones(rows):
    hits, weight = (np.array(each) for each in zip(*rows, strict=True))
    found = rate_of(hits, weight)
    share = float(np.average(hits, weights=weight))
    assert found.value == pytest.approx(share)
    variance = sum((w * (hit - share)) ** 2 for hit, w in rows) / sum(w for _, w in rows) ** 2
    number = min(effective_size(weight), share * (1 - share) / variance) if variance > 1e-12 else effective_size(weight)
    number = len(rows) if np.all(weight == weight[0]) else max(1.0, number)
    low = stats.beta.ppf(0.025, share * number, (1 - share) * number + 1) if hits.any() else 0
    high = stats.beta.ppf(0.975, share * number + 1, (1 - share) * number) if not hits.all() else 1
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("n", "exceedances"), [(0.5, 0.2), (3.2, 3.3), (3.2, -0.1)])
def test_counts_that_are_none_are_refused(n, exceedances):
    with pytest.raises(ValueError, match="wanted at least one row"):
        realised_fpr_interval(n, exceedances)


def test_weighted_intervals_cover_as_often_as_they_say():
    """Labels of all that is suspicious and of a tenth of the rest: the rate of the whole is inside 95 times of 100."""
    rng = np.random.default_rng(0)
    for stop in (0.02, 0.1, 0.5):
        inside, widths = 0, []
        for _ in range(500):
            p = rng.random(1500)
            chance = np.where(p < 0.05, 1.0, 0.1)
            there = rng.random(1500) < chance
            rate = rate_of(p[there] <= stop, 1 / chance[there])
            inside += rate.low <= stop <= rate.high
            widths.append(rate.high - rate.low)
        assert inside / 500 >= 0.93
        assert np.mean(widths) < 0.35


def test_an_interval_does_not_collapse_where_nothing_is_hit():
    weight = np.repeat([1.0, 10.0], 50)
    none, all_ = rate_of(np.zeros(100, bool), weight), rate_of(np.ones(100, bool), weight)
    assert (none.value, none.low) == (0, 0)
    assert none.high > 1 - 0.05 ** (1 / 100)
    assert (all_.low, all_.high) == (pytest.approx(1 - none.high), 1)
    same = rate_of(np.arange(40) < 7, np.full(40, 3.0))
    assert same == rate_of(np.arange(40) < 7, np.ones(40))
