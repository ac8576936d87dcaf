"""How much further a conversation lies from the most similar safe conversations than from the most similar harm."""

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
from offmap.detectors.neighbours import SAMPLE
from offmap.features import Features, FeatureSpec, FloatArray, Pool
from offmap.linalg import centre_and_spread, kth_cosine_distance, spaced, standardise, unit_rows


@dataclass(frozen=True)
class ContrastiveNeighbours:
    """Cosine distance to the k-th nearest safe row minus that to the k-th nearest unsafe row.

    What is new but no more like harm than like safe traffic stays low (distances as in arXiv 2308.10261; the contrast
    with known harm as in arXiv 2512.12069). The difference of each pooled state is standardised against those of the
    safe rows themselves (a row is not its own neighbour), and all are averaged.
    """

    question: ClassVar[Question] = "unknown"

    k: int = 10
    layers: tuple[int, ...] = (-1,)
    pools: tuple[Pool, ...] = (Pool.ASSISTANT,)

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)
        if self.k < 1:
            raise ValueError(f"k={self.k}: wanted at least 1")

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:
        """Keep the rows of both classes. There must be more than ``k`` safe rows and at least ``k`` unsafe ones."""
        require_rows(safe, self.k + 1, "safe")
        known = require_rows(unsafe, self.k, "unsafe")
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: _learn(hidden_rows(safe, key), hidden_rows(known, key), self.k) for key in keys})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector."""
        keys, names = hidden_keys(self.layers, self.pools), ("safe", "unsafe", "usual")
        return FittedStates({key: _Banks(self.k, *state_arrays(arrays, key, names)) for key in keys})


@dataclass(frozen=True, eq=False)
class _Banks:
    """Rows of unit length in float32, and the centre and spread of the safe ones' differences."""

    k: int
    safe: NDArray[np.float32]
    unsafe: NDArray[np.float32]
    usual: FloatArray

    def score(self, rows: NDArray[Any]) -> FloatArray:
        unit = unit_rows(rows)
        near = kth_cosine_distance(unit, self.safe, self.k)
        return standardise(near - kth_cosine_distance(unit, self.unsafe, self.k), self.usual)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"safe": self.safe, "unsafe": self.unsafe, "usual": self.usual}


def _learn(safe: NDArray[Any], unsafe: NDArray[Any], k: int) -> _Banks:
    banks = unit_rows(safe).astype(np.float32), unit_rows(unsafe).astype(np.float32)
    sample = spaced(banks[0], SAMPLE)
    usual = kth_cosine_distance(sample, banks[0], k + 1) - kth_cosine_distance(sample, banks[1], k)
    return _Banks(k, *banks, centre_and_spread(usual))
