"""How far a conversation lies from the nearest kind of safe traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

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
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import Clusters, Whitener, centre_and_spread, standardise, unit_rows


@dataclass(frozen=True)
class ClassConditional:
    """Squared Mahalanobis distance to the nearest in-distribution domain (Lee et al. 2018, arXiv 1807.03888, eq. 2).

    The domains are the safe rows' groups: each has a mean of its own, all share one Ledoit-Wolf covariance, that of the
    rows about their domain's mean. Rows have unit length; the distances of each pooled state are standardised against
    the safe rows' leave-one-out ones and averaged. With one domain it is ``Mahalanobis``.
    """

    question: ClassVar[Question] = "unknown"

    layers: tuple[int, ...] = (-1, -3)
    pools: tuple[Pool, ...] = (Pool.LAST, Pool.ASSISTANT)

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:  # noqa: ARG002
        """A mean for every domain of the safe rows and one covariance, for each pooled state.

        Raises:
            ValueError: fewer than two safe rows, or no domain within which they vary.
        """
        require_rows(safe, 2, "safe")
        members = domains(safe)
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: _learn(hidden_rows(safe, key), members) for key in keys})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector."""
        return FittedStates({key: _restore_state(arrays, key) for key in hidden_keys(self.layers, self.pools)})


def domains(x: Features) -> NDArray[np.intp]:
    """The domain of each row, (n,), as a number from 0 in the order of their names."""
    return np.unique(np.array(x.groups), return_inverse=True)[1].astype(np.intp)


@dataclass(frozen=True, eq=False)
class _Domains:
    clusters: Clusters
    usual: FloatArray

    def score(self, rows: NDArray[Any]) -> FloatArray:
        return standardise(self.clusters.squared_distance(unit_rows(rows)), self.usual)

    def arrays(self) -> dict[str, NDArray[Any]]:
        whitener = self.clusters.whitener
        centres = self.clusters.centres
        return {"mean": whitener.mean, "factor": whitener.factor, "centres": centres, "usual": self.usual}


def _learn(rows: NDArray[Any], members: NDArray[np.intp]) -> _Domains:
    clusters, left_out = Clusters.of(unit_rows(rows), members)
    return _Domains(clusters, centre_and_spread(left_out))


def _restore_state(arrays: Arrays, key: HiddenKey) -> _Domains:
    mean, factor, centres, usual = state_arrays(arrays, key, ("mean", "factor", "centres", "usual"))
    return _Domains(Clusters(Whitener(mean, factor), centres), usual)
