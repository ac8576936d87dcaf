"""What the service remembers of itself by name, outside of the chain; and whether the data base can be written."""

from __future__ import annotations

import secrets
import time

import sqlalchemy as sa

from offmap.gateway.store import chain
from offmap.gateway.store.opening import Store
from offmap.gateway.store.tables import STATE

_PROBE, _PROBE_BYTES = "probe ", 6144


def remember(store: Store, name: str, value: str, now: float) -> None:
    """Keep ``value`` under ``name``, in place of what was there.

    Raises:
        StoreError: see ``Store.write``.
    """
    with store.write() as connection:
        replace(connection, name, value, now)


def replace(connection: sa.Connection, name: str, value: str, now: float) -> None:
    """The same within a transaction."""
    connection.execute(sa.delete(STATE).where(STATE.c.name == name))
    connection.execute(sa.insert(STATE).values(name=name, at=now, value=value))


def remembered(store: Store, name: str) -> str | None:
    """What was kept under ``name`` last, None for nothing.

    Raises:
        StoreError: see ``Store.read``.
    """
    with store.read() as connection:
        return connection.execute(sa.select(STATE.c.value).where(STATE.c.name == name)).scalar()


def probe(store: Store) -> None:
    """Write as a decision would: hold the chain's head, bring some random pages to the disk. The chain does not grow.

    The new probe is there before the old one goes, so that it wants room that nothing else has: a full disk or a full
    data base refuses it.

    Raises:
        StoreError: nothing can be written, or the chain has no head.
    """
    name, value = _PROBE + secrets.token_hex(8), secrets.token_hex(_PROBE_BYTES)
    with store.write() as connection:
        chain.head(connection, hold=True)
        connection.execute(sa.insert(STATE).values(name=name, at=time.time(), value=value))
        old = STATE.c.name.startswith(_PROBE, autoescape=True), STATE.c.name != name
        connection.execute(sa.delete(STATE).where(*old))
