"""Outlier detectors of the PyOD library on principal components of the hidden states (extra ``pyod``)."""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import (
    Arrays,
    FittedStates,
    Question,
    hidden_keys,
    hidden_rows,
    require_rows,
    state_arrays,
)
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import Moments, Whitener, blocks, centre_and_spread, spaced, standardise, unit_rows

Algorithm = Literal["COPOD", "ECOD", "IForest", "LODA", "LOF", "OCSVM"]
ALONE = {"COPOD", "ECOD"}
"""These rank a row among the training rows and whatever is scored with it, so each row is scored by itself."""
FEWEST = 32
"""Rows to fit on: LOF looks at 20 neighbours of each."""
SAME = 1e-6
"""How far a score may lie from the one first given, in spreads."""


@dataclass(frozen=True)
class PyOD:
    """One PyOD detector (Zhao et al. 2019, arXiv 1901.01588) a pooled state, at PyOD's own settings.

    Rows of unit length are whitened and cut to their widest principal components. Each state's scores are standardised
    against those of the rows it was fitted on, and averaged.

    A PyOD model has no serialised form but a pickle, which is never loaded. So the state kept is the training rows, as
    components in float32, and ``restore`` fits the model on them again with the same seed; if another version of PyOD
    or scikit-learn then scores them otherwise than before, it refuses. Fitting and restoring cost the same.

    Only those of PyOD's algorithms are offered that keep the contract of a detector and repeat none of ours. COPOD and
    ECOD rank a row among the training rows at every call: about 10 ms a row.

    Attributes:
        algorithm: the name of its class in PyOD.
        layers: hidden layers, each with every pool.
        pools: how tokens become one vector.
        components: at most so many.
        rows: safe rows kept, evenly spaced.
        seed: of algorithms that draw.
    """

    question: ClassVar[Question] = "unknown"

    algorithm: Algorithm = "IForest"
    layers: tuple[int, ...] = (-1,)
    pools: tuple[Pool, ...] = (Pool.ASSISTANT,)
    components: int = 32
    rows: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)
        if self.components < 1 or self.rows < FEWEST:
            raise ValueError(
                f"components={self.components}, rows={self.rows}: wanted at least 1 component and {FEWEST} rows"
            )

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:  # noqa: ARG002
        """One model a pooled state, from the safe rows.

        Raises:
            InputError: PyOD is not installed.
            ValueError: too few safe rows, or rows that do not vary.
        """
        require_rows(safe, FEWEST, "safe")
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: self._learn(hidden_rows(safe, key)) for key in keys})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector, by fitting again.

        Raises:
            InputError: PyOD is not installed, or gives other scores than when the detector was fitted.
        """
        return FittedStates({key: self._restore_state(arrays, key) for key in hidden_keys(self.layers, self.pools)})

    def _learn(self, rows: NDArray[Any]) -> _Model:
        unit = unit_rows(rows)
        moments = Moments.of(blocks(unit))
        whole = Whitener.of(moments.mean, moments.scatter / moments.n)
        whitener = Whitener(whole.mean, np.ascontiguousarray(whole.factor[:, -self.components :]))
        train = spaced(whitener.whiten(unit), self.rows).astype(np.float32)
        model = self._fit_model(train)
        return _Model(whitener, train, centre_and_spread(_own_scores(model)), model, self.algorithm in ALONE)

    def _restore_state(self, arrays: Arrays, key: HiddenKey) -> _Model:
        mean, factor, train, usual = state_arrays(arrays, key, ("mean", "factor", "train", "usual"))
        model = self._fit_model(train)
        if not np.allclose(centre_and_spread(_own_scores(model)), usual, rtol=0, atol=SAME * usual[1]):
            raise InputError(
                f"PyOD {self.algorithm}: the rows that it was fitted on score otherwise than when it was fitted: "
                f"install the versions of pyod and scikit-learn it was fitted with, or fit it again"
            )
        return _Model(Whitener(mean, factor), train, usual, model, self.algorithm in ALONE)

    def _fit_model(self, train: NDArray[np.float32]) -> Any:
        try:
            module = importlib.import_module(f"pyod.models.{self.algorithm.lower()}")
        except ImportError as error:
            raise InputError(f"detector 'pyod' cannot load PyOD: {error}; pip install 'offmap[pyod]'") from error
        model = getattr(module, self.algorithm)()
        if "random_state" in model.get_params():
            model.set_params(random_state=self.seed)
        return model.fit(train.astype(np.float64))


@dataclass(frozen=True, eq=False)
class _Model:
    """A fitted PyOD model, the components (n, c) it was fitted on, and the centre and spread of its scores of them."""

    whitener: Whitener
    train: NDArray[np.float32]
    usual: FloatArray
    model: Any
    alone: bool

    def score(self, rows: NDArray[Any]) -> FloatArray:
        white = self.whitener.whiten(unit_rows(rows))
        found, finite = np.full(len(white), np.nan), np.isfinite(white).all(axis=1)
        size = 1 if self.alone else len(white)
        each = [self._raw(part) for part in blocks(white[finite], max(size, 1)) if len(part)]
        found[finite] = np.concatenate([np.empty(0), *each])
        return standardise(found, self.usual)

    def arrays(self) -> dict[str, NDArray[Any]]:
        whitener = self.whitener
        return {"mean": whitener.mean, "factor": whitener.factor, "train": self.train, "usual": self.usual}

    def _raw(self, white: FloatArray) -> FloatArray:
        # Some algorithms write into themselves while they score; a copy keeps concurrent calls apart.
        return np.asarray(copy.copy(self.model).decision_function(white), dtype=np.float64)


def _own_scores(model: Any) -> FloatArray:
    """What the model gave the rows it was fitted on."""
    return np.asarray(model.decision_scores_, dtype=np.float64)
