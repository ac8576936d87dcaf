"""How far a conversation's hidden states lie from those of safe traffic, in units of its own spread."""

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
from offmap.linalg import (
    Moments,
    Whitener,
    blocks,
    centre_and_spread,
    leave_one_out,
    shrunk_gaussian,
    standardise,
    unit_rows,
)

RIDGE = 1e-6
"""What the published detector adds to the diagonal of the covariance."""


@dataclass(frozen=True)
class Mahalanobis:
    """Squared Mahalanobis distance to the safe rows, over several layers and pools.

    Every pooled state is scaled to unit length (Mahalanobis++, arXiv 2505.18032) and given one Gaussian with
    Ledoit-Wolf covariance. A row's distances, each standardised against the safe rows' own, are averaged; those are
    leave-one-out distances, for a row that helped to fit its Gaussian lies closer than a new row from the same source.

    With ``reference`` it is the published detector of MOOD (arXiv 2605.21602) in float64: the last token of the last
    layer, sample covariance plus 1e-6 I, pseudo-inverse, square root. ``layers`` and ``pools`` then keep their
    defaults.
    """

    question: ClassVar[Question] = "unknown"

    layers: tuple[int, ...] = (-1, -3)
    pools: tuple[Pool, ...] = (Pool.LAST, Pool.ASSISTANT)
    reference: bool = False

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)
        if self.reference and (self.layers, self.pools) != ((-1, -3), (Pool.LAST, Pool.ASSISTANT)):
            raise ValueError("reference=True reads the last token of layer -1: leave layers and pools out")

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(self._keys()))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:  # noqa: ARG002
        """One Gaussian a pooled state, from the safe rows."""
        require_rows(safe, 2, "safe")
        learn = _reference_gaussian if self.reference else _gaussian
        return FittedStates({key: learn(hidden_rows(safe, key)) for key in self._keys()})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector."""
        return FittedStates({key: self._restore_state(arrays, key) for key in self._keys()})

    def _restore_state(self, arrays: Arrays, key: HiddenKey) -> _Gaussian:
        mean, factor, expected = state_arrays(arrays, key, ("mean", "factor", "expected"))
        return _Gaussian(Whitener(mean, factor), expected, self.reference)

    def _keys(self) -> tuple[HiddenKey, ...]:
        return ((-1, Pool.LAST),) if self.reference else hidden_keys(self.layers, self.pools)


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """A whitener, and where the squared distances of new safe rows are expected: their centre and spread.

    With ``reference`` the rows keep their length and the score is the plain distance.
    """

    whitener: Whitener
    expected: FloatArray
    reference: bool = False

    def score(self, rows: NDArray[Any]) -> FloatArray:
        if self.reference:
            return np.sqrt(self.whitener.squared_distance(rows))
        return standardise(self.whitener.squared_distance(unit_rows(rows)), self.expected)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.whitener.mean, "factor": self.whitener.factor, "expected": self.expected}


def _gaussian(rows: NDArray[Any]) -> _Gaussian:
    unit = unit_rows(rows)
    whitener, shrinkage = shrunk_gaussian(unit)
    return _Gaussian(whitener, centre_and_spread(leave_one_out(whitener.squared_distance(unit), shrinkage)))


def _reference_gaussian(rows: NDArray[Any]) -> _Gaussian:
    moments = Moments.of(blocks(rows))
    covariance = moments.scatter / (moments.n - 1) + RIDGE * np.eye(len(moments.mean))
    return _Gaussian(Whitener.of(moments.mean, covariance), np.array([0.0, 1.0]), reference=True)
