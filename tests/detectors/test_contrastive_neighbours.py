import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from offmap.detectors import ContrastiveNeighbours
from offmap.features import Pool
from offmap.testing import make_features

KEY = (-1, Pool.ASSISTANT)


def kth(bank, queries, k):
    """Distance to the k-th nearest row; of the bank's own rows, to the k-th other row."""
    model = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.astype(np.float64))
    return model.kneighbors(None if queries is None else queries.astype(np.float64))[0][:, -1]


@pytest.mark.parametrize("k", [1, 10, 20])
def test_a_state_is_the_difference_of_distances_standardised_by_that_of_safe_rows(k):
    detector = ContrastiveNeighbours(k=k)
    safe, unsafe, new = (make_features(detector.needs(), n, i, i) for i, n in enumerate((60, 20, 30)))
    bank, harm, rows = (part.hidden[KEY] for part in (safe, unsafe, new))
    low, centre, high = np.quantile(kth(bank, None, k) - kth(harm, bank, k), [0.25, 0.5, 0.75])
    wanted = (kth(bank, rows, k) - kth(harm, rows, k) - centre) / (high - low)
    np.testing.assert_allclose(detector.fit(safe, unsafe).score(new), wanted, atol=1e-5)


def test_scores_are_the_mean_of_the_parts():
    detector = ContrastiveNeighbours(layers=(-1, -2))
    safe, unsafe, new = (make_features(detector.needs(), 60, i, i) for i in range(3))
    fitted = detector.fit(safe, unsafe)
    parts = fitted.parts(new)
    assert list(parts) == ["layer -1 assistant", "layer -2 assistant"]
    one = ContrastiveNeighbours(layers=(-2,)).fit(safe, unsafe).score(new)
    np.testing.assert_array_equal(parts["layer -2 assistant"], one)
    np.testing.assert_array_equal(fitted.score(new), np.mean(list(parts.values()), axis=0))


def test_wrong_use_is_named():
    safe = make_features(ContrastiveNeighbours().needs(), 20, 0)
    with pytest.raises(ValueError, match="0 unsafe rows to fit on: wanted at least 10"):
        ContrastiveNeighbours().fit(safe)
    with pytest.raises(ValueError, match="9 unsafe rows to fit on: wanted at least 10"):
        ContrastiveNeighbours().fit(safe, safe.take(range(9)))
    with pytest.raises(ValueError, match="10 safe rows to fit on: wanted at least 11"):
        ContrastiveNeighbours().fit(safe.take(range(10)), safe)
    with pytest.raises(ValueError, match="k=0"):
        ContrastiveNeighbours(k=0)
