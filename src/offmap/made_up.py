"""Made-up shifts of real rows: what a monitor should notice when no real failure may be looked at.

Two kinds, of safe held-out rows: hidden states that all move one way, by one in-distribution standard deviation in
every direction at once, and a short run of tokens that the model did not expect. Knows nothing of detectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from offmap.features import Features, TokenColumns, TokenStat

MOVES = 3
"""Directions tried."""
RUN, NATS = 16, 3.0
"""Tokens of an unexpected run, and how much less likely each of them becomes."""


def made_up_shifts(rows: Features, seed: int = 0) -> Iterator[tuple[str, Features]]:
    """Name and rows of each shift that these features can show; the rows themselves are not changed."""
    rng = np.random.default_rng(seed)
    if rows.hidden:
        for number in range(MOVES):
            yield f"states moved, {number + 1}", _moved(rows, rng)
    if rows.tokens is not None and TokenStat.LOGPROB in rows.tokens.stats:
        yield "unexpected run", replace(rows, tokens=_with_run(rows.tokens, rng))


def _moved(rows: Features, rng: np.random.Generator) -> Features:
    """Every state plus X'g / sqrt(n), X the centred states and g normal: one standard deviation in every direction."""
    weights = rng.normal(size=len(rows)) / np.sqrt(len(rows))
    hidden = {
        key: (states + weights @ (states - states.mean(axis=0, dtype=np.float64))).astype(np.float32)
        for key, states in rows.hidden.items()
    }
    return replace(rows, hidden=hidden)


def _with_run(tokens: TokenColumns, rng: np.random.Generator) -> TokenColumns:
    """In each row ``RUN`` tokens in a row are ``NATS`` less likely; a shorter row is so as a whole."""
    lengths = np.diff(tokens.offsets)
    start = tokens.offsets[:-1] + np.floor(rng.random(len(lengths)) * np.maximum(lengths - RUN + 1, 1)).astype(np.int64)
    width = np.minimum(lengths, RUN)
    at = np.repeat(start, width) + np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
    logprob = tokens.stats[TokenStat.LOGPROB].copy()
    logprob[at] -= NATS
    return replace(tokens, stats={**tokens.stats, TokenStat.LOGPROB: logprob})
