"""The schema of a data base: which one it has, and the steps to ours. Knows nothing of what the tables mean."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.store.tables import METADATA

_STEPS = Path(__file__).parent / "migrations"
_LOCK = 0x6F66666D6170  # "offmap"


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the schema to ``revision`` within the connection's transaction; one process at a time does it.

    Raises:
        InputError: the schema is none that can be brought there: another offmap's, or another program's.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    found = _revision(connection)
    known = [step.revision for step in script.walk_revisions()]
    if found is not None and found not in known:
        raise InputError(
            f"the data base has schema {found!r}, of a newer or another offmap; this one knows up to {known[0]!r}"
        )
    if found is None and (tables := sa.inspect(connection).get_table_names()):
        raise InputError(f"the data base holds tables of another program ({tables[0]!r}): wanted an empty one")
    if found != (known[0] if revision == "head" else revision):
        command.upgrade(config, revision)


def _revision(connection: sa.Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _require_columns(connection: sa.Connection) -> None:
    """Refuse tables of ours by name that are others: no step adds columns to a table that is there."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    for table in METADATA.sorted_tables:
        found = {column["name"] for column in inspector.get_columns(table.name)} if table.name in there else None
        missing = [] if found is None else [column.name for column in table.columns if column.name not in found]
        if missing:
            raise InputError(
                f"the data base's table {table.name!r} has no column {missing[0]!r}, so it is another offmap's: wanted "
                "an empty data base, and this one kept as it is"
            )


def needs_upgrade(connection: sa.Connection) -> bool:
    """Whether the schema is another than the newest; reads only.

    Raises:
        InputError: a table lacks a column of ours.
    """
    from alembic.script import ScriptDirectory

    revision = _revision(connection)
    if revision is not None:
        _require_columns(connection)
    return revision != ScriptDirectory(_STEPS).get_current_head()


def require_current(connection: sa.Connection) -> None:
    """Refuse a schema that is not the newest, and a data base of something else; reads only.

    Raises:
        InputError: it is one of these.
    """
    if not sa.inspect(connection).has_table("audit_head"):
        raise InputError("found no audit chain, wanted the data base of a gateway")
    if needs_upgrade(connection):
        raise InputError("found the schema of another offmap; wanted the newest: `offmap serve` upgrades an older one")
