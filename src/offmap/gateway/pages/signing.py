"""Sign in with an API key, and sign out; and the two files that every page loads."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from offmap.gateway.pages import forms
from offmap.gateway.pages.desk import COOKIE, LEASE, PATH, REVIEWERS, Connection, Desk, Page, SignInError
from offmap.gateway.pages.forms import TOKEN, Form
from offmap.gateway.pages.rendering import HEADERS, TYPES, static_file
from offmap.gateway.security import RateLimit
from offmap.gateway.wire.base import Refused

_log = logging.getLogger(__name__)
TRIES_PER_MINUTE = 20
"""Wrong keys from one address, which all of a proxy's callers share: beyond them they are neither answered with a form
nor logged. A right key is never refused: it has 256 random bits, so there is no guessing it."""
_BUCKETS = 1024
_NEXT = re.compile(r"/review(/[\w-]+)*", re.ASCII)


def handlers(desk: Desk) -> list[Any]:
    """``/review/sign-in``, ``/review/sign-out``, ``/review/static/...``."""
    tries = RateLimit(TRIES_PER_MINUTE)

    @get("/sign-in", sync_to_thread=False)
    def ask(request: Connection) -> Page:
        return sign_in_page(desk, request, address=request.query_params.get("next", ""))

    @post("/sign-in", status_code=200)
    async def sign_in(request: Connection) -> Response[Any]:
        forms.require_same_site(request.headers)
        return _signed_in(desk, request, await desk.fields(request), tries)

    @post("/sign-out", status_code=303)
    async def sign_out(request: Connection) -> Redirect:
        form = await desk.posted(request)
        desk.sessions.end(form.session)
        _log.info("%s signed out of the pages", form.session.name)
        gone = [desk.forgotten(request, name) for name in (COOKIE, LEASE)]
        return Redirect(f"{PATH}/sign-in", status_code=303, cookies=gone, headers=dict(HEADERS))

    return [ask, sign_in, sign_out, _static()]


def sign_in_page(
    desk: Desk, request: Connection, *, address: str = "", wrong: str = "", note: str = "", status: int = 200
) -> Page:
    """The form to sign in; where no key may review, how to make one.

    Args:
        desk: whose sessions.
        request: what is answered.
        address: of the page to go on to.
        wrong: what was wrong with the last try.
        note: what was typed in a form that could not be taken.
        status: HTTP's.
    """
    session = desk.session(request) or desk.sessions.visitor()
    possible = any(record.may(role) for record in desk.service.keys.records for role in REVIEWERS)
    values = {"possible": possible, "wrong": wrong, "next": _safe(address), "note": note}
    values["token"] = desk.sessions.token(session)
    page = desk.page(request, "sign_in.html.j2", values, status=status)
    page.cookies.append(desk.cookie(request, session))
    return page


def not_signed_in(desk: Desk) -> Callable[[Connection, SignInError], Response[Any]]:
    """What ``SignInError`` is answered by: the way to the form, or, for a form that was sent, the form itself."""

    def answer(request: Connection, error: SignInError) -> Response[Any]:
        if request.method == "POST":
            desk.service.telemetry.refused(401)
            return sign_in_page(desk, request, note=error.note, status=401)
        address = f"{PATH}/sign-in?next={_safe(request.url.path)}"
        return Redirect(address, status_code=303, headers=dict(HEADERS))

    return answer


def _signed_in(desk: Desk, request: Connection, fields: dict[str, str], tries: RateLimit) -> Response[Any]:
    visitor, form = desk.session(request), Form(desk.sessions.visitor(), fields)
    address = _safe(form.text("next"))
    if visitor is None or not desk.sessions.is_token(visitor, form.text(TOKEN)):
        desk.service.telemetry.refused(403)
        return sign_in_page(desk, request, address=address, wrong="The form had run out: try again.", status=403)
    record = desk.service.keys.verify(form.fields.get("key", "").strip())
    if record is None or not any(record.may(role) for role in REVIEWERS):
        _charge(tries, request)
        amiss = f"the key {record.name} may not review" if record else "no key of ours"
        _log.warning("a sign-in to the pages failed: %s", amiss)
        desk.service.telemetry.refused(403)
        wrong = "This is no API key of a reviewer or an admin."
        return sign_in_page(desk, request, address=address, wrong=wrong, status=403)
    _log.info("%s signed in to the pages", record.name)
    page = desk.go(request, address, desk.sessions.begin(record))
    page.cookies.append(desk.forgotten(request, LEASE))
    return page


def _charge(tries: RateLimit, request: Connection) -> None:
    """Count a wrong key to its address.

    Raises:
        Refused: there were too many.
    """
    # So many names and no more: whoever has many addresses does not fill the memory.
    if wait := tries.wait(str(zlib.crc32(str(request.client and request.client.host).encode()) % _BUCKETS)):
        raise Refused(429, "too many tries from this address", retry_after=wait)


def _safe(address: str) -> str:
    """An address of ours: nobody is sent elsewhere by a link."""
    return address if _NEXT.fullmatch(address) else PATH


def _static() -> Any:
    @get("/static/{name:str}", sync_to_thread=False)
    def static(name: FromPath[str]) -> Response[bytes]:
        content = static_file(name)
        if content is None:
            raise Refused(404)
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=f"{TYPES[Path(name).suffix]}", headers=headers)

    return static
