"""How far a conversation's hidden states lie from the most similar safe conversations."""

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
from offmap.features import Features, FeatureSpec, FloatArray, Pool
from offmap.linalg import centre_and_spread, kth_cosine_distance, spaced, standardise, unit_rows

SAMPLE = 2000
"""Safe rows, evenly spaced, whose own distances say what is usual."""


@dataclass(frozen=True)
class Neighbours:
    """Cosine distance to the k-th nearest safe row (Sun et al. 2022, arXiv 2204.06507; for LLMs arXiv 2308.10261).

    Of several layers or pools, each distance is standardised against those between the safe rows themselves (a row is
    not its own neighbour), and all are averaged.
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

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:  # noqa: ARG002
        """Keep the safe rows. There must be more than ``k``."""
        require_rows(safe, self.k + 1, "safe")
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: _bank(hidden_rows(safe, key), self.k) for key in keys})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector."""
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: _Bank(self.k, *state_arrays(arrays, key, ("bank", "usual"))) for key in keys})


@dataclass(frozen=True, eq=False)
class _Bank:
    """Safe rows of unit length in float32, and the centre and spread of the distances among them."""

    k: int
    bank: NDArray[np.float32]
    usual: FloatArray

    def score(self, rows: NDArray[Any]) -> FloatArray:
        return standardise(kth_cosine_distance(unit_rows(rows), self.bank, self.k), self.usual)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"bank": self.bank, "usual": self.usual}


def _bank(rows: NDArray[Any], k: int) -> _Bank:
    bank = unit_rows(rows).astype(np.float32)
    sample = spaced(bank, SAMPLE)
    return _Bank(k, bank, centre_and_spread(kth_cosine_distance(sample, bank, k + 1)))
