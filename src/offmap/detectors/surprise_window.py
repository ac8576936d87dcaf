"""Where in a conversation the language model is most surprised: sliding windows, and cumulated surprise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import (
    Over,
    chosen,
    excess_surprise,
    learnable,
    only,
    require_over,
    token_columns,
)
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenStat
from offmap.linalg import centre_and_spread, row_sums, standardise

Ragged = tuple[FloatArray, NDArray[np.int64]]


@dataclass(frozen=True)
class SurpriseWindow:
    """Largest mean of the excess surprise (s_t - H_t) / sigma_t in any window of the chosen tokens.

    A few odd tokens in a long reply move its mean little and a window's much. A row shorter than a window is one
    window. With ``cusum``, also Page's cumulative sum (Page 1954, "Continuous inspection schemes"), which needs no
    width: the largest S_t = max(0, S_(t-1) + e_t - allowance), the allowance being the mean of the safe rows' tokens
    plus half their standard deviation, that is, tuned to a rise by one.

    Each part is standardised by its median and interquartile range on the safe rows, and the score is the largest.
    Longer rows have more windows: calibrate given the length. A row without a predicted token scores NaN.

    Attributes:
        over: whose tokens, as if nothing stood between them; all tokens of a row that has none of them.
        windows: widths in tokens; none for the cumulative sum alone.
        cusum: whether the cumulative sum is a part.
    """

    question: ClassVar[Question] = "unknown"

    over: Over = "assistant"
    windows: tuple[int, ...] = (8, 32, 128)
    cusum: bool = False

    def __post_init__(self) -> None:
        require_over(self.over)
        if len(set(self.windows)) < len(self.windows) or not all(width >= 1 for width in self.windows):
            raise ValueError(f"windows={self.windows}: wanted different widths of at least 1 token")
        if not self.windows and not self.cusum:
            raise ValueError("windows=() without cusum: wanted at least one part")

    def needs(self) -> FeatureSpec:
        """Every statistic of every token."""
        return FeatureSpec(tokens=frozenset(TokenStat))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedSurpriseWindow:  # noqa: ARG002
        """Learn the allowance, and what is usual for each part.

        Raises:
            ValueError: fewer than two safe rows with a predicted token, or a surprise that is not finite.
        """
        require_rows(safe, 2, "safe")
        excess, tokens = excess_surprise(safe), token_columns(safe)
        used = chosen(tokens, self.over)
        learnable(safe, excess, used)
        ragged = only(excess, used, tokens.offsets)
        allowance = float(ragged[0].mean() + ragged[0].std() / 2)
        found = self._maxima(ragged, allowance).values()
        usual = [centre_and_spread(scores[~np.isnan(scores)]) for scores in found]
        return FittedSurpriseWindow(self, allowance, np.array(usual))

    def restore(self, arrays: Arrays) -> FittedSurpriseWindow:
        """From ``arrays()`` of an equal detector."""
        return FittedSurpriseWindow(self, float(arrays["allowance"][0]), np.array(arrays["usual"]))

    def _maxima(self, ragged: Ragged, allowance: float) -> dict[str, FloatArray]:
        found = {f"window {width}": _window_maxima(*ragged, width) for width in self.windows}
        return found | ({"cusum": _cusum_maxima(*ragged, allowance)} if self.cusum else {})


@dataclass(frozen=True, eq=False)
class FittedSurpriseWindow:
    """Scores rows by their most surprising stretch.

    Attributes:
        config: its configuration.
        allowance: what the cumulative sum takes off each token's excess.
        usual: (parts, 2), median and interquartile range of each part on the safe rows.
    """

    config: SurpriseWindow
    allowance: float
    usual: FloatArray

    def score(self, x: Features) -> FloatArray:
        """The largest of ``parts``."""
        return np.asarray(np.max(list(self.parts(x).values()), axis=0))

    def parts(self, x: Features) -> dict[str, FloatArray]:
        """``"window 32"`` and so on, and ``"cusum"``: each maximum, standardised, (n,)."""
        tokens = token_columns(x)
        ragged = only(excess_surprise(x), chosen(tokens, self.config.over), tokens.offsets)
        found = self.config._maxima(ragged, self.allowance)
        pairs = zip(found.items(), self.usual, strict=True)
        return {name: standardise(scores, usual) for (name, scores), usual in pairs}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The allowance, and what is usual for each part."""
        return {"allowance": np.array([self.allowance]), "usual": self.usual}


def _window_maxima(values: FloatArray, offsets: NDArray[np.int64], width: int) -> FloatArray:
    """Largest mean of ``width`` neighbouring values of each row, (n,); of a shorter row its mean, of none NaN."""
    lengths = np.diff(offsets)
    whole: FloatArray = np.divide(
        row_sums(values, offsets), lengths, out=np.full(len(lengths), np.nan), where=lengths > 0
    )
    long = lengths >= width
    if not long.any():
        return whole
    sums = np.append(_window_sums(values, width), -np.inf)
    inside = np.column_stack([offsets[:-1], offsets[1:] - width + 1])[long].ravel()
    whole[long] = np.maximum.reduceat(sums, inside)[::2] / width
    return whole


def _window_sums(values: FloatArray, width: int) -> FloatArray:
    """Sum of ``values[i : i + width]`` for every i at which it ends inside.

    Joined from sums of 1, 2, 4, ... neighbours: unlike a difference of cumulative sums, each depends on nothing outside
    its window and nothing cancels.
    """
    count = len(values) - width + 1
    total, at, size, sums = np.zeros(count), 0, 1, values
    while True:
        if width & size:
            total += sums[at : at + count]
            at += size
        if at == width:
            return total
        sums = sums[:-size] + sums[size:]
        size *= 2


def _cusum_maxima(values: FloatArray, offsets: NDArray[np.int64], allowance: float) -> FloatArray:
    """Largest S_t of each row, (n,): the steepest rise of the cumulated excess above any earlier low."""
    rows = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.array([_rise(values[start:end] - allowance) for start, end in rows], dtype=np.float64)


def _rise(steps: FloatArray) -> float:
    if not len(steps):
        return np.nan
    level = np.concatenate([[0.0], np.cumsum(steps)])
    return float((level - np.minimum.accumulate(level)).max())
