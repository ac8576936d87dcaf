"""How surprised the language model is by what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import ROLE_CODE, Features, FeatureSpec, FloatArray, TokenStat
from offmap.linalg import row_sums


@dataclass(frozen=True)
class Perplexity:
    """Mean surprise of the language model at the tokens of a conversation.

    Over ``"assistant"`` (the default): the mean negative log-likelihood, in nats, of the assistant's tokens, or of all
    tokens where it said nothing. Over ``"conversation"``: the published detector of MOOD (arXiv 2605.21602), exp of
    the mean over every predicted token, the prompt included; the two orders of rows differ only by the tokens read,
    exp keeps order. Nothing is learned from the rows. A row without a predicted token scores NaN.
    """

    question: ClassVar[Question] = "unknown"

    over: Literal["assistant", "conversation"] = "assistant"

    def __post_init__(self) -> None:
        if self.over not in ("assistant", "conversation"):
            raise ValueError(f"over={self.over!r}: wanted 'assistant' or 'conversation'")

    def needs(self) -> FeatureSpec:
        """The log-probability of every token."""
        return FeatureSpec(tokens=frozenset({TokenStat.LOGPROB}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedPerplexity:  # noqa: ARG002
        """Nothing to learn; the safe rows are only checked to be there."""
        require_rows(safe, 1, "safe")
        return FittedPerplexity(self.over)

    def restore(self, arrays: Arrays) -> FittedPerplexity:  # noqa: ARG002
        """There is no state."""
        return FittedPerplexity(self.over)


@dataclass(frozen=True)
class FittedPerplexity:
    """Scores rows by the surprise of their tokens."""

    over: Literal["assistant", "conversation"]

    def score(self, x: Features) -> FloatArray:
        """Mean surprise in nats, or its exp; see ``Perplexity``."""
        if x.tokens is None or TokenStat.LOGPROB not in x.tokens.stats:
            raise ValueError("features lack the token statistic 'logprob'")
        surprise = -x.tokens.stats[TokenStat.LOGPROB].astype(np.float64)
        mean = _mean(surprise, np.ones(len(surprise), bool), x.tokens.offsets)
        if self.over == "conversation":
            return np.exp(mean)
        reply = _mean(surprise, x.tokens.roles == ROLE_CODE["assistant"], x.tokens.offsets)
        return np.asarray(np.where(np.isnan(reply), mean, reply))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}


def _mean(values: FloatArray, used: NDArray[np.bool_], offsets: NDArray[np.int64]) -> FloatArray:
    count = row_sums(used, offsets)
    total = row_sums(np.where(used, values, 0.0), offsets)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))
