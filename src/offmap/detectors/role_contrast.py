"""How surprising the reply is, beside how surprising its context was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import (
    Over,
    chosen,
    counts,
    learnable,
    means,
    require_over,
    said_by,
    statistic,
    token_columns,
)
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenColumns, TokenStat


@dataclass(frozen=True)
class RoleContrast:
    """Mean surprise of one part of the conversation less that of another, as far as it explains it: the topic cancels.

    A rare topic makes prompt and reply surprising alike; a reply that does not fit its prompt surprises alone. What is
    taken off is the context's mean surprise times the least-squares slope of the one on the other, among the safe rows
    that have both parts, kept within 0 and 1. A row without tokens of a part has all its tokens stand for it; a row
    without a predicted token scores NaN.

    Attributes:
        over: the part whose surprise is suspicious.
        against: the part that says what is usual for the topic.
        plain: whether the slope is 1, the plain difference, whatever the safe rows say.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "reply"
    against: Over = "prompt"
    plain: bool = False

    def __post_init__(self) -> None:
        require_over(self.over)
        require_over(self.against, "against")
        if self.over == self.against:
            raise ValueError(f"over and against are both {self.over!r}: wanted two parts")

    def needs(self) -> FeatureSpec:
        """The log-probability of every token."""
        return FeatureSpec(tokens=frozenset({TokenStat.LOGPROB}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedRoleContrast:  # noqa: ARG002
        """Learn the slope, unless it is to be 1.

        Raises:
            ValueError: fewer than two safe rows with a predicted token, or a surprise that is not finite.
        """
        require_rows(safe, 2, "safe")
        surprise, tokens = -statistic(safe, TokenStat.LOGPROB), token_columns(safe)
        learnable(safe, surprise, chosen(tokens, self.over) | chosen(tokens, self.against))
        if self.plain:
            return FittedRoleContrast(self, 1.0)
        both = (self._count(tokens, self.over) > 0) & (self._count(tokens, self.against) > 0)
        return FittedRoleContrast(self, _slope(*self._means(surprise, tokens), both))

    def restore(self, arrays: Arrays) -> FittedRoleContrast:
        """From ``arrays()`` of an equal detector."""
        return FittedRoleContrast(self, float(arrays["slope"][0]))

    def _count(self, tokens: TokenColumns, over: Over) -> NDArray[np.int64]:
        return counts(said_by(tokens, over), tokens.offsets)

    def _means(self, surprise: FloatArray, tokens: TokenColumns) -> tuple[FloatArray, FloatArray]:
        said, context = (means(surprise, chosen(tokens, part), tokens.offsets) for part in (self.over, self.against))
        return said, context


@dataclass(frozen=True)
class FittedRoleContrast:
    """Scores rows by the surprise of one part less ``slope`` times that of the other."""

    config: RoleContrast
    slope: float

    def score(self, x: Features) -> FloatArray:
        """Mean surprise of ``over`` less ``slope`` times that of ``against``, in nats."""
        said, context = self.config._means(-statistic(x, TokenStat.LOGPROB), token_columns(x))
        return said - self.slope * context

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The slope."""
        return {"slope": np.array([self.slope])}


def _slope(said: FloatArray, context: FloatArray, both: NDArray[np.bool_]) -> float:
    """Least-squares slope over the rows that have both parts, within 0 and 1; 0 where it cannot be told."""
    if both.sum() < 2:
        return 0.0
    away = context[both] - context[both].mean()
    spread = float(away @ away)
    return float(np.clip(away @ said[both] / spread, 0.0, 1.0)) if spread > 0 else 0.0
