"""The state of the queue, as its page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from offmap.gateway.store import Counts, Store, counts, expire
from offmap.gateway.store.queue import Seen, open_items, settled_items

OPEN, SETTLED = 25, 15
"""Rows of either table at most."""


@dataclass(frozen=True)
class Queue:
    """What waits, and what was settled last.

    Attributes:
        counts: of everything.
        open: the first of what is not settled, in the order in which it is given out.
        settled: the last of what is.
    """

    counts: Counts
    open: tuple[Seen, ...]
    settled: tuple[Seen, ...]

    @property
    def oldest(self) -> float | None:
        """Since when the oldest of the listed has waited."""
        return min((row.item.enqueued_at for row in self.open), default=None)

    @property
    def unlisted(self) -> int:
        """How many are open and not listed."""
        return self.counts.waiting + self.counts.leased - len(self.open)


def open_queue(store: Store, now: float) -> Queue:
    """The queue as it stands; some of what is overdue is settled first, and all of it counted as such.

    Raises:
        StoreError: see ``Store.read`` and ``Store.write``.
    """
    expire(store, now)
    return Queue(counts(store, now), tuple(open_items(store, now, OPEN)), tuple(settled_items(store, now, SETTLED)))
