"""How surprised the language model is by what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import chosen, means, statistic, token_columns
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenStat


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
        surprise = -statistic(x, TokenStat.LOGPROB)
        tokens = token_columns(x)
        mean = means(surprise, chosen(tokens, self.over), tokens.offsets)
        return np.exp(mean) if self.over == "conversation" else mean

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}
