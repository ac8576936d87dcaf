"""How far a conversation's hidden states lie from those of safe traffic, in units of its own spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Arrays, Question, hidden_keys, hidden_rows, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import Moments, Whitener, blocks, fourth_moment, ledoit_wolf, unit_rows

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

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedMahalanobis:  # noqa: ARG002
        """One Gaussian a pooled state, from the safe rows."""
        require_rows(safe, 2, "safe")
        learn = _reference_gaussian if self.reference else _gaussian
        keys = self._keys()
        return FittedMahalanobis(keys, tuple(learn(hidden_rows(safe, key)) for key in keys), self.reference)

    def restore(self, arrays: Arrays) -> FittedMahalanobis:
        """From ``arrays()`` of an equal detector."""
        keys = self._keys()
        return FittedMahalanobis(keys, tuple(_Gaussian.restore(arrays, _name(key)) for key in keys), self.reference)

    def _keys(self) -> tuple[HiddenKey, ...]:
        return ((-1, Pool.LAST),) if self.reference else hidden_keys(self.layers, self.pools)


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """A whitener, and where the squared distances of new safe rows are expected: their centre and spread."""

    whitener: Whitener
    expected: FloatArray

    @staticmethod
    def restore(arrays: Arrays, name: str) -> _Gaussian:
        mean, factor, expected = (np.array(arrays[f"{name}.{part}"]) for part in ("mean", "factor", "expected"))
        return _Gaussian(Whitener(mean, factor), expected)

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        parts = {"mean": self.whitener.mean, "factor": self.whitener.factor, "expected": self.expected}
        return {f"{name}.{part}": array for part, array in parts.items()}

    def standardised(self, squared: FloatArray) -> FloatArray:
        return np.asarray((squared - self.expected[0]) / self.expected[1])


@dataclass(frozen=True, eq=False)
class FittedMahalanobis:
    """Gaussians of safe traffic, one a pooled state."""

    keys: tuple[HiddenKey, ...]
    gaussians: tuple[_Gaussian, ...]
    reference: bool

    def score(self, x: Features) -> FloatArray:
        """Mean standardised squared distance; with ``reference`` the plain distance."""
        if self.reference:
            return np.sqrt(self.gaussians[0].whitener.squared_distance(hidden_rows(x, self.keys[0])))
        each = [
            gaussian.standardised(gaussian.whitener.squared_distance(unit_rows(hidden_rows(x, key))))
            for key, gaussian in zip(self.keys, self.gaussians, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Mean, whitening factor and expected distances of every pooled state."""
        pairs = zip(self.keys, self.gaussians, strict=True)
        return {name: array for key, gaussian in pairs for name, array in gaussian.arrays(_name(key)).items()}


def leave_one_out(squared: FloatArray, shrinkage: float) -> FloatArray:
    """Squared distance of each fitted row to the Gaussian of all the others, (n,), without fitting n Gaussians.

    Without the row, x once centred, the mean moves by -x/(n-1) and the covariance becomes n/(n-1) (S - c x x^T) with
    c = (1 - rho)/(n-1), the ridge scaled alike; so by Sherman and Morrison d^2 becomes n/(n-1) d^2 / (1 - c d^2).

    Args:
        squared: (n,) squared distances to the Gaussian that all n rows fitted, its covariance normalised by n.
        shrinkage: its rho, in [0, 1].
    """
    n = len(squared)
    left = 1 - (1 - shrinkage) / (n - 1) * squared
    return np.asarray(n / (n - 1) * squared / np.maximum(left, np.finfo(np.float64).eps))


def _gaussian(rows: NDArray[Any]) -> _Gaussian:
    unit = unit_rows(rows)
    moments = Moments.of(blocks(unit))
    covariance, shrinkage = ledoit_wolf(moments, fourth_moment(blocks(unit), moments.mean))
    whitener = Whitener.of(moments.mean, covariance)
    expected = leave_one_out(whitener.squared_distance(unit), shrinkage)
    low, centre, high = np.quantile(expected, [0.25, 0.5, 0.75])
    return _Gaussian(whitener, np.array([centre, (high - low) or centre or 1.0]))


def _reference_gaussian(rows: NDArray[Any]) -> _Gaussian:
    moments = Moments.of(blocks(rows))
    covariance = moments.scatter / (moments.n - 1) + RIDGE * np.eye(len(moments.mean))
    return _Gaussian(Whitener.of(moments.mean, covariance), np.array([0.0, 1.0]))


def _name(key: HiddenKey) -> str:
    return f"{key[0]}.{key[1]}"
