"""A chat completion in pieces, passed on as its parts are looked at. Knows nothing of HTTP or of the upstream.

Text is held back (``streaming``), tool calls and the model's own refusals until they are whole. One piece is taken in
at a time, and none while a check runs, so that a slow check or a slow caller slows the upstream down. What ends before
it is whole ends with an error frame, and never with a finish reason.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

import msgspec

from offmap.conversation import Message, ToolCall
from offmap.conversation.fields import Object, as_list, as_object, described, optional_text, wrong
from offmap.errors import InputError
from offmap.gateway.config import StreamTable
from offmap.gateway.decision import Decision
from offmap.gateway.draining import EndedError, Exchange
from offmap.gateway.policy import holds_whole
from offmap.gateway.streaming import HoldBack, Segments
from offmap.gateway.upstream import UpstreamError, unreadable
from offmap.gateway.wire.chat_checks import Checks, Cleared
from offmap.gateway.wire.chat_forwarded import call_of
from offmap.gateway.wire.chat_messages import (
    MOST_CALLS,
    ChatRequest,
    envelope,
    error_body,
    own_head,
    reason_for,
    usage_of,
)

_CHUNK = "chat.completion.chunk"
DONE = b"data: [DONE]\n\n"
_log = logging.getLogger(__name__)


@dataclass
class _Call:
    """A tool call as far as it has come."""

    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    id: str = ""

    def add(self, delta: Object, at: str) -> None:
        if delta.get("type") not in (None, "", "function"):
            raise wrong(f"{at}.type", described(delta["type"]), "function")
        function = as_object(delta.get("function") or {}, f"{at}.function")
        self.name.append(optional_text(function.get("name"), f"{at}.function.name"))
        self.arguments.append(optional_text(function.get("arguments"), f"{at}.function.arguments"))
        self.id = self.id or optional_text(delta.get("id"), f"{at}.id")

    @property
    def whole(self) -> ToolCall:
        return ToolCall("".join(self.name), "".join(self.arguments), self.id)


@dataclass
class _Choice:
    """One choice as far as it has come."""

    index: int
    hold: HoldBack
    checks: Checks
    calls: dict[int, list[_Call]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    begun: bool = False
    whole: bool = False
    ended: bool = False
    stopped: bool = False
    refused: str = ""
    arrived: bool = False

    @property
    def message(self) -> Message:
        """All that came of it."""
        calls = tuple(call.whole for number in sorted(self.calls) for call in self.calls[number])
        return Message("assistant", self.hold.text + "".join(self.refusals), calls)

    def add(self, delta: Object) -> None:
        """Take what came.

        Raises:
            InputError: a form that is not looked at.
        """
        for name in ("function_call", "audio"):
            if delta.get(name) is not None:
                raise wrong(f"delta.{name}", described(delta[name]), "content or tool_calls")
        self.arrived = True
        self.hold.push(optional_text(delta.get("content"), "delta.content"))
        self.refusals.append(optional_text(delta.get("refusal"), "delta.refusal"))
        for item in as_list(delta.get("tool_calls") or [], "delta.tool_calls"):
            call = as_object(item, "delta.tool_calls")
            number = call.get("index", 0)
            if not isinstance(number, int) or not 0 <= number < MOST_CALLS:
                raise wrong("delta.tool_calls.index", described(number), f"a number below {MOST_CALLS}")
            self._call(number, call).add(call, "delta.tool_calls")

    def _call(self, number: int, delta: Object) -> _Call:
        """The call that a piece belongs to.

        Some servers number all calls 0, and some give each piece of a call another id. So another call begins with a
        name: under another id, or where arguments have come already and there are no ids.
        """
        known = self.calls.setdefault(number, [_Call()])
        last, name = known[-1], delta.get("id") or ""
        named = as_object(delta.get("function") or {}, "delta.tool_calls.function").get("name")
        if named and any(last.name) and (name != last.id if name else any(last.arguments)):
            known.append(_Call())
        if sum(map(len, self.calls.values())) > MOST_CALLS:
            raise wrong("delta.tool_calls", "more", f"at most {MOST_CALLS} calls")
        return known[-1]


class Relay:
    """Passes one answer on.

    Args:
        checks: of its request.
        asked: the request.
        exchange: that it is part of.
    """

    def __init__(self, checks: Checks, asked: ChatRequest, exchange: Exchange) -> None:
        self.asked, self.exchange = asked, exchange
        self._stream = checks.service.gateway.stream
        self._whole = holds_whole(checks.service.engine.gateway)
        segments = Segments(self._stream.segment_chars, self._stream.segment_growth)
        self._choices = [_Choice(index, HoldBack(segments), checks) for index in range(asked.n)]
        self._head: Object = {}
        self._usage: Object | None = None

    async def frames(self, events: AsyncIterator[str]) -> AsyncGenerator[bytes]:
        """The events for the caller, the last of them ``DONE``. Where anything fails, nothing that is held leaves."""
        try:
            while (data := await self.exchange.wait(_next(events))) is not None:
                if data.strip() == "[DONE]":
                    break
                for frame in await self._chunk(data):
                    yield frame
                if self._cut_short:
                    break
            for frame in self._last():
                yield frame
        except UpstreamError as error:
            await self._record("upstream")
            yield _frame(error_body(str(error), error.kind, error.code))
        except EndedError as error:
            await self._record("draining")
            yield _frame(error_body(str(error), "unavailable"))
        except Exception as error:
            _log.error("a stream failed (%s)", type(error).__name__)
            await self._record("internal")
            yield _frame(error_body("this answer could not be passed on", "internal"))
        yield DONE

    def remember(self) -> None:
        """Keep what left of choices that never became whole: whatever broke off, and whoever left."""
        for choice in self._choices:
            if not choice.whole and (choice.arrived or choice.index == 0):
                choice.checks.remember(choice.hold.released)

    @property
    def _cut_short(self) -> bool:
        """Whether there is nothing to wait for, and the upstream may still go on."""
        return all(each.ended for each in self._choices) and any(each.stopped for each in self._choices)

    async def _record(self, why: str) -> None:
        for choice in self._choices:
            if not choice.ended and (choice.arrived or choice.index == 0):
                choice.hold.stop()
                await choice.checks.outage(choice.message, why)

    async def _chunk(self, data: str) -> list[bytes]:
        frames: list[bytes] = []
        try:
            for choice, delta, reason in self._deltas(self._read(data)):
                choice.add(delta)
                frames += await self._due(choice)
                if reason and not choice.ended:
                    frames += await self._end(choice, reason)
        except InputError as error:
            raise unreadable(str(error).partition(": found")[0]) from None
        return frames

    def _read(self, data: str) -> Object:
        try:
            chunk = as_object(msgspec.json.decode(data), "")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise unreadable("an event is no JSON") from None
        if chunk.get("error") is not None:
            raise UpstreamError(502, "upstream_error", "the upstream reported an error")
        self._head = self._head or envelope(chunk)
        self._usage = usage_of(chunk) or self._usage
        return chunk

    def _deltas(self, chunk: Object) -> Iterator[tuple[_Choice, Object, str]]:
        """What came for each choice that has not ended, and why it ends here, "" where it does not."""
        for item in as_list(chunk.get("choices") or [], "choices"):
            fields = as_object(item, "choices")
            number = fields.get("index", 0)
            if not isinstance(number, int) or not 0 <= number < len(self._choices):
                raise wrong("choices.index", described(number), f"a number below {len(self._choices)}")
            reason = optional_text(fields.get("finish_reason"), "choices.finish_reason")
            delta = as_object(fields.get("delta") or {}, "choices.delta")
            if not self._choices[number].ended:
                yield self._choices[number], delta, reason

    async def _due(self, choice: _Choice) -> list[bytes]:
        """Check as much of the text as is due, and release what may leave."""
        frames: list[bytes] = []
        while not self._whole and (end := choice.hold.due()) is not None:
            reply = Message("assistant", choice.hold.part(end))
            cleared = await choice.checks.text(reply, partial=True)
            if cleared.refusal:
                return frames + self._stop(choice, cleared)
            if cleared.message != reply:
                frames += self._said(choice, choice.hold.keep(cleared.message.content))
                choice.stopped = True
                return [*frames, self._finish(choice, "content_filter", cleared)]
            choice.checks = choice.checks.narrowed(cleared.tools)
            frames += self._said(choice, choice.hold.allow(end))
        return frames

    async def _end(self, choice: _Choice, reason: str) -> list[bytes]:
        """Check the whole of it, and release what is still held and may leave."""
        reply, choice.whole = choice.message, True
        cleared = await choice.checks.review(reply, choice.hold.released)
        if cleared.refusal:
            return self._stop(choice, cleared)
        kept, length = cleared.message, len(choice.hold)
        frames = self._said(choice, choice.hold.keep(kept.content[:length]))
        if refusal := kept.content[length:]:
            frames.append(self._delta(choice, {"refusal": refusal}))
        if kept.tool_calls:
            calls = [{"index": number, **call_of(call)} for number, call in enumerate(kept.tool_calls)]
            frames.append(self._delta(choice, {"tool_calls": calls}))
        return [*frames, self._finish(choice, reason_for(reason, kept, changed=kept != reply), cleared)]

    def _last(self) -> list[bytes]:
        arrived = [choice.ended for choice in self._choices if choice.arrived]
        if not arrived or not all(arrived):
            raise UpstreamError(502, "upstream_error", "the upstream broke off its answer")
        frames: list[bytes] = []
        if self._usage is not None and self.asked.usage:  # who did not ask may read the first of no choices
            frames.append(_frame({**self._head, "object": _CHUNK, "choices": [], "usage": self._usage}))
        refused = next((each.refused for each in self._choices if each.refused), "")
        return frames + _told(refused, self._stream)

    def _said(self, choice: _Choice, text: str) -> list[bytes]:
        return [self._delta(choice, {"content": text})] if text else []

    def _stop(self, choice: _Choice, cleared: Cleared) -> list[bytes]:
        choice.stopped, choice.refused = True, cleared.refusal
        choice.hold.stop()
        refusal = self._delta(choice, {"refusal": cleared.refusal})
        return [refusal, self._finish(choice, "content_filter", cleared)]

    def _finish(self, choice: _Choice, reason: str, cleared: Cleared) -> bytes:
        choice.ended = True
        told: Object = {"offmap_decision": cleared.decision} if cleared.decision else {}
        return self._delta(choice, {}, reason, told)

    def _delta(self, choice: _Choice, delta: Object, reason: str | None = None, told: Object | None = None) -> bytes:
        role: Object = {} if choice.begun else {"role": "assistant"}
        choice.begun = True
        return _frame(chunk_of(self._head, choice.index, {**role, **delta}, reason) | (told or {}))


def chunk_of(head: Object, index: int, delta: Object, reason: str | None = None) -> Object:
    """A piece of one choice."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**head, "object": _CHUNK, "choices": [choice]}


def stopped_frames(decision: Decision, request: ChatRequest, text: str, stream: StreamTable) -> list[bytes]:
    """The events that answer a request that was stopped before the upstream saw it."""
    head: Object = own_head(decision, request.model)
    delta: Object = {"role": "assistant", "refusal": text}
    frames = [_frame(chunk_of(head, n, delta, "content_filter")) for n in range(request.n)]
    return [*frames, *_told(text, stream), DONE]


def _told(refusal: str, stream: StreamTable) -> list[bytes]:
    """The error frame for what was stopped, where the configuration wants one."""
    wanted = refusal and stream.on_stop == "error"
    return [_frame(error_body(refusal, "content_filter", "content_filter"))] if wanted else []


async def _next(events: AsyncIterator[str]) -> str | None:
    try:
        return await anext(events)
    except StopAsyncIteration:
        return None


def _frame(value: Object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
