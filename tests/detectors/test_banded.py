import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import hmean
from sklearn.covariance import LedoitWolf

from offmap.detectors import Banded, Mahalanobis
from offmap.features import Features, Pool
from offmap.testing import make_features

LAST = (-1, Pool.LAST)
STATE = {"layers": (-1,), "pools": (Pool.LAST,)}


def features(rows):
    n = len(rows)
    hidden = {LAST: np.asarray(rows, dtype=np.float32)}
    return Features(tuple(map(str, range(n))), ("",) * n, *np.ones((4, n), np.int32), hidden)


def world(n, seed, d):
    fixed = np.random.default_rng(99)
    mean, mixing = fixed.normal(size=d), fixed.normal(size=(d, d)) / np.arange(1, d + 1)[:, None]
    return features(mean + np.random.default_rng(seed).normal(size=(n, d)) @ mixing)


def unit(rows):
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def bands(fitted_on, rows, edges):
    """Squared distances along the principal axes of scikit-learn's covariance, summed by band."""
    axes, values, _ = np.linalg.svd(LedoitWolf().fit(fitted_on).covariance_)
    each = ((rows - fitted_on.mean(axis=0)) @ axes) ** 2 / values
    return np.stack([part.sum(axis=1) for part in np.split(each, edges, axis=1)], axis=1)


def test_each_band_is_standardised_by_rows_that_its_gaussian_had_not_seen():
    safe, new = world(90, 0, 10), world(30, 1, 10)
    x, z = unit(safe.hidden[LAST]), unit(new.hidden[LAST])
    parts = Banded(**STATE, edges=(2, 7)).fit(safe).parts(new)
    assert list(parts) == [*(f"layer -1 last band {band}" for band in ("0:2", "2:7", "7:10")), "layer -1 last"]
    held = np.empty((90, 3))
    for fold in range(5):
        seen = np.arange(90) % 5 != fold
        held[~seen] = bands(x[seen], x[~seen], (2, 7))
    low, centre, high = np.quantile(held, [0.25, 0.5, 0.75], axis=0)
    wanted = (bands(x, z, (2, 7)) - centre) / (high - low)
    np.testing.assert_allclose(np.transpose(list(parts.values())[:3]), wanted, rtol=1e-6, atol=1e-6)
    whole = Mahalanobis(**STATE).fit(safe).score(new)
    np.testing.assert_allclose(parts["layer -1 last"], whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fuse", ["soft", "max"])
def test_a_state_fuses_its_parts_and_states_are_averaged(fuse):
    detector = Banded((-1, -2), (Pool.LAST, Pool.MEAN), fuse=fuse)
    safe, new = make_features(detector.needs(), 80, 0), make_features(detector.needs(), 30, 1, 0.5)
    fitted = detector.fit(safe)
    parts = fitted.parts(new)
    assert len(parts) == 4 * 4
    states = np.reshape(list(parts.values()), (4, 4, 30))
    each = states.max(axis=1) if fuse == "max" else -np.log(hmean(np.exp(-states), axis=1))
    np.testing.assert_allclose(fitted.score(new), each.mean(axis=0), rtol=1e-9)
    assert [name for name in parts if name.startswith("layer -2 mean")] == [
        "layer -2 mean band 0:4",
        "layer -2 mean band 4:16",
        "layer -2 mean band 16:24",
        "layer -2 mean",
    ]


def test_scores_far_out_do_not_overflow():
    far = features(1e3 * np.random.default_rng(0).normal(size=(5, 10)))
    fitted = Banded(**STATE).fit(features(1.0 + 1e-4 * np.random.default_rng(1).normal(size=(60, 10))))
    z = np.array(list(fitted.parts(far).values()))
    assert z.min() > 1e4
    np.testing.assert_allclose(fitted.score(far), logsumexp(z, axis=0) - np.log(len(z)), rtol=1e-12)


@pytest.mark.parametrize(("rows", "most"), [(60, 0.6), (200, 0.3), (2000, 0.15)])
def test_new_safe_rows_score_about_zero_in_every_band_however_few_rows_were_fitted(rows, most):
    """Fewer rows than dimensions among them, where directions chosen by the rows themselves would mislead most."""
    for name, z in Banded(**STATE).fit(world(rows, 0, 80)).parts(world(2000, 1, 80)).items():
        assert abs(np.median(z)) < most, name


def test_a_shift_within_few_directions_is_caught_that_the_whole_distance_misses():
    rng, d = np.random.default_rng(0), 96
    deviation = 1.0 / np.arange(1, d + 1)
    safe, usual, shifted = (rng.normal(size=(n, d)) * deviation for n in (3000, 4000, 1000))
    shifted[:, :4] += 2.3 * deviation[:4]
    rows = [features(np.column_stack([np.full(len(part), 40.0), part])) for part in (safe, usual, shifted)]

    def recall(detector):
        fitted = detector.fit(rows[0])
        return float((fitted.score(rows[2]) > np.quantile(fitted.score(rows[1]), 0.99)).mean())

    plain = recall(Mahalanobis(**STATE))
    for fuse in ("soft", "max"):
        assert recall(Banded(**STATE, fuse=fuse)) > plain + 0.2


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="9 safe rows to fit on: wanted at least 10"):
        Banded(**STATE).fit(features(np.eye(9)))
    for edges in ((0, 4), (4, 4), (16, 4)):
        with pytest.raises(ValueError, match="wanted ascending numbers above 0"):
            Banded(edges=edges)
