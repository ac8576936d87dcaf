"""How surprised the language model is at the most surprising turn, or token, of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import (
    Over,
    chosen,
    excess_surprise,
    of_each_token,
    only,
    or_all,
    require_over,
    row_maxima,
    token_columns,
)
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenColumns, TokenStat
from offmap.linalg import row_sums


@dataclass(frozen=True)
class TurnSurprise:
    """Largest mean excess surprise (s_t - H_t) / sigma_t of any turn; of any token with ``level="token"``.

    A mean over a long conversation dilutes one odd turn, a maximum does not (arXiv 2601.11516, there for probes on
    activations). What the template wrote belongs to no turn and is left out, unless a row has nothing else. Nothing is
    learned from the rows. A row without a predicted token scores NaN.

    Attributes:
        over: whose turns; all turns of a row that has none of them.
        level: what the maximum is over.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "assistant"
    level: Literal["turn", "token"] = "turn"

    def __post_init__(self) -> None:
        require_over(self.over)
        if self.level not in ("turn", "token"):
            raise ValueError(f"level={self.level!r}: wanted 'turn' or 'token'")

    def needs(self) -> FeatureSpec:
        """Every statistic of every token."""
        return FeatureSpec(tokens=frozenset(TokenStat))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedTurnSurprise:  # noqa: ARG002
        """Nothing to learn; the safe rows are only checked to be there."""
        require_rows(safe, 1, "safe")
        return FittedTurnSurprise(self)

    def restore(self, arrays: Arrays) -> FittedTurnSurprise:  # noqa: ARG002
        """There is no state."""
        return FittedTurnSurprise(self)


@dataclass(frozen=True)
class FittedTurnSurprise:
    """Scores rows by their most surprising turn or token."""

    config: TurnSurprise

    def score(self, x: Features) -> FloatArray:
        """Largest mean excess surprise."""
        tokens = token_columns(x)
        used = _said(tokens, self.config.over)
        values, offsets = only(excess_surprise(x), used, tokens.offsets)
        if self.config.level == "token":
            return row_maxima(values, offsets)
        return _largest_mean(values, tokens.turns[used], offsets)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}


def _said(tokens: TokenColumns, over: Over) -> NDArray[np.bool_]:
    """The chosen tokens that belong to a turn; of a row without one, all chosen tokens."""
    used = chosen(tokens, over)
    return used & or_all(used & (tokens.turns >= 0), tokens.offsets)


def _largest_mean(values: FloatArray, turns: NDArray[np.int16], offsets: NDArray[np.int64]) -> FloatArray:
    """Largest mean over the tokens of one turn, for each row."""
    row = of_each_token(np.arange(len(offsets) - 1), offsets)
    begins = np.ones(len(values), bool)
    begins[1:] = (turns[1:] != turns[:-1]) | (row[1:] != row[:-1])
    edges = np.append(np.flatnonzero(begins), len(values))
    mean = row_sums(values, edges) / np.diff(edges)
    return row_maxima(mean, np.searchsorted(edges, offsets))
