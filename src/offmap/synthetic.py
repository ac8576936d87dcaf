"""Made-up features with the columns that a specification asks for, so that detectors are checked without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offmap.features import ROLE_CODE, Features, FeatureSpec, HiddenKey, TokenColumns, TokenStat

WIDTH = 24
"""Of every hidden state."""
VOCABULARY = 50
"""Different token ids."""


def make_features(spec: FeatureSpec, n: int, seed: int, shift: float = 0.0) -> Features:
    """Made-up features of ``n`` rows with the columns of ``spec``.

    All seeds draw from one made-up world, so rows of two seeds are alike; a column's values do not depend on which
    other columns are asked for. Some rows have no assistant token, some were cut; all predict at least two tokens.

    Args:
        spec: the columns.
        n: rows.
        seed: of the rows.
        shift: how far the rows lie from the world's usual ones, in standard deviations: hidden states along one
            direction, log-probabilities downwards, scalars and token ids upwards.
    """
    rng = _rng("lengths", seed)
    n_tokens = rng.integers(3, 40, size=n, dtype=np.int32)
    return Features(
        tuple(f"made-up-{seed}-{row}" for row in range(n)),
        tuple("ab"[row % 2] for row in range(n)),
        n_tokens,
        _dropped(n, seed),
        _rng("turns", seed).integers(1, 9, size=n, dtype=np.int32),
        _rng("tools", seed).random(n) < 0.3,
        {key: _hidden(key, n, seed, shift) for key in sorted(spec.hidden)},
        _tokens(sorted(spec.tokens), n_tokens, seed, shift) if spec.tokens else None,
        {name: _rng(f"scalar {name}", seed).normal(size=n) + shift for name in sorted(spec.scalars)},
    )


def _rng(what: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "big"), seed + 1])


def _dropped(n: int, seed: int) -> NDArray[np.int32]:
    rng = _rng("dropped", seed)
    return np.where(rng.random(n) < 0.1, rng.integers(1, 100, size=n), 0).astype(np.int32)


def _hidden(key: HiddenKey, n: int, seed: int, shift: float) -> NDArray[np.float32]:
    world = _rng(f"hidden {key}", -1)
    mean, direction = world.normal(size=(2, WIDTH))
    mixing = world.normal(size=(WIDTH, WIDTH)) / np.arange(1, WIDTH + 1)[:, None]
    rows = mean + _rng(f"hidden {key}", seed).normal(size=(n, WIDTH)) @ mixing
    return np.asarray(rows + shift * direction * np.linalg.norm(mixing, axis=0), dtype=np.float32)


def _tokens(stats: Sequence[TokenStat], n_tokens: NDArray[np.int32], seed: int, shift: float) -> TokenColumns:
    offsets = np.concatenate([[0], np.cumsum(n_tokens - 1)]).astype(np.int64)
    rng, total = _rng("roles", seed), int(offsets[-1])
    replies = np.where(rng.random(len(n_tokens)) < 0.1, 0.0, rng.random(len(n_tokens)))
    place = np.arange(total) - np.repeat(offsets[:-1], n_tokens - 1)
    left = np.repeat(n_tokens - 1, n_tokens - 1) - place
    reply = left <= np.repeat(np.ceil(replies * (n_tokens - 1)), n_tokens - 1)
    roles = np.where(reply, ROLE_CODE["assistant"], ROLE_CODE["user"]).astype(np.int8)
    columns = {stat: _statistic(stat, total, seed, shift) for stat in stats}
    ids = _rng("ids", seed).integers(0, VOCABULARY, size=total, dtype=np.int32) + np.int32(4 * max(shift, 0.0))
    return TokenColumns(offsets, ids, roles, reply.astype(np.int16), (4 * place).astype(np.int32), columns)


def _statistic(stat: TokenStat, total: int, seed: int, shift: float) -> NDArray[np.float32]:
    drawn = _rng(f"token {stat}", seed).gamma(2.0, 1.0, size=total)
    moved = -drawn - max(shift, 0.0) if stat is TokenStat.LOGPROB else drawn + 0.1
    return np.asarray(moved, dtype=np.float32)
