"""Does the language model predict worse than mere word frequencies would?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import Over, chosen, means, require_over, statistic, token_columns
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenColumns, TokenStat


@dataclass(frozen=True)
class UnigramRatio:
    """Mean log-ratio of a unigram background to the model, log q(x_t) - log p(x_t), in nats: rare words cancel.

    A likelihood ratio against a background model (Ren et al. 2019, arXiv 1906.02845), its sign turned: higher says
    that the context helped the model less. The background counts the chosen tokens of the safe rows, with Laplace
    smoothing: q(v) = (c_v + smoothing) / (N + smoothing * (V + 1)), V the different tokens counted and one more for
    all that were not. A row without a predicted token scores NaN.

    Attributes:
        over: whose tokens; all tokens of a row that has none of them.
        smoothing: added to each count, above 0.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "assistant"
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        require_over(self.over)
        if not 0 < self.smoothing < np.inf:
            raise ValueError(f"smoothing={self.smoothing}: wanted a number above 0")

    def needs(self) -> FeatureSpec:
        """The log-probability of every token; the tokens themselves come along."""
        return FeatureSpec(tokens=frozenset({TokenStat.LOGPROB}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedUnigramRatio:  # noqa: ARG002
        """Count the tokens of the safe rows.

        Raises:
            ValueError: no safe rows, or none with a predicted token.
        """
        tokens = token_columns(require_rows(safe, 1, "safe"))
        seen, counts = np.unique(tokens.ids[chosen(tokens, self.over)], return_counts=True)
        if not len(seen):
            raise ValueError("no safe row has a predicted token: nothing to count")
        return FittedUnigramRatio(self, seen, counts.astype(np.int64))

    def restore(self, arrays: Arrays) -> FittedUnigramRatio:
        """From ``arrays()`` of an equal detector."""
        return FittedUnigramRatio(self, np.array(arrays["seen"]), np.array(arrays["counts"]))


@dataclass(frozen=True, eq=False)
class FittedUnigramRatio:
    """Scores rows by how little the model beats the background.

    Attributes:
        config: its configuration.
        seen: (V,) int32, the different tokens of the safe rows, ascending.
        counts: (V,) int64, how often each came.
    """

    config: UnigramRatio
    seen: NDArray[np.int32]
    counts: NDArray[np.int64]

    def score(self, x: Features) -> FloatArray:
        """Mean of log q(x_t) - log p(x_t) over the chosen tokens."""
        surprise = -statistic(x, TokenStat.LOGPROB)
        tokens = token_columns(x)
        ratio = self._background(tokens) + surprise
        return means(ratio, chosen(tokens, self.config.over), tokens.offsets)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Tokens and counts."""
        return {"seen": self.seen, "counts": self.counts}

    def _background(self, tokens: TokenColumns) -> FloatArray:
        """The background's log q of every token; the table's last place is that of all tokens never counted."""
        smoothing, last = self.config.smoothing, int(self.seen[-1]) + 1
        table = np.full(last + 1, smoothing)
        table[self.seen] += self.counts
        total = self.counts.sum() + smoothing * (len(self.seen) + 1)
        return np.asarray(np.log(table / total)[np.minimum(tokens.ids, last)])
