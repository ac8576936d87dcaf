"""Content and notes that are older than they may be kept are purged; the chain holds, and says that they were.

What stays for good are the records: what was decided, when, by which rule, at which p-values, and the caller's ids. A
purge is done in short transactions, each with its own row in the chain, so that traffic never waits long for it.

SQLite writes over what is purged, in the file and in the log beside it. PostgreSQL leaves old versions of rows in its
files until it vacuums, and both leave what was copied before: backups, exports. Knows nothing of what content says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import sqlalchemy as sa

from offmap.gateway.store import chain
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.chain import Purge, Row, milliseconds, ranges
from offmap.gateway.store.opening import Store
from offmap.gateway.store.tables import AUDIT, REVIEW

BATCH = 2000
"""Rows of one transaction at most."""


def purge(store: Store, before: float, now: float) -> Purge:
    """Purge all content that was written before a time, and all notes of reviews that were settled before it.

    Args:
        store: where it is kept.
        before: seconds since the epoch.
        now: the time.

    Returns:
        What was purged in all, without saying which rows. Where there was nothing the chain does not grow.

    Raises:
        StoreError: see ``Store.write``; what was purged by then is purged, and on record.
    """
    done = list(purges(store, before, now))
    rows, notes = sum(each.rows for each in done), sum(each.notes for each in done)
    return Purge(milliseconds(now), milliseconds(before), rows, (), notes)


def purges(store: Store, before: float, now: float) -> Iterator[Purge]:
    """The same in steps: each is done and on record when it is given."""
    while done := _step(store, milliseconds(before), now):
        yield done
    tidy(store)


def tidy(store: Store) -> None:
    """Make SQLite empty the log beside the file, which may hold what was purged.

    It waits for nobody, since writers would wait for it: while somebody reads, as an export does, the log stays and the
    next purge tries again.
    """
    if store.engine.dialect.name != "sqlite":
        return
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - a checkout has one
        patience = driver.execute("PRAGMA busy_timeout").fetchone()[0]
        driver.execute("PRAGMA busy_timeout = 0").close()
        try:
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except sqlite3.OperationalError:
            return
        finally:
            driver.execute(f"PRAGMA busy_timeout = {patience}").close()


def _step(store: Store, before: int, now: float) -> Purge | None:
    """One transaction; None where nothing is left."""
    old = sa.select(AUDIT.c.seq).where(AUDIT.c.salt.is_not(None), AUDIT.c.at < before).limit(BATCH)
    noted = sa.select(REVIEW.c.id).where(REVIEW.c.note.is_not(None), REVIEW.c.decided_at < before / 1000).limit(BATCH)
    with store.write() as connection:
        chain.head(connection, hold=True)  # first, as everybody who writes: nobody waits for the other then
        seqs, ids = sorted(connection.execute(old).scalars()), list(connection.execute(noted).scalars())
        if not seqs and not ids:
            return None
        connection.execute(sa.update(AUDIT).where(AUDIT.c.seq.in_(seqs)).values(salt=None, content=None))
        connection.execute(sa.update(REVIEW).where(REVIEW.c.id.in_(ids)).values(note=None))
        done = Purge(milliseconds(now), before, len(seqs), ranges((seq, seq) for seq in seqs), len(ids))
        chain.append(connection, [Row("purge", "", canonical(done), "none")], now)
    return done
