"""The gateway's data base, opened: SQLite in a file, or PostgreSQL by its URL. Knows nothing of what is stored.

Transactions are short and made in threads, so one engine serves an event loop, a command line and a page alike.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from offmap.errors import InputError
from offmap.gateway.store import schema

WAIT_SECONDS = 5.0
"""How long a transaction waits for another's lock, and for a server, before it is an error."""

_OPTIONS = {"uri": ("true", "false"), "mode": ("ro", "rw", "rwc")}
"""Of a SQLite URL; the second belongs to an address, which the first says it is."""


class StoreError(RuntimeError):
    """Nothing was stored, or nothing could be read. The message holds no content and no password."""


class RefusedError(StoreError):
    """The data base works, but takes not this: a decision that is there already, for one."""


@dataclass(frozen=True)
class Store:
    """An open data base. Safe for several threads."""

    engine: sa.Engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the data base until the block ends.

        Raises:
            StoreError: it cannot be read.
        """
        with _told(), self.engine.connect() as connection:
            level = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
            connection.execution_options(**level)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that is durable once the block has ended, and has never been where the block or its end raises.

        Raises:
            StoreError: it cannot be written.
        """
        with _told(), self.engine.connect() as connection:
            connection.execution_options(offmap_write=True)
            with connection.begin():
                yield connection

    def writer(self) -> Writer:
        """Transactions of one thread that writes often."""
        return Writer(self.engine)

    def close(self) -> None:
        """Let every connection go."""
        self.engine.dispose()


class Writer:
    """One connection for the transactions of one thread, which are what those of ``Store.write`` are.

    It is kept open: to fetch one from the pool and give it back takes as long as the transaction.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """See ``Store.write``.

        Raises:
            StoreError: it cannot be written.
        """
        with _told():
            connection = self._opened()
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                self.close()  # whatever it is, the next transaction has nothing to do with it
                raise

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sa.Connection:
        if self._connection is not None and not _usable(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(offmap_write=True)
        return self._connection


def open_store(url: str, *, make: bool = True) -> Store:
    """Open a data base, and make or upgrade its tables.

    Args:
        url: "sqlite:///path" (a file that only its owner may read is made), or "postgresql://user@host/name".
        make: False to open only what is there as it is: nothing is made and nothing upgraded.

    Raises:
        InputError: no such URL, a data base of another offmap that cannot be upgraded, or of another program; or none,
            where none is to be made.
        StoreError: it cannot be reached, read or upgraded.
    """
    parsed = parsed_url(url)
    if not make:
        _require_there(parsed)
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": parsed.get_backend_name() == "postgresql"}
    try:
        engine = sa.create_engine(parsed, connect_args=_connect_args(parsed), **options)
    except ImportError as error:
        raise InputError(f"{parsed}: needs {error.name}; install offmap[postgres]") from None
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    store = Store(engine)
    try:
        with store.read() as connection:
            if not make:
                schema.require_current(connection)
            old = schema.needs_upgrade(connection)
        if old:
            with store.write() as connection:
                schema.upgrade(connection)
    except InputError as error:
        store.close()
        raise InputError(f"{parsed}: {error}") from None
    except StoreError as error:
        store.close()
        raise StoreError(f"{parsed}: {error}") from None
    return store


def execute(connection: sa.Connection, text: str, rows: Sequence[Any] = ((),)) -> list[Any]:
    """Execute a statement by the driver itself, and all that it found.

    For those that every answer waits for: SQLAlchemy's way takes longer than the data base does.

    Args:
        connection: in a transaction.
        text: as the driver reads it.
        rows: the parameters of each execution, as the driver reads them.

    Raises:
        sqlalchemy.exc.DBAPIError: whatever the driver raises, without parameters.
    """
    driver, errors = connection.connection.cursor(), connection.dialect.loaded_dbapi.Error
    try:
        for row in rows:
            driver.execute(text, row)
        return list(driver.fetchall()) if driver.description else []
    except errors as error:
        if connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, driver):
            connection.invalidate(error)
        raise DBAPIError.instance(None, None, error, errors, hide_parameters=True) from None
    finally:
        driver.close()


def parsed_url(url: str) -> sa.URL:
    """The URL of a store.

    Raises:
        InputError: it is none.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("store: found what is no URL, wanted sqlite:///path or postgresql://user@host/name") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InputError(f"store: found {parsed.drivername!r}, wanted sqlite or postgresql")
    if parsed.drivername != "sqlite":
        if parsed.port is not None and not 0 < parsed.port <= 65535:
            raise InputError(f"store: found the port {parsed.port}, wanted a number between 1 and 65535")
        return parsed
    _require_plain(parsed)
    if str(sqlite_file(parsed)) in (".", ":memory:"):
        raise InputError("store: found no file, and what is in memory only is lost; wanted sqlite:///path")
    return parsed


