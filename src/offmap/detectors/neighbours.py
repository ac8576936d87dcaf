"""How far a conversation's hidden states lie from the most similar safe conversations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Arrays, Question, hidden_keys, hidden_rows, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import kth_cosine_distance, unit_rows

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

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedNeighbours:  # noqa: ARG002
        """Keep the safe rows. There must be more than ``k``."""
        require_rows(safe, self.k + 1, "safe")
        keys = hidden_keys(self.layers, self.pools)
        banks = tuple(unit_rows(hidden_rows(safe, key)).astype(np.float32) for key in keys)
        return FittedNeighbours(self.k, keys, banks, np.array([_usual(bank, self.k) for bank in banks]))

    def restore(self, arrays: Arrays) -> FittedNeighbours:
        """From ``arrays()`` of an equal detector."""
        keys = hidden_keys(self.layers, self.pools)
        banks = tuple(np.array(arrays[f"{layer}.{pool}.bank"]) for layer, pool in keys)
        return FittedNeighbours(self.k, keys, banks, np.array(arrays["usual"]))


@dataclass(frozen=True, eq=False)
class FittedNeighbours:
    """Banks of safe rows, one a pooled state, and the centre and spread of the distances within each."""

    k: int
    keys: tuple[HiddenKey, ...]
    banks: tuple[NDArray[np.float32], ...]
    usual: FloatArray

    def score(self, x: Features) -> FloatArray:
        """Mean standardised distance to the k-th nearest safe row."""
        each = [
            (kth_cosine_distance(unit_rows(hidden_rows(x, key)), bank, self.k) - centre) / spread
            for key, bank, (centre, spread) in zip(self.keys, self.banks, self.usual, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The banks in float32, and what is usual in each."""
        banks = {f"{layer}.{pool}.bank": bank for (layer, pool), bank in zip(self.keys, self.banks, strict=True)}
        return {**banks, "usual": self.usual}


def _usual(bank: NDArray[np.float32], k: int) -> tuple[float, float]:
    """Median and interquartile range of the distances from rows of the bank to their k-th other row."""
    sample = bank[np.linspace(0, len(bank) - 1, min(len(bank), SAMPLE)).astype(np.intp)]
    low, centre, high = np.quantile(kth_cosine_distance(sample, bank, k + 1), [0.25, 0.5, 0.75])
    return float(centre), float(high - low) or float(centre) or 1.0
