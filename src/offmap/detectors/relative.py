"""How much further a conversation lies from safe traffic than from traffic at large, or from known harm."""

from __future__ import annotations

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
from offmap.detectors.class_conditional import domains
from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool
from offmap.linalg import (
    Clusters,
    Whitener,
    centre_and_spread,
    leave_one_out,
    shrunk_gaussian,
    standardise,
    unit_rows,
)

Against = Literal["background", "unsafe"]


@dataclass(frozen=True)
class Relative:
    """Squared Mahalanobis distance to the safe rows minus that to a background, or to the known-unsafe rows.

    Directions in which all traffic varies count in both distances and cancel (relative Mahalanobis, Ren et al. 2021,
    arXiv 2106.09022, section 2; for language models arXiv 2209.15558). Against the unsafe rows, with one domain, it is
    twice the log-likelihood ratio of two Gaussians, up to a constant (contrastive form: arXiv 2512.12069). Rows have
    unit length, covariances are Ledoit-Wolf's; each pooled state's difference is standardised against the safe rows'
    leave-one-out differences, and all are averaged.

    A row far from everything scores low if it lies no nearer to the safe rows than to the others: beside an absolute
    distance this is a second opinion, not a replacement.

    Attributes:
        against: "background": one Gaussian over all rows, safe and unsafe of all domains; "unsafe": one over the
            unsafe rows.
        per_domain: whether the distance to the safe rows is that to the nearest of their domains, which share one
            covariance, as published, or to one Gaussian over all of them.
        layers: hidden layers, each with every pool.
        pools: how tokens become one vector.
    """

    question: ClassVar[Question] = "unknown"

    against: Against = "background"
    per_domain: bool = True
    layers: tuple[int, ...] = (-1, -3)
    pools: tuple[Pool, ...] = (Pool.LAST, Pool.ASSISTANT)

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedStates:
        """Two sets of Gaussians for each pooled state.

        Raises:
            ValueError: fewer than two safe rows; ``against`` "unsafe" without two unsafe rows; a background that is no
                more than the one Gaussian of the safe rows, for then every row would score 0.
        """
        require_rows(safe, 2, "safe")
        members = domains(safe) if self.per_domain else np.zeros(len(safe), np.intp)
        others = self._others(unsafe, single=not members.any())
        keys = hidden_keys(self.layers, self.pools)
        return FittedStates({key: self._learn(safe, members, others, key) for key in keys})

    def restore(self, arrays: Arrays) -> FittedStates:
        """From ``arrays()`` of an equal detector."""
        return FittedStates({key: _restore_state(arrays, key) for key in hidden_keys(self.layers, self.pools)})

    def _others(self, unsafe: Features | None, single: bool) -> Features | None:
        """The unsafe rows to learn from; None for a background of safe rows of several domains alone."""
        if self.against == "unsafe":
            return require_rows(unsafe, 2, "unsafe")
        if unsafe is not None and len(unsafe):
            return require_rows(unsafe, 1, "unsafe")
        if single:
            raise ValueError(
                "0 unsafe rows and one Gaussian of safe rows: the background would equal it; wanted unsafe rows, or "
                "safe rows of several domains and per_domain"
            )
        return None

    def _learn(self, safe: Features, members: NDArray[np.intp], others: Features | None, key: HiddenKey) -> _Ratio:
        unit = unit_rows(hidden_rows(safe, key))
        rest = unit[:0] if others is None else unit_rows(hidden_rows(others, key))
        clusters, near = Clusters.of(unit, members)
        background = self.against == "background"
        other, shrinkage = shrunk_gaussian(np.concatenate([unit, rest]) if background else rest)
        far = other.squared_distance(unit)
        if background:
            far = leave_one_out(far, shrinkage, len(unit) + len(rest))
        return _Ratio(clusters, other, centre_and_spread(near - far))


@dataclass(frozen=True, eq=False)
class _Ratio:
    """The safe rows' Gaussians, the Gaussian they are weighed against, and the usual difference of the distances."""

    safe: Clusters
    other: Whitener
    usual: FloatArray

    def score(self, rows: NDArray[Any]) -> FloatArray:
        unit = unit_rows(rows)
        return standardise(self.safe.squared_distance(unit) - self.other.squared_distance(unit), self.usual)

    def arrays(self) -> dict[str, NDArray[Any]]:
        names = ("mean", "factor", "centres", "other_mean", "other_factor", "usual")
        safe, other = self.safe.whitener, self.other
        values = (safe.mean, safe.factor, self.safe.centres, other.mean, other.factor, self.usual)
        return dict(zip(names, values, strict=True))


def _restore_state(arrays: Arrays, key: HiddenKey) -> _Ratio:
    mean, factor, centres = state_arrays(arrays, key, ("mean", "factor", "centres"))
    other_mean, other_factor, usual = state_arrays(arrays, key, ("other_mean", "other_factor", "usual"))
    return _Ratio(Clusters(Whitener(mean, factor), centres), Whitener(other_mean, other_factor), usual)
