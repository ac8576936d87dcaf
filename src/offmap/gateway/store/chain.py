"""The audit chain: every row holds the hash of the one before, so what was written cannot be changed unnoticed.

The hash of a row is SHA-256 over the previous hash (64 hexadecimal digits) and the row as JSON: the fields at,
capture, commitment, decision_id, kind, record and seq in the order of the alphabet, without spaces, as UTF-8.
``record`` is a text that is JSON itself and ``at`` is a whole number, so anybody can check a hash without writing a
number the way we do. The first previous hash is 64 zeros.

Content is in the hash by a commitment alone: SHA-256 over 32 random bytes, the row's salt, and the content. So content
can be purged, and its salt with it, without breaking the chain; then the commitment tells nothing, since without the
salt no guess can be tried. A purge is a row itself that says of which rows it took the content.

A change, a deletion, an insertion or another order anywhere breaks the chain, and so does content that is gone and no
purge accounts for. Whoever may write to the data base can still write a whole new chain, or cut its end and set its
head back: that shows only against a ``Checkpoint`` that was kept somewhere else. They can also remove content under a
purge row of their own, which no checkpoint forbids, but never alter it. Knows nothing of what a record says, but for a
purge's.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.decision import Decision
from offmap.gateway.store.capture import Capture, Kept, kept, restored
from offmap.gateway.store.opening import Store, StoreError, execute
from offmap.gateway.store.tables import AUDIT, HEAD

GENESIS = "0" * 64
Kind = Literal["decision", "review", "promotion", "purge", "drift"]


class NoHeadError(StoreError):
    """Nothing says where the chain ends, so nothing is added to it."""


class Row(msgspec.Struct, frozen=True):
    """What is recorded, as canonical JSON, and the content as far as it is kept.

    A decision, what a review came to, or that a proposal was promoted or rejected: its ``decision_id`` is "proposal-7".
    Or a purge, which is about no decision (""), or that drift was found at a decision.
    """

    kind: Kind
    decision_id: str
    record: str
    capture: Capture
    content: str | None = None


class Purge(msgspec.Struct, frozen=True):
    """What the record of a purge says.

    Attributes:
        at, before: when it was, and that it is about what was written before; milliseconds since the epoch, UTC.
        rows: of how many rows it took the content.
        seqs: which, as ranges (first, last) of rows without a gap; no more ranges than rows.
        notes: how many reviewers' notes it took out of the queue.
    """

    at: int
    before: int
    rows: int
    seqs: tuple[tuple[int, int], ...]
    notes: int = 0


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row in its place, as the data base has it: it may have been tampered with.

    Attributes:
        at: when it was written, milliseconds since the epoch, UTC.
        commitment: to the content; None where none was kept.
        salt, content: as hexadecimal digits, and as ``capture.Kept``; both None where none was kept, or it was purged.
    """

    seq: int
    at: int
    prev_hash: str
    hash: str
    kind: str
    decision_id: str
    record: str
    capture: str
    commitment: str | None
    salt: str | None
    content: str | None

    @property
    def decision(self) -> Decision:
        """The decision that a row of that kind records, with what is kept of its content.

        Raises:
            InputError: it records none.
        """
        try:
            return restored(msgspec.json.decode(self.record, type=Decision), self.content)
        except msgspec.DecodeError as error:
            raise InputError(f"audit row {self.seq}: found no decision ({error})") from None

    @property
    def kept(self) -> Kept:
        """What is kept of content.

        Raises:
            InputError: it cannot be read.
        """
        return kept(self.content)

    @property
    def purged(self) -> bool:
        """Whether content was kept and is gone."""
        return self.commitment is not None and self.content is None and self.salt is None


class Checkpoint(msgspec.Struct, frozen=True):
    """Where a chain ended at some time. Kept elsewhere it proves that nothing up to there has changed since."""

    seq: int
    hash: str


class _Hashed(msgspec.Struct, frozen=True):
    at: int
    capture: str
    commitment: str | None
    decision_id: str
    kind: str
    record: str
    seq: int


def commit(salt: str, content: str) -> str:
    """The commitment to a content: SHA-256 over the salt's bytes and the content in UTF-8, in hexadecimal."""
    return hashlib.sha256(bytes.fromhex(salt) + content.encode()).hexdigest()


