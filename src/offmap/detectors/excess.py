"""How surprised the language model is, beyond what it expected itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from offmap.detectors._tokens import Over, chosen, means, require_over, statistic, token_columns
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenStat


@dataclass(frozen=True)
class Excess:
    """Mean surprise less mean entropy, in nats: what is hard to predict for any author cancels.

    Surprise -log p(x_t) averages to the entropy H_t where the model itself wrote the tokens, so 0 is a text that the
    model could have written, whatever its subject. Nothing is learned from the rows. A row without a predicted token
    scores NaN.

    Attributes:
        over: whose tokens; all tokens of a row that has none of them.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "assistant"

    def __post_init__(self) -> None:
        require_over(self.over)

    def needs(self) -> FeatureSpec:
        """Log-probability and entropy of every token."""
        return FeatureSpec(tokens=frozenset({TokenStat.LOGPROB, TokenStat.ENTROPY}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedExcess:  # noqa: ARG002
        """Nothing to learn; the safe rows are only checked to be there."""
        require_rows(safe, 1, "safe")
        return FittedExcess(self.over)

    def restore(self, arrays: Arrays) -> FittedExcess:  # noqa: ARG002
        """There is no state."""
        return FittedExcess(self.over)


@dataclass(frozen=True)
class FittedExcess:
    """Scores rows by the excess surprise of their tokens."""

    over: Over

    def score(self, x: Features) -> FloatArray:
        """Mean of -log p(x_t) - H_t over the chosen tokens, in nats."""
        excess = -(statistic(x, TokenStat.LOGPROB) + statistic(x, TokenStat.ENTROPY))
        tokens = token_columns(x)
        return means(excess, chosen(tokens, self.over), tokens.offsets)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}
