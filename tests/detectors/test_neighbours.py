import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from offmap.detectors import Neighbours
from offmap.features import Pool
from offmap.testing import make_features

KEY = (-1, Pool.ASSISTANT)


def oracle(bank, queries, k):
    model = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.astype(np.float64))
    return model.kneighbors(None if queries is None else queries.astype(np.float64))[0][:, -1]


@pytest.mark.parametrize("k", [1, 10, 59])
def test_one_state_is_the_kth_distance_standardised_by_those_among_safe_rows(k):
    detector = Neighbours(k=k)
    safe, new = make_features(detector.needs(), 60, 0), make_features(detector.needs(), 30, 1, shift=0.5)
    low, centre, high = np.quantile(oracle(safe.hidden[KEY], None, k), [0.25, 0.5, 0.75])
    wanted = (oracle(safe.hidden[KEY], new.hidden[KEY], k) - centre) / (high - low)
    np.testing.assert_allclose(detector.fit(safe).score(new), wanted, atol=1e-5)


def test_states_are_averaged():
    whole = Neighbours(layers=(-1, -2))
    safe, new = make_features(whole.needs(), 60, 0), make_features(whole.needs(), 30, 1)
    each = [Neighbours(layers=(layer,)).fit(safe).score(new) for layer in (-1, -2)]
    np.testing.assert_allclose(whole.fit(safe).score(new), np.mean(each, axis=0), rtol=1e-12)
    parts = whole.fit(safe).parts(new)
    assert list(parts) == ["layer -1 assistant", "layer -2 assistant"]
    np.testing.assert_array_equal(parts["layer -2 assistant"], each[1])


def test_the_bank_is_single_precision_and_rows_may_repeat():
    detector = Neighbours(k=2)
    safe = make_features(detector.needs(), 5, 0).take([0, 0, 0, 0, 1, 2])
    fitted = detector.fit(safe)
    assert fitted.arrays()["-1.assistant.bank"].dtype == np.float32
    assert np.isfinite(fitted.score(safe)).all()


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="10 safe rows to fit on: wanted at least 11"):
        Neighbours().fit(make_features(Neighbours().needs(), 10, 0))
    with pytest.raises(ValueError, match="k=0"):
        Neighbours(k=0)
    with pytest.raises(ValueError, match="wanted at least one of each"):
        Neighbours(layers=())
