import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from offmap.detectors import Mahalanobis
from offmap.features import Features, FeatureSpec, Pool
from offmap.testing import make_features

LAST = (-1, Pool.LAST)


def features(rows):
    n = len(rows)
    ids, counts = tuple(map(str, range(n))), np.ones((4, n), np.int32)
    return Features(ids, ("",) * n, *counts, {LAST: np.asarray(rows, dtype=np.float32)})


def unit(rows):
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def test_the_reference_mode_is_the_published_formula():
    detector = Mahalanobis(reference=True)
    safe, new = make_features(detector.needs(), 90, 0), make_features(detector.needs(), 40, 1, shift=1.0)
    x = safe.hidden[LAST].astype(np.float64)
    inverse = np.linalg.pinv(np.cov(x.T) + 1e-6 * np.eye(x.shape[1]))
    oracle = [np.sqrt((r - x.mean(axis=0)) @ inverse @ (r - x.mean(axis=0))) for r in new.hidden[LAST].astype(float)]
    assert detector.needs() == FeatureSpec(hidden=frozenset({LAST}))
    np.testing.assert_allclose(detector.fit(safe).score(new), oracle, rtol=1e-8)


def test_the_reference_mode_has_its_own_layer():
    with pytest.raises(ValueError, match="leave layers and pools out"):
        Mahalanobis(layers=(-2,), reference=True)


def test_one_state_ranks_as_scikit_learns_ledoit_wolf():
    detector = Mahalanobis(layers=(-1,), pools=(Pool.LAST,))
    safe, new = make_features(detector.needs(), 60, 0), make_features(detector.needs(), 40, 1)
    oracle = LedoitWolf().fit(unit(safe.hidden[LAST])).mahalanobis(unit(new.hidden[LAST]))
    found = detector.fit(safe).score(new)
    slope, offset = np.polyfit(oracle, found, 1)
    assert slope > 0
    np.testing.assert_allclose(found, slope * oracle + offset, rtol=1e-8, atol=1e-8)


def test_states_are_averaged_after_each_is_standardised():
    layers, pools = (-1, -2), (Pool.LAST, Pool.MEAN)
    whole = Mahalanobis(layers, pools)
    safe, new = make_features(whole.needs(), 80, 0), make_features(whole.needs(), 30, 1)
    each = [Mahalanobis((layer,), (pool,)).fit(safe).score(new) for layer in layers for pool in pools]
    np.testing.assert_allclose(whole.fit(safe).score(new), np.mean(each, axis=0), rtol=1e-12)


def test_the_score_is_the_mean_of_the_named_parts():
    detector = Mahalanobis((-1, -2), (Pool.LAST, Pool.MEAN))
    safe, new = make_features(detector.needs(), 80, 0), make_features(detector.needs(), 30, 1)
    fitted = detector.fit(safe)
    parts = fitted.parts(new)
    assert list(parts) == ["layer -1 last", "layer -1 mean", "layer -2 last", "layer -2 mean"]
    one = Mahalanobis((-2,), (Pool.LAST,)).fit(safe).score(new)
    np.testing.assert_array_equal(parts["layer -2 last"], one)
    np.testing.assert_array_equal(fitted.score(new), np.mean(list(parts.values()), axis=0))


@pytest.mark.parametrize("rows", [60, 200, 2000])
def test_new_safe_rows_score_about_zero_however_few_rows_were_fitted(rows):
    detector = Mahalanobis(layers=(-1,), pools=(Pool.LAST,))
    rng = np.random.default_rng(1)
    mean, mixing = rng.normal(size=40), rng.normal(size=(40, 40)) / np.arange(1, 41)[:, None]
    safe, new = (features(mean + rng.normal(size=(n, 40)) @ mixing) for n in (rows, 3000))
    assert abs(np.median(detector.fit(safe).score(new))) < 0.35


def half_precision(x):
    """Rounded to bfloat16: the upper 16 bits of a float32, to nearest."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)


def half_precision_distance(safe, new):
    """The published detector as released: statistics in bfloat16, pseudo-inverse in float32, distance in bfloat16."""
    mean = half_precision(safe.mean(axis=0))
    centred = half_precision(half_precision(safe) - mean)
    covariance = half_precision(half_precision(centred.T @ centred / (len(safe) - 1)) + 1e-6 * np.eye(safe.shape[1]))
    inverse = half_precision(np.linalg.pinv(covariance, rcond=safe.shape[1] * np.finfo(np.float32).eps))
    rows = half_precision(half_precision(new) - mean)
    return (half_precision(rows @ inverse) * rows).sum(axis=1)


@pytest.mark.parametrize("detector", [Mahalanobis(reference=True), Mahalanobis(layers=(-1,), pools=(Pool.LAST,))])
def test_shifts_along_low_variance_directions_are_kept(detector):
    rng = np.random.default_rng(0)
    d, deviation = 64, np.arange(1, 65) ** -1.5
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    mean = 4 * rng.normal(size=d) / np.sqrt(d)
    safe, usual, far = (
        (mean + rng.normal(size=(n, d)) * deviation @ axes).astype(np.float32) for n in (4000, 4000, 500)
    )
    far = far + (3 * deviation * (np.arange(d) >= 48) @ axes).astype(np.float32)

    def recall(score_usual, score_far):
        return float((score_far > np.quantile(score_usual, 0.99)).mean())

    fitted = detector.fit(features(safe))
    ours = recall(fitted.score(features(usual)), fitted.score(features(far)))
    released = recall(half_precision_distance(safe, usual), half_precision_distance(safe, far))
    assert ours > 0.9
    assert ours > released + 0.3


def test_rows_that_cannot_be_learned_from_are_named():
    with pytest.raises(ValueError, match="1 safe rows to fit on: wanted at least 2"):
        Mahalanobis(reference=True).fit(features(np.ones((1, 3))))
    with pytest.raises(ValueError, match="do not vary"):
        Mahalanobis(layers=(-1,), pools=(Pool.LAST,)).fit(features(np.ones((5, 3))))
    with pytest.raises(ValueError, match="safe row '2': hidden state -1:last is not finite"):
        Mahalanobis(reference=True).fit(features([[1, 2], [2, 1], [np.inf, 1], [0, 0]]))
    with pytest.raises(ValueError, match="lack the hidden state -3:last; they hold -1:last"):
        Mahalanobis(layers=(-3,), pools=(Pool.LAST,)).fit(features(np.eye(4)))
