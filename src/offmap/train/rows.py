"""Labelled conversations as training material: token rows with their labels and weights, dealt into batches.

A line of a batch holds one row, padded on the right where causal attention never looks, or, packed, several rows whose
positions start anew: transformers then masks attention between them. The order of all batches follows from the seed
alone, so an interrupted run goes on with the very batch it had reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.backbones.guard_heads import content_hashes
from offmap.backbones.pooling import pool_weights
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.features import ROLE_CODE, FloatArray, Pool
from offmap.rendering import Rendered, Renderer

WIDTH = 32
"""Lines are padded to a multiple of this many tokens."""
_ASSISTANT = ROLE_CODE["assistant"]
Line = list[int]
"""Rows, by their place, that share a line of a batch."""
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Material:
    """Rows to learn from.

    Attributes:
        rows: the tokens of each.
        unsafe: (n,) their labels.
        weights: (n, heads) what each counts for each head; each column has mean one.
        keys: (n,) uint64, what they say, as a hash.
        pools: how tokens become one vector.
        rates: (n,) how often each is met in an epoch, on average; a row that is met twice as often weighs half.
        plain: whether the language model learns every token of every row.
    """

    rows: Sequence[Rendered]
    unsafe: NDArray[np.bool_]
    weights: FloatArray
    keys: NDArray[np.uint64]
    pools: tuple[Pool, ...]
    rates: FloatArray
    plain: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.array([len(row) for row in self.rows], np.int64)

    @property
    def n_spoken(self) -> int:
        """Tokens that the language model learns."""
        return sum(int(self.spoken(at).sum()) for at in range(len(self)))

    def spoken(self, at: int) -> NDArray[np.bool_]:
        """Which tokens of a row the language model learns: a safe row's assistant tokens, as far as any is before.

        Of plain material, all that have one before.
        """
        said = ((self.rows[at].roles == _ASSISTANT) & ~self.unsafe[at]) | self.plain
        said[:1] = False
        return np.asarray(said)


def material(
    conversations: Sequence[Conversation],
    render: Renderer,
    pools: tuple[Pool, ...],
    *,
    heads: int = 1,
    seed: int = 0,
    long_rows: str = "cut",
    even: bool = False,
    plain: bool = False,
) -> Material:
    """Render labelled conversations and weigh them.

    Safe and unsafe rows weigh the same; within a label so do the domains. Of several heads each sees a Poisson
    bootstrap: a row counts for a head as often as a hash of its content says. With ``even`` an epoch reads as many
    tokens of one domain as of another: long rows that teach a guard little do not crowd out short ones that do. With
    ``plain`` every row weighs the same for all heads, and the language model learns all of it.

    Raises:
        InputError: a row without a label, rows of one label only, an empty row, or a row over the limit where
            ``long_rows`` is "refuse".
    """
    unlabelled = next((c.id for c in conversations if c.unsafe is None), None)
    if unlabelled is not None:
        raise InputError(f"row {unlabelled!r}: field unsafe: found no label, wanted true or false")
    unsafe = np.array([c.unsafe for c in conversations], bool)
    for wanted in (False, True):
        if not (unsafe == wanted).any():
            raise InputError(f"found no {'unsafe' if wanted else 'safe'} row among {len(unsafe)}; wanted both kinds")
    rows = render(conversations)
    _require_readable(conversations, rows, render.max_tokens, long_rows)
    keys = content_hashes(conversations)
    domains = [c.domain for c in conversations]
    weights = balanced(unsafe, domains)[:, None] * _bootstraps(keys, heads, seed)
    weights = np.ones_like(weights) if plain else weights
    rates = even_rates([len(row) for row in rows], domains) if even else np.ones(len(rows))
    return Material(rows, unsafe, weights / weights.mean(axis=0) / rates[:, None], keys, pools, rates, plain)


def balanced(unsafe: NDArray[np.bool_], domains: Sequence[str]) -> FloatArray:
    """(n,) weights with mean one: both labels weigh the same, and within a label every domain."""
    names = np.asarray(domains, dtype=object)
    weights = np.empty(len(unsafe))
    for label in (False, True):
        members = unsafe == label
        present = sorted(set(names[members]))
        for domain in present:
            chosen = members & (names == domain)
            weights[chosen] = len(unsafe) / (2 * len(present) * chosen.sum())
    return weights


def even_rates(lengths: Sequence[int], domains: Sequence[str]) -> FloatArray:
    """(n,) how often a row is met in an epoch that reads as many tokens of each domain, and no more in all."""
    tokens, names = np.asarray(lengths, np.float64), np.asarray(domains, dtype=object)
    present = sorted(set(domains))
    rates = np.empty(len(tokens))
    for domain in present:
        rates[names == domain] = tokens.sum() / (len(present) * tokens[names == domain].sum())
    return rates


def plan(
    lengths: NDArray[np.int64],
    budget: int,
    epochs: float,
    seed: int,
    *,
    pack: bool = False,
    rates: FloatArray | None = None,
) -> list[list[Line]]:
    """All batches of a run, in order: each epoch holds every row once, the last maybe a part of them.

    Args:
        lengths: (n,) tokens of each row.
        budget: tokens of a batch, padding included; a longer row stands alone.
        epochs: how many, and what part of one.
        seed: of the order.
        pack: whether rows share lines.
        rates: (n,) how often an epoch holds each row, on average; None: once.
    """
    rng = np.random.default_rng(seed)
    batches: list[list[Line]] = []
    left = epochs
    while left > 0:
        rows = np.arange(len(lengths)) if rates is None else _drawn(rates, rng)
        lines = _packed(rows, lengths, budget, rng) if pack else _alike(rows, lengths, rng)
        epoch = _batches(lines, lengths, budget)
        shuffled = [epoch[i] for i in rng.permutation(len(epoch))]
        batches += shuffled if left >= 1 else shuffled[: max(1, round(left * len(shuffled)))]
        left -= 1
    return batches


def collate(lines: Sequence[Line], data: Material) -> Batch:
    """A batch as tensors.

    Returns:
        ``ids`` and ``positions`` (lines, width); ``spoken`` (lines, width) bool, the tokens that the language model
        learns; ``pools`` (rows * pools, lines * width), what each token counts for each pool of each row; ``unsafe``
        (rows,) and ``weights`` (rows, heads) float32, with the rows in the order of the lines.
    """
    chosen = [at for line in lines for at in line]
    width = _round_up(max(sum(len(data.rows[at]) for at in line) for line in lines))
    ids = np.zeros((len(lines), width), np.int64)
    positions = np.tile(np.arange(width), (len(lines), 1))
    spoken = np.zeros((len(lines), width), bool)
    pools = np.zeros((len(chosen), len(data.pools), len(lines) * width), np.float32)
    place = 0
    for number, line in enumerate(lines):
        start = 0
        for at in line:
            row, part = data.rows[at], slice(start, start + len(data.rows[at]))
            ids[number, part], spoken[number, part] = row.ids, data.spoken(at)
            positions[number, start:] = np.arange(width - start)
            flat = slice(number * width + part.start, number * width + part.stop)
            pools[place, :, flat] = pool_weights(data.pools, row.roles[None], row.turns[None])[0].numpy()
            start, place = part.stop, place + 1
    columns = {"ids": ids, "positions": positions, "spoken": spoken, "pools": pools.reshape(-1, len(lines) * width)}
    batch = {name: torch.from_numpy(column) for name, column in columns.items()}
    batch["unsafe"] = torch.tensor(data.unsafe[chosen], dtype=torch.float32)
    batch["weights"] = torch.tensor(data.weights[chosen], dtype=torch.float32)
    return batch


def _bootstraps(keys: NDArray[np.uint64], heads: int, seed: int) -> FloatArray:
    """(n, heads): how often each row counts for each head; a lone head sees every row once."""
    if heads == 1:
        return np.ones((len(keys), 1))
    draws = [np.random.default_rng([seed, int(key)]).poisson(1.0, heads) for key in keys]
    counts = np.array(draws, np.float64).reshape(len(keys), heads)
    return np.where(counts.any(axis=0), counts, 1.0)  # of a few rows, a head may have drawn none


def _require_readable(
    conversations: Sequence[Conversation], rows: Sequence[Rendered], limit: int | None, long_rows: str
) -> None:
    for conversation, row in zip(conversations, rows, strict=True):
        if not len(row):
            raise InputError(f"row {conversation.id!r}: no tokens; at least one message with text is wanted")
    cut = [c.id for c, row in zip(conversations, rows, strict=True) if row.n_dropped]
    if cut and long_rows == "refuse":
        some = ", ".join(map(repr, cut[:3]))
        raise InputError(
            f"found {len(cut)} rows over the limit of {limit} tokens, such as {some}; wanted shorter rows, a larger "
            "max_tokens that the model has positions for, or long_rows=cut"
        )


def _drawn(rates: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows, each as often as its rate says: whole times surely, the rest by chance."""
    times = np.floor(rates).astype(np.int64) + (rng.random(len(rates)) < rates % 1)
    return np.repeat(np.arange(len(rates)), times)


