"""The audit chain as files: JSON lines that anybody can check, and a manifest that says where the chain ended.

The manifest is the checkpoint to keep elsewhere. Knows nothing of what a record says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from offmap.atomic import whole_file, write_whole
from offmap.errors import InputError
from offmap.gateway.store.chain import Checkpoint, Entry, entries, head
from offmap.gateway.store.opening import Store
from offmap.gateway.store.verifying import Verified, verify, verify_rows

T = TypeVar("T")
FORMAT = "offmap-audit/1"
HASH_RULE = (
    'hash = SHA-256(prev_hash + the JSON object of "at", "capture", "commitment", "decision_id", "kind", "record", '
    '"seq" in this order, in UTF-8, without spaces, nothing escaped that JSON need not escape), in hexadecimal; the '
    "first prev_hash is 64 zeros. commitment = SHA-256(the bytes of salt + content in UTF-8), in hexadecimal; it is "
    "null where no content was kept. content and salt are null beside a commitment where the content was purged; the "
    'rows of kind "purge" name these rows: "seqs" of their record, ranges [first, last], both included'
)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an export is.

    Attributes:
        file: name of the file with the rows.
        sha256: of that file.
        rows: how many there are.
        last: where the chain ended.
        exported_at: seconds since the epoch, UTC.
        format, hash_rule: how to read it, and how to check it without offmap.
    """

    file: str
    sha256: str
    rows: int
    last: Checkpoint
    exported_at: float
    format: str = FORMAT
    hash_rule: str = HASH_RULE


class _Checkpoint(msgspec.Struct, frozen=True):
    """What a file of a checkpoint may hold: a checkpoint, or a manifest with one."""

    seq: int | None = None
    hash: str | None = None
    last: Checkpoint | None = None


def export(store: Store, path: Path, now: float) -> Manifest:
    """Write the whole chain to ``path`` and its manifest beside it (``manifest_path``), whole or not at all.

    Nothing is checked: what is exported is what is there, and ``verify`` tells what it is worth.

    Raises:
        InputError: no file can be made there.
        StoreError: the data base, or a row of it, cannot be read, or nothing says where the chain ends.
    """
    digest, rows = hashlib.sha256(), 0
    with whole_file(path) as stream, store.read() as connection:
        os.fchmod(stream.fileno(), 0o600)  # as the data base: content may lie in it
        last = head(connection)
        for entry in entries(connection):
            line = msgspec.json.encode(entry) + b"\n"
            stream.write(line)
            digest.update(line)
            rows += 1
    manifest = Manifest(path.name, digest.hexdigest(), rows, last, now)
    write_whole(manifest_path(path), msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return manifest


def manifest_path(path: Path) -> Path:
    """Where the manifest of an export lies."""
    return path.with_name(f"{path.name}.manifest.json")


def verify_export(path: Path, checkpoint: Checkpoint | None = None) -> Verified:
    """Walk an exported chain; see ``verifying.verify``. It should be the file that its manifest names, to the byte.

    Raises:
        InputError: file or manifest cannot be read.
    """
    manifest = _read(manifest_path(path), Manifest)
    if manifest.format != FORMAT:
        raise InputError(f"{manifest_path(path)}: found format {manifest.format!r}, wanted {FORMAT!r}")
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: the export cannot be read: {error.strerror}") from None
    found = verify_rows(_lines(path), manifest.last, checkpoint)
    if found.broken_at is None and (digest, found.n) != (manifest.sha256, manifest.rows):
        reason = f"the file has not the SHA-256 or not the {manifest.rows} rows of its manifest"
        return msgspec.structs.replace(found, broken_at=found.n + 1, reason=reason)
    return found


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that was kept: a file that ``write_checkpoint`` wrote, or the manifest of an export.

    Raises:
        InputError: it cannot be read, or is neither.
    """
    found = _read(path, _Checkpoint)
    last = found.last or (Checkpoint(found.seq, found.hash) if found.seq is not None and found.hash else None)
    if last is None:
        raise InputError(f"{path}: found neither a checkpoint nor the manifest of an export")
    return last


def write_checkpoint(store: Store, path: Path) -> Verified:
    """Walk the chain and write where it ends to a small file, to be kept where the data base's writers cannot reach it.

    Nothing is written where the chain does not hold: whoever finds the file later takes all before it for unchanged.

    Raises:
        InputError: no file can be made there.
        StoreError: see ``verifying.verify``.
    """
    found = verify(store)
    if found.broken_at is None:
        write_whole(path, msgspec.json.encode(found.last) + b"\n")
    return found


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: no {kind.__name__.strip('_').lower()}: {error}") from None


def _lines(path: Path) -> Iterator[Entry]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield msgspec.json.decode(line, type=Entry)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise InputError(f"{path}: line {number} is no row of an audit chain") from None
