"""What of a reply may leave: its text, then every tool call by itself, then the conversation as a whole.

Knows of decisions and messages, and nothing of JSON or HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from offmap.conversation import Conversation, Message, ToolCall
from offmap.conversation.types import content_sha256
from offmap.gateway.actions import allowed_calls, apply, is_object
from offmap.gateway.config import DEFAULT_REFUSAL, StageTable
from offmap.gateway.decision import STOPS, Decision, Stage
from offmap.gateway.policy import enforces, promoted
from offmap.gateway.service import Ahead, Ask, BusyError, Service

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cleared:
    """What of a reply may leave.

    Attributes:
        message: that part of it; its content is the reply's content or a beginning of it.
        refusal: the policy's text where nothing may leave; "" where something may.
        decision: the id of the decision behind it, "" where there is none on record.
        tools: names of the only tools that may be called from here on; None: any.
    """

    message: Message
    refusal: str = ""
    decision: str = ""
    tools: Collection[str] | None = None


@dataclass(frozen=True)
class Checks:
    """The checks of one request, which is one exchange of the service: draining does not refuse them.

    Attributes:
        service: decides.
        asked: the request's messages and tools.
        conversation_id: the caller's, "" where there is none: then nothing is remembered.
        caller: the name of the API key.
        tools: names of the only tools that may be called; None: any.
        ahead: decisions of one look at a reply, each being recorded while the next is made.
    """

    service: Service
    asked: Conversation
    conversation_id: str = ""
    caller: str = ""
    tools: Collection[str] | None = None
    ahead: list[Ahead] = field(default_factory=list)

    def stage(self, stage: Stage) -> StageTable | None:
        """The policy of a stage, None where it has none."""
        return self.service.engine.gateway.stages.get(stage)

    async def request(self) -> Ahead | None:
        """The decision about the request; None where the policy looks at none.

        Raises:
            BusyError: no room: nothing was looked at.
        """
        return await self._decide("input", self.asked)

    async def text(self, reply: Message, *, partial: bool = False) -> Cleared:
        """What of a reply, or of the part of it that has come, may leave, as the response stage says."""
        look = replace(self, ahead=[])
        return await look._kept(await look._text(reply, partial=partial))

    async def review(self, reply: Message) -> Cleared:
        """What of a whole reply, calls included, may leave, as all stages say."""
        look = replace(self, ahead=[])
        return await look._kept(await look._all(reply))

    async def _text(self, reply: Message, *, partial: bool = False) -> Cleared:
        return self._cleared("response", await self._ask("response", reply, partial=partial), reply)

    async def _all(self, reply: Message) -> Cleared:
        cleared = await self._text(reply)
        for call in cleared.message.tool_calls:
            if not cleared.refusal:
                cleared = await self._call(cleared, call)
        if self.conversation_id:
            cleared = await self._kept(cleared)  # what never leaves is not remembered
        if self.conversation_id and not cleared.refusal:
            decision = await self._ask("conversation", cleared.message)
            cleared = _both(cleared, self._cleared("conversation", decision, cleared.message))
        cleared = self._dispatched(cleared)
        kept = cleared.message
        if cleared.refusal or kept.content or kept.tool_calls or not reply.tool_calls:
            return cleared
        return Cleared(kept, self.refusal("tool_call"), cleared.decision)

    async def outage(self, reply: Message, why: str = "upstream") -> Decision:
        """Put on record that a reply never became whole, with what had come of it. ``why``: who failed, one word."""
        return await self._ruled("response", self._with(reply), "error", why)

    def narrowed(self, tools: Collection[str] | None) -> Checks:
        """The same where only those tools may be called that are allowed both here and there."""
        return replace(self, tools=_in_both(self.tools, tools))

    def refusal(self, stage: Stage) -> str:
        """The policy's text in place of what is stopped at a stage."""
        table = self.stage(stage)
        return table.refusal if table else DEFAULT_REFUSAL

    async def _kept(self, cleared: Cleared) -> Cleared:
        """The same once every decision of this look is on record; one that could not be, and stops, stops the reply."""
        kept = [await each.kept() for each in self.ahead]
        stops = [each for each in kept if each.action in STOPS]
        if stops:
            stop = next((each for each in stops if each.on_record), stops[0])
            return Cleared(cleared.message, stop.replacement or self.refusal(stop.stage), stop.on_record)
        unrecorded = cleared.decision in [each.id for each in kept if not each.on_record]
        return replace(cleared, decision="") if unrecorded else cleared

    async def _decide(self, stage: Stage, about: Conversation, *, partial: bool = False) -> Ahead | None:
        if not self.service.engine.watches(stage):
            return None
        return await self.service.ahead(Ask(stage, about, self.conversation_id, partial), caller=self.caller)

    async def _ask(self, stage: Stage, reply: Message, *, partial: bool = False) -> Decision | None:
        """The decision about a reply. Where there is no room for it, the reply stops here."""
        try:
            decided = await self._decide(stage, self._with(reply), partial=partial)
        except BusyError:
            return await self._ruled(stage, self._with(reply), "error", "busy")
        if decided is None:
            return None
        self.ahead.append(decided)
        return decided.made

    async def _call(self, cleared: Cleared, call: ToolCall) -> Cleared:
        """The same without the call, where that is taken out; a call that is stopped stops the whole reply."""
        alone, table = msgspec.structs.replace(cleared.message, tool_calls=(call,)), self.stage("tool_call")
        if table and self._enforced(table, self._with(alone)) and not _readable(call.arguments):
            decision: Decision | None = await self._ruled("tool_call", self._with(alone), "block", "unparsable")
        else:
            decision = await self._ask("tool_call", alone)
        about = self._cleared("tool_call", decision, alone)
        if about.refusal:
            return about
        without = tuple(each for each in cleared.message.tool_calls if about.message.tool_calls or each is not call)
        content = min(cleared.message.content, about.message.content, key=len)
        kept = msgspec.structs.replace(cleared.message, content=content, tool_calls=without)
        return _both(cleared, Cleared(kept, tools=about.tools))

    def _dispatched(self, cleared: Cleared) -> Cleared:
        """The same with those calls only that an allow-list lets through, where there is one."""
        tools = _in_both(self.tools, cleared.tools)
        if tools is None:
            return cleared
        calls, _ = allowed_calls(cleared.message.tool_calls, tools)
        return replace(cleared, message=msgspec.structs.replace(cleared.message, tool_calls=calls), tools=tools)

    def _cleared(self, stage: Stage, decision: Decision | None, reply: Message) -> Cleared:
        table = self.stage(stage)
        if decision is None or table is None:
            return Cleared(reply)
        if decision.action in STOPS:
            return Cleared(reply, decision.replacement or self.refusal(stage), decision.on_record)
        kept = apply(decision, reply, table).message
        refusal = "" if reply.content.startswith(kept.content) else kept.content
        read_only = decision.action == "modify" and decision.fallback == "read_only_tools"
        return Cleared(kept, refusal, decision.on_record, table.read_only_tools if read_only else None)

    async def _ruled(self, stage: Stage, about: Conversation, action: Literal["block", "error"], why: str) -> Decision:
        """A decision that no monitor was asked for, recorded like any other. It stops, so it stands unrecorded too."""
        for each in self.ahead:
            await each.kept()  # so that the log has them in order
        ask = Ask(stage, about, self.conversation_id)
        return await self.service.stop(ask, action, why, caller=self.caller, replacement=self.refusal(stage))

    def _with(self, reply: Message) -> Conversation:
        return msgspec.structs.replace(self.asked, messages=(*self.asked.messages, reply))

    def _enforced(self, table: StageTable, about: Conversation) -> bool:
        return enforces(table) and promoted(table.percent, self.conversation_id or content_sha256(about))


def _both(first: Cleared, second: Cleared) -> Cleared:
    """What two stages let through, the second having looked at what the first one left."""
    decision = second.decision if second.refusal else first.decision
    return Cleared(second.message, second.refusal, decision, _in_both(first.tools, second.tools))


def _in_both(first: Collection[str] | None, second: Collection[str] | None) -> Collection[str] | None:
    """The names in two lists, of which None has any name."""
    if first is None or second is None:
        return second if first is None else first
    return frozenset(first) & frozenset(second)


def _readable(arguments: str) -> bool:
    """Whether arguments are a JSON object, or left out."""
    return not arguments.strip() or is_object(arguments)
