"""The gateway's store as commands open it: where it lies if nothing says so, and its errors as wrong input.

Knows nothing of what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from offmap.cli.checks import make_directory, require_file, require_packages
from offmap.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from offmap.gateway.store import Store

DEFAULT_URL = "sqlite:///runs/gateway/gateway.sqlite"
"""Where decisions are kept if neither a configuration nor an option says so."""
_SQLITE = b"SQLite format 3\0"
_DAMAGED = "not a database", "malformed"
_DAMAGE = "the file is damaged, or none of SQLite: keep it as it is, and go back to a copy from before"


def require_store() -> None:
    """The packages that open a store are installed.

    Raises:
        InputError: one is missing.
    """
    require_packages("gateway", ("alembic", "sqlalchemy"))


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors of the store as wrong input: it cannot be reached, read or written.

    Raises:
        InputError: in place of a ``StoreError``.
    """
    from offmap.gateway.store import StoreError

    try:
        yield
    except StoreError as error:
        damage = f": {_DAMAGE}" if any(word in str(error) for word in _DAMAGED) else ""
        raise InputError(f"store: {error}{damage}") from None


@contextmanager
def opened_store(url: str, *, whole: bool = False) -> Iterator[Store]:
    """The data base as it is: nothing is made and nothing upgraded.

    Args:
        url: "sqlite:///path" or "postgresql://user@host/name".
        whole: whether all of a SQLite file is looked through first. Who reads a few rows does not see damage elsewhere.

    Raises:
        InputError: there is none, it is another's, or it cannot be reached, read or written, here or in the block.
    """
    require_store()
    from offmap.gateway.store import open_store

    with errors_told(), closing(open_store(url, make=False)) as store:
        if whole:
            _require_whole(store)
        yield store


def require_url(url: str) -> str:
    """Where decisions are kept by a store's URL, in words without user, password and options; opens nothing.

    Raises:
        InputError: no URL of a store, its driver is not installed, no file could be written there, or one of another
            kind lies there.
    """
    parsed, file = _read(url)
    if file:
        require_file(file)
        _require_sqlite(file)
        return f"in the SQLite file {file}"
    require_packages("postgres", ("psycopg",))
    return f"in the PostgreSQL data base {parsed.database or ''!r} at {parsed.host or 'this machine'}"


def make_place(url: str) -> None:
    """The directory of a SQLite file, made where it is not there.

    Raises:
        InputError: no URL of a store, or it cannot be made.
    """
    _, file = _read(url)
    if file:
        require_file(file)
        make_directory(file.parent)


def _read(url: str) -> tuple[URL, Path | None]:
    from offmap.gateway.store.opening import parsed_url, sqlite_file

    parsed = parsed_url(url)
    return parsed, sqlite_file(parsed) if parsed.drivername == "sqlite" else None


def _require_sqlite(file: Path) -> None:
    if not file.exists():
        return
    if not file.is_file():
        raise InputError(f"{file}: found a device or a pipe, wanted a SQLite data base, or none")
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(_SQLITE))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    if begins not in (b"", _SQLITE):
        raise InputError(f"{file}: found a file of another kind, wanted a SQLite data base, or none")


def _require_whole(store: Store) -> None:
    if store.engine.dialect.name != "sqlite":
        return
    with store.read() as connection:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    if found != "ok":
        raise InputError(f"store: {store.engine.url}: {found.splitlines()[-1][:200]}: {_DAMAGE}")
