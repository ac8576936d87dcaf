"""What the review queue is made of, as plain data: why a decision is looked at, its place there, what came of it.

Knows nothing of the data base.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import msgspec

from offmap.gateway.decision import Action, Decision
from offmap.gateway.store.capture import canonical

Verdict = Literal["safe", "unsafe", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
State = Literal["open", "decided", "timed_out"]


class Ticket(msgspec.Struct, frozen=True):
    """Why and how a decision is looked at.

    Attributes:
        reason: "escalated", "sample", or a caller's word.
        probability: with which a decision like it comes into the queue; its inverse is the weight of its label.
        due_in: seconds until the default applies, None where nothing waits for the answer.
        default: what is done when nobody has decided by then.
    """

    reason: str
    probability: float = 1.0
    due_in: float | None = None
    default: Action = "block"


class ReviewRules(msgspec.Struct, frozen=True):
    """Which decisions are looked at: every enforced escalation, and a random sample of all others.

    Attributes:
        due_in, default: of escalations.
        sample: the share of the others, between 0 and 1.
        seed: of the sample, which is drawn by a hash of it and the decision's id.
    """

    due_in: float = 900.0
    default: Action = "block"
    sample: float = 0.0
    seed: int = 0

    def __call__(self, decision: Decision) -> Ticket | None:
        """The ticket of a decision, None where nobody looks at it."""
        if decision.action == "escalate":
            return Ticket("escalated", 1.0, self.due_in, self.default)
        if not self.sample:
            return None
        draw = hashlib.sha256(canonical([self.seed, decision.id]).encode()).digest()
        drawn = int.from_bytes(draw[:8]) / 2**64 < self.sample
        return Ticket("sample", self.sample) if drawn else None


class Item(msgspec.Struct, frozen=True):
    """An item of the queue; ``default`` and ``due_at`` as its ticket said, ``verdict`` a person's only."""

    id: int
    decision_id: str
    reason: str
    probability: float
    enqueued_at: float
    due_at: float | None
    default: Action
    state: State
    verdict: Verdict | None = None
    note: str | None = None
    decided_by: str | None = None
    decided_at: float | None = None

    @property
    def action(self) -> Action | None:
        """What a person's verdict, or the deadline, came to: "unsure" is the default; None while it is open."""
        if self.state == "open":
            return None
        verdicts: dict[str | None, Action] = {"safe": "allow", "unsafe": "block"}
        return verdicts.get(self.verdict, self.default)


class Lease(msgspec.Struct, frozen=True):
    """An item that one reviewer holds until ``until``; the token is shown to no one else and not stored."""

    item: Item
    token: str
    until: float

    def __repr__(self) -> str:
        return f"Lease(item={self.item.id}, until={self.until})"


class Counts(msgspec.Struct, frozen=True):
    """Items by state; those that are leased are not among the waiting."""

    waiting: int = 0
    leased: int = 0
    decided: int = 0
    timed_out: int = 0


class Review(msgspec.Struct, frozen=True):
    """What the audit chain keeps of a settled item: ``by`` and ``verdict`` of a person, ``action`` of a deadline."""

    item: int
    decision_id: str
    state: State
    at: float
    verdict: Verdict | None = None
    by: str | None = None
    note: str | None = None
    action: Action | None = None
