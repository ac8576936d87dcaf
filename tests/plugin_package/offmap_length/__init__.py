"""A detector in a package of its own: everything that a plug-in needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offmap.detectors import Arrays, Question
from offmap.features import Features, FeatureSpec, FloatArray, Pool


@dataclass(frozen=True)
class Length:
    """Distance of a state's length from the usual."""

    question: ClassVar[Question] = "unknown"

    layer: int = -1
    pool: Pool = Pool.MEAN

    def needs(self) -> FeatureSpec:
        return FeatureSpec(hidden=frozenset({(self.layer, self.pool)}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedLength:
        if not len(safe):
            raise ValueError("0 safe rows to fit on: wanted at least 1")
        return FittedLength(self, float(np.median(self.lengths(safe))))

    def restore(self, arrays: Arrays) -> FittedLength:
        return FittedLength(self, float(arrays["usual"][0]))

    def lengths(self, x: Features) -> FloatArray:
        return np.linalg.norm(x.hidden[self.layer, self.pool].astype(np.float64), axis=1)


@dataclass(frozen=True)
class FittedLength:
    detector: Length
    usual: float

    def score(self, x: Features) -> FloatArray:
        return np.abs(self.detector.lengths(x) - self.usual)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"usual": np.array([self.usual])}
