"""Labelled conversations as training material: token rows with their labels and weights.

Knows nothing of batches and their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offmap.backbones.trained_on import content_hashes
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.features import ROLE_CODE, FloatArray, Pool
from offmap.rendering import Rendered, Renderer

_ASSISTANT = ROLE_CODE["assistant"]


@dataclass(frozen=True)
class Material:
    """Rows to learn from.

    Attributes:
        rows: the tokens of each.
        unsafe: (n,) their labels.
        weights: (n, heads) what each counts for each head; each column has mean one, of rows met at their ``rates``.
        keys: (n,) uint64, what they say, as a hash.
        pools: how tokens become one vector.
        rates: (n,) how often each is met in an epoch, on average; a row that is met twice as often weighs half.
        plain: whether the language model learns every token of every row.
        limit: tokens that the model has positions for, padding included, or None.
    """

    rows: Sequence[Rendered]
    unsafe: NDArray[np.bool_]
    weights: FloatArray
    keys: NDArray[np.uint64]
    pools: tuple[Pool, ...]
    rates: FloatArray
    plain: bool = False
    limit: int | None = None

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
    counts: FloatArray | None = None,
    long_rows: str = "cut",
    even: bool = False,
    plain: bool = False,
    limit: int | None = None,
) -> Material:
    """Render labelled conversations and weigh them (``balanced``).

    Args:
        conversations: the rows.
        render: what makes tokens of them.
        pools: how tokens become one vector.
        counts: (n, heads) how often each row was drawn for each head (``GuardProbe.counts``); None: a lone head sees
            every row once.
        long_rows: "cut", or "refuse" rows over the limit of ``render``.
        even: whether an epoch reads as many tokens of one domain as of another: long rows that teach a guard little
            do not crowd out short ones that do.
        plain: whether every row weighs the same for all heads, and the language model learns all of it.
        limit: tokens that the model has positions for, or None.

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
    domains = [c.domain for c in conversations]
    drawn = np.ones((len(rows), 1)) if counts is None else counts
    weights = np.ones_like(drawn) if plain else balanced(unsafe, domains, drawn)
    rates = even_rates([len(row) for row in rows], domains) if even else np.ones(len(rows))
    return Material(rows, unsafe, weights / rates[:, None], content_hashes(conversations), pools, rates, plain, limit)


def balanced(unsafe: NDArray[np.bool_], domains: Sequence[str], counts: FloatArray) -> FloatArray:
    """Counts (n, heads) scaled so that in every head both labels weigh the same, and within a label every domain.

    A domain of which a head has drawn no row weighs nothing there, and the label's others share its part. Each column
    has mean one where its draw holds both labels.
    """
    names, weights = np.asarray(domains, dtype=object), np.zeros(counts.shape)
    for label in (False, True):
        parts = [(unsafe == label) & (names == domain) for domain in sorted(set(names[unsafe == label]))]
        drawn = np.array([counts[part].sum(axis=0) for part in parts]).reshape(len(parts), counts.shape[1])
        present = (drawn > 0).sum(axis=0)
        for part, total in zip(parts, drawn, strict=True):
            weights[part] = counts[part] * len(unsafe) / np.maximum(2 * present * total, 1)
    return weights


def even_rates(lengths: Sequence[int], domains: Sequence[str]) -> FloatArray:
    """(n,) how often a row is met in an epoch that reads as many tokens of each domain, and no more in all."""
    tokens, names = np.asarray(lengths, np.float64), np.asarray(domains, dtype=object)
    present = sorted(set(domains))
    rates = np.empty(len(tokens))
    for domain in present:
        rates[names == domain] = tokens.sum() / (len(present) * tokens[names == domain].sum())
    return rates


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
