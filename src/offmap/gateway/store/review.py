"""The review queue: what people look at, who holds it, what they said, and what happens when nobody does in time.

A person's verdict and a deadline that passed are both recorded in the audit chain, told apart. Whoever settles takes
the chain's head before any row of the queue, as everybody who writes both: nobody waits for the other then. Knows
nothing of pages. Every function takes the time, in seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.decision import Decision
from offmap.gateway.store import chain
from offmap.gateway.store.capture import Capture, canonical, captured_note, kept_note
from offmap.gateway.store.opening import RefusedError, Store, StoreError
from offmap.gateway.store.tables import AUDIT, REVIEW
from offmap.gateway.store.tickets import VERDICTS, Counts, Item, Lease, Review, Ticket, Verdict

LONGEST_NOTE = 2000
BATCH = 200
"""Overdue items settled in one transaction at most: traffic waits for it."""
ITEM = [REVIEW.c[{"default": "default_action"}.get(name, name)] for name in Item.__struct_fields__]


class LeaseError(StoreError):
    """The lease does not hold: it ran out, the item is settled, or it is another's. Nothing was changed."""


def enqueue(store: Store, decision: Decision, ticket: Ticket, now: float) -> None:
    """Put a decision that is in the audit chain into the queue; ``AuditLog`` does so for what its rules want.

    Raises:
        StoreError: it is not in the chain, in the queue already (``RefusedError``), or cannot be kept.
    """
    recorded = sa.select(AUDIT.c.seq).where(AUDIT.c.decision_id == decision.id, AUDIT.c.kind == "decision")
    with store.write() as connection:
        if connection.execute(recorded).one_or_none() is None:
            raise RefusedError(f"decision {decision.id} is not in the audit chain")
        insert(connection, [(decision.id, ticket)], now)


def insert(connection: sa.Connection, tickets: Sequence[tuple[str, Ticket]], now: float) -> None:
    """Put decisions into the queue within a transaction."""
    rows = [
        {
            "decision_id": decision_id,
            "reason": ticket.reason,
            "probability": ticket.probability,
            "enqueued_at": now,
            "due_at": None if ticket.due_in is None else now + ticket.due_in,
            "default_action": ticket.default,
            "state": "open",
        }
        for decision_id, ticket in tickets
    ]
    connection.execute(sa.insert(REVIEW), rows)


