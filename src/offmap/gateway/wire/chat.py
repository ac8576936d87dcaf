"""OpenAI's chat completions: a request is looked at before it goes upstream, an answer before it leaves.

- The input stage decides about all messages and tools. What is stopped is answered with status 200, a ``refusal`` and
  the finish reason "content_filter", as OpenAI answers; the upstream never sees it. What is allowed goes upstream while
  that is on its way to the log, unless ``audit.before`` says otherwise, and nothing is answered before it is.
- The response stage decides about each choice, the tool-call stage about each call by itself, its arguments whole, and
  the conversation stage about all of it where the header ``x-offmap-conversation`` names the conversation.
- The header ``x-offmap-decision`` names the decisions, as far as they are on record: of the choices in order, or of the
  request where no choice was decided about yet (a stream names the others in its last pieces, as ``offmap_decision``).
- An upstream that fails is an error with status 502, 503 or 504, and on record; one that refuses is passed on.
- While the service drains, answers that have begun go on; those that are ended are errors with status 503, on record.
- Settings of a request are passed on where they can carry no text to the model; of an answer only what was looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation
from litestar.params import JSONBody
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Message as ASGIMessage
from litestar.types import Receive, Scope, Send

from offmap.conversation import Message
from offmap.errors import InputError
from offmap.gateway.ahead import Ahead
from offmap.gateway.decision import STOPS, Decision
from offmap.gateway.draining import EndedError, Exchange
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.upstream import Upstream, UpstreamError, open_upstream, unreadable
from offmap.gateway.wire.base import ERRORS, ErrorBody, identifier
from offmap.gateway.wire.chat_checks import Checks
from offmap.gateway.wire.chat_messages import (
    ChatRequest,
    choice_of,
    completion,
    envelope,
    error_body,
    read_replies,
    read_request,
    refused_choice,
    stopped_completion,
    usage_of,
)
from offmap.gateway.wire.chat_stream import Relay, stopped_frames

CONVERSATION, DECISION = "x-offmap-conversation", "x-offmap-decision"
TAKEN_SECONDS = 60.0
"""Within which a caller takes a piece of a stream; one who does not has left."""
T = TypeVar("T")
_log = logging.getLogger(__name__)
_PATH = "/chat/completions"
_EVENTS = "text/event-stream"


def chat_router(service: Service, upstream: Upstream | None = None) -> Router:
    """``POST /v1/chat/completions`` and ``GET /v1/models``.

    Args:
        service: decides.
        upstream: answers; whoever opened it closes it. None: the one that the configuration names.

    Raises:
        InputError: the configuration names no upstream, or its key is not in the environment.
    """
    behind = upstream or _configured(service)
    unseen = service.gateway.upstream.unseen if service.gateway.upstream else ()

    @post(
        _PATH,
        status_code=200,
        responses=_ERRORS,
        response_headers=_TOLD,
        operation_class=_Completion,
        summary="OpenAI chat completions",
    )
    async def complete(data: JSONBody[dict[str, Any]], request: Request[Caller, Any, Any]) -> Response[Any]:
        asked = read_request(data, unseen)
        name = identifier(request.headers.get(CONVERSATION))
        checks = Checks(service, asked.conversation, name, request.user.name)
        async with AsyncExitStack() as held:
            exchange = held.enter_context(service.exchange())
            try:
                allowed, asked, checks = await _permitted(asked, checks)
                if asked.stream:
                    return await _streamed(behind, Relay(checks, asked, exchange), allowed, held)
                return await _whole(behind, asked, checks, exchange, allowed)
            except _StoppedError as error:
                return _stopped(error.decision, asked, checks)
            except UpstreamError as error:
                return await _failed(error, checks)
            except EndedError as error:
                return await _ended(error, checks)

    @get("/models", responses=_ERRORS, summary="The upstream's models")
    async def models() -> Response[Any]:
        try:
            return Response(await behind.answer("GET", "/models"))
        except UpstreamError as error:
            return _error(error)

    return Router("/v1", route_handlers=[complete, models], opt=roles("caller"), tags=["chat"])


_UPSTREAMS = {
    404: "the upstream has no such model",
    409: "refused by the upstream",
    422: "refused by the upstream",
    502: "the upstream failed",
    504: "the upstream took too long",
}
_ERRORS = ERRORS | {
    status: ResponseSpec(ErrorBody, generate_examples=False, description=told) for status, told in _UPSTREAMS.items()
}
_TOLD = [ResponseHeader(name=DECISION, documentation_only=True, description="ids of the decisions about this answer")]


@dataclass
class _Completion(Operation):
    """The description of an answer that may be a stream."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            answer.content[_EVENTS] = OpenAPIMediaType()


class _Passing(Stream):
    """A stream that closes what feeds it, however it ends: a caller who leaves ends the upstream's work too."""

    def __init__(self, frames: AsyncGenerator[bytes], feeding: AsyncExitStack, headers: dict[str, str]) -> None:
        super().__init__(frames, headers=headers, media_type=_EVENTS)
        self._frames, self._feeding = frames, feeding

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        """The stream, and the end of what feeds it."""
        answer = super().to_asgi_response(*args, **kwargs)
        return _Closing(answer, self._frames, self._feeding)