def _require_plain(url: sa.URL) -> None:
    """Refuse what SQLite, or its driver, would take for something else than a path with two options."""
    if url.host or "\0" in (url.database or ""):
        raise InputError("store: found a host or a zero byte, wanted sqlite:/// and a path")
    for name, value in url.query.items():
        if name not in _OPTIONS or value not in _OPTIONS[name]:
            wanted = " or ".join(f"{known}={', '.join(values)}" for known, values in _OPTIONS.items())
            raise InputError(f"store: found the option {name}={value}, wanted none, {wanted}")


def _connect_args(url: sa.URL) -> dict[str, Any]:
    if url.drivername == "sqlite":
        if url.query.get("mode", "rwc") == "rwc":
            _make_private(sqlite_file(url))
        return {"timeout": WAIT_SECONDS, "isolation_level": None}
    wait = int(WAIT_SECONDS * 1000)
    limits = f"-c lock_timeout={wait} -c statement_timeout={4 * wait} -c synchronous_commit=on"
    return {"connect_timeout": int(WAIT_SECONDS), "tcp_user_timeout": 2 * wait, "options": limits}


def sqlite_file(url: sa.URL) -> Path:
    """The file of a SQLite URL, whatever options it has: a path, or with ``uri=true`` an address that SQLite reads."""
    name = url.database or ""
    is_address = sa.util.asbool(url.query.get("uri", False)) and name.startswith("file:")
    return Path(unquote(urlsplit(name).path) if is_address else name)


def _require_there(url: sa.URL) -> None:
    """A file that SQLite would make, or make a data base of, is refused."""
    if url.drivername != "sqlite":
        return
    path = sqlite_file(url)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path.absolute()}: no data base can be read there: {error.strerror}") from None
    if not size:
        raise InputError(f"{path}: found an empty file, wanted the data base of a gateway")


def _make_private(path: Path) -> None:
    """Content may lie in it: a new file is its owner's only. SQLite gives the files beside it the same rights."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except PermissionError:
        return  # it is there and may be read: whether that is enough, SQLite tells
    except OSError as error:
        raise StoreError(f"{path}: the data base cannot be made: {error.strerror}") from None


def _prepare_sqlite(engine: sa.Engine) -> None:
    path = sqlite_file(engine.url)

    @sa.event.listens_for(engine, "do_connect")
    def do_connect(*_: object) -> None:
        _file_at(path)  # SQLite would make an empty one

    @sa.event.listens_for(engine, "checkout")
    def checkout(_: object, record: sa.pool.ConnectionPoolEntry, __: object) -> None:
        # A file that was taken away can be written for as long as it is open, and nobody would ever read it.
        if record.info["file"] != _file_at(path):
            raise sa.exc.DisconnectionError

    @sa.event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info.update(path=path, file=_file_at(path))
        _to_wal(connection)
        # FULL: a commit returns when the disk has it. What is purged is written over. Each connection keeps 512 KiB of
        # pages (SQLite's own choice is 2,000): a chain grows at its end, and the pool has several.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "cache_size=-512"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # The driver starts no transactions (isolation_level None): a writer takes the lock before it reads the head.
        writes = connection.get_execution_options().get("offmap_write")
        execute(connection, "BEGIN IMMEDIATE" if writes else "BEGIN")


def _usable(connection: sa.Connection) -> bool:
    """Whether it still leads where it did: to the same file, or to a server that answers."""
    engine, held = connection.engine, connection.connection
    if engine.dialect.name == "sqlite":
        try:
            return bool(held.info["file"] == _file_at(held.info["path"]))
        except sqlite3.OperationalError:
            return False
    try:
        return held.dbapi_connection is not None and engine.dialect.do_ping(held.dbapi_connection)
    except engine.dialect.loaded_dbapi.Error:
        return False


def _file_at(path: Path) -> tuple[int, int]:
    """Which file lies there.

    Raises:
        sqlite3.OperationalError: none.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise sqlite3.OperationalError(f"the file of the data base is gone: {error.strerror}") from None
    return found.st_dev, found.st_ino


def _to_wal(connection: sqlite3.Connection) -> None:
    """In WAL readers do not wait for the writer. A new file changes once; SQLite itself does not wait for that lock."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.02)


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the data base as ``StoreError``: their first line, since details may repeat a row."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise RefusedError(_first_line(error.orig)) from None
    except DBAPIError as error:
        raise StoreError(_first_line(error.orig)) from None
    except (SQLAlchemyError, UnicodeError) as error:
        raise StoreError(type(error).__name__) from None


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
