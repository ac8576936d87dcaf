"""LiteLLM's generic guardrail. Every verdict is answered with 200, and whatever does not go on is BLOCKED.

LiteLLM takes any other answer, an unknown action among them, for "go on", and reads no tool calls back: where a call
has to be taken out, all is blocked. It sends a reply without the request it answers, so the messages of a call are
remembered until its replies come. While a reply streams, it comes again and again, longer each time: what stands after
its last whole sentence is to be held back (``stream_holdback_chars``), since a sentence is judged as a whole.

Read from litellm 1.106: types/proxy/guardrails/guardrail_hooks/generic_guardrail_api.py.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from litestar import Request, Router, post
from litestar.params import JSONBody

from offmap.conversation import Conversation, Message, Tool, ToolCall
from offmap.conversation.fields import as_object, optional_text
from offmap.evidence import Span
from offmap.gateway.actions import Applied, apply, safe_part
from offmap.gateway.config import Limits
from offmap.gateway.decision import STOPS, Decision
from offmap.gateway.memory import MOST_BYTES
from offmap.gateway.policy import sees_more
from offmap.gateway.request import Ask, unit_of
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.wire.base import ERRORS, NO_IMAGES, Refused, conversation, identifier, read_tools
from offmap.gateway.wire.unread import with_unread

_MOST_SEARCHED = 1 << 28
"""Characters that are compared at most to find the texts of a request in its messages: a fraction of a second."""
_BETWEEN = "\0"
"""What keeps messages apart in that search: a text that holds it is in no message unless it is one."""
_MOST_REPEATED, _CALL = 8, 64
"""Tool calls stand with every reply: how many bodies they may fill together, and what a call takes beside its text."""


class GuardrailRequest(msgspec.Struct, frozen=True):
    """What LiteLLM sends; the fields that are left out here are not read."""

    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    images: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    structured_messages: list[dict[str, Any]] | None = None
    litellm_call_id: str | None = None
    litellm_trace_id: str | None = None


class GuardrailAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict. ``texts`` and ``stream_holdback_chars`` are for the texts of the request, in their order."""

    action: Literal["BLOCKED", "NONE", "GUARDRAIL_INTERVENED"]
    blocked_reason: str | None = None
    texts: list[str] | None = None
    stream_holdback_chars: list[int] | None = None


@dataclass(frozen=True)
class _Known:
    """The request of a call, when it came, and its bytes."""

    at: float
    row: Conversation
    size: int


