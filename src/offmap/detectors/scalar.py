"""A score that the backbone gives itself: the logit of a published guard, the grade of a judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray


@dataclass(frozen=True)
class Scalar:
    """One of the backbone's own scores, as it is. Nothing is learned from the rows; NaN where it gave none.

    Attributes:
        name: of the scalar, among those that the backbone says it gives; higher is more suspicious.
        question: what it answers. A guard's logit and a judge's grade of alignment ask whether a row is unsafe, a
            judge's grade of its own uncertainty whether it is unknown.
    """

    name: str = "guard"
    question: Question = "unsafe"

    def __post_init__(self) -> None:
        if not self.name or self.question not in get_args(Question):
            raise ValueError(f"name={self.name!r}, question={self.question!r}: wanted a name, and unsafe or unknown")

    def needs(self) -> FeatureSpec:
        """That scalar."""
        return FeatureSpec(scalars=frozenset({self.name}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedScalar:  # noqa: ARG002
        """Nothing to learn; the safe rows are only checked to be there."""
        require_rows(safe, 1, "safe")
        return FittedScalar(self.name)

    def restore(self, arrays: Arrays) -> FittedScalar:  # noqa: ARG002
        """There is no state."""
        return FittedScalar(self.name)


@dataclass(frozen=True)
class FittedScalar:
    """Scores rows by the scalar called ``name``."""

    name: str

    def score(self, x: Features) -> FloatArray:
        """The scalar, (n,).

        Raises:
            ValueError: features without it.
        """
        if self.name not in x.scalars:
            raise ValueError(f"features lack the scalar {self.name!r}; they hold {sorted(x.scalars) or 'none'}")
        return np.array(x.scalars[self.name], dtype=np.float64)

    def arrays(self) -> dict[str, FloatArray]:
        """Nothing."""
        return {}
