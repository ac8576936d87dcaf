"""Whether proposals and reviews stand as the chain says: their tables are outside of its hashes.

Only what became of them is in the chain. Why and with which probability something came into the queue is not, and
neither is what nobody decided yet. Knows nothing of hashes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from offmap.gateway.store.promotions import Promotion
from offmap.gateway.store.tables import AUDIT, PROPOSAL, REVIEW
from offmap.gateway.store.tickets import Review

_STREAMED = {"yield_per": 500}


def disagreement(connection: sa.Connection) -> str:
    """The first proposal or review that is not as the chain has it, in words; "" where there is none."""
    name = sa.literal("proposal-", sa.String) + sa.cast(PROPOSAL.c.id, sa.String)
    return (
        _of(connection, "promotion", PROPOSAL, AUDIT.c.decision_id == name, _proposal_fault)
        or _of(connection, "review", REVIEW, AUDIT.c.decision_id == REVIEW.c.decision_id, _review_fault)
    )  # fmt: skip


_Fault = Callable[[sa.Row[tuple[object, ...]]], str]


def _of(connection: sa.Connection, kind: str, table: sa.Table, same: sa.ColumnElement[bool], fault: _Fault) -> str:
    """Both ways: what the table says and the chain does not, and what only the chain says."""
    about = sa.and_(AUDIT.c.kind == kind, same)
    newest = sa.select(sa.func.max(AUDIT.c.seq)).where(about).correlate(table).scalar_subquery()
    chained = AUDIT.c.seq.label("row_seq"), AUDIT.c.record.label("row_record")
    joined = table.outerjoin(AUDIT, AUDIT.c.seq == newest)
    wanted = sa.select(table, *chained).select_from(joined).order_by(table.c.id).execution_options(**_STREAMED)
    with connection.execute(wanted) as rows:
        for row in rows:
            try:
                reason = fault(row)
            except (msgspec.DecodeError, TypeError):
                reason = "cannot be read there"
            if reason:
                place = f"row {row.row_seq} of the chain" if row.row_seq else "no row of the chain"
                return f"{table.name} {row.id}: {reason} ({place} is about it)"
    alone = sa.select(AUDIT.c.seq).where(AUDIT.c.kind == kind, ~sa.exists().where(same).correlate(AUDIT))
    seq = connection.execute(alone.order_by(AUDIT.c.seq).limit(1)).scalar()
    return f"row {seq} of the chain is about a {table.name} that is gone" if seq else ""


def _proposal_fault(row: sa.Row[tuple[object, ...]]) -> str:
    found = row.state, row.seq, row.decided_by, row.decided_at
    if row.row_seq is None:
        wanted: tuple[object, ...] = ("proposed", None, None, None) if row.proposal else ("promoted", 0, None, None)
        return _differs(found, wanted)
    said = msgspec.json.decode(row.row_record, type=Promotion)
    versions = msgspec.json.decode(row.versions, type=dict[str, str])
    made = row.id, row.stage, row.policy, versions
    wanted = said.verdict, row.row_seq, said.by, said.at, said.proposal, said.stage, said.policy, said.versions
    return _differs((*found, *made), wanted)


def _review_fault(row: sa.Row[tuple[object, ...]]) -> str:
    found = row.state, row.verdict, row.decided_by, row.decided_at
    if row.row_seq is None:
        return _differs(found, ("open", None, None, None))
    said = msgspec.json.decode(row.row_record, type=Review)
    action = row.default_action if row.state == "timed_out" else None
    return _differs((*found, row.id, action), (said.state, said.verdict, said.by, said.at, said.item, said.action))


def _differs(found: tuple[object, ...], wanted: tuple[object, ...]) -> str:
    """In words, the first value that is not as wanted; values are names and numbers of ours."""
    for one, other in zip(found, wanted, strict=True):
        if one != other:
            return f"found {one!r} where the chain says {other!r}"
    return ""