class Calls:
    """The messages of the calls whose replies have not come yet: few, small, and not for long.

    Args:
        limits: ``conversations`` calls, ``conversation_bytes`` of each, for ``expiry_s`` seconds.
        clock: seconds, never going back.
        most_bytes: of all of them together, as JSON.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._limits, self._clock, self._most_bytes = limits, clock, most_bytes
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._bytes = 0

    def keep(self, caller: str, call: str, row: Conversation) -> None:
        """Remember a request; one that is too large is not."""
        now = self._clock()
        while self._known and now - next(iter(self._known.values())).at > self._limits.expiry_s:
            self._forget(next(iter(self._known)))
        size = len(msgspec.json.encode((row.messages, row.tools)))
        if call and size <= self._limits.conversation_bytes:
            self._forget((caller, call))
            self._known[caller, call] = _Known(now, row, size)
            self._bytes += size
        while len(self._known) > self._limits.conversations or self._bytes > self._most_bytes:
            self._forget(next(iter(self._known)))

    def of(self, caller: str, call: str) -> Conversation:
        """The request of a call; empty where it is not known."""
        known = self._known.get((caller, call))
        return known.row if known else Conversation("litellm", ())

    def _forget(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key, None)
        self._bytes -= known.size if known else 0


def router(service: Service) -> Router:
    """``POST /beta/litellm_basic_guardrail_api``."""
    calls = Calls(service.gateway.limits)

    @post("/litellm_basic_guardrail_api", status_code=200, responses=ERRORS, summary="LiteLLM generic guardrail")
    async def guard(data: JSONBody[GuardrailRequest], request: Request[Caller, Any, Any]) -> GuardrailAnswer:
        if data.images:
            raise Refused(400, NO_IMAGES)
        name = identifier(data.litellm_trace_id, "field litellm_trace_id")
        call = identifier(data.litellm_call_id, "field litellm_call_id")
        if data.input_type == "request":
            row = _request(data)
            calls.keep(request.user.name, call, row)
            asks = _request_asks(service, row, name, data.structured_messages or [])
            return _request_answer(await service.decide_all(asks, caller=request.user.name))
        replies = _replies(data)
        placed = _response_asks(service, calls.of(request.user.name, call), replies, data, name)
        decisions = await service.decide_all([ask for _, ask in placed], caller=request.user.name)
        return _response_answer(service, replies, placed, decisions)

    return Router("/beta", route_handlers=[guard], opt=roles("caller"), tags=["litellm"])


def _request(data: GuardrailRequest) -> Conversation:
    """The messages, then any text that is in none of them, then tool calls that are in none."""
    given = data.structured_messages
    rows = conversation(given, "structured_messages").messages if given else ()
    rows += tuple(Message("user", text) for text in _unsaid(data.texts or [], [row.content for row in rows]))
    known = {call for row in rows for call in row.tool_calls}
    if calls := tuple(call for call in _calls(data) if call not in known):
        rows = (*rows, Message("assistant", tool_calls=calls))
    return Conversation("litellm", rows or (Message("user"),), tools=_tools(data))


def _unsaid(texts: list[str], contents: list[str]) -> list[str]:
    """Those texts that are in no message. Where looking would take too long, a part of a message is read once more."""
    whole, said = set(contents), _BETWEEN.join(contents)
    rest = [text for text in texts if text not in whole]
    if len(rest) * len(said) > _MOST_SEARCHED:
        return rest
    return [text for text in rest if _BETWEEN in text or text not in said]


def _request_asks(service: Service, row: Conversation, name: str, given: list[dict[str, Any]]) -> list[Ask]:
    """The request; and what was said up to the last reply in it, together with what is remembered of that trace.

    All text of the messages as they came is looked at once, at the input: what clients add to replies they send back
    one time and leave out the next, so that a memory would take the same message for another.
    """
    service.require_stages("input")
    replied = max((n for n, message in enumerate(row.messages, 1) if message.role == "assistant"), default=0)
    unit = unit_of(service.engine.gateway, name, row)
    said = with_unread(row.messages[: len(given)], given)
    whole = msgspec.structs.replace(row, messages=(*said, *row.messages[len(given) :]))
    asks = [Ask("input", whole, name, unit)]
    if name and replied and service.engine.watches("conversation"):
        before = msgspec.structs.replace(row, messages=row.messages[:replied])
        asks.append(Ask("conversation", before, name, unit))
    return asks


def _replies(data: GuardrailRequest) -> list[Message]:
    """One message for each text; tool calls stand with every one, since it is not said whose they are."""
    calls = _calls(data)
    return [Message("assistant", text, tool_calls=calls) for text in data.texts or ([""] if calls else [])]


def _response_asks(
    service: Service, before: Conversation, replies: list[Message], data: GuardrailRequest, name: str
) -> list[tuple[int, Ask]]:
    """What is to be decided, each with the place of its reply.

    A reply comes several times while it streams, and its whole comes again in the next request: until then the
    conversation stage does not remember it.
    """
    service.require_stages("response")
    calls = replies[0].tool_calls if replies else ()
    size = sum(_CALL + len(call.name) + len(call.arguments) for call in calls)
    if size * len(replies) > _MOST_REPEATED * service.gateway.server.max_body_bytes:
        raise Refused(413, "too many tool calls beside so many texts")
    rows = [
        msgspec.structs.replace(before, messages=(*before.messages, reply), tools=_tools(data) or before.tools)
        for reply in replies
    ]
    unit = unit_of(service.engine.gateway, name, before)
    asks = [(place, Ask("response", row, name, unit)) for place, row in enumerate(rows)]
    if rows and data.tool_calls and service.engine.watches("tool_call"):
        asks.append((len(rows) - 1, Ask("tool_call", rows[-1], name, unit)))
    if sees_more(service.engine.gateway, name):
        asks += [(place, Ask("conversation", row, name, unit, remember=False)) for place, row in enumerate(rows)]
    return asks


def _calls(data: GuardrailRequest) -> tuple[ToolCall, ...]:
    """Tool calls as they come, of a stream too: nothing is repaired, and one without a name is still a call."""
    found = []
    for number, each in enumerate(data.tool_calls or ()):
        at = f"tool_calls[{number}]"
        function = as_object(each.get("function"), f"{at}.function")
        name, arguments = (optional_text(function.get(key), f"{at}.function.{key}") for key in ("name", "arguments"))
        found.append(ToolCall(name, arguments, optional_text(each.get("id"), f"{at}.id")))
    return tuple(found)


def _tools(data: GuardrailRequest) -> tuple[Tool, ...]:
    return read_tools(data.tools)


def _request_answer(decisions: list[Decision]) -> GuardrailAnswer:
    stopped = next((each for each in decisions if each.action != "allow"), None)
    return _blocked(stopped) if stopped else GuardrailAnswer("NONE")


def _response_answer(
    service: Service, replies: list[Message], asks: list[tuple[int, Ask]], decisions: list[Decision]
) -> GuardrailAnswer:
    if stopped := next((each for each in decisions if each.action in STOPS), None):
        return _blocked(stopped)
    texts = [reply.content for reply in replies]
    for (place, ask), decision in zip(asks, decisions, strict=True):
        applied = _applied(service, ask, decision)
        if applied.refused:
            return _blocked(decision, service.gateway.stages[ask.stage].refusal)
        if applied.changed:
            texts[place] = _least(replies[place].content, texts[place], applied.message.content)
    held = [_unfinished(text) for text in texts] or None
    changed = texts != [reply.content for reply in replies]
    return GuardrailAnswer(
        "GUARDRAIL_INTERVENED" if changed else "NONE", texts=texts if changed else None, stream_holdback_chars=held
    )


def _applied(service: Service, ask: Ask, decision: Decision) -> Applied:
    return apply(decision, ask.conversation.messages[-1], service.gateway.stages[ask.stage])


def _least(reply: str, first: str, second: str) -> str:
    """Of two texts in place of a reply the one that says less of it: a refusal, or else the shorter beginning."""
    refusals = (each for each in (first, second) if not reply.startswith(each))
    return next(refusals, min(first, second, key=len))


def _blocked(decision: Decision, reason: str = "") -> GuardrailAnswer:
    return GuardrailAnswer("BLOCKED", blocked_reason=decision.replacement or reason)


def _unfinished(text: str) -> int:
    """Characters after the last whole sentence."""
    end = Span(0, "assistant", len(text) + 1, len(text) + 1, "", 0.0)
    return len(text) - len(safe_part(Message("assistant", f"{text} "), 0, [end]))
