"""How surprising the most surprising tokens of a conversation are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import Over, chosen, excess_surprise, only, require_over, token_columns
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenStat


@dataclass(frozen=True)
class MinK:
    """Min-K%++ (Zhang et al. 2024, arXiv 2404.02936): minus the mean of the lowest z_t of a conversation.

    z_t = (log p(x_t) - E[log p]) / sigma_t, mean and standard deviation those of log p(x) for x drawn from the model.
    Of n tokens the int(share * n) lowest count, at least one. Nothing is learned from the rows. A row without a
    predicted token scores NaN.

    Attributes:
        over: whose tokens; all tokens of a row that has none of them.
        share: of the tokens that count, above 0 and at most 1.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "assistant"
    share: float = 0.2

    def __post_init__(self) -> None:
        require_over(self.over)
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}: wanted above 0 and at most 1")

    def needs(self) -> FeatureSpec:
        """Every statistic of every token."""
        return FeatureSpec(tokens=frozenset(TokenStat))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedMinK:  # noqa: ARG002
        """Nothing to learn; the safe rows are only checked to be there."""
        require_rows(safe, 1, "safe")
        return FittedMinK(self)

    def restore(self, arrays: Arrays) -> FittedMinK:  # noqa: ARG002
        """There is no state."""
        return FittedMinK(self)


@dataclass(frozen=True)
class FittedMinK:
    """Scores rows by their most surprising tokens."""

    config: MinK

    def score(self, x: Features) -> FloatArray:
        """Mean of the largest -z_t."""
        tokens = token_columns(x)
        values, offsets = only(excess_surprise(x), chosen(tokens, self.config.over), tokens.offsets)
        rows = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        return np.array([_largest(values[start:end], self.config.share) for start, end in rows], dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}


def _largest(values: FloatArray, share: float) -> float:
    n = len(values)
    if not n:
        return np.nan
    first = n - max(1, int(share * n))
    return float(np.partition(values, first)[first:].mean())
