"""The shift kind of a conversation: in which part of it the language model was more surprised than safe traffic is.

It describes where the surprise lies and does not say what caused it: a reply may be surprising because the prompt was
strange, an attack may read like ordinary prose, and a detector that reads hidden states may alarm where no token
surprises; then no kind is claimed. Knows nothing of detectors, texts or labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.calibration import ConformalCalibrator
from offmap.detectors._tokens import means, of_each_token
from offmap.errors import InputError
from offmap.features import ROLE_CODE, Features, FeatureSpec, FloatArray, TokenColumns, TokenStat
from offmap.linalg import row_sums

ShiftKind = Literal["prompt", "response", "workflow", "adversarial", ""]
KINDS: tuple[ShiftKind, ...] = ("prompt", "response", "workflow", "adversarial")
"""Every kind that can be claimed; of equal p-values the first wins."""
EXCESS_STATS = FeatureSpec(tokens=frozenset({TokenStat.LOGPROB, TokenStat.ENTROPY}))
"""What excess surprise is made of."""
WINDOW = 16
"""Tokens in the window of the adversarial signature."""
TAIL_FRACTION = 0.25
"""The share of safe scores that the tail of each kind is fitted on: a large one, so that kinds which few rows have are
told apart beyond the safe rows as well; the smallest p-value would otherwise be shared and its order an accident."""


class Shift(msgspec.Struct, frozen=True):
    """The kind of shift that a row shows, "" where none is claimed, and a p-value for each kind it has tokens of."""

    kind: ShiftKind
    p_values: dict[str, float]


@dataclass(frozen=True)
class ShiftReader:
    """Tells in which part of a conversation the surprise lies.

    A row has four scores, of the tokens that ``tokens_of`` gives, in nats of excess surprise (``excess_nats``):

    - ``prompt``: the mean over what the system and the user said;
    - ``response``: the mean over what the assistant said, its tool calls apart;
    - ``workflow``: the mean over what tools answered and over the assistant turns that they answer;
    - ``adversarial``: how far the most surprising window of what the user said stands out from the rest of it, as a
      gibberish suffix does (perplexity in windows: Jain et al. 2023, arXiv 2309.00614). A turn shorter than the window
      counts as filled up with zeros; a prompt that is gibberish nearly throughout is a prompt shift.

    Each gives a p-value among safe rows (``calibration.ConformalCalibrator``; in the upper quarter of the safe scores a
    fitted tail's estimate). A kind is claimed where the smallest of the four is at most ``level`` / 4 (Bonferroni): as
    far as the tails hold, for at most a share ``level`` of rows exchangeable with the safe ones. Where fewer safe rows
    have tokens of a kind than ranks need to come so low (none, if training saw no tools), a row is ranked among all
    safe rows, those without coming last: to have such tokens at all is what is rare then.

    A call that nothing answers, at the end of a conversation, counts as response: token columns do not tell it from
    prose. What offered tools say is not read; memory and hand-offs are seen only where they are tool turns.

    Attributes:
        level: the share of safe rows for which a kind may be claimed.
        window: tokens in the window of the adversarial signature.

    Raises:
        InputError: a level outside (0, 1), or a window without tokens.
    """

    level: float = 0.05
    window: int = WINDOW

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise InputError(f"level is {self.level}; wanted a number between 0 and 1, both excluded")
        if self.window < 1:
            raise InputError(f"window is {self.window}; wanted at least 1 token")

    def fit(self, safe: Features) -> FittedShiftReader:
        """Learn the distribution of each score on safe calibration rows; nothing where these lack ``EXCESS_STATS``.

        Raises:
            ValueError: no rows.
        """
        if not len(safe):
            raise ValueError("0 safe rows to fit on: wanted at least 1")
        calibrators = {kind: self._calibrator(scores) for kind, scores in shift_scores(safe, self.window).items()}
        return FittedShiftReader(self.level, self.window, calibrators)

    def _calibrator(self, scores: FloatArray) -> ConformalCalibrator:
        present = scores[~np.isnan(scores)]
        if 1 / (len(present) + 1) <= self.level / len(KINDS):
            return ConformalCalibrator.fit(present, TAIL_FRACTION)
        return ConformalCalibrator.fit(np.where(np.isnan(scores), -np.inf, scores), TAIL_FRACTION)


@dataclass(frozen=True, eq=False)
class FittedShiftReader:
    """The distribution of each score on safe rows; without calibrators it claims nothing. See ``ShiftReader``."""

    level: float
    window: int
    calibrators: Mapping[ShiftKind, ConformalCalibrator]

    def p_values(self, x: Features) -> dict[ShiftKind, FloatArray]:
        """For each of ``KINDS`` (n,) p-values; NaN where a row has no such tokens or nothing was learned of them."""
        scores, unread = shift_scores(x, self.window), np.full(len(x), np.nan)
        learned = scores.keys() & self.calibrators.keys()
        return {kind: self.calibrators[kind].p_values(scores[kind]) if kind in learned else unread for kind in KINDS}

    def read(self, x: Features) -> tuple[Shift, ...]:
        """The kind of each row and the p-values behind it."""
        p_values = self.p_values(x)
        table = np.column_stack([p_values[kind] for kind in KINDS])
        known = np.where(np.isnan(table), np.inf, table)
        claimed = known.min(axis=1) <= self.level / len(KINDS)
        best = known.argmin(axis=1)
        return tuple(
            Shift(KINDS[at] if sure else "", {kind: p for kind, p in zip(KINDS, row, strict=True) if p == p})
            for sure, at, row in zip(claimed.tolist(), best.tolist(), table.tolist(), strict=True)
        )

    def kinds(self, x: Features) -> tuple[ShiftKind, ...]:
        """For each row the kind with the smallest p-value; "" where that is above ``level`` / 4."""
        return tuple(shift.kind for shift in self.read(x))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state: ``rule`` is (level, window), then the arrays of each kind's calibrator."""
        state = {f"{kind}.{key}": a for kind, c in self.calibrators.items() for key, a in c.arrays().items()}
        return {"rule": np.array([self.level, self.window])} | state

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> FittedShiftReader:
        """The reader whose ``arrays()`` these are."""
        level, window = (float(value) for value in arrays["rule"])
        calibrators = {
            kind: ConformalCalibrator.restore({key: arrays[f"{kind}.{key}"] for key in ("scores", "tail")})
            for kind in KINDS
            if f"{kind}.scores" in arrays
        }
        return cls(level, int(window), calibrators)


def excess_nats(tokens: TokenColumns) -> FloatArray:
    """-log p(token) minus the entropy expected there, (total,), in nats: 0 on average where the model is right."""
    return -tokens.stats[TokenStat.LOGPROB].astype(np.float64) - tokens.stats[TokenStat.ENTROPY]


def tokens_of(tokens: TokenColumns) -> dict[ShiftKind, NDArray[np.bool_]]:
    """For each kind the tokens that it is read from, (total,) bool.

    Of system and user only what a message says: what a template adds to it, as the tools on offer, is left out.
    """
    user, system, assistant, tool = (tokens.roles == ROLE_CODE[r] for r in ("user", "system", "assistant", "tool"))
    calls = assistant & _answered_by_tool(tokens, tool)
    said = tokens.starts >= 0
    return {
        "prompt": (user | system) & said,
        "response": assistant & ~calls,
        "workflow": tool | calls,
        "adversarial": user & said,
    }


def shift_scores(x: Features, window: int = WINDOW) -> dict[ShiftKind, FloatArray]:
    """For each kind (n,) scores, NaN where a row has no such tokens; {} where the columns of EXCESS_STATS are missing.

    A row's scores do not depend, to the last bit, on the rows around it.
    """
    if x.tokens is None or not EXCESS_STATS.tokens <= x.tokens.stats.keys():
        return {}
    excess, used = excess_nats(x.tokens), tokens_of(x.tokens)
    scores = {kind: means(excess, used[kind], x.tokens.offsets) for kind in KINDS if kind != "adversarial"}
    return scores | {"adversarial": _standing_out(x.tokens, excess, used["adversarial"], window)}


def window_sums(
    values: FloatArray, turns: NDArray[np.integer[Any]], window: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Sum of the up to ``window`` values from each one on that belong to its turn, and how many these are, both (n,).

    ``turns`` tells neighbouring turns apart.
    """
    sums, lengths = values.copy(), np.ones(len(values), np.int64)
    for step in range(1, min(window, len(values))):
        same = turns[step:] == turns[:-step]
        sums[:-step] += np.where(same, values[step:], 0.0)
        lengths[:-step] += same
    return sums, lengths


def _standing_out(tokens: TokenColumns, excess: FloatArray, used: NDArray[np.bool_], window: int) -> FloatArray:
    """The largest window sum of each row, divided by ``window``, minus the mean of the used tokens outside of it."""
    at, scores = np.flatnonzero(used), np.full(len(tokens), np.nan)
    rows = of_each_token(np.arange(len(tokens)), tokens.offsets)[at]
    offsets = np.searchsorted(rows, np.arange(len(tokens) + 1))
    sums, lengths = window_sums(excess[at], _places(tokens)[at], window)
    filled = np.diff(offsets) > 0
    if not filled.any():
        return scores
    largest = np.maximum.reduceat(sums, offsets[:-1][filled])
    reached = np.flatnonzero(sums == np.repeat(largest, np.diff(offsets)[filled]))
    # A row with a NaN reaches no maximum and stays NaN.
    row, first = np.unique(rows[reached], return_index=True)
    best = reached[first]
    others = np.diff(offsets)[row] - lengths[best]
    rest = row_sums(excess[at], offsets)[row] - sums[best]
    scores[row] = sums[best] / window - np.divide(rest, others, out=np.zeros(len(row)), where=others > 0)
    return scores


def _answered_by_tool(tokens: TokenColumns, tool: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tokens of a turn that a tool's turn follows at once."""
    places = _places(tokens)
    before = np.zeros(int(places.max(initial=0)) + 1, bool)
    before[places[tool & (tokens.turns > 0)] - 1] = True
    return np.asarray(before[places])


def _places(tokens: TokenColumns) -> NDArray[np.int64]:
    """One number for each turn of each row, neighbouring turns having neighbouring numbers."""
    width = int(tokens.turns.max(initial=0)) + 2
    rows: NDArray[np.int64] = of_each_token(np.arange(len(tokens), dtype=np.int64), tokens.offsets)
    return rows * width + tokens.turns.astype(np.int64) + 1