def lease(store: Store, reviewer: str, seconds: float, now: float, *, item: int | None = None) -> Lease | None:
    """The next item that nobody holds, for one reviewer and some time; None where there is none.

    What something waits for comes before the sample, and among each the oldest comes first. No two living leases are on
    one item, and none is given on one that is overdue.

    Args:
        store: whose queue.
        reviewer: the name of the API key.
        seconds: how long.
        now: the time.
        item: this one or none.

    Raises:
        StoreError: see ``Store.write``.
    """
    free = sa.or_(REVIEW.c.lease_until.is_(None), REVIEW.c.lease_until <= now)
    in_time = sa.or_(REVIEW.c.due_at.is_(None), REVIEW.c.due_at > now)
    order = REVIEW.c.due_at.is_(None), REVIEW.c.enqueued_at, REVIEW.c.id
    this = sa.true() if item is None else REVIEW.c.id == item
    wanted = sa.select(*ITEM).where(REVIEW.c.state == "open", free, in_time, this).order_by(*order).limit(1)
    token, until = secrets.token_urlsafe(32), now + seconds
    with store.write() as connection:
        row = connection.execute(wanted.with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return None
        held = {"lease_by": reviewer, "lease_sha256": lease_hash(token), "lease_until": until}
        connection.execute(sa.update(REVIEW).where(REVIEW.c.id == row.id).values(**held))
    return Lease(Item(*row), token, until)


def renew(store: Store, item: int, token: str, seconds: float, now: float, *, by: str) -> float:
    """Hold an item for so many seconds from now; when the lease ends. ``by``: who asks, whose lease it has to be.

    Raises:
        LeaseError: see there.
        StoreError: see ``Store.write``.
    """
    until = now + seconds
    with store.write() as connection:
        _held(connection, item, token, by, now)
        connection.execute(sa.update(REVIEW).where(REVIEW.c.id == item).values(lease_until=until))
    return until


def release(store: Store, item: int, token: str, now: float, *, by: str) -> None:
    """Give an item back unsettled. ``by``: who asks, whose lease it has to be.

    Raises:
        LeaseError: see there.
        StoreError: see ``Store.write``.
    """
    with store.write() as connection:
        _held(connection, item, token, by, now)
        nobody = {"lease_by": None, "lease_sha256": None, "lease_until": None}
        connection.execute(sa.update(REVIEW).where(REVIEW.c.id == item).values(**nobody))


def decide(
    store: Store,
    item: int,
    token: str,
    verdict: Verdict,
    now: float,
    *,
    by: str,
    note: str = "",
    capture: Capture = "none",
) -> Review:
    """Settle an item by a person's verdict; only for the holder of a living lease, before its deadline.

    Args:
        store: whose queue.
        item: its number.
        token: of the lease.
        verdict: what the person says the content is.
        now: the time.
        by: the reviewer, by the name under which the lease was taken.
        note: the reviewer's words, the first 2,000 characters; redacted unless ``capture`` keeps everything.
        capture: what is kept of content.

    Raises:
        InputError: no such verdict.
        LeaseError: see there.
        StoreError: see ``Store.write``.
    """
    if verdict not in VERDICTS:
        raise InputError(f"verdict: found {verdict!r}, wanted one of {', '.join(VERDICTS)}")
    kept = captured_note(note[:LONGEST_NOTE], capture)
    with store.write() as connection:
        chain.head(connection, hold=True)
        decision_id = _held(connection, item, token, by, now)
        review = Review(item, decision_id, "decided", now, verdict, by, kept or None)
        _settle(connection, [review])
    return review


def expire(store: Store, now: float, *, item: int | None = None) -> list[Review]:
    """Settle what nobody decided in time by its default, ``BATCH`` items at most; what was settled just now.

    Nothing is written where nothing is overdue.

    Args:
        store: whose queue.
        now: the time.
        item: this one alone. Whoever reads one item settles it so, and no deadline depends on anything else running.

    Raises:
        StoreError: see ``Store.read`` and ``Store.write``.
    """
    this = sa.true() if item is None else REVIEW.c.id == item
    overdue = sa.select(REVIEW.c.id, REVIEW.c.decision_id, REVIEW.c.default_action)
    overdue = overdue.where(REVIEW.c.state == "open", REVIEW.c.due_at <= now, this)
    with store.read() as connection:
        if connection.execute(overdue.limit(1)).one_or_none() is None:
            return []
    ordered = overdue.order_by(REVIEW.c.due_at, REVIEW.c.id).limit(BATCH).with_for_update()
    with store.write() as connection:
        chain.head(connection, hold=True)
        rows = connection.execute(ordered).all()
        reviews = [Review(row.id, row.decision_id, "timed_out", now, action=row.default_action) for row in rows]
        _settle(connection, reviews)
    return reviews


def result(store: Store, decision_id: str, now: float) -> Item | None:
    """The item of a decision as it stands, None where it is not in the queue. Open: nobody has decided yet.

    Raises:
        StoreError: see ``Store.read`` and ``Store.write``.
    """
    wanted = sa.select(*ITEM).where(REVIEW.c.decision_id == decision_id)
    with store.read() as connection:
        row = connection.execute(wanted).one_or_none()
    if row is not None and row.state == "open" and row.due_at is not None and row.due_at <= now:
        expire(store, now, item=row.id)
        with store.read() as connection:
            row = connection.execute(wanted).one()
    return None if row is None else Item(*row)


def counts(store: Store, now: float) -> Counts:
    """How many items are in each state; an item that is overdue counts as timed out.

    Raises:
        StoreError: see ``Store.read``.
    """
    state = sa.case(
        (REVIEW.c.state != "open", REVIEW.c.state),
        (REVIEW.c.due_at <= now, "timed_out"),
        (REVIEW.c.lease_until > now, "leased"),
        else_="waiting",
    )
    with store.read() as connection:
        rows = connection.execute(sa.select(state.label("now"), sa.func.count()).group_by("now"))
        return Counts(**dict(rows.all()))


def _held(connection: sa.Connection, item: int, token: str, by: str, now: float) -> str:
    """The decision of an item that ``by`` holds at this time with ``token``."""
    columns = REVIEW.c.decision_id, REVIEW.c.state, REVIEW.c.due_at, REVIEW.c.lease_by, REVIEW.c.lease_sha256
    wanted = sa.select(*columns, REVIEW.c.lease_until).where(REVIEW.c.id == item).with_for_update()
    row = connection.execute(wanted).one_or_none()
    if row is None or not is_lease(row.lease_by, row.lease_sha256, by, token):
        raise LeaseError(f"review item {item} is not held by this lease")
    if row.state != "open" or (row.due_at is not None and row.due_at <= now):
        raise LeaseError(f"review item {item} is settled already")
    if row.lease_until <= now:
        raise LeaseError(f"the lease on review item {item} has run out")
    return str(row.decision_id)


def _settle(connection: sa.Connection, reviews: Sequence[Review]) -> None:
    for each in reviews:
        values = {"state": each.state, "verdict": each.verdict, "note": each.note, "decided_by": each.by}
        connection.execute(sa.update(REVIEW).where(REVIEW.c.id == each.item).values(**values, decided_at=each.at))
    if reviews:
        chain.append(connection, [_row(each) for each in reviews], reviews[0].at)


def _row(review: Review) -> chain.Row:
    """A review as the chain has it: its note is content, so that it can be purged."""
    record = canonical(msgspec.structs.replace(review, note=None))
    return chain.Row("review", review.decision_id, record, "none", kept_note(review.note))


def lease_hash(token: str) -> str:
    """What is kept of a lease's token."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()


def is_lease(lease_by: str | None, lease_sha256: str | None, by: str, token: str) -> bool:
    """Whether a lease is that person's and that token's: a browser may hold a token of who used it before."""
    return lease_by == by and hmac.compare_digest(lease_sha256 or "", lease_hash(token))
