"""What one decision is about, and the decision itself once the policy has ruled. Asks nobody and records nothing."""

from __future__ import annotations

import msgspec

from offmap.conversation import Conversation
from offmap.gateway.config import StageTable
from offmap.gateway.decision import STOPS, Decision, Finding, Stage
from offmap.gateway.policy import ERRORS, Ruling, promoted
from offmap.gateway.uuid7 import uuid7


class Ask(msgspec.Struct, frozen=True):
    """What is to be decided; as ``Engine.decide`` takes it."""

    stage: Stage
    conversation: Conversation
    conversation_id: str = ""
    unit: str = ""
    partial: bool = False
    remember: bool = True
    foreseen: Finding | None = None
    deadline: float | None = None


class Request(msgspec.Struct, frozen=True):
    """One call of ``Engine.decide``.

    Attributes:
        stage, conversation_id, caller, unit, partial, remember: as they were given.
        table, policy: those that it began with.
        content: the conversation together with what is remembered of it.
        began, deadline: on the monotonic clock.
        foreseen: what the stage's first monitor found of the content already; None: it is to be asked.
        content_sha256: of the content.
        forgotten: messages that are not remembered any more.
    """

    stage: Stage
    table: StageTable
    policy: str
    content: Conversation
    conversation_id: str
    caller: str
    began: float
    deadline: float
    unit: str = ""
    partial: bool = False
    remember: bool = True
    foreseen: Finding | None = None
    content_sha256: str = ""
    forgotten: int = 0

    @property
    def enforced(self) -> bool:
        """Whether the policy is enforced for this conversation."""
        return promoted(self.table.percent, self.unit or self.conversation_id or self.content_sha256)

    def decided(
        self, ruling: Ruling, findings: tuple[Finding, ...], why: str = "", *, at: float, ended: float
    ) -> Decision:
        """The decision.

        Args:
            ruling: the policy's.
            findings: of the monitors that were asked, and of those that were not.
            why: the end of its rule; "": what the ruling was made of.
            at: seconds since the epoch.
            ended: on the monotonic clock.
        """
        failures = [each.outcome for each in findings if each.outcome in ERRORS]
        signal = failures[0] if failures and ruling.signal == "error" else ruling.signal
        return Decision(
            id=uuid7(at),
            at=at,
            stage=self.stage,
            action=ruling.action,
            would=ruling.would,
            status=ruling.status,
            rule=f"{self.stage}.{why or signal}",
            policy=self.policy,
            conversation=self.conversation_id,
            caller=self.caller,
            content_sha256=self.content_sha256,
            findings=findings,
            replacement=self.table.refusal if ruling.action in STOPS else "",
            fallback=self.table.fallback if ruling.action == "modify" else "",
            messages=len(self.content.messages),
            forgotten=self.forgotten,
            partial=self.partial,
            seconds=ended - self.began,
        )