class _Written:
    """A statement that is compiled once for each kind of data base: every answer waits for those of the chain."""

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...]]] = {}

    def on(self, connection: sa.Connection, *values: Mapping[str, Any]) -> list[Any]:
        """Execute it; what it found. ``values``: of all its parameters, for each time."""
        text, names = self._compiled.get(connection.dialect.name) or self._compile(connection.dialect)
        rows = [tuple(row[name] for name in names) for row in values] if names else values
        return execute(connection, text, rows or ((),))

    def _compile(self, dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
        """The text, and the order of its parameters where the driver knows them by their places."""
        compiled = self._statement.compile(dialect=dialect)
        names = tuple(getattr(compiled, "positiontup", None) or ())
        self._compiled[dialect.name] = found = str(compiled), names
        return found


def row_hash(entry: Entry) -> str:
    """The hash that a row should have in its place; see the head of this file."""
    place = entry.decision_id, entry.kind, entry.record, entry.seq
    hashed = _Hashed(entry.at, entry.capture, entry.commitment, *place)
    return hashlib.sha256(entry.prev_hash.encode() + msgspec.json.encode(hashed)).hexdigest()


_HEAD = sa.select(HEAD.c.seq, HEAD.c.hash)
_HELD = _HEAD.with_for_update()
_HOLD = _Written(_HELD)
_ADD = _Written(sa.insert(AUDIT))
_MOVE = _Written(sa.update(HEAD).values(seq=sa.bindparam("to_seq"), hash=sa.bindparam("to_hash")))


def append(connection: sa.Connection, rows: Sequence[Row], now: float | None = None) -> list[Checkpoint]:
    """Add rows to the end within a transaction, which holds the head until it ends; where each of them stands.

    ``now``: seconds since the epoch; None: this moment.
    """
    end, at = _end(_HOLD.on(connection)), milliseconds(time.time() if now is None else now)
    places, values = [], []
    for row in rows:
        entry = _entry(end, at, row)
        values.append(msgspec.structs.asdict(entry))
        places.append(end := Checkpoint(entry.seq, entry.hash))
    if rows:
        _ADD.on(connection, *values)
    _MOVE.on(connection, {"to_seq": end.seq, "to_hash": end.hash})
    return places


def ranges(runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges in ascending order, those without a gap between them made one. What overlaps is left as it is."""
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return tuple(joined)


def milliseconds(seconds: float) -> int:
    """A time as rows have it."""
    return int(seconds * 1000)


def head(connection: sa.Connection, *, hold: bool = False) -> Checkpoint:
    """Where the chain ends; ``hold`` keeps others from adding until the transaction ends.

    Raises:
        NoHeadError: there is none.
    """
    return _end(connection.execute(_HELD if hold else _HEAD).all())


def entries(
    connection: sa.Connection, after: int | None = None, limit: int | None = None
) -> Generator[Entry, None, None]:
    """All rows in order, or those behind ``after``, a few in memory at a time."""
    wanted = sa.select(*(AUDIT.c[name] for name in Entry.__struct_fields__))
    behind = sa.true() if after is None else AUDIT.c.seq > after
    wanted = wanted.where(behind).order_by(AUDIT.c.seq).limit(limit).execution_options(yield_per=500)
    with connection.execute(wanted) as rows:
        for row in rows:
            yield Entry(*row)


def find(store: Store, decision_id: str) -> Entry | None:
    """The row that records a decision, None where there is none.

    Raises:
        StoreError: see ``Store.read``.
    """
    wanted = sa.select(*(AUDIT.c[name] for name in Entry.__struct_fields__))
    with store.read() as connection:
        wanted = wanted.where(AUDIT.c.decision_id == decision_id, AUDIT.c.kind == "decision")
        row = connection.execute(wanted).one_or_none()
    return None if row is None else Entry(*row)


def at(connection: sa.Connection, seq: int) -> Entry | None:
    """One row by its place, None where there is none."""
    wanted = sa.select(*(AUDIT.c[name] for name in Entry.__struct_fields__)).where(AUDIT.c.seq == seq)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else Entry(*row)


def about(store: Store, decision_id: str) -> list[Entry]:
    """Every row about a decision, or about a proposal, in order.

    Raises:
        StoreError: see ``Store.read``.
    """
    wanted = sa.select(*(AUDIT.c[name] for name in Entry.__struct_fields__)).where(AUDIT.c.decision_id == decision_id)
    with store.read() as connection:
        return [Entry(*row) for row in connection.execute(wanted.order_by(AUDIT.c.seq))]


def _end(found: Sequence[Sequence[Any]]) -> Checkpoint:
    if not found:
        raise NoHeadError("the head of the audit chain is gone")
    return Checkpoint(*found[0])


def _entry(end: Checkpoint, at: int, row: Row) -> Entry:
    """A row in its place behind ``end``."""
    salt = None if row.content is None else secrets.token_hex(32)
    commitment = None if row.content is None or salt is None else commit(salt, row.content)
    told = row.kind, row.decision_id, row.record, row.capture
    entry = Entry(end.seq + 1, at, end.hash, "", *told, commitment, salt, row.content)
    return msgspec.structs.replace(entry, hash=row_hash(entry))
