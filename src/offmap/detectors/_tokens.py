"""What detectors of surprise share: whose tokens are read, and means and maxima over ragged rows.

A row's numbers do not depend, to the last bit, on the rows around it: no sum runs on from one row to the next. Knows
nothing of what is suspicious.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from offmap.features import ROLE_CODE, Features, FloatArray, TokenColumns, TokenStat
from offmap.linalg import row_sums

Over = Literal["assistant", "user", "tool", "prompt", "reply", "conversation"]
"""Whose tokens: one role's; of ``"prompt"``, all that system, user and tools said; of ``"reply"``, the last assistant
turn's; of ``"conversation"``, every predicted token, the template's too."""
FLOOR = 0.01
"""Smallest spread divided by, in nats: below it float32 rounds the likeliest token's probability to 1."""
_PROMPT = tuple(ROLE_CODE[role] for role in ("system", "user", "tool"))


def require_over(over: str, field: str = "over") -> None:
    """Refuse a value that is no ``Over``.

    Raises:
        ValueError: naming the field.
    """
    if over not in get_args(Over):
        *most, last = map(repr, get_args(Over))
        raise ValueError(f"{field}={over!r}: wanted {', '.join(most)} or {last}")


def token_columns(x: Features) -> TokenColumns:
    """The token columns.

    Raises:
        ValueError: features without them.
    """
    if x.tokens is None:
        raise ValueError("features lack token columns: ask the backbone for a token statistic")
    return x.tokens


def statistic(x: Features, stat: TokenStat) -> FloatArray:
    """A token statistic, (total,) float64.

    Raises:
        ValueError: features without it.
    """
    if x.tokens is None or stat not in x.tokens.stats:
        raise ValueError(f"features lack the token statistic {str(stat)!r}")
    return x.tokens.stats[stat].astype(np.float64)


def excess_surprise(x: Features) -> FloatArray:
    """(s_t - H_t) / sigma_t of every token, (total,): its surprise -log p beyond the one that the model expected.

    The negative of Min-K%++'s z_t (arXiv 2404.02936): mean 0 and variance 1 for tokens drawn from the model itself.

    Raises:
        ValueError: features without log-probability, entropy or spread.
    """
    logprob, entropy, spread = (statistic(x, stat) for stat in (TokenStat.LOGPROB, TokenStat.ENTROPY, TokenStat.SPREAD))
    return np.asarray(-(logprob + entropy) / np.maximum(spread, FLOOR))


def said_by(tokens: TokenColumns, over: Over) -> NDArray[np.bool_]:
    """Which tokens are those of ``over``, (total,)."""
    if over == "conversation":
        return np.ones(len(tokens.roles), bool)
    if over == "prompt":
        return np.isin(tokens.roles, _PROMPT)
    if over != "reply":
        return np.asarray(tokens.roles == ROLE_CODE[over])
    turns = np.where(tokens.roles == ROLE_CODE["assistant"], tokens.turns, np.int16(-1))
    return np.asarray((turns >= 0) & (turns == of_each_token(row_maxima(turns, tokens.offsets), tokens.offsets)))


def chosen(tokens: TokenColumns, over: Over) -> NDArray[np.bool_]:
    """The tokens of ``over``, (total,); all tokens of a row that has none of them."""
    used = said_by(tokens, over)
    return np.asarray(used | of_each_token(counts(used, tokens.offsets) == 0, tokens.offsets))


def counts(used: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many tokens of each row are used, (n,)."""
    return np.diff(np.concatenate([[0], np.cumsum(used, dtype=np.int64)])[offsets])


def of_each_token(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Each row's value, repeated for its tokens."""
    return np.repeat(values, np.diff(offsets))


def only(
    values: NDArray[Any], used: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values that are used, with the offsets of the rows among them."""
    return values[used], np.concatenate([[0], np.cumsum(counts(used, offsets))])


def means(values: FloatArray, used: NDArray[np.bool_], offsets: NDArray[np.int64]) -> FloatArray:
    """Mean of each row's used values, (n,); NaN where none is."""
    count = row_sums(used, offsets)
    total = row_sums(np.where(used, values, 0.0), offsets)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))


def row_maxima(values: NDArray[Any], offsets: NDArray[np.int64]) -> FloatArray:
    """Largest value of each ragged row, (n,); NaN for an empty row."""
    starts, filled = offsets[:-1], np.diff(offsets) > 0
    largest = np.full(len(starts), np.nan)
    if filled.any():
        largest[filled] = np.maximum.reduceat(values, starts[filled])
    return largest


def learnable(x: Features, values: FloatArray, used: NDArray[np.bool_]) -> None:
    """Refuse safe rows that say nothing about what is usual.

    Raises:
        ValueError: a used value that is not finite, or fewer than two rows with a predicted token.
    """
    offsets = token_columns(x).offsets
    wrong = used & ~np.isfinite(values)
    if wrong.any():
        row = int(np.searchsorted(offsets, np.argmax(wrong), side="right")) - 1
        raise ValueError(f"safe row {x.ids[row]!r}: a token's surprise is not finite; leave the row out")
    said = int((np.diff(offsets) > 0).sum())
    if said < 2:
        raise ValueError(f"{said} safe rows with a predicted token to fit on: wanted at least 2")
