"""What every page needs: a template with the navigation around it, somebody who has signed in, a form that was checked.

A page is a module with a function ``handlers(desk)`` that gives Litestar handlers, and a template that extends
``base.html.j2``; ``pages/__init__.py`` says how to add one. Knows nothing of what pages are about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from offmap.errors import InputError
from offmap.gateway.keys import Role
from offmap.gateway.pages import forms
from offmap.gateway.pages.forms import Form
from offmap.gateway.pages.rendering import HEADERS, render
from offmap.gateway.pages.session import LONGEST_SECONDS, Session, Sessions
from offmap.gateway.security import RateLimit
from offmap.gateway.service import Service
from offmap.gateway.store import StoreError
from offmap.gateway.wire.base import Refused

_log = logging.getLogger(__name__)
T = TypeVar("T")
Connection = Request[Any, Any, Any]
Page = Response[str]
REVIEWERS: tuple[Role, ...] = ("reviewer", "admin")
COOKIE = "offmap_review"
LEASE = "offmap_lease"
"""The cookie with the number of the item that this browser took last, and the token of its lease."""
PATH = "/review"
NAVIGATION: tuple[tuple[str, str], ...] = (("Queue", PATH), ("Thresholds", f"{PATH}/thresholds"))
"""Name and address of what the bar at the top leads to, in order."""


class SignInError(Exception):
    """Nobody has signed in, or not any more. ``note``: what was typed, which is not to be lost."""

    def __init__(self, note: str = "") -> None:
        super().__init__("nobody has signed in")
        self.note = note


@dataclass(frozen=True)
class Desk:
    """The pages' share of a running gateway.

    Attributes:
        service: whose queue it is.
        sessions: who has signed in.
        rate: requests of each key.
        clock: seconds since the epoch.
    """

    service: Service
    sessions: Sessions
    rate: RateLimit
    clock: Callable[[], float] = field(default=time.time)

    def page(
        self, request: Connection, template: str, values: Mapping[str, object], *, status: int = 200, note: str = ""
    ) -> Page:
        """A page for whoever asks; the template has ``session``, ``token``, ``now``, ``here``, ``places``, ``flash``.

        Args:
            request: what is answered; its session, if it has one, stands in the bar.
            template: the name of a file of ``templates``.
            values: what else it shows.
            status: HTTP's.
            note: a sentence above the page about what has just been done.
        """
        session = self.session(request)
        shared: dict[str, object] = {
            "session": session if session and session.signed_in else None,
            "token": self.sessions.token(session) if session else "",
            "now": self.clock(),
            "here": request.url.path,
            "places": NAVIGATION,
            "flash": note,
        }
        text = render(template, shared | dict(values))
        return Response(text, status_code=status, headers=dict(HEADERS), media_type="text/html")

    def session(self, request: Connection) -> Session | None:
        """The session that a request brings, whoever's it is; None for none that counts."""
        return self.sessions.read(request.cookies.get(COOKIE, ""))

    def signed_in(self, request: Connection, *roles: Role) -> Session:
        """The session of who asks for a page.

        Args:
            request: of any method; a form wants ``posted`` instead.
            roles: what the key may be; reviewer or admin unless told otherwise, and an admin always.

        Raises:
            SignInError: there is none: answered by the page to sign in.
            Refused: the key is of another role (403), or asks too often (429).
        """
        session = self.session(request)
        record = self.sessions.record(session) if session and session.signed_in else None
        if session is None or record is None:
            raise SignInError
        if not any(record.may(role) for role in roles or REVIEWERS):
            raise Refused(403)
        if wait := self.rate.wait(session.name):
            raise Refused(429, retry_after=wait)
        return session

    async def posted(self, request: Connection, *roles: Role) -> Form:
        """A form of somebody who has signed in, sent by a page of ours.

        Raises:
            SignInError, Refused: see ``signed_in``; and 403 where the form does not come from here, or not from this
                session.
        """
        forms.require_same_site(request.headers)
        form = await self.fields(request)
        try:
            session = self.signed_in(request, *roles)
        except SignInError:
            raise SignInError(Form(self.sessions.visitor(), form).text("note")) from None
        if not self.sessions.is_token(session, form.get(forms.TOKEN, "")):
            raise Refused(403, forms.STALE)
        return Form(session, form)

    @staticmethod
    async def fields(request: Connection) -> dict[str, str]:
        """The fields of a form, unchecked; of one that is there twice the last."""
        return {name: value for name, value in (await request.form()).multi_items() if isinstance(value, str)}

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """What ``call`` gives, in a thread: for the store.

        Raises:
            Refused: the store does not answer (503). Its ``RefusedError`` and ``LeaseError`` go on as they are.
        """
        try:
            return await asyncio.to_thread(call, *arguments)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            raise Refused(503, "the data base does not answer", retry_after=1) from None

    def cookie(self, request: Connection, session: Session) -> Cookie:
        """The cookie of a session, for this browser only."""
        return self.private_cookie(request, COOKIE, self.sessions.written(session), int(LONGEST_SECONDS))

    @staticmethod
    def private_cookie(request: Connection, name: str, value: str, seconds: int) -> Cookie:
        """A cookie that no script reads and no other site makes a browser send."""
        secure = forms.is_https(request.url.scheme, request.headers)
        return Cookie(name, PATH, value, max_age=seconds, secure=secure, httponly=True, samesite="strict")

    def forgotten(self, request: Connection, name: str) -> Cookie:
        """That cookie, for the browser to forget."""
        return self.private_cookie(request, name, "", 0)

    def go(self, request: Connection, address: str, session: Session) -> Redirect:
        """On to another page after a form, with some more time for the session."""
        cookies = [self.cookie(request, self.sessions.renewed(session))]
        return Redirect(address, status_code=303, cookies=cookies, headers=dict(HEADERS))

    @staticmethod
    def begun(request: Connection) -> None:
        """Says of a request that the gate let it through: what it turned away it has counted."""
        request.state.past_gate = True

    def error(self, request: Connection, error: Exception) -> Page:
        """A page that tells what went wrong, with nothing of what was sent; for errors that nothing else handles.

        What nobody foresaw is logged by its class alone, as its message may hold content; what is refused is counted.
        """
        status = error.status_code if isinstance(error, HTTPException) else 500
        if isinstance(error, InputError):
            status = 400
        if status >= 500 and not isinstance(error, Refused):
            _log.error("a page failed (%s)", type(error).__name__)
        elif "past_gate" in request.state:
            self.service.telemetry.refused(status)
        told = error.detail if isinstance(error, Refused) else ""
        page = self.page(request, "error.html.j2", {"status": status, "told": told}, status=status)
        page.headers.update(error.headers or {} if isinstance(error, Refused) else {})
        return page
