"""The server that the gateway stands in front of: one address, one key, bounded in time and size.

Follows no redirect, keeps no cookie, reads no proxy from the environment, asks for no compression (a small body could
become a huge one). Knows nothing of chats or policies. What it says of a failure never holds the key or the address.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec
import yarl

from offmap.errors import InputError
from offmap.gateway.config import Upstream as Table
from offmap.gateway.sse import Events

T = TypeVar("T")
_PASSED_HEADERS = ("retry-after",)
_WORD = re.compile(r"[\w.\-]{1,64}", re.ASCII)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_MOST_ERROR_TEXT = 500
_KEPT_SECONDS = 4.0
"""Of a connection that nobody uses; servers close theirs after five or more."""
_AT_ONCE = 1 << 19
"""Bytes of a request's body."""


class UpstreamError(Exception):
    """It gave no answer that can be passed on.

    Attributes:
        status: what the caller gets: the upstream's own below 500, but for its word on our key, else 502, 503 or 504.
        kind: for programs, as OpenAI's ``type``.
        code: of the upstream, "" where it told none.
        headers: of its answer, those that are passed on.
        outage: whether it failed; else it refused the request.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, ""
        self.headers: dict[str, str] = {}
        self.outage = True


@dataclass(frozen=True)
class Bounds:
    """Bytes: of an answer, and of one event of a stream."""

    answer: int = 8 << 20
    event: int = 1 << 20


def open_upstream(table: Table, bounds: Bounds | None = None) -> Upstream:
    """The upstream of a configuration. No connection is made yet.

    Raises:
        InputError: no address, or a key that is not in the environment or cannot be sent.
    """
    try:
        url = yarl.URL(table.base_url)
        usable = url.scheme in ("http", "https") and url.host and url.user is None and url.password is None
        usable = usable and not any(map(str.isspace, table.base_url)) and not {*table.base_url} & {*"?#"}
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "upstream.base_url: wanted http:// or https://, a host, a port up to 65535 if any, a path if any, and no "
            "password, space, query or fragment"
        )
    key = os.environ.get(table.api_key_env, "").strip() if table.api_key_env else ""
    if table.api_key_env and not (key and key.isascii() and key.isprintable()):
        name = table.api_key_env  # it may be the key itself
        told = repr(name) if _VARIABLE.fullmatch(name) else "that name, wanted one like UPSTREAM_KEY"
        raise InputError(f"upstream.api_key_env: the environment has no usable key under {told}")
    return Upstream(table.base_url, key, table.timeout_s, bounds=bounds, connections=table.connections)


def unreadable(why: str) -> UpstreamError:
    """The error of an answer that is no answer."""
    return UpstreamError(502, "upstream_error", f"the upstream's answer cannot be read: {why}")


class Upstream:
    """A client of one server. One event loop.

    Args:
        base_url: ends in "/v1".
        key: sent as a bearer token; "" sends none.
        timeout: seconds, for a whole answer or between two pieces of a stream.
        bounds: sizes.
        connections: at once, at most; who finds none free waits.
    """

    def __init__(
        self, base_url: str, key: str, timeout: float, *, bounds: Bounds | None = None, connections: int = 100
    ) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "offmap"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._key, self._timeout, self._bounds = key, timeout, bounds or Bounds()
        self._connections = connections
        self._client: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.close()

    async def answer(self, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        """The JSON object that it answers with.

        Raises:
            UpstreamError: it refused, failed, was too slow, or answered with something else.
        """
        try:
            async with asyncio.timeout(self._timeout), self._open(method, path, body, None) as response:
                return _object(await self._body(response))
        except TimeoutError:
            raise _too_slow() from None

    @asynccontextmanager
    async def events(self, path: str, body: bytes) -> AsyncIterator[AsyncIterator[str]]:
        """The data of its server-sent events; leaving the context closes the connection, whatever is still to come.

        Raises:
            UpstreamError: on entry where it refused, failed or was too slow; while reading, too.
        """
        async with self._open("POST", path, body, self._timeout) as response, aclosing(self._read(response)) as read:
            yield read

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[str]:
        events = Events(self._bounds.event)
        try:
            async with aclosing(self._pieces(response, self._timeout)) as pieces:
                async for piece in pieces:
                    for data in events.feed(piece):
                        yield data
            for data in events.end():
                yield data
        except InputError as error:
            raise unreadable(str(error)) from None

    async def _pieces(self, response: aiohttp.ClientResponse, seconds: float | None) -> AsyncGenerator[bytes]:
        """What comes of a body; ``seconds``: for each piece, None where the whole has its time."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise unreadable("it is compressed, which was not asked for")
        size = 0
        while piece := await _within(response.content.readany(), seconds):
            size += len(piece)
            if size > self._bounds.answer:
                raise unreadable(f"more than {self._bounds.answer} bytes")
            yield piece

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, body: bytes | None, seconds: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Its answer, once that begins; ``seconds``: until then, None where the whole has its time."""
        headers = self._headers if body is None else {**self._headers, "content-type": "application/json"}
        # A long body in pieces, so that it does not stop the event loop.
        data = io.BytesIO(body) if body and len(body) > _AT_ONCE else body
        asking = self._session().request(method, self._base + path, data=data, headers=headers, allow_redirects=False)
        response = await _within(asking, seconds)
        async with response:
            if response.status >= 300:
                raise await self._refused(response)
            yield response

    def _session(self) -> aiohttp.ClientSession:
        """The client, which belongs to the event loop that asks first."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                # Closed before the server does, so that no request meets the end of its connection.
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEPT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._client

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """A whole body; whoever asks for it bounds its time."""
        return b"".join([piece async for piece in self._pieces(response, None)])

    async def _refused(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """Its status and type, and what is wrong with the request in its words, but for the key."""
        status = response.status
        if status < 400:
            return UpstreamError(502, "upstream_error", "the upstream answered with a redirect, which is not followed")
        if status == 401:  # the caller's key is another one, and no fault of theirs
            return UpstreamError(502, "upstream_error", "the upstream refused the gateway's key")
        told = await self._said(response) if status < 500 else {}  # of its own failure it may say anything
        message = self._without_key(told.get("message")) or f"the upstream answered with status {status}"
        passed = status if status < 500 or status in (503, 504) else 502  # no 5xx that the description does not declare
        kind, code = (_word(self._without_key(told.get(name))) for name in ("type", "code"))
        error = UpstreamError(passed, kind or "upstream_error", message)
        error.code, error.outage = code, status >= 500
        told_headers = ((name, response.headers.get(name, "")) for name in _PASSED_HEADERS)
        error.headers = {name: value for name, value in told_headers if value and value.isascii()}
        return error

    async def _said(self, response: aiohttp.ClientResponse) -> dict[str, object]:
        """What it says is wrong with the request; nothing where that cannot be read: the status says enough."""
        try:
            async with asyncio.timeout(self._timeout):
                found = _object(await self._body(response)).get("error")
        except (UpstreamError, TimeoutError):
            return {}
        return found if isinstance(found, dict) else {}

    def _without_key(self, value: object) -> str:
        text = value if isinstance(value, str) else ""
        return (text.replace(self._key, "[key]") if self._key else text)[:_MOST_ERROR_TEXT]


def _word(text: str) -> str:
    """A kind or a code as it is where it is one word; "" for anything else, which could be somebody's sentence."""
    return text if _WORD.fullmatch(text) else ""


async def _within(step: Awaitable[T], seconds: float | None) -> T:
    """What is awaited, if it comes in time. The client's own limits do not hold while a body is sent or broken."""
    with _failures():
        if seconds is None:
            return await step
        async with asyncio.timeout(seconds):
            return await step


@contextmanager
def _failures() -> Iterator[None]:
    """What the client library raises, as ``UpstreamError``."""
    try:
        yield
    except TimeoutError:
        raise _too_slow() from None
    except aiohttp.ClientConnectorError:
        raise UpstreamError(502, "upstream_error", "the upstream cannot be reached") from None
    except aiohttp.ClientResponseError:
        raise UpstreamError(502, "upstream_error", "the upstream does not answer in HTTP") from None
    except aiohttp.ServerDisconnectedError:
        raise UpstreamError(502, "upstream_error", "the upstream closed the connection without an answer") from None
    except (aiohttp.ClientError, OSError, RuntimeError):  # the last where it is told to use what is closed
        raise UpstreamError(502, "upstream_error", "the upstream broke off its answer") from None


def _too_slow() -> UpstreamError:
    return UpstreamError(504, "upstream_timeout", "the upstream took too long")


def _object(body: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise unreadable("no JSON") from None
    if not isinstance(value, dict):
        raise unreadable("no JSON object")
    return value
