import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from offmap.detectors import Mahalanobis, Relative
from offmap.features import Features, Pool
from offmap.testing import make_features

LAST = (-1, Pool.LAST)
STATE = {"layers": (-1,), "pools": (Pool.LAST,)}
MODES = [(against, per_domain) for against in ("background", "unsafe") for per_domain in (True, False)]


def features(rows, groups=None):
    n = len(rows)
    hidden = {LAST: np.asarray(rows, dtype=np.float32)}
    return Features(tuple(map(str, range(n))), tuple(groups or [""] * n), *np.ones((4, n), np.int32), hidden)


def world(n, seed, shift=0.0, d=12):
    """Two domains; a shift moves rows along one direction."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    means, mixing = 10 + fixed.normal(size=(2, d)), fixed.normal(size=(d, d)) / np.arange(1, d + 1)
    member = rng.integers(0, 2, size=n)
    rows = means[member] + rng.normal(size=(n, d)) @ mixing + shift * mixing[0]
    return features(rows, [f"domain {i}" for i in member])


def unit(rows):
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@pytest.mark.parametrize(("against", "per_domain"), MODES)
def test_a_state_ranks_by_the_difference_of_two_distances(against, per_domain):
    safe, unsafe, new = world(70, 0), world(40, 1, 2.0), world(50, 2, 1.0)
    x, y, z = (unit(part.hidden[LAST]) for part in (safe, unsafe, new))
    groups = np.array(safe.groups if per_domain else [""] * len(x))
    means = {name: x[groups == name].mean(axis=0) for name in set(groups)}
    inverse = LedoitWolf().fit(x - np.array([means[name] for name in groups])).precision_
    near = [min(mahalanobis(row, mean, inverse) ** 2 for mean in means.values()) for row in z]
    oracle = near - LedoitWolf().fit(np.concatenate([x, y]) if against == "background" else y).mahalanobis(z)
    found = Relative(against, per_domain, **STATE).fit(safe, unsafe).score(new)
    slope, offset = np.polyfit(oracle, found, 1)
    assert slope > 0
    np.testing.assert_allclose(found, slope * oracle + offset, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("against", "per_domain"), MODES)
@pytest.mark.parametrize("rows", [60, 1000])
def test_new_safe_rows_score_about_zero_however_few_rows_were_fitted(against, per_domain, rows):
    fitted = Relative(against, per_domain, **STATE).fit(world(rows, 0, d=30), world(rows // 2, 1, 2.0, d=30))
    assert abs(np.median(fitted.score(world(3000, 2, d=30)))) < 0.35


@pytest.mark.parametrize("against", ["background", "unsafe"])
def test_what_is_new_but_not_like_harm_counts_less_than_in_one_distance(against):
    """Harm is moved along the first direction, the benign newcomers along the last; both lie as far out."""
    rng, d = np.random.default_rng(0), 8
    centre = np.full(d, 5.0)
    safe, unsafe, harm, benign = (centre + rng.normal(size=(600, d)) * 0.3 for _ in range(4))
    unsafe[:, 0] += 2
    harm[:, 0] += 2
    benign[:, -1] += 2

    def caught(detector):
        """Shares of the harm and of the benign newcomers above the 99th percentile of safe rows."""
        fitted = detector.fit(features(safe), features(unsafe))
        limit = np.quantile(fitted.score(features(centre + rng.normal(size=(4000, d)) * 0.3)), 0.99)
        return [float((fitted.score(features(rows)) > limit).mean()) for rows in (harm, benign)]

    harm_caught, benign_caught = caught(Relative(against, **STATE))
    plain_harm, plain_benign = caught(Mahalanobis(**STATE))
    assert harm_caught > 0.9
    assert plain_harm - plain_benign < 0.1
    assert benign_caught < plain_benign / 2


def test_safe_rows_of_several_domains_make_a_background_of_their_own():
    safe, new = world(200, 0), world(50, 1)
    found = Relative(**STATE).fit(safe).score(new)
    assert np.ptp(found) > 0.1
    none = world(5, 1).take([])
    np.testing.assert_array_equal(Relative(**STATE).fit(safe, none).score(new), found)


def test_scores_are_the_mean_of_the_parts():
    detector = Relative("unsafe", layers=(-1, -2))
    safe, unsafe, new = (make_features(detector.needs(), 60, seed, shift) for seed, shift in enumerate((0, 3, 1)))
    fitted = detector.fit(safe, unsafe)
    parts = fitted.parts(new)
    assert list(parts) == ["layer -1 last", "layer -1 assistant", "layer -2 last", "layer -2 assistant"]
    one = Relative("unsafe", layers=(-2,), pools=(Pool.ASSISTANT,)).fit(safe, unsafe).score(new)
    np.testing.assert_array_equal(parts["layer -2 assistant"], one)
    np.testing.assert_array_equal(fitted.score(new), np.mean(list(parts.values()), axis=0))


def test_missing_rows_are_named():
    safe = world(30, 0)
    with pytest.raises(ValueError, match="0 unsafe rows to fit on: wanted at least 2"):
        Relative("unsafe").fit(safe)
    for detector, rows in ((Relative(per_domain=False, **STATE), safe), (Relative(**STATE), features(np.eye(4)))):
        with pytest.raises(ValueError, match="the background would equal it"):
            detector.fit(rows)
    with pytest.raises(ValueError, match="1 safe rows"):
        Relative(**STATE).fit(features(np.ones((1, 3))), safe)
