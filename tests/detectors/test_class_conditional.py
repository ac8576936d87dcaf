import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from offmap.detectors import ClassConditional, Mahalanobis
from offmap.features import Features, Pool
from offmap.testing import make_features

LAST = (-1, Pool.LAST)
ONE = ClassConditional(layers=(-1,), pools=(Pool.LAST,))


def features(rows, groups):
    n = len(rows)
    hidden = {LAST: np.asarray(rows, dtype=np.float32)}
    return Features(tuple(map(str, range(n))), tuple(groups), *np.ones((4, n), np.int32), hidden)


def world(sizes, seed, apart=4.0, d=12):
    """Rows of unequal domains with one covariance; every seed draws from the same domains."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    means = 10 + apart * fixed.normal(size=(len(sizes), d))
    mixing = fixed.normal(size=(d, d)) / np.arange(1, d + 1)
    member = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return features(means[member] + rng.normal(size=(len(member), d)) @ mixing, [f"domain {i}" for i in member])


def unit(rows):
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def test_a_state_ranks_by_the_nearest_domain_under_one_covariance():
    safe, new = world((40, 25, 12), 0), world((20, 5, 9), 1)
    x, groups = unit(safe.hidden[LAST]), np.array(safe.groups)
    means = {name: x[groups == name].mean(axis=0) for name in set(groups)}
    inverse = LedoitWolf().fit(x - np.array([means[name] for name in groups])).precision_
    oracle = [min(mahalanobis(row, mean, inverse) ** 2 for mean in means.values()) for row in unit(new.hidden[LAST])]
    found = ONE.fit(safe).score(new)
    slope, offset = np.polyfit(oracle, found, 1)
    assert slope > 0
    np.testing.assert_allclose(found, slope * np.array(oracle) + offset, rtol=1e-7, atol=1e-7)


def test_one_domain_is_mahalanobis():
    safe, new = world((50,), 0), world((20,), 1, apart=2.0)
    plain = Mahalanobis(layers=(-1,), pools=(Pool.LAST,)).fit(safe).score(new)
    np.testing.assert_allclose(ONE.fit(safe).score(new), plain, rtol=1e-8, atol=1e-8)


def test_a_row_between_two_domains_is_seen_only_by_domains():
    rng = np.random.default_rng(0)
    side = np.tile([-1.0, 1.0], 300)
    rows = np.column_stack([np.full(600, 5.0), side + 0.05 * rng.normal(size=600), rng.normal(size=(600, 4))])
    safe, between = features(rows, map(str, side)), features([[5.0, 0, 1, -1, 1, -1]], [""])
    assert ONE.fit(safe).score(between)[0] > 5
    assert Mahalanobis(layers=(-1,), pools=(Pool.LAST,)).fit(safe).score(between)[0] < 0


@pytest.mark.parametrize("sizes", [(30, 20, 10), (200, 150, 50), (2000, 900, 100)])
def test_new_safe_rows_score_about_zero_however_few_rows_were_fitted(sizes):
    assert abs(np.median(ONE.fit(world(sizes, 0, d=30)).score(world((2000, 900, 100), 1, d=30)))) < 0.35


def test_scores_are_the_mean_of_the_parts_and_never_read_the_domain_of_a_new_row():
    detector = ClassConditional((-1, -2), (Pool.LAST, Pool.MEAN))
    safe, new = make_features(detector.needs(), 80, 0), make_features(detector.needs(), 30, 1)
    fitted = detector.fit(safe)
    parts = fitted.parts(new)
    assert list(parts) == ["layer -1 last", "layer -1 mean", "layer -2 last", "layer -2 mean"]
    one = ClassConditional((-2,), (Pool.MEAN,)).fit(safe).score(new)
    np.testing.assert_array_equal(parts["layer -2 mean"], one)
    np.testing.assert_array_equal(fitted.score(new), np.mean(list(parts.values()), axis=0))
    other = Features(new.ids, ("elsewhere",) * 30, *np.ones((4, 30), np.int32), new.hidden)
    np.testing.assert_array_equal(fitted.score(other), fitted.score(new))


def test_rows_that_cannot_be_learned_from_are_named():
    with pytest.raises(ValueError, match="1 safe rows to fit on: wanted at least 2"):
        ONE.fit(features(np.ones((1, 3)), "a"))
    with pytest.raises(ValueError, match="do not vary"):
        ONE.fit(features(np.eye(3), "abc"))
    with pytest.raises(ValueError, match="at least one of each"):
        ClassConditional(pools=())
