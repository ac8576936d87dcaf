"""What people see of the review queue: one item with what was decided and looked at, what is open, what was settled.

Reading one item settles it where it is overdue (``review.expire``), and changes nothing else. Knows nothing of pages.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.decision import Decision
from offmap.gateway.store.capture import Capture, kept, restored
from offmap.gateway.store.opening import Store
from offmap.gateway.store.review import BATCH, ITEM, expire, is_lease
from offmap.gateway.store.tables import AUDIT, REVIEW
from offmap.gateway.store.tickets import Item

_BOTH = sa.and_(AUDIT.c.decision_id == REVIEW.c.decision_id, AUDIT.c.kind == "decision")
_BATCHES, _BETWEEN_BATCHES = 10, 0.02


class Seen(msgspec.Struct, frozen=True):
    """An item, and the decision that it is about.

    Attributes:
        item, decision: as they are kept; the decision with the texts and the hash that are kept beside it.
        capture: what was kept of the content when it was decided.
        content: canonical JSON, None where none was kept or is any more.
        purged: whether some was, and is not any more.
        lease_by, lease_until: who holds it and how long; None for nobody, a lease that ran out, a settled item.
        held: whether that is the lease of the name and the token that were given.
    """

    item: Item
    decision: Decision
    capture: Capture
    content: str | None = None
    purged: bool = False
    lease_by: str | None = None
    lease_until: float | None = None
    held: bool = False


def look(store: Store, item: int, now: float, *, token: str = "", by: str = "") -> Seen | None:
    """An item as it stands, None where there is none of that number.

    Args:
        store: whose queue.
        item: its number.
        now: the time.
        token: of a lease that may hold it.
        by: who asks.

    Raises:
        StoreError: see ``Store.read`` and ``Store.write``.
    """
    kept_of_it = AUDIT.c.record, AUDIT.c.capture, AUDIT.c.content, AUDIT.c.commitment
    columns = *kept_of_it, REVIEW.c.lease_by, REVIEW.c.lease_until, REVIEW.c.lease_sha256
    wanted = sa.select(*ITEM, *columns).join_from(REVIEW, AUDIT, _BOTH)
    wanted = wanted.where(REVIEW.c.id == item)
    row = _one(store, wanted)
    if row is not None and row.state == "open" and row.due_at is not None and row.due_at <= now:
        expire(store, now, item=item)
        row = _one(store, wanted)
    if row is None:
        return None
    decision, content = _with_content(msgspec.json.decode(row.record, type=Decision), row.content)
    purged = row.commitment is not None and row.content is None
    lease = _living(row, now)
    held = lease[0] is not None and is_lease(row.lease_by, row.lease_sha256, by, token)
    return Seen(Item(*row[: len(ITEM)]), decision, row.capture, content, purged, *lease, held)


def settle_overdue(store: Store, now: float) -> int:
    """What the service calls once a second, in a thread: settle what is overdue; how many items were settled.

    It makes a few transactions of at most ``BATCH`` items with pauses between them, so that traffic gets its turn, and
    leaves the rest to the next call. Where nothing is overdue nothing is written.

    Raises:
        StoreError: see ``expire``; what was settled by then is settled.
    """
    count = 0
    for _ in range(_BATCHES):
        done = len(expire(store, now))
        count += done
        if done < BATCH:
            break
        time.sleep(_BETWEEN_BATCHES)
    return count


def open_items(store: Store, now: float, limit: int) -> list[Seen]:
    """The items that nobody has settled, in the order in which they are leased, without content; overdue ones are none.

    Raises:
        StoreError: see ``Store.read``.
    """
    overdue = sa.and_(REVIEW.c.due_at.is_not(None), REVIEW.c.due_at <= now)
    order = REVIEW.c.due_at.is_(None), REVIEW.c.enqueued_at, REVIEW.c.id
    return _listed(store, sa.and_(REVIEW.c.state == "open", ~overdue), order, now, limit)


def settled_items(store: Store, now: float, limit: int) -> list[Seen]:
    """What was settled last, the newest first, without content.

    Raises:
        StoreError: see ``Store.read``.
    """
    return _listed(store, REVIEW.c.state != "open", (REVIEW.c.decided_at.desc(), REVIEW.c.id.desc()), now, limit)


def _listed(
    store: Store, where: sa.ColumnElement[bool], order: tuple[sa.ColumnElement[Any], ...], now: float, limit: int
) -> list[Seen]:
    columns = AUDIT.c.record, AUDIT.c.capture, REVIEW.c.lease_by, REVIEW.c.lease_until
    wanted = sa.select(*ITEM, *columns).join_from(REVIEW, AUDIT, _BOTH).where(where).order_by(*order).limit(limit)
    with store.read() as connection:
        rows = connection.execute(wanted).all()
    return [
        Seen(Item(*row[: len(ITEM)]), msgspec.json.decode(row.record, type=Decision), row.capture, None, False, *lease)
        for row in rows
        for lease in [_living(row, now)]
    ]


def _with_content(record: Decision, content: str | None) -> tuple[Decision, str | None]:
    """The decision with what is kept beside it, and the content; what cannot be read is given as it is."""
    try:
        return restored(record, content), bytes(kept(content).content).decode() or None
    except InputError:
        return record, content


def _living(row: Any, now: float) -> tuple[str | None, float | None]:
    """Who holds an item, and how long."""
    living = row.state == "open" and row.lease_until is not None and row.lease_until > now
    return (row.lease_by, row.lease_until) if living else (None, None)


def _one(store: Store, wanted: sa.Select[Any]) -> sa.Row[Any] | None:
    with store.read() as connection:
        return connection.execute(wanted).one_or_none()
