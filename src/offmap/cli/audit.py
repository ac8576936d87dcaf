"""``offmap audit``: the gateway's audit log, checked, shown, copied out, and purged of content that is too old."""

from __future__ import annotations

import json as plain_json
import re
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from offmap.cli.checks import printable, require_file
from offmap.cli.stores import DEFAULT_URL, opened_store, require_store
from offmap.errors import InputError

if TYPE_CHECKING:
    from offmap.gateway.store import Checkpoint, Entry, Store, Verified

audit = App(name="audit", help="The gateway's audit log: check it, look into it, copy it out, purge old content.")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_File = Annotated[Path, Parameter(allow_leading_hyphen=True)]


@Parameter(name="*", group="Store")
@dataclass(frozen=True)
class StoreOptions:
    """Which audit log; without any of these that of `offmap serve` without a configuration.

    Attributes:
        store: URL of the data base: sqlite:///path or postgresql://user@host/name.
        config: The gateway.toml that names it.
    """

    store: str = ""
    config: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None

    @property
    def url(self) -> str:
        """The URL of the data base.

        Raises:
            InputError: both are given, or the configuration cannot be read.
        """
        if self.store and self.config:
            raise InputError("found --store and --config; wanted one of them at most")
        if self.config:
            from offmap.gateway.config import read_gateway

            return read_gateway(self.config).store.url
        return self.store or DEFAULT_URL

    def opened(self, *, whole: bool = False) -> AbstractContextManager[Store]:
        """See ``opened_store``."""
        return opened_store(self.url, whole=whole)


SERVED = StoreOptions()


def verify(
    *,
    source: StoreOptions = SERVED,
    checkpoint: _File | None = None,
    export: _File | None = None,
    json: bool = False,
) -> int:
    """Check that nothing in the audit log was changed, taken out or put in. Exit code 1 where something was.

    A cut end, or a log that was written anew as a whole, shows only against a checkpoint that was kept elsewhere.

    Parameters
    ----------
    source
        Which audit log.
    checkpoint
        A file of `offmap audit checkpoint`, or the manifest of an export, that was kept elsewhere.
    export
        Check this file of `offmap audit export` in place of a data base.
    json
        Print the result as JSON.
    """
    require_store()
    from offmap.gateway.store import read_checkpoint, verify_export
    from offmap.gateway.store import verify as verify_store

    if export and (source.store or source.config):
        raise InputError("found --export beside --store or --config; wanted one of them")
    kept = read_checkpoint(checkpoint) if checkpoint else None
    if export:
        found = verify_export(export, kept)
    else:
        with source.opened() as store:
            found = verify_store(store, kept)
    _write(_as_json(found) if json else _verdict(found, kept))
    return _code(found)


def export(*, out: _File, source: StoreOptions = SERVED) -> int:
    """Write the whole log as JSON lines, and a manifest beside it that says how to check it without offmap.

    It is checked as well: where it does not hold, that is told, all of it is written, and the exit code is 1. Where a
    row cannot be read, nothing is written, and the exit code is 2.

    Parameters
    ----------
    out
        The file to write; what was kept of content is in it.
    source
        Which audit log.
    """
    require_file(out)
    with source.opened() as store:
        from offmap.gateway.store import export as write_export
        from offmap.gateway.store import verify as verify_store
        from offmap.gateway.store.export import manifest_path

        manifest = write_export(store, out, time.time())
        found = verify_store(store)
    _write(f"{manifest.rows} rows: {out}; manifest {manifest_path(out)}. {_verdict(found)}")
    return _code(found)


def checkpoint(*, out: _File, source: StoreOptions = SERVED) -> int:
    """Write where the log ends now to a small file, to be kept where those who write the data base cannot reach it.

    The log is checked first. Where it does not hold, nothing is written, and the exit code is 1.

    Parameters
    ----------
    out
        The file to write.
    source
        Which audit log.
    """
    require_file(out)
    with source.opened(whole=True) as store:
        from offmap.gateway.store import write_checkpoint

        found = write_checkpoint(store, out)
    written = f"row {found.last.seq}: {out}"
    _write(written if found.broken_at is None else f"{_verdict(found)} No checkpoint is written.")
    return _code(found)


