import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import iqr
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from offmap.linalg import (
    Moments,
    Whitener,
    blocks,
    centre_and_spread,
    fourth_moment,
    kth_cosine_distance,
    leave_one_out,
    ledoit_wolf,
    row_sums,
    shrunk_gaussian,
    spaced,
    standardise,
    unit_rows,
)


def rows(n, d, seed=0, offset=5.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + offset


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_moments_of_parts_are_the_moments_of_all_rows(lengths, d, seed):
    parts = [rows(n, d, seed + i, offset=1e3) for i, n in enumerate(lengths)]
    whole = np.concatenate(parts)
    if not len(whole):
        with pytest.raises(ValueError, match="no rows"):
            Moments.of(parts)
        return
    found = Moments.of(parts)
    assert found.n == len(whole)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scatter, np.cov(whole.T, ddof=0).reshape(d, d) * len(whole), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (20, 60), (2, 5), (50, 1)])
def test_ledoit_wolf_is_scikit_learns(n, d):
    x = rows(n, d)
    oracle = LedoitWolf().fit(x)
    moments = Moments.of(blocks(x, 7))
    shrunk, shrinkage = ledoit_wolf(moments, fourth_moment(blocks(x, 7), moments.mean))
    assert shrinkage == pytest.approx(oracle.shrinkage_, abs=1e-12)
    np.testing.assert_allclose(shrunk, oracle.covariance_, rtol=1e-9, atol=1e-12)


def test_whitener_matches_the_pseudo_inverse_on_a_deficient_covariance():
    x = rows(200, 6) @ np.random.default_rng(1).normal(size=(6, 9))
    covariance = np.cov(x.T)
    centred = x - x.mean(axis=0)
    oracle = [row @ np.linalg.pinv(covariance, rcond=1e-12, hermitian=True) @ row for row in centred]
    whitener = Whitener.of(x.mean(axis=0), covariance)
    assert whitener.factor.shape == (9, 6)
    np.testing.assert_allclose(whitener.squared_distance(x), oracle, rtol=1e-9)


def test_whitener_widens_float32_rows():
    x = (rows(100, 4, offset=0) * 1e-3 + 1000).astype(np.float32)
    wide = x.astype(np.float64)
    whitener = Whitener.of(wide.mean(axis=0), np.cov(wide.T))
    np.testing.assert_array_equal(whitener.squared_distance(x), whitener.squared_distance(wide))


@pytest.mark.parametrize(
    ("covariance", "message"), [(np.zeros((3, 3)), "do not vary"), (np.full((3, 3), np.nan), "NaN")]
)
def test_whitener_refuses_what_holds_no_distance(covariance, message):
    with pytest.raises(ValueError, match=message):
        Whitener.of(np.zeros(3), covariance)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.7])
def test_leave_one_out_distances_are_those_of_fitting_without_the_row(rho):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6))
    n, ridge = len(x), 0.3 * rho

    def gaussian(rows, ridge):
        return rows.mean(axis=0), np.linalg.inv((1 - rho) * np.cov(rows.T, ddof=0) + ridge * np.eye(6))

    mean, inverse = gaussian(x, ridge)
    squared = np.array([(row - mean) @ inverse @ (row - mean) for row in x])
    oracle = []
    for i, row in enumerate(x):
        mean, inverse = gaussian(np.delete(x, i, axis=0), ridge * n / (n - 1))
        oracle.append((row - mean) @ inverse @ (row - mean))
    np.testing.assert_allclose(leave_one_out(squared, rho), oracle, rtol=1e-9)


def test_a_shrunk_gaussian_is_scikit_learns():
    x = rows(60, 8)
    oracle = LedoitWolf().fit(x)
    whitener, shrinkage = shrunk_gaussian(x)
    assert shrinkage == pytest.approx(oracle.shrinkage_, abs=1e-12)
    np.testing.assert_allclose(whitener.squared_distance(rows(20, 8, 3)), oracle.mahalanobis(rows(20, 8, 3)), rtol=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_standardised_values_have_their_middle_at_0_and_their_range_at_1(values):
    usual = centre_and_spread(np.array(values))
    assert usual[0] == pytest.approx(np.median(values))
    assert usual[1] > 0
    if iqr(values) > 1e-6 * max(map(abs, values)):
        z = standardise(np.array(values), usual)
        assert np.median(z) == pytest.approx(0, abs=1e-9)
        assert iqr(z) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("values", "spread"), [([3, 3, 3], 3), ([-2, -2], 2), ([0, 0], 1)])
def test_values_that_do_not_vary_have_a_spread(values, spread):
    np.testing.assert_array_equal(centre_and_spread(np.array(values, float)), [values[0], spread])


@given(st.integers(1, 60), st.integers(1, 70))
@settings(deadline=None)
def test_spaced_rows_run_from_first_to_last_at_even_steps(n, most):
    found = spaced(np.arange(n), most)
    assert len(found) == min(n, most) == len(set(found))
    assert found[0] == 0
    assert len(found) == 1 or found[-1] == n - 1
    steps = np.diff(found)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


@pytest.mark.parametrize("k", [1, 4, 30])
def test_kth_cosine_distance_is_scikit_learns_whatever_the_block(k):
    queries, bank = rows(17, 5, 1), rows(30, 5, 2, offset=0)
    oracle = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank).kneighbors(queries)[0][:, -1]
    for size in (1, 4, 100):
        found = kth_cosine_distance(unit_rows(queries), unit_rows(bank), k, size)
        np.testing.assert_allclose(found, oracle, atol=1e-12)


def test_kth_cosine_distance_of_a_row_with_nan_is_nan_and_k_is_bounded():
    bank = unit_rows(rows(5, 3))
    found = kth_cosine_distance(np.array([[np.nan, 0, 0], [1, 0, 0]]), bank, 2, size=2)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
    assert kth_cosine_distance(np.empty((0, 3)), bank, 2).shape == (0,)
    with pytest.raises(ValueError, match="k=6: wanted 1 to 5"):
        kth_cosine_distance(bank, bank, 6)


def test_unit_rows_leave_zero_rows():
    np.testing.assert_allclose(unit_rows(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0, 0]])


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=20), min_size=1, max_size=8))
@settings(deadline=None)
def test_row_sums_are_loops_and_ignore_their_neighbours(ragged):
    values = np.array([value for row in ragged for value in row], np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ragged])]).astype(np.int64)
    found = row_sums(values, offsets)
    np.testing.assert_allclose(found, [sum(row) for row in ragged], rtol=1e-12, atol=1e-6)
    for i, row in enumerate(ragged):
        assert row_sums(np.array(row, np.float32), np.array([0, len(row)]))[0] == found[i]
