"""Training material dealt into batches.

A line of a batch holds one row, padded on the right where causal attention never looks, or, packed, several rows whose
positions start anew: transformers then masks attention between them. The order of all batches follows from the seed
alone, so an interrupted run goes on with the very batch it had reached. Knows nothing of conversations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.backbones.pooling import pool_weights
from offmap.features import FloatArray
from offmap.train.rows import Material

WIDTH = 32
"""Lines are padded to a multiple of this many tokens, as far as the model has positions."""
OPEN = 16
"""Lines that a packed row may still go into."""
Line = list[int]
"""Rows, by their place, that share a line of a batch."""
Batch = dict[str, torch.Tensor]


def plan(
    lengths: NDArray[np.int64],
    budget: int,
    epochs: float,
    seed: int,
    *,
    pack: bool = False,
    rates: FloatArray | None = None,
    limit: int | None = None,
) -> list[list[Line]]:
    """All batches of a run, in order: each epoch holds every row once, the last maybe a part of them.

    Args:
        lengths: (n,) tokens of each row.
        budget: tokens of a batch, padding included; a longer row stands alone.
        epochs: how many, and what part of one.
        seed: of the order.
        pack: whether rows share lines.
        rates: (n,) how often an epoch holds each row, on average; None: once.
        limit: tokens of a line, or None; no row is longer.
    """
    rng = np.random.default_rng(seed)
    batches: list[list[Line]] = []
    left = epochs
    while left > 0:
        rows = np.arange(len(lengths)) if rates is None else _drawn(rates, rng)
        room = min(budget // WIDTH * WIDTH, _padded(int(lengths.max()), limit))
        lines = _packed(rows, lengths, room, rng) if pack else _alike(rows, lengths, rng)
        epoch = _batches(lines, lengths, budget, limit)
        shuffled = [epoch[i] for i in rng.permutation(len(epoch))]
        batches += shuffled if left >= 1 else shuffled[: max(1, round(left * len(shuffled)))]
        left -= 1
    return batches


def collate(lines: Sequence[Line], data: Material) -> Batch:
    """A batch as tensors.

    Returns:
        ``ids`` and ``positions`` (lines, width); ``spoken`` (lines, width) bool, the tokens that the language model
        learns; ``pools`` (lines, most, pools, width), what each token counts for each pool of each row of its line,
        ``most`` being the rows of the fullest line: all zeros where a line has fewer; ``unsafe`` (rows,) and
        ``weights`` (rows, heads) float32, with the rows in the order of the lines.
    """
    chosen = [at for line in lines for at in line]
    width = _padded(max(sum(len(data.rows[at]) for at in line) for line in lines), data.limit)
    ids = np.zeros((len(lines), width), np.int64)
    positions = np.tile(np.arange(width), (len(lines), 1))
    spoken = np.zeros((len(lines), width), bool)
    pools = np.zeros((len(lines), max(map(len, lines)), len(data.pools), width), np.float32)
    for number, line in enumerate(lines):
        start = 0
        for place, at in enumerate(line):
            row, part = data.rows[at], slice(start, start + len(data.rows[at]))
            ids[number, part], spoken[number, part] = row.ids, data.spoken(at)
            positions[number, start:] = np.arange(width - start)
            pools[number, place, :, part] = pool_weights(data.pools, row.roles[None], row.turns[None])[0].numpy()
            start = part.stop
    columns = {"ids": ids, "positions": positions, "spoken": spoken, "pools": pools}
    batch = {name: torch.from_numpy(column) for name, column in columns.items()}
    batch["unsafe"] = torch.tensor(data.unsafe[chosen], dtype=torch.float32)
    batch["weights"] = torch.tensor(data.weights[chosen], dtype=torch.float32)
    return batch


def _drawn(rates: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows, each as often as its rate says: whole times surely, the rest by chance."""
    times = np.floor(rates).astype(np.int64) + (rng.random(len(rates)) < rates % 1)
    return np.repeat(np.arange(len(rates)), times)


def _alike(rows: NDArray[np.int64], lengths: NDArray[np.int64], rng: np.random.Generator) -> list[Line]:
    """One row a line, in the order of their lengths, with some play."""
    return [[int(rows[at])] for at in np.argsort(lengths[rows] + rng.integers(0, WIDTH, len(rows)), kind="stable")]


def _packed(rows: NDArray[np.int64], lengths: NDArray[np.int64], room: int, rng: np.random.Generator) -> list[Line]:
    """Rows in random order, each in the first line with so much room left."""
    lines: list[Line] = []
    left: list[int] = []
    open_from = 0
    for at in rng.permutation(rows):
        size = int(lengths[at])
        place = next((i for i in range(open_from, len(lines)) if left[i] >= size), None)
        if place is None:
            lines.append([])
            left.append(room)
            place = len(lines) - 1
        lines[place].append(int(at))
        left[place] -= size
        open_from = max(open_from, len(lines) - OPEN)
    return lines


def _batches(lines: list[Line], lengths: NDArray[np.int64], budget: int, limit: int | None) -> list[list[Line]]:
    """Lines, as they come, in groups under the budget."""
    groups: list[list[Line]] = []
    group: list[Line] = []
    widest = 0
    for line in lines:
        width = _padded(int(lengths[line].sum()), limit)
        if group and (len(group) + 1) * max(widest, width) > budget:
            groups.append(group)
            group, widest = [], 0
        group.append(line)
        widest = max(widest, width)
    return [*groups, group] if group else groups


def _padded(length: int, limit: int | None) -> int:
    return min(-(-length // WIDTH) * WIDTH, limit or length + WIDTH)
