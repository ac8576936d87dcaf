"""The server that the gateway stands in front of: one address, one key, bounded in time and size.

Follows no redirect, keeps no cookie, reads no proxy from the environment, asks for no compression (a small body could
become a huge one). Knows nothing of chats or policies. What it says of a failure never holds the key or the address.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx2
import msgspec

from offmap.errors import InputError
from offmap.gateway.config import Upstream as Table
from offmap.gateway.sse import Events

_GENERIC = {401: "the upstream refused the gateway's key", 403: "the upstream refused the gateway's key"}
_PASSED_HEADERS = ("retry-after",)
_MOST_ERROR_TEXT = 500


class UpstreamError(Exception):
    """It gave no answer that can be passed on.

    Attributes:
        status: what the caller gets: the upstream's own below 500, else 502, 503 or 504.
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
    url = httpx2.URL(table.base_url)
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise InputError("upstream.base_url: wanted http:// or https://, a host, and no password")
    key = os.environ.get(table.api_key_env, "").strip() if table.api_key_env else ""
    if table.api_key_env and not (key and key.isascii() and key.isprintable()):
        raise InputError(f"upstream.api_key_env: the environment has no usable key under {table.api_key_env!r}")
    return Upstream(table.base_url, key, table.timeout_s, bounds=bounds)


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
        transport: for tests.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        timeout: float,
        *,
        bounds: Bounds | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        # Without a client around it: that follows redirects and keeps cookies, unless told, and takes its time.
        self._transport = transport or httpx2.AsyncHTTPTransport(trust_env=False)
        self._base = base_url.rstrip("/")
        self._headers = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "offmap"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._told = {"timeout": httpx2.Timeout(timeout).as_dict()}
        self._key, self._timeout, self._bounds = key, timeout, bounds or Bounds()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._transport.aclose()

    async def answer(self, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        """The JSON object that it answers with.

        Raises:
            UpstreamError: it refused, failed, was too slow, or answered with something else.
        """
        try:
            async with asyncio.timeout(self._timeout), self._open(method, path, body) as response:
                return _object(await self._body(response))
        except TimeoutError:
            raise _too_slow() from None

    @asynccontextmanager
    async def events(self, path: str, body: bytes) -> AsyncIterator[AsyncIterator[str]]:
        """The data of its server-sent events; leaving the context closes the connection, whatever is still to come.

        Raises:
            UpstreamError: on entry where it refused, failed or was too slow; while reading, too.
        """
        async with self._open("POST", path, body) as response, aclosing(self._read(response)) as read:
            yield read

    async def _read(self, response: httpx2.Response) -> AsyncGenerator[str]:
        events = Events(self._bounds.event)
        try:
            async with aclosing(self._pieces(response)) as pieces:
                async for piece in pieces:
                    for data in events.feed(piece):
                        yield data
            for data in events.end():
                yield data
        except InputError as error:
            raise unreadable(str(error)) from None

    async def _pieces(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise unreadable("it is compressed, which was not asked for")
        size = 0
        with _failures():
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > self._bounds.answer:
                    raise unreadable(f"more than {self._bounds.answer} bytes")
                yield piece

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None) -> AsyncIterator[httpx2.Response]:
        headers = self._headers if body is None else {**self._headers, "content-type": "application/json"}
        request = httpx2.Request(method, self._base + path, content=body, headers=headers, extensions=self._told)
        with _failures():
            response = await self._transport.handle_async_request(request)
        try:
            if response.status_code >= 300:
                raise await self._refused(response)
            yield response
        finally:
            with _failures():
                await response.aclose()

    async def _body(self, response: httpx2.Response) -> bytes:
        return b"".join([piece async for piece in self._pieces(response)])

    async def _refused(self, response: httpx2.Response) -> UpstreamError:
        """Its status and type, with its message where that cannot hold the key."""
        status = response.status_code
        if status < 400:
            return UpstreamError(502, "upstream_error", "the upstream answered with a redirect, which is not followed")
        told: dict[str, object] = {}
        try:
            async with asyncio.timeout(self._timeout):
                found = _object(await self._body(response)).get("error")
            told = found if isinstance(found, dict) else {}
        except (UpstreamError, TimeoutError):
            pass  # the status says enough
        message = _GENERIC.get(status) or self._without_key(told.get("message")) or "the upstream refused the request"
        passed = status if status < 500 or status in (503, 504) else 502  # no 5xx that the description does not declare
        error = UpstreamError(passed, self._without_key(told.get("type")) or "upstream_error", message)
        error.code, error.outage = self._without_key(told.get("code")), status >= 500
        error.headers = {name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers}
        return error

    def _without_key(self, value: object) -> str:
        text = value if isinstance(value, str) else ""
        return (text.replace(self._key, "[key]") if self._key else text)[:_MOST_ERROR_TEXT]


@contextmanager
def _failures() -> Iterator[None]:
    """What the client library raises, as ``UpstreamError``."""
    try:
        yield
    except httpx2.TimeoutException:
        raise _too_slow() from None
    except httpx2.ConnectError:
        raise UpstreamError(502, "upstream_error", "the upstream cannot be reached") from None
    except (httpx2.HTTPError, httpx2.StreamError):
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