def show(decision: str, /, *, source: StoreOptions = SERVED) -> None:
    """Show all that the log has of a decision, as JSON: the decision, its reviews, what is kept of the content.

    Parameters
    ----------
    decision
        Its id.
    source
        Which audit log.
    """
    with source.opened() as store:
        from offmap.gateway.store.chain import about

        rows = about(store, decision)
    if not rows:
        raise InputError(f"the log has no decision {decision!r}; wanted the id of one")
    _write(_as_json([_shown(row) for row in rows]))


def purge(*, older_than: str, source: StoreOptions = SERVED) -> None:
    """Purge content and reviewers' notes that are older, for good. The log still holds, and says that it was done.

    Parameters
    ----------
    older_than
        A number and its unit: 30d, 12h; s, m, h, d or w.
    source
        Which audit log.
    """
    now, seconds = time.time(), _seconds(older_than)
    with source.opened(whole=True) as store:
        from offmap.gateway.store import purge as purge_store

        done = purge_store(store, max(0.0, now - seconds), now)  # nothing is older than the clock
        vacuum = store.engine.dialect.name == "postgresql"
    before = datetime.fromtimestamp(done.before / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    told = f"Purged the content of {done.rows} rows and {done.notes} notes from before {before}."
    _write(told + " PostgreSQL keeps old versions of rows until VACUUM." * (vacuum and bool(done.rows + done.notes)))


def labels(*, out: _File, source: StoreOptions = SERVED) -> None:
    """Write what reviewers settled as safe or unsafe, with the p-values of the decision, as JSON lines.

    Parameters
    ----------
    out
        The file to write.
    source
        Which audit log.
    """
    require_file(out)
    with source.opened(whole=True) as store:
        from offmap.gateway.store import write_labels

        _write(f"{write_labels(store, out)} labels: {out}")


for command in (verify, export, checkpoint, show, purge, labels):
    audit.command(command)


def _code(found: Verified) -> int:
    return 0 if found.broken_at is None else 1


def _verdict(found: Verified, kept: Checkpoint | None = None) -> str:
    rows = (
        f"{found.n} rows, of {found.purged} the content was purged; the last is row {found.last.seq}, {found.last.hash}"
    )
    if found.broken_at is not None:
        return f"BROKEN at row {found.broken_at}: {found.reason}. What holds: {rows}."
    against = ""
    if kept:
        against = f" It is what the checkpoint of row {kept.seq} says; purges since then: {found.purges}."
    return f"The log holds: {rows}.{against}"


def _shown(row: Entry) -> dict[str, Any]:
    """A row as a person wants it."""
    import msgspec

    kept = row.kept
    record = row.decision if row.kind == "decision" else msgspec.json.decode(row.record)
    at = datetime.fromtimestamp(row.at / 1000, UTC).isoformat(timespec="milliseconds")
    shown = {"row": row.seq, "hash": row.hash, "written": at, "kind": row.kind, "record": msgspec.to_builtins(record)}
    content = {"content": msgspec.json.decode(kept.content)} if bytes(kept.content) else {}
    note = {"note": kept.note} if kept.note else {}
    return shown | content | note | ({"purged": True} if row.purged else {})


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise InputError(f"--older-than is {text!r}; wanted a number and one of s, m, h, d, w, such as 30d")
    return float(found[1]) * _UNITS[found[2]]


def _as_json(value: object) -> str:
    """ASCII, so that nothing of a stranger's text steers a terminal."""
    import msgspec

    return plain_json.dumps(msgspec.to_builtins(value), indent=2)


def _write(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
