"""The audit chain, its head, and what the service remembers of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables, and the head of an empty chain."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("capture", sa.String(16), nullable=False),
        sa.Column("commitment", sa.String(64)),
        sa.Column("salt", sa.String(64)),
        sa.Column("content", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    decisions = sa.text("kind = 'decision'")
    op.create_index(
        "uq_audit_decision", "audit", ["decision_id"], unique=True, sqlite_where=decisions, postgresql_where=decisions
    )
    op.create_index("ix_audit_decision_id", "audit", ["decision_id"])
    kept = sa.text("salt IS NOT NULL")
    op.create_index("ix_audit_at_kept", "audit", ["at"], sqlite_where=kept, postgresql_where=kept)
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table(
        "state",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_state"),
    )
