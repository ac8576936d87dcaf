"""What of a reply may leave: its text, then every tool call by itself, then the conversation as a whole.

Each of them is looked at in what those before it leave of the reply. Since they mostly leave all of it, monitors are
asked about the calls while they are asked about the text, so that all share a forward pass (``Service.foresee``); what
they find is used where the reply is still the one that it was found of. Knows of decisions and messages, and nothing of
JSON or HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import msgspec

from offmap.conversation import Conversation, Message, ToolCall
from offmap.gateway.actions import allowed_calls, apply, readable
from offmap.gateway.ahead import Ahead
from offmap.gateway.config import DEFAULT_REFUSAL, StageTable
from offmap.gateway.decision import STOPS, Decision, Finding, Stage
from offmap.gateway.policy import enforces, promoted, sees_more
from offmap.gateway.request import Ask, unit_of
from offmap.gateway.service import BusyError, Service


class Cleared(msgspec.Struct, frozen=True):
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
        conversation_id: the caller's, "" where there is none: then the conversation is what was asked and its reply.
        caller: the name of the API key.
        tools: names of the only tools that may be called; None: any.
    """

    service: Service
    asked: Conversation
    conversation_id: str = ""
    caller: str = ""
    tools: Collection[str] | None = None

    @cached_property
    def unit(self) -> str:
        """See ``unit_of``."""
        return unit_of(self.service.engine.gateway, self.conversation_id, self.asked)

    def stage(self, stage: Stage) -> StageTable | None:
        """The policy of a stage, None where it has none."""
        return self.service.engine.gateway.stages.get(stage)

    async def request(self) -> Ahead | None:
        """The decision about the request; None where the policy looks at none.

        Raises:
            BusyError: no room: nothing was looked at.
        """
        return await self.decide(self.ask("input", self.asked))

    async def text(self, reply: Message, *, partial: bool = False) -> Cleared:
        """What of a reply, or of the part of it that has come, may leave, as the response stage says."""
        look = _Look(self)
        return await look.kept(await look.text(reply, partial=partial))

    async def review(self, reply: Message, left: str = "") -> Cleared:
        """What of a whole reply, calls included, may leave, as all stages say. ``left``: what has left already."""
        look = _Look(self)
        return await look.kept(await look.whole(reply, left))

    async def outage(self, reply: Message, why: str = "upstream") -> Decision:
        """Put on record that a reply never became whole, with what had come of it. ``why``: who failed, one word."""
        return await self.ruled("response", self.after(reply), "error", why)

    def narrowed(self, tools: Collection[str] | None) -> Checks:
        """The same where only those tools may be called that are allowed both here and there."""
        return replace(self, tools=_in_both(self.tools, tools))

    def refusal(self, stage: Stage) -> str:
        """The policy's text in place of what is stopped at a stage."""
        table = self.stage(stage)
        return table.refusal if table else DEFAULT_REFUSAL

    def after(self, reply: Message) -> Conversation:
        """The conversation that a reply makes."""
        return msgspec.structs.replace(self.asked, messages=(*self.asked.messages, reply))

    async def decide(self, ask: Ask, *, wanted: bool = False) -> Ahead | None:
        """A decision, made and to be recorded; None where the policy has no such stage. ``wanted``: see ``Ahead``.

        Raises:
            BusyError: no room.
        """
        if not self.service.engine.watches(ask.stage):
            return None
        return await self.service.ahead(ask, caller=self.caller, wanted=wanted)

    def ask(
        self,
        stage: Stage,
        about: Conversation,
        *,
        partial: bool = False,
        foreseen: Finding | None = None,
        deadline: float | None = None,
    ) -> Ask:
        """What is to be decided. Nothing of it is remembered before it is known what of it leaves."""
        return Ask(stage, about, self.conversation_id, self.unit, partial, False, foreseen, deadline)

    async def ruled(self, stage: Stage, about: Conversation, action: Literal["block", "error"], why: str) -> Decision:
        """A decision that no monitor was asked for, recorded like any other. It stops, so it stands unrecorded too."""
        ask = self.ask(stage, about)
        return await self.service.stop(ask, action, why, caller=self.caller, replacement=self.refusal(stage))

    def enforced(self, stage: Stage) -> bool:
        """Whether the policy of a stage is enforced for this exchange."""
        table = self.stage(stage)
        return table is not None and enforces(table) and promoted(table.percent, self.unit)

    def remember(self, said: str = "", reply: Message | None = None) -> None:
        """Keep what was asked, and the reply, or what ``said`` of one that was stopped: the next is read beside it."""
        reply = reply or (Message("assistant", said) if said else None)
        about = self.after(reply) if reply else self.asked
        self.service.engine.remember(about, conversation_id=self.conversation_id, caller=self.caller)