class _Closing(ASGIResponse):
    """Another response, after which its source is closed: soon, since who does not read it holds the upstream too."""

    def __init__(self, answer: ASGIResponse, frames: AsyncGenerator[bytes], feeding: AsyncExitStack) -> None:
        super().__init__()
        self._answer, self._frames, self._feeding = answer, frames, feeding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = False

        async def taken(message: ASGIMessage) -> None:
            nonlocal left
            try:
                async with asyncio.timeout(TAKEN_SECONDS):
                    await send(message)
            except TimeoutError:
                left = True
                raise

        async with self._feeding, aclosing(self._frames):
            try:
                await self._answer(scope, receive, taken)
            except Exception:
                if not left:
                    raise
                _log.warning("a stream was ended: its caller took nothing for %g s", TAKEN_SECONDS)


def _configured(service: Service) -> Upstream:
    if service.gateway.upstream is None:
        raise InputError("upstream: found none, wanted the address of the server that answers")
    upstream = open_upstream(service.gateway.upstream)
    service.closers.append(upstream.aclose)
    return upstream


class _StoppedError(Exception):
    """A decision that stops the request: it found something, or could not be recorded and let nothing go without."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.rule)
        self.decision = decision


async def _permitted(asked: ChatRequest, checks: Checks) -> tuple[Ahead | None, ChatRequest, Checks]:
    """The decision that lets the upstream be asked, what it is asked, and the checks of what it may answer.

    Raises:
        _StoppedError: it is not asked.
    """
    allowed, gateway = await checks.request(), checks.service.engine.gateway
    ahead = gateway.audit.before == "answer" and checks.service.records
    if allowed is None or (allowed.made.action == "allow" and ahead):
        return allowed, asked, checks
    decision = await allowed.kept()
    if decision.action == "allow":
        return allowed, asked, checks
    if decision.action in STOPS or decision.fallback != "read_only_tools":
        raise _StoppedError(decision)
    tools = gateway.stages["input"].read_only_tools
    return allowed, asked.with_tools(tools), checks.narrowed(tools)


async def _upstream(asking: Awaitable[T], exchange: Exchange, allowed: Ahead | None) -> tuple[T, str]:
    """What it answers, once the decision that let it be asked is on record, and that decision's id, "" without one.

    Raises:
        _StoppedError: it could not be recorded.
        UpstreamError, EndedError: no answer.
    """
    try:
        answer = await exchange.wait(asking)
    except Exception:
        await _on_record(allowed)
        raise
    return answer, await _on_record(allowed)


async def _on_record(allowed: Ahead | None) -> str:
    decision = await allowed.kept() if allowed else None
    if decision is not None and decision.action in STOPS:
        raise _StoppedError(decision)
    return decision.on_record if decision else ""


async def _whole(
    upstream: Upstream, asked: ChatRequest, checks: Checks, exchange: Exchange, allowed: Ahead | None
) -> Response[Any]:
    asking = upstream.answer("POST", _PATH, msgspec.json.encode(asked.body))
    answer, _ = await _upstream(asking, exchange, allowed)
    try:
        replies = read_replies(answer, asked.n)
    except InputError as error:
        raise unreadable(str(error).partition(": found")[0]) from None
    looks = [checks.review(reply.message) for reply in replies]
    found = [await looks[0]] if len(looks) == 1 else await asyncio.gather(*looks)
    choices = [
        refused_choice(reply.index, cleared.refusal) if cleared.refusal else choice_of(reply, cleared.message)
        for reply, cleared in zip(replies, found, strict=True)
    ]
    headers = _decided(*(cleared.decision for cleared in found))
    return Response(completion(envelope(answer), choices, usage_of(answer)), headers=headers)


async def _streamed(upstream: Upstream, relay: Relay, allowed: Ahead | None, held: AsyncExitStack) -> Response[Any]:
    """The stream, which takes over what is held open for it."""
    held.callback(relay.remember)
    asking = held.enter_async_context(upstream.events(_PATH, msgspec.json.encode(relay.asked.body)))
    events, decision = await _upstream(asking, relay.exchange, allowed)
    headers = {**_decided(decision), "cache-control": "no-cache", "x-accel-buffering": "no"}
    return _Passing(relay.frames(events), held.pop_all(), headers)


async def _failed(error: UpstreamError, checks: Checks) -> Response[Any]:
    """The error, on record where the upstream failed; one that refused said nothing that could be looked at."""
    if not error.outage:
        return _error(error)
    decision = await checks.outage(Message("assistant"))
    return _error(error, _decided(decision.on_record))


async def _ended(error: EndedError, checks: Checks) -> Response[Any]:
    decision = await checks.outage(Message("assistant"), "draining")
    headers = {**_decided(decision.on_record), "retry-after": "5"}
    return Response(error_body(str(error), "unavailable"), status_code=503, headers=headers)


def _error(error: UpstreamError, headers: dict[str, str] | None = None) -> Response[Any]:
    body = error_body(str(error), error.kind, error.code)
    return Response(body, status_code=error.status, headers={**error.headers, **(headers or {})})


def _stopped(decision: Decision, asked: ChatRequest, checks: Checks) -> Response[Any]:
    checks.remember()
    text, headers = decision.replacement or checks.refusal("input"), _decided(decision.on_record)
    if not asked.stream:
        return Response(stopped_completion(decision, asked, text), headers=headers)
    frames = stopped_frames(decision, asked, text, checks.service.gateway.stream)
    return Stream(iter(frames), headers=headers, media_type=_EVENTS)


def _decided(*ids: str) -> dict[str, str]:
    told = ", ".join(filter(None, ids))
    return {DECISION: told} if told else {}
