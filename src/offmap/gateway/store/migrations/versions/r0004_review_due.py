"""Reviews by when they are due."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_review_state_due_at", "review", ["state", "due_at"])
