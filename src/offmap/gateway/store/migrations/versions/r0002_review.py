"""The review queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "review",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("enqueued_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("default_action", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lease_by", sa.String(64)),
        sa.Column("lease_sha256", sa.String(64)),
        sa.Column("lease_until", sa.Double),
        sa.Column("verdict", sa.String(16)),
        sa.Column("note", sa.Text),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("decided_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_review"),
        sa.UniqueConstraint("decision_id", name="uq_review_decision_id"),
    )
    op.create_index("ix_review_state_enqueued_at", "review", ["state", "enqueued_at"])
