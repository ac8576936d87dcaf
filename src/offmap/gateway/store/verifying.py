"""How far a chain holds: every row's hash and link, content's commitments, and that purges account for what is gone.

See ``chain`` for the rules. Rows may come from a data base or from anywhere else. Memory grows with the gaps between
what was purged and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import zip_longest

import msgspec
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.store.agreement import disagreement
from offmap.gateway.store.chain import (
    GENESIS,
    Checkpoint,
    Entry,
    NoHeadError,
    Purge,
    commit,
    entries,
    head,
    ranges,
    row_hash,
)
from offmap.gateway.store.opening import Store


class Verified(msgspec.Struct, frozen=True):
    """How far a chain holds.

    Attributes:
        n: rows that hold, from the first on.
        broken_at: the first place that does not, None where all holds.
        reason: what is wrong there, "" where nothing is.
        last: the end of what holds.
        purged: rows that hold and had their content purged.
        purges: how many purges there were behind the checkpoint; in all where none is given.
    """

    n: int
    broken_at: int | None
    reason: str
    last: Checkpoint
    purged: int = 0
    purges: int = 0


def verify(store: Store, checkpoint: Checkpoint | None = None) -> Verified:
    """Walk the whole chain as it is at this moment, and see that proposals and reviews stand as it says.

    Args:
        store: whose chain.
        checkpoint: what was kept elsewhere; without one, an end that was cut with its head set back cannot be told.

    Raises:
        StoreError: the data base cannot be read at all. A row that cannot be is where the chain breaks.
    """
    with store.read() as connection, closing(entries(connection)) as rows:
        try:
            end = head(connection)
        except NoHeadError as gone:
            return _broken(verify_rows(rows, None, checkpoint).last, str(gone))
        found = verify_rows(rows, end, checkpoint)
        if found.broken_at is None and (reason := disagreement(connection)):
            return msgspec.structs.replace(found, broken_at=found.n + 1, reason=reason)
        return found


def verify_rows(rows: Iterable[Entry], end: Checkpoint | None, checkpoint: Checkpoint | None = None) -> Verified:
    """The same for rows from anywhere; ``end`` is where they should end, None where that is not known."""
    walk = _Walk(checkpoint)
    try:
        for entry in rows:
            if reason := walk.step(entry):
                return walk.broken(reason)
    except (sa.exc.DBAPIError, InputError) as error:
        return walk.broken(f"the row cannot be read ({type(error).__name__})")
    if end and walk.last != end:
        return walk.broken(f"the head says that the chain ends at {end.seq}: its end was cut, or rewritten")
    if checkpoint and checkpoint.seq > walk.last.seq:
        return walk.broken(f"the checkpoint says that the chain reached {checkpoint.seq}: its end was cut")
    if reason := walk.unaccounted():
        return walk.broken(reason)
    return Verified(walk.last.seq, None, "", walk.last, walk.purged, walk.purges)


class _Walk:
    """How far a chain holds, row by row."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self.last, self.purged, self.purges = Checkpoint(0, GENESIS), 0, 0
        self._checkpoint = checkpoint
        self._gone: list[tuple[int, int]] = []
        self._accounted: list[tuple[int, int]] = []

    def step(self, entry: Entry) -> str:
        """What is wrong with the next row, "" where nothing is."""
        if reason := _fault(entry, self.last) or _content_fault(entry):
            return reason
        if self._checkpoint and entry.seq == self._checkpoint.seq and entry.hash != self._checkpoint.hash:
            return "the checkpoint has another hash: it was rewritten"
        if entry.kind == "purge":
            told = _purge(entry)
            if told is None:
                return "it does not say what it purged"
            self._accounted += told.seqs
            self.purges += self._checkpoint is None or entry.seq > self._checkpoint.seq
        if entry.purged:
            self.purged += 1
            self._gone[-1:] = ranges((*self._gone[-1:], (entry.seq, entry.seq)))
        self.last = Checkpoint(entry.seq, entry.hash)
        return ""

    def unaccounted(self) -> str:
        """Where what is gone is not what purges say that they took, "" where it is."""
        told = ranges(sorted(self._accounted))
        for gone, accounted in zip_longest(self._gone, told):
            if gone != accounted:
                at = min(each[0] for each in (gone, accounted) if each)
                return f"the content that is gone is not what purges took: they differ from row {at} on"
        return ""

    def broken(self, reason: str) -> Verified:
        """That it holds no further."""
        return msgspec.structs.replace(_broken(self.last, reason), purged=self.purged, purges=self.purges)


def _broken(last: Checkpoint, reason: str) -> Verified:
    return Verified(last.seq, last.seq + 1, reason, last)


def _purge(entry: Entry) -> Purge | None:
    try:
        told = msgspec.json.decode(entry.record, type=Purge)
    except msgspec.DecodeError:
        return None
    fits = all(0 < first <= last < entry.seq for first, last in told.seqs)
    return told if fits and told.rows == sum(last - first + 1 for first, last in told.seqs) else None


def _fault(entry: Entry, last: Checkpoint) -> str:
    """What is wrong with the row behind ``last``, its content apart; "" where nothing is."""
    if entry.seq != last.seq + 1:
        return f"found row {entry.seq}: a row is missing"
    if entry.prev_hash != last.hash:
        return "its link does not fit the row before"
    try:
        fits = row_hash(entry) == entry.hash
    except (UnicodeEncodeError, TypeError):
        fits = False
    return "" if fits else "its hash does not fit what it says"


def _content_fault(entry: Entry) -> str:
    """What is wrong with a row's content, "" where nothing is."""
    if entry.content is None and entry.salt is None:
        return ""
    if entry.commitment is None or entry.content is None or entry.salt is None:
        return "its content is there without salt or commitment, or the other way round"
    try:
        fits = commit(entry.salt, entry.content) == entry.commitment
    except (AttributeError, TypeError, ValueError):
        fits = False
    return "" if fits else "its content does not fit its commitment"
