"""A client of the gateway's ``POST /v1/decisions`` and ``POST /v1/score``. Whatever is no decision is an ``error``.

Knows nothing of any library of agents.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import anyio
import anyio.to_thread
import httpx2
import msgspec

from offmap.clients.answers import REFUSAL, Answer, Failure, Messages, Score, Stage
from offmap.errors import InputError

KEY_VARIABLE = "OFFMAP_API_KEY"
_BUSY = (429, 503)
_log = logging.getLogger(__name__)
_T = TypeVar("_T", bound=msgspec.Struct)
_R = TypeVar("_R")


class _Scores(msgspec.Struct, frozen=True):
    scores: tuple[Score]


class _Refusal(msgspec.Struct, frozen=True):
    error: Failure


class _UnansweredError(Exception):
    """Nothing that can be taken for an answer; ``outage``: as against a refusal to look."""

    def __init__(self, failure: Failure, *, outage: bool = True) -> None:
        super().__init__(failure.type)
        self.failure, self.outage = failure, outage


_UNREADABLE_ANSWER = Failure("unreadable", "the gateway's answer cannot be read")
_TOO_SLOW = Failure("timeout", "the gateway took too long")
_UNREACHABLE = Failure("unreachable", "the gateway cannot be reached")
_UNSENDABLE = Failure("unsendable", "the conversation cannot be written as JSON")


class Gateway:
    """One gateway. May be shared by threads and by event loops; connections are kept.

    Args:
        base_url: "http://127.0.0.1:8400".
        api_key: sent as a bearer token; None takes it from the environment variable ``OFFMAP_API_KEY`` if it is there.
        timeout: seconds for an answer, tries again included; longer than the gateway's own deadline (5 by default).
        on_error: "allow" lets traffic go on where the gateway cannot be reached, is too slow or answers nonsense. What
            it refuses to look at, such as images, is stopped all the same.
        reason: why, in writing; wanted for "allow", and logged each time.
        transport: for tests.

    Raises:
        InputError: an address that is none, a key that cannot be sent, a timeout that is not positive, or "allow"
            without a reason.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 10.0,
        on_error: Literal["block", "allow"] = "block",
        reason: str = "",
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        url = httpx2.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise InputError("base_url: wanted http:// or https://, a host, and no password")
        if not timeout > 0:
            raise InputError(f"timeout: found {timeout}, wanted more than 0 seconds")
        if on_error not in ("block", "allow") or (on_error == "allow" and not reason.strip()):
            raise InputError("on_error: wanted 'block', or 'allow' and a reason why unchecked traffic may go on")
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"api_key, or {KEY_VARIABLE}: wanted a key that can be sent")
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        self.base_url, self._timeout, self._reason = base_url, timeout, reason if on_error == "allow" else ""
        self._client = httpx2.Client(base_url=base_url, headers=headers, transport=transport, trust_env=False)

    def __repr__(self) -> str:
        return f"Gateway({self.base_url!r})"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def decide(self, stage: Stage, messages: Messages, *, tools: Messages = (), conversation_id: str = "") -> Answer:
        """What is to be done with a conversation. Raises nothing: an outage is an answer.

        Args:
            stage: "input" for one that ends with a question or a tool's result, "response" or "tool_call" for one that
                ends with a reply.
            messages: OpenAI chat messages.
            tools: the tools that were offered, in OpenAI's form.
            conversation_id: so that the gateway remembers what came before.
        """
        row = {"messages": list(messages), "tools": list(tools)}
        body = {"stage": stage, "conversation": row, "conversation_id": conversation_id}
        try:
            found = self._ask("/v1/decisions", body, Answer)
            if found.stage != stage or not found.id:
                raise _UnansweredError(_UNREADABLE_ANSWER)
        except _UnansweredError as error:
            return self._unjudged(stage, error)
        return found

    async def adecide(
        self, stage: Stage, messages: Messages, *, tools: Messages = (), conversation_id: str = ""
    ) -> Answer:
        """``decide`` in a thread of its own, so that one client serves every event loop."""
        return await _in_thread(
            functools.partial(self.decide, stage, messages, tools=tools, conversation_id=conversation_id)
        )

    def score(self, messages: Messages, *, tools: Messages = (), stage: Stage | None = None) -> Score:
        """How suspicious a conversation is; asked for no action, so ``on_error`` says nothing here. Raises nothing."""
        row = {"messages": list(messages), "tools": list(tools)}
        try:
            return self._ask("/v1/score", {"conversations": [row], "stage": stage}, _Scores).scores[0]
        except _UnansweredError as error:
            return Score("error", "enforced", stage or "response", error=error.failure)

    async def ascore(self, messages: Messages, *, tools: Messages = (), stage: Stage | None = None) -> Score:
        """``score`` in a thread of its own."""
        return await _in_thread(functools.partial(self.score, messages, tools=tools, stage=stage))

    def _ask(self, path: str, body: object, kind: type[_T]) -> _T:
        """The answer. It is asked again only where the gateway said when, having looked at nothing."""
        end = time.monotonic() + self._timeout
        try:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise _UnansweredError(_UNSENDABLE, outage=False) from None
        while True:
            response = self._post(path, content, end - time.monotonic())
            try:
                return _read(response, kind)
            except _UnansweredError:
                wait = _retry_after(response)
                if wait is None or time.monotonic() + wait >= end:
                    raise
            time.sleep(wait)

    def _post(self, path: str, content: bytes, seconds: float) -> httpx2.Response:
        try:
            return self._client.post(path, content=content, timeout=seconds)
        except httpx2.TimeoutException:
            raise _UnansweredError(_TOO_SLOW) from None
        except (httpx2.HTTPError, httpx2.StreamError):
            raise _UnansweredError(_UNREACHABLE) from None

    def _unjudged(self, stage: Stage, error: _UnansweredError) -> Answer:
        failure = error.failure
        if error.outage and self._reason:
            _log.warning("unchecked traffic goes on (%s, %s): %s", stage, failure.type, self._reason)
            return Answer("allow", "error", "fail_open", stage, f"client.{failure.type}", error=failure)
        _log.warning("not judged, stopped (%s, %s)", stage, failure.type)
        return Answer("error", "error", "enforced", stage, f"client.{failure.type}", replacement=REFUSAL, error=failure)


def _read(response: httpx2.Response, kind: type[_T]) -> _T:
    """A decision comes with 200, or with 503 if it is an error; nothing else is one."""
    status = response.status_code
    if status in (200, 503):
        try:
            found = msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            found = None
        if found is not None and (getattr(found, "action", "") == "error") == (status == 503):
            return found
    try:
        failure = msgspec.json.decode(response.content, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        failure = _UNREADABLE_ANSWER
    raise _UnansweredError(failure, outage=not 400 <= status < 500)


def _retry_after(response: httpx2.Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return float(told) if response.status_code in _BUSY and told.isascii() and told.isdigit() else None


async def _in_thread(ask: Callable[[], _R]) -> _R:
    # A limiter of its own: how many ask at once is bounded by the client's connections, not by anybody else's threads.
    return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
