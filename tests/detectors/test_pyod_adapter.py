import sys
import typing

import numpy as np
import pytest
from sklearn.decomposition import PCA

from offmap.detectors import PyOD
from offmap.detectors.pyod_adapter import Algorithm
from offmap.errors import InputError
from offmap.features import Features, Pool
from offmap.testing import check_detector, make_features

KEY = (-1, Pool.ASSISTANT)


def rows(n, seed, shift=0.0):
    return make_features(PyOD().needs(), n, seed, shift)


def unit(x):
    wide = x.hidden[KEY].astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def test_lof_is_pyods_on_scikit_learns_whitened_components():
    from pyod.models.lof import LOF

    safe, new = rows(200, 0), rows(40, 1, 0.5)
    pca = PCA(8, whiten=True, svd_solver="full").fit(unit(safe))
    model = LOF().fit(pca.transform(unit(safe)))
    found = PyOD("LOF", components=8).fit(safe).score(new)
    oracle = model.decision_function(pca.transform(unit(new)))
    low, centre, high = np.quantile(model.decision_scores_, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(found, (oracle - centre) / (high - low), atol=1e-3)


@pytest.mark.parametrize("algorithm", ["COPOD", "ECOD"])
def test_algorithms_that_rank_among_the_batch_see_each_row_alone(algorithm):
    import importlib

    new = rows(12, 1, 0.5)
    fitted = PyOD(algorithm, components=6).fit(rows(60, 0))
    state = fitted.arrays()
    train = state["-1.assistant.train"].astype(np.float64)
    components = (unit(new) - state["-1.assistant.mean"]) @ state["-1.assistant.factor"]
    model = getattr(importlib.import_module(f"pyod.models.{algorithm.lower()}"), algorithm)().fit(train)
    centre, spread = state["-1.assistant.usual"]
    alone = np.array([model.decision_function(row[None])[0] for row in components])
    np.testing.assert_allclose(fitted.score(new), (alone - centre) / spread, rtol=1e-9)
    together = (model.decision_function(components) - centre) / spread
    assert np.abs(together - fitted.score(new)).max() > 1e-3


@pytest.mark.parametrize("algorithm", sorted(typing.get_args(Algorithm)))
def test_every_algorithm_offered_keeps_the_contract(algorithm):
    check_detector(PyOD(algorithm, components=5, rows=60), seed=2)


def test_the_state_is_evenly_spaced_rows_in_single_precision_and_seeds_count():
    safe, new = rows(200, 0), rows(30, 1)
    fitted = PyOD(rows=50, components=4).fit(safe)
    train = fitted.arrays()["-1.assistant.train"]
    assert (train.shape, train.dtype) == ((50, 4), np.float32)
    whole = PyOD(components=4).fit(safe).arrays()["-1.assistant.train"]
    np.testing.assert_array_equal(train, whole[np.linspace(0, 199, 50).astype(int)])
    assert not np.array_equal(PyOD(rows=50, components=4, seed=1).fit(safe).score(new), fitted.score(new))


def test_a_library_that_scores_otherwise_than_when_it_was_fitted_is_refused():
    arrays = PyOD().fit(rows(60, 0)).arrays()
    centre, spread = arrays["-1.assistant.usual"]
    for other in ([centre + 1e-4 * spread, spread], [centre, 1.0001 * spread]):
        with pytest.raises(InputError, match="score otherwise than when it was fitted"):
            PyOD().restore({**arrays, "-1.assistant.usual": np.array(other)})


def test_without_pyod_the_extra_is_named(monkeypatch):
    arrays = PyOD("LODA").fit(rows(60, 0)).arrays()
    monkeypatch.setitem(sys.modules, "pyod.models.loda", None)
    for call in (lambda: PyOD("LODA").fit(rows(60, 0)), lambda: PyOD("LODA").restore(arrays)):
        with pytest.raises(InputError, match=r"pip install 'offmap\[pyod\]'"):
            call()


def test_a_row_that_is_not_finite_is_unscored_and_leaves_the_others_alone():
    fitted, new = PyOD("ECOD", components=4).fit(rows(60, 0)), rows(5, 1)
    hidden = new.hidden[KEY].copy()
    hidden[2, 0] = np.nan
    found = fitted.score(Features(new.ids, new.groups, *np.ones((4, 5), np.int32), {KEY: hidden}))
    assert np.flatnonzero(np.isnan(found)).tolist() == [2]
    np.testing.assert_array_equal(np.delete(found, 2), np.delete(fitted.score(new), 2))


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="31 safe rows to fit on: wanted at least 32"):
        PyOD().fit(rows(31, 0))
    with pytest.raises(ValueError, match="wanted at least 1 component and 32 rows"):
        PyOD(components=0)
    with pytest.raises(ValueError, match="wanted at least 1 component and 32 rows"):
        PyOD(rows=31)