class _Look:
    """One look at a reply: its decisions, which are recorded together or while the next is made.

    However many they are, they have the time of one, beside what the log takes.
    """

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._latest = checks.service.engine.latest()
        self._ahead: list[Ahead] = []
        self._foreseen: dict[ToolCall, asyncio.Task[Finding | None]] = {}
        self._foreseen_beside = ""

    async def text(self, reply: Message, *, partial: bool = False) -> Cleared:
        """As the response stage says."""
        return self._cleared("response", await self._ask("response", reply, partial=partial), reply)

    async def whole(self, reply: Message, left: str = "") -> Cleared:
        """As all stages say. What stops before the conversation stage is remembered as far as it left."""
        self._foresee(reply)
        try:
            cleared = await self._each(reply)
        finally:
            for each in self._foreseen.values():
                each.cancel()
        if sees_more(self._checks.service.engine.gateway, self._checks.conversation_id):
            cleared = await self._conversation(await self.kept(cleared), left)
        cleared = self._dispatched(cleared)
        kept = cleared.message
        if cleared.refusal or kept.content or kept.tool_calls or not reply.tool_calls:
            return cleared
        return Cleared(kept, self._checks.refusal("tool_call"), cleared.decision)

    async def kept(self, cleared: Cleared) -> Cleared:
        """The same once every decision of this look is on record; one that could not be, and stops, stops the reply."""
        kept = await self._recorded()
        behind = kept.get(cleared.decision)
        told = behind is None or bool(behind.on_record)
        if cleared.refusal and cleared.decision and told:
            return cleared
        stops = sorted((each for each in kept.values() if each.action in STOPS), key=lambda each: not each.on_record)
        if not stops:
            return cleared if told else msgspec.structs.replace(cleared, decision="")
        text = stops[0].replacement or self._checks.refusal(stops[0].stage)
        return Cleared(cleared.message, text, stops[0].on_record)

    def _foresee(self, reply: Message) -> None:
        """Begin to ask about its calls, as many as share a forward pass with the text."""
        service = self._checks.service
        if not service.engine.watches("tool_call"):
            return
        self._foreseen_beside = reply.content
        for call in reply.tool_calls[: service.gateway.limits.max_batch - 1]:
            if call in self._foreseen:  # the same call twice is looked at once
                continue
            alone = self._checks.after(msgspec.structs.replace(reply, tool_calls=(call,)))
            looking = service.foresee(self._checks.ask("tool_call", alone, deadline=self._latest))
            self._foreseen[call] = asyncio.create_task(looking)

    async def _each(self, reply: Message) -> Cleared:
        """Text and calls, until one stops the reply."""
        cleared = await self.text(reply)
        for call in cleared.message.tool_calls:
            if not cleared.refusal:
                cleared = await self._call(cleared, call)
        return cleared

    async def _conversation(self, cleared: Cleared, left: str) -> Cleared:
        """The same as the conversation stage leaves it."""
        if cleared.refusal:
            self._checks.remember(left)
            return cleared
        decision = await self._ask("conversation", cleared.message)
        both = _both(cleared, self._cleared("conversation", decision, cleared.message))
        self._checks.remember(left, None if both.refusal else both.message)
        return both

    async def _call(self, cleared: Cleared, call: ToolCall) -> Cleared:
        """The same without the call, where that is taken out; a call that is stopped stops the whole reply."""
        alone = msgspec.structs.replace(cleared.message, tool_calls=(call,))
        about = self._checks.after(alone)
        if not readable(call.arguments) and self._checks.enforced("tool_call"):
            decision: Decision | None = await self._ruled("tool_call", about, "block", "unparsable")
        else:
            decision = await self._ask("tool_call", alone)
        found = self._cleared("tool_call", decision, alone)
        if found.refusal:
            return found
        without = tuple(each for each in cleared.message.tool_calls if found.message.tool_calls or each is not call)
        content = min(cleared.message.content, found.message.content, key=len)
        kept = msgspec.structs.replace(cleared.message, content=content, tool_calls=without)
        return _both(cleared, Cleared(kept, tools=found.tools))

    async def _ask(self, stage: Stage, reply: Message, *, partial: bool = False) -> Decision | None:
        """The decision about a reply. Where there is no room for it, the reply stops here."""
        same = stage == "tool_call" and reply.content == self._foreseen_beside
        known = self._foreseen.get(reply.tool_calls[0]) if same else None
        foreseen = await known if known else None
        after, latest = self._checks.after(reply), self._latest
        ask = self._checks.ask(stage, after, partial=partial, foreseen=foreseen, deadline=latest)
        try:
            decided = await self._decided(ask, wanted=not reply.tool_calls)
        except BusyError:
            return await self._ruled(stage, ask.conversation, "error", "busy")
        if decided is None:
            return None
        self._ahead.append(decided)
        return decided.made

    async def _ruled(self, stage: Stage, about: Conversation, action: Literal["block", "error"], why: str) -> Decision:
        """See ``Checks.ruled``; recorded behind what was decided before it."""
        self._want()
        return await self._checks.ruled(stage, about, action, why)

    async def _recorded(self) -> dict[str, Decision]:
        """Its decisions so far by the ids that they were made with, once all are on record."""
        latest = self._checks.service.engine.latest
        before = latest()
        self._want()
        kept = {each.made.id: await each.kept() for each in self._ahead}
        self._latest += latest() - before
        return kept

    def _want(self) -> None:
        for each in self._ahead:
            each.want()

    async def _decided(self, ask: Ask, *, wanted: bool) -> Ahead | None:
        """A decision; where others follow about the same reply, its record waits for theirs and shares their commit."""
        try:
            return await self._checks.decide(ask, wanted=wanted)
        except BusyError:
            await self._recorded()  # it may be this look that takes the room
            return await self._checks.decide(msgspec.structs.replace(ask, deadline=self._latest), wanted=wanted)

    def _dispatched(self, cleared: Cleared) -> Cleared:
        """The same with those calls only that an allow-list lets through, where there is one."""
        tools = _in_both(self._checks.tools, cleared.tools)
        if tools is None:
            return cleared
        calls, _ = allowed_calls(cleared.message.tool_calls, tools)
        message = msgspec.structs.replace(cleared.message, tool_calls=calls)
        return msgspec.structs.replace(cleared, message=message, tools=tools)

    def _cleared(self, stage: Stage, decision: Decision | None, reply: Message) -> Cleared:
        table = self._checks.stage(stage)
        if decision is None or table is None:
            return Cleared(reply)
        if decision.action in STOPS:
            return Cleared(reply, decision.replacement or self._checks.refusal(stage), decision.on_record)
        kept = apply(decision, reply, table).message
        refusal = "" if reply.content.startswith(kept.content) else kept.content
        read_only = decision.action == "modify" and decision.fallback == "read_only_tools"
        return Cleared(kept, refusal, decision.on_record, table.read_only_tools if read_only else None)


def _both(first: Cleared, second: Cleared) -> Cleared:
    """What two stages let through, the second having looked at what the first one left."""
    decision = second.decision if second.refusal else first.decision
    return Cleared(second.message, second.refusal, decision, _in_both(first.tools, second.tools))


def _in_both(first: Collection[str] | None, second: Collection[str] | None) -> Collection[str] | None:
    """The names in two lists, of which None has any name."""
    if first is None or second is None:
        return second if first is None else first
    return frozenset(first) & frozenset(second)
