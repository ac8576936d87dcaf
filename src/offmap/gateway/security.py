"""The gate in front of every route: who calls, how much and how deep, before anything is parsed.

Knows HTTP and API keys, and nothing of what is decided.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from offmap.gateway.config import Server
from offmap.gateway.keys import Keys, Role, is_loopback
from offmap.gateway.wire.base import Refused

OPEN = {"open": True}
"""The ``opt`` of a route that asks for no key."""
PAGE = {"open": True, "page": True}
"""The ``opt`` of a page: it asks for a session itself, and takes forms in place of JSON (``pages.desk``)."""
MAX_FORM_BYTES = 1 << 16
MAX_FORMS = 32
"""Forms read at once. Who sends one may be nobody we know, so they wait for each other alone and not among callers."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
_FORM = "application/x-www-form-urlencoded"
# One that is not closed goes to the end: else every quotation mark would be tried anew, in quadratic time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True)
class Caller:
    """Who calls: the name of the key, never the key, and what it may do."""

    name: str
    roles: frozenset[Role]

    def may(self, *roles: Role) -> bool:
        """Whether one of these roles is the caller's."""
        return not self.roles.isdisjoint(roles)


LOCAL = Caller("local", frozenset({"caller"}))
"""Whoever is on this machine, where there are no keys. Reviewing wants a key there too."""


class RateLimit:
    """A token bucket for each key, which holds one minute's tokens; in this process only.

    Args:
        per_minute: requests; 0 for no limit.
        clock: seconds, never going back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = per_minute / 60, float(per_minute), clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Take a token; 0, or the seconds until there is one."""
        if not self._rate:
            return 0.0
        now = self._clock()
        tokens, seen = self._buckets.get(name, (self._most, now))
        tokens = min(self._most, tokens + (now - seen) * self._rate)
        self._buckets[name] = (tokens - 1 if tokens >= 1 else tokens, now)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate


class Gate(ASGIMiddleware):
    """Limits for every route, and API keys and their roles for every one that is neither ``OPEN`` nor a ``PAGE``.

    Args:
        server: the limits.
        keys: none of them: only who is on this machine.
        rate: of each key.
        refused: told the status of what is turned away.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, server: Server, keys: Keys, rate: RateLimit, refused: Callable[[int], None]) -> None:
        self._server, self._keys, self._rate, self._refused = server, keys, rate, refused
        self._reading = {"application/json": 0, _FORM: 0}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let it through, or raise."""
        try:
            receive = await self._checked(scope, receive)
        except Refused as error:
            self._refused(error.status_code)
            raise
        await next_app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers.from_scope(scope)
        if not self._keys:
            _require_local_name(headers.get("host", ""))
        opt = scope["route_handler"].opt
        if not opt.get("open"):
            caller = _caller(self._keys, headers)
            scope["user"] = caller
            if not opt.get("unmetered") and (wait := self._rate.wait(caller.name)):
                raise Refused(429, retry_after=wait)
            if "roles" in opt and not caller.may(*opt["roles"]):
                raise Refused(403)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):  # type: ignore[typeddict-item]
            return receive
        # Another type would let a page of any site post here unasked, since a browser sends it without a preflight.
        # What a browser does send so, a form, goes to our pages alone, which ask where it comes from.
        wanted = _FORM if opt.get("page") else "application/json"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
            raise Refused(415, f"wanted content of type {wanted}")
        body = await self._body(headers, receive, wanted)
        if wanted != _FORM:
            require_text(body)
            require_depth(body, self._server.max_depth)
        return _replayed(body, receive)

    async def _body(self, headers: Headers, receive: Receive, kind: str) -> bytes:
        most, at_once = self._server.max_body_bytes, self._server.queue
        if kind == _FORM:
            most, at_once = min(most, MAX_FORM_BYTES), MAX_FORMS
        if "content-length" in headers and "transfer-encoding" in headers:
            # Who stands in front may read the other one, and take the rest for a request of somebody else's.
            raise Refused(400, "wanted a length or chunks, not both", close=True)
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            raise _too_large(most)
        if self._reading[kind] >= at_once:
            raise Refused(503, "too many requests are being read", retry_after=1)
        self._reading[kind] += 1
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _read(receive, most)
        except TimeoutError:
            raise Refused(408) from None
        finally:
            self._reading[kind] -= 1


def roles(*wanted: Role) -> dict[str, tuple[Role, ...]]:
    """The ``opt`` of a route for keys of these roles, and for admins. Without it any key will do."""
    return {"roles": (*wanted, "admin")}


async def add_headers(message: Message, _: Scope) -> None:
    """Security headers on every answer, errors too."""
    if message["type"] == "http.response.start":
        own = list(message.get("headers", ()))
        there = {name.lower() for name, _ in own}
        message["headers"] = own + [each for each in _HEADERS if each[0] not in there]


def require_text(body: bytes) -> None:
    """Refuse what is empty, or no UTF-8.

    Raises:
        Refused: it is.
    """
    if not body:
        raise Refused(400, "the body is empty, wanted JSON")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the body is no UTF-8") from None


def require_depth(body: bytes, most: int) -> None:
    """Refuse JSON that is nested deeper, without parsing it; in time linear in its length for each level.

    Raises:
        Refused: it is, or its brackets are not closed.
    """
    brackets = _STRING.sub(b"", body).translate(_BRACKETS, _OTHERS)
    for _ in range(most):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise Refused(400, f"the JSON is nested deeper than {most} levels, or not closed")


def _caller(keys: Keys, headers: Headers) -> Caller:
    if not keys:
        return LOCAL
    scheme, _, token = headers.get("authorization", "").partition(" ")
    presented = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    record = keys.verify(presented)
    if record is None:
        raise Refused(401)
    return Caller(record.name, frozenset({record.role}))


def _require_local_name(host: str) -> None:
    """Without keys a page of another site could call here under a name of its own that leads to this machine."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if not is_loopback(name):
        raise Refused(403, "without API keys only localhost is served")


async def _read(receive: Receive, most: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the body did not arrive")
        parts.append(message["body"])
        size += len(message["body"])
        if size > most:
            raise _too_large(most)
        more = message["more_body"]
    return b"".join(parts)


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is too large, wanted at most {most:,} bytes")


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> HTTPReceiveMessage:
        nonlocal given
        if given:
            return await receive()  # type: ignore[return-value]
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