def _alike(rows: NDArray[np.int64], lengths: NDArray[np.int64], rng: np.random.Generator) -> list[Line]:
    """One row a line, in the order of their lengths, with some play."""
    return [[int(rows[at])] for at in np.argsort(lengths[rows] + rng.integers(0, WIDTH, len(rows)), kind="stable")]


def _packed(rows: NDArray[np.int64], lengths: NDArray[np.int64], budget: int, rng: np.random.Generator) -> list[Line]:
    """Rows in random order, each in the first line with room: as much as the longest row that the budget holds."""
    room = min(budget // WIDTH * WIDTH, _round_up(int(lengths.max())))
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
        open_from = max(open_from, len(lines) - 16)
    return lines


def _batches(lines: list[Line], lengths: NDArray[np.int64], budget: int) -> list[list[Line]]:
    """Lines, as they come, in groups under the budget."""
    groups: list[list[Line]] = []
    group: list[Line] = []
    widest = 0
    for line in lines:
        width = _round_up(int(lengths[line].sum()))
        if group and (len(group) + 1) * max(widest, width) > budget:
            groups.append(group)
            group, widest = [], 0
        group.append(line)
        widest = max(widest, width)
    return [*groups, group] if group else groups


def _round_up(length: int) -> int:
    return -(-length // WIDTH) * WIDTH
