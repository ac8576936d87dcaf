"""Schemas: made, upgraded from every revision, refused when newer; what may be a store; who may read its file."""

import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from offmap.errors import InputError
from offmap.gateway.store import AuditLog, StoreError, open_store, schema, verify
from offmap.gateway.store.opening import parsed_url
from offmap.gateway.store.tables import METADATA

REVISIONS = [step.revision for step in reversed(list(ScriptDirectory(schema._STEPS).walk_revisions()))]


def bare(url):
    return sa.create_engine(parsed_url(url))


def written(index):
    options = {name: str(value) for name, value in index.pop("dialect_options", {}).items()}
    return f"{index} {options}"


def shape(connection):
    """Tables, columns, keys, indexes and checks as the data base tells them."""
    inspector = sa.inspect(connection)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"], c.get("default")) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            sorted(map(written, inspector.get_indexes(name))),
            sorted(map(str, inspector.get_unique_constraints(name))),
            sorted(map(str, inspector.get_check_constraints(name))),
        )
        for name in sorted(inspector.get_table_names())
        if name != "alembic_version"
    }


def test_revisions_are_one_line():
    assert sorted(REVISIONS) == REVISIONS
    assert len(REVISIONS) >= 2


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_every_revision_upgrades_to_the_newest_and_keeps_its_rows(url, revision):
    engine = bare(url)
    with engine.begin() as connection:
        if revision:
            schema.upgrade(connection, revision)
            connection.execute(sa.text("UPDATE audit_head SET seq = 7, hash = 'kept'"))
    with contextlib.closing(open_store(url)) as store, store.read() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISIONS[-1]
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        seq, value = connection.execute(sa.text("SELECT seq, hash FROM audit_head")).one()
        assert (seq, value) == ((7, "kept") if revision else (0, "0" * 64))
    engine.dispose()


def test_migrated_schema_is_that_of_the_tables(url, request, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db" if url.startswith("sqlite") else request.getfixturevalue("postgres").new()
    made = bare(other)
    with made.begin() as connection:
        METADATA.create_all(connection)
        wanted = shape(connection)
    made.dispose()
    with contextlib.closing(open_store(url)) as store, store.read() as connection:
        assert shape(connection) == wanted
        assert set(wanted) == set(METADATA.tables)


def test_opening_again_changes_nothing(url, make):
    for number in range(3):
        with contextlib.closing(open_store(url)) as store:
            with AuditLog(store) as log:
                log.submit(make(number)).result()
            assert verify(store).n == number + 1


def test_a_newer_schema_is_refused(url):
    open_store(url).close()
    engine = bare(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(
        InputError, match=f"schema '9999', of a newer or another offmap; this one knows up to '{REVISIONS[-1]}'"
    ):
        open_store(url)


@pytest.mark.parametrize("revision", REVISIONS)
def test_tables_that_lack_a_column_are_refused_in_words(url, revision):
    engine = bare(url)
    with engine.begin() as connection:
        schema.upgrade(connection, revision)
        connection.execute(sa.text("ALTER TABLE audit DROP COLUMN commitment"))
    engine.dispose()
    for make in (True, False):
        with pytest.raises(InputError, match=r"table 'audit' has no column 'commitment'.* wanted an empty data base"):
            open_store(url, make=make)


def test_nothing_is_made_where_nothing_is_to_be_made(url, tmp_path):
    """Neither a file, nor tables, nor newer tables."""
    wanted = "no data base can be read there" if url.startswith("sqlite") else "found no audit chain"
    with pytest.raises(InputError, match=wanted):
        open_store(url, make=False)
    assert not url.startswith("sqlite") or not list(tmp_path.iterdir())
    engine = bare(url)
    with engine.begin() as connection:
        schema.upgrade(connection, REVISIONS[0])
    with pytest.raises(InputError, match="found the schema of another offmap; wanted the newest"):
        open_store(url, make=False)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISIONS[0]
    engine.dispose()
    open_store(url).close()
    with contextlib.closing(open_store(url, make=False)) as store:
        assert verify(store).n == 0


def test_an_empty_file_is_no_data_base(tmp_path):
    path = tmp_path / "store.db"
    path.touch()
    for url in (f"sqlite:///{path}", f"sqlite:///file:{path}?mode=rwc&uri=true"):
        with pytest.raises(InputError, match="found an empty file"):
            open_store(url, make=False)
    assert path.read_bytes() == b""


def test_another_programs_data_base_is_left_alone(url):
    engine = bare(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE theirs (x INTEGER)"))
    with pytest.raises(InputError, match="tables of another program \\('theirs'\\)"):
        open_store(url)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["theirs"]
    engine.dispose()


def test_many_processes_may_open_a_new_store_at_once(url, nursery):
    assert nursery.run(*[["make", url]] * 4) == ([], [0] * 4)
    with contextlib.closing(open_store(url)) as store:
        assert verify(store).n == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqlite://", "in memory only"),
        ("sqlite:///:memory:", "in memory only"),
        ("sqlite:///file::memory:?uri=true", "in memory only"),
        ("sqlite:///file:store.db?mode=memory&uri=true", "found the option mode=memory"),
        ("mysql://u:hidden@host/db", "wanted sqlite or postgresql"),
        ("store.db", "found what is no URL"),
    ],
)
def test_what_is_no_store(text, message):
    with pytest.raises(InputError, match=message) as caught:
        open_store(text)
    assert "hidden" not in str(caught.value)


def test_a_file_of_something_else_is_an_error(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a data base at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"not a data base")
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(f"sqlite:///{tmp_path}/none/store.db")


def test_a_server_that_is_not_there_is_an_error():
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://user:hunter2@127.0.0.1:1/name")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("options", ["{}?uri=false", "file:{}?uri=true", "file:{}?mode=rwc&uri=true"])
def test_a_file_with_options_is_private_too_and_missed_when_it_is_gone(tmp_path, make, options):
    path = tmp_path / "a store.db"
    with contextlib.closing(open_store(f"sqlite:///{options.format(path)}")) as store, AuditLog(store) as log:
        log.submit(make(1)).result()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.rename(tmp_path / "away.db")
        with pytest.raises(StoreError, match="the file of the data base is gone"):
            log.submit(make(2)).result()


def test_a_file_that_is_only_to_be_read_is_not_made(tmp_path):
    with pytest.raises(StoreError, match="is gone"):
        open_store(f"sqlite:///file:{tmp_path}/store.db?mode=ro&uri=true")
    assert not list(tmp_path.iterdir())


def test_sqlite_is_durable_private_and_patient(sqlite, sqlite_url):
    with sqlite.read() as connection:
        names = "journal_mode", "synchronous", "busy_timeout", "cache_size"
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    assert pragmas == ["wal", 2, 5000, -512]
    path = sqlite_url.removeprefix("sqlite:///")
    for end in ("", "-wal", "-shm"):
        assert stat.S_IMODE(Path(path + end).stat().st_mode) == 0o600
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
