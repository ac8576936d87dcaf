"""What one decision is about, and the decision itself once the policy has ruled. Asks nobody and records nothing."""

from __future__ import annotations

import msgspec

from offmap.conversation import Conversation
from offmap.conversation.types import content_sha256
from offmap.gateway.config import Gateway, StageTable
from offmap.gateway.decision import STOPS, Decision, Finding, Stage
from offmap.gateway.policy import ERRORS, Ruling, promoted
from offmap.gateway.uuid7 import uuid7


class Ask(msgspec.Struct, frozen=True):
    """What is to be decided.

    Attributes:
        stage: what is looked at.
        conversation: all of it; at the stage "conversation" the whole history or only what is new.
        conversation_id: the caller's; without one nothing is remembered.
        unit: what a policy's ``percent`` goes by, see ``unit_of``; "": the conversation's id, or its content.
        partial: whether it is a part of a reply of which more may come: told in the decision, and not remembered.
        remember: whether the stage "conversation" keeps it; else it is only looked at beside what is remembered.
        foreseen: what the stage's first monitor found of this very conversation already; it is not asked again.
        deadline: on the monotonic clock; None: the policy's time from now, which is the most there is anyway.
    """

    stage: Stage
    conversation: Conversation
    conversation_id: str = ""
    unit: str = ""
    partial: bool = False
    remember: bool = True
    foreseen: Finding | None = None
    deadline: float | None = None


def unit_of(gateway: Gateway, conversation_id: str, asked: Conversation) -> str:
    """What ``percent`` goes by in all of an exchange, so that its decisions are on one side.

    "" where no stage has one below 100, and where neither an id nor what was asked is known.
    """
    if conversation_id or not asked.messages or all(each.percent >= 100 for each in gateway.stages.values()):
        return conversation_id
    return content_sha256(asked)


class Request(msgspec.Struct, frozen=True):
    """One call of ``Engine.decide``.

    Attributes:
        ask, caller: as they were given.
        table, policy: those that it began with.
        began, deadline: on the monotonic clock.
        content: the conversation together with what is remembered of it.
        foreseen: what the stage's first monitor found of the content already; None: it is to be asked.
        content_sha256: of the content.
        forgotten: messages that are not remembered any more.
    """

    ask: Ask
    table: StageTable
    policy: str
    caller: str
    began: float
    deadline: float
    content: Conversation
    foreseen: Finding | None = None
    content_sha256: str = ""
    forgotten: int = 0

    @property
    def enforced(self) -> bool:
        """Whether the policy is enforced for this conversation."""
        return promoted(self.table.percent, self.ask.unit or self.ask.conversation_id or self.content_sha256)

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
            stage=self.ask.stage,
            action=ruling.action,
            would=ruling.would,
            status=ruling.status,
            rule=f"{self.ask.stage}.{why or signal}",
            policy=self.policy,
            conversation=self.ask.conversation_id,
            caller=self.caller,
            content_sha256=self.content_sha256,
            findings=findings,
            replacement=self.table.refusal if ruling.action in STOPS else "",
            fallback=self.table.fallback if ruling.action == "modify" else "",
            messages=len(self.content.messages),
            forgotten=self.forgotten,
            partial=self.ask.partial,
            seconds=ended - self.began,
        )
