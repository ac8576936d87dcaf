"""The tables of the store, as the newest migration leaves them. Knows neither how rows are made nor who reads them."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
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
)
"""The chain: what was recorded, in order. Only ever added to, but that ``salt`` and ``content`` may be purged."""

sa.Index(
    "uq_audit_decision",
    AUDIT.c.decision_id,
    unique=True,
    sqlite_where=AUDIT.c.kind == "decision",
    postgresql_where=AUDIT.c.kind == "decision",
)

sa.Index("ix_audit_decision_id", AUDIT.c.decision_id)

sa.Index(
    "ix_audit_at_kept",
    AUDIT.c.at,
    sqlite_where=AUDIT.c.salt.is_not(None),
    postgresql_where=AUDIT.c.salt.is_not(None),
)

HEAD = sa.Table(
    "audit_head",
    METADATA,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
"""The one row that tells where the chain ends; who holds it may add to the chain."""

STATE = sa.Table(
    "state",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
)
"""What the service remembers of itself by name, outside of the chain; see ``state``."""

REVIEW = sa.Table(
    "review",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("decision_id", sa.String(64), nullable=False, unique=True),
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
)
"""The queue of what people look at. ``state`` is open, decided or timed_out; leased is open with a living lease."""

sa.Index("ix_review_state_enqueued_at", REVIEW.c.state, REVIEW.c.enqueued_at)

sa.Index("ix_review_state_due_at", REVIEW.c.state, REVIEW.c.due_at)

PROPOSAL = sa.Table(
    "proposal",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("versions", sa.Text, nullable=False),
    sa.Column("proposal", sa.Text),
    sa.Column("comparison", sa.Text),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("decided_by", sa.String(64)),
    sa.Column("decided_at", sa.Double),
    sa.Column("seq", sa.BigInteger),
)
"""Bands proposed for a stage of a policy. ``seq``: the row of the chain that last put them in force, or rejected them;
of the promoted ones the highest is in force. Without ``proposal``: the policy's own bands."""

sa.Index("ix_proposal_policy_seq", PROPOSAL.c.policy, PROPOSAL.c.seq)
