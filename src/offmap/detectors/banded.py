"""How far a conversation lies from safe traffic in any one band of directions, from the widest to the narrowest."""

from __future__ import annotations

from collections.abc import Mapping
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
    part_name,
    require_rows,
    state_arrays,
)
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import Whitener, centre_and_spread, leave_one_out, shrunk_gaussian, standardise, unit_rows

Fuse = Literal["soft", "max"]
FOLDS = 5


@dataclass(frozen=True)
class Banded:
    """Squared Mahalanobis distance split into bands of principal directions; the most unusual band decides.

    A shift within few directions is lost in the sum over all. The Gaussian is that of ``Mahalanobis``; its whitened
    directions, by falling variance, are cut into bands. A band's share of the squared distance is standardised against
    those of safe rows that a Gaussian of the other folds had not seen, the whole against leave-one-out distances.

    A pooled state scores log(mean(exp(z))) over the z of its bands and of the whole: -log of the harmonic mean of the
    p-values exp(-z) (Wilson 2019, doi 10.1073/pnas.1814092116, eq. 1). States are averaged. The bands are our own; no
    publication is known to us.

    Attributes:
        layers: hidden layers, each with every pool.
        pools: how tokens become one vector.
        edges: directions, counted from the widest, at which a new band begins.
        fuse: "soft" as above, or "max", the largest z.
    """

    question: ClassVar[Question] = "unknown"

    layers: tuple[int, ...] = (-1, -3)
    pools: tuple[Pool, ...] = (Pool.LAST, Pool.ASSISTANT)
    edges: tuple[int, ...] = (4, 16, 64, 256)
    fuse: Fuse = "soft"

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)
        if any(after <= before for before, after in zip((0, *self.edges), self.edges, strict=False)):
            raise ValueError(f"edges={self.edges}: wanted ascending numbers above 0")

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedBanded:  # noqa: ARG002
        """One Gaussian a pooled state, from the safe rows. At least ten."""
        require_rows(safe, 2 * FOLDS, "safe")
        keys = hidden_keys(self.layers, self.pools)
        return FittedBanded({key: _learn(hidden_rows(safe, key), self.edges, self.fuse) for key in keys})

    def restore(self, arrays: Arrays) -> FittedBanded:
        """From ``arrays()`` of an equal detector."""
        keys = hidden_keys(self.layers, self.pools)
        return FittedBanded({key: _restore_state(arrays, key, self.edges, self.fuse) for key in keys})


@dataclass(frozen=True, eq=False)
class FittedBanded(FittedStates):
    """Gaussians of safe traffic, one a pooled state, each with its bands."""

    states: Mapping[HiddenKey, _Bands]

    def score(self, x: Features) -> FloatArray:
        """Of each pooled state the fused z of its bands and of the whole; the mean over states."""
        return np.asarray(np.mean([state.score(hidden_rows(x, key)) for key, state in self.states.items()], axis=0))

    def parts(self, x: Features) -> dict[str, FloatArray]:
        """The z of every band and of the whole, for every pooled state."""
        found: dict[str, FloatArray] = {}
        for key, state in self.states.items():
            names = [*(f"{part_name(key)} band {name}" for name in state.names()), part_name(key)]
            found |= dict(zip(names, state.each(hidden_rows(x, key)).T, strict=True))
        return found


@dataclass(frozen=True, eq=False)
class _Bands:
    """A whitener, where its bands start, and the usual distance in each and, last, in all: (bands + 1, 2)."""

    whitener: Whitener
    starts: tuple[int, ...]
    usual: FloatArray
    fuse: Fuse

    def score(self, rows: NDArray[Any]) -> FloatArray:
        z = self.each(rows)
        if self.fuse == "max":
            return np.asarray(z.max(axis=1))
        return np.asarray(np.logaddexp.reduce(z, axis=1) - np.log(z.shape[1]))

    def each(self, rows: NDArray[Any]) -> FloatArray:
        """The z of every band and of the whole, (n, bands + 1)."""
        bands = self.whitener.banded_distance(unit_rows(rows), self.starts)
        return standardise(np.column_stack([bands, bands.sum(axis=1)]), self.usual.T)

    def names(self) -> list[str]:
        ends = (*self.starts[1:], self.whitener.factor.shape[1])
        return [f"{start}:{end}" for start, end in zip(self.starts, ends, strict=True)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.whitener.mean, "factor": self.whitener.factor, "usual": self.usual}


def _learn(rows: NDArray[Any], edges: tuple[int, ...], fuse: Fuse) -> _Bands:
    unit = unit_rows(rows)
    whitener, shrinkage = shrunk_gaussian(unit)
    starts = _starts(whitener, edges)
    whole = leave_one_out(whitener.squared_distance(unit), shrinkage)
    return _Bands(whitener, starts, np.stack([*map(centre_and_spread, (*_held_out(unit, starts).T, whole))]), fuse)


def _held_out(unit: FloatArray, starts: tuple[int, ...]) -> FloatArray:
    """Squared distance within each band of each row to the Gaussian of the other folds' rows, (n, bands).

    Leaving one row out of the Gaussian but not out of the choice of directions would not do: the narrowest directions
    are those in which the very rows that chose them vary least, and any new row lies further out.
    """
    found, fold = np.empty((len(unit), len(starts))), np.arange(len(unit)) % FOLDS
    for held in range(FOLDS):
        found[fold == held] = shrunk_gaussian(unit[fold != held])[0].banded_distance(unit[fold == held], starts)
    return found


def _starts(whitener: Whitener, edges: tuple[int, ...]) -> tuple[int, ...]:
    return (0, *(edge for edge in edges if edge < whitener.factor.shape[1]))


def _restore_state(arrays: Arrays, key: HiddenKey, edges: tuple[int, ...], fuse: Fuse) -> _Bands:
    mean, factor, usual = state_arrays(arrays, key, ("mean", "factor", "usual"))
    whitener = Whitener(mean, factor)
    return _Bands(whitener, _starts(whitener, edges), usual, fuse)
