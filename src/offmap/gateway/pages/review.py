"""The queue, and one item of it: taken for some time, looked at, settled or given back.

Who holds an item holds the token of its lease: in the form, and in a cookie, so that the page can be loaded again. It
counts in a session of that person alone.
"""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from offmap.gateway.pages.desk import LEASE, PATH, Connection, Desk, Page
from offmap.gateway.pages.evidence import evidence
from offmap.gateway.pages.forms import Form
from offmap.gateway.pages.queue import open_queue
from offmap.gateway.store.queue import Seen, look
from offmap.gateway.store.review import LONGEST_NOTE, LeaseError, decide, lease, release, renew
from offmap.gateway.store.tickets import VERDICTS, Verdict
from offmap.gateway.wire.base import Refused

_LARGEST = 2**31 - 1
NO_ITEM = "there is no such item"


def handlers(desk: Desk) -> list[Any]:
    """``/review`` and ``/review/items/...``."""
    return [_queue(desk), _next(desk), _item(desk), _take(desk), _decide(desk), _release(desk)]


def _queue(desk: Desk) -> Any:
    @get("/")
    async def queue(request: Connection) -> Page:
        session = desk.signed_in(request)
        found = await desk.in_thread(open_queue, desk.service.store, desk.clock())
        done, flash = request.query_params.get("done", ""), ""
        if "empty" in request.query_params and not found.counts.waiting:
            flash = "Nothing waits."
        for row in found.settled:
            if str(row.item.id) == done and row.item.decided_by == session.name:
                flash = f"Recorded: item {row.item.id} is {row.item.verdict}."
        return desk.page(request, "queue.html.j2", {"queue": found, "me": session.name}, note=flash)

    return queue


def _next(desk: Desk) -> Any:
    @post("/next", status_code=303)
    async def take_next(request: Connection) -> Redirect:
        form = await desk.posted(request)
        seconds = desk.service.gateway.review.lease_s
        held = await desk.in_thread(lease, desk.service.store, form.session.name, seconds, desk.clock())
        if held is None:
            return desk.go(request, f"{PATH}?empty=1", form.session)
        page = desk.go(request, f"{PATH}/items/{held.item.id}", form.session)
        page.cookies.append(_holding(desk, request, held.item.id, held.token))
        return page

    return take_next


def _item(desk: Desk) -> Any:
    @get("/items/{number:int}")
    async def item(request: Connection, number: FromPath[int]) -> Page:
        session = desk.signed_in(request)
        return await _item_page(desk, request, number, (session.name, _token(request, number)))

    return item


def _take(desk: Desk) -> Any:
    @post("/items/{number:int}/take", status_code=200)
    async def take(request: Connection, number: FromPath[int]) -> Response[Any]:
        """Hold an item for some time, or for some more; the note that was begun stays in the page."""
        form = await desk.posted(request)
        token = form.text("lease")
        try:
            token = await desk.in_thread(_held, desk, _number(number), token, form.session.name)
        except LeaseError:
            return await _lost(desk, request, form, number)
        page = await _item_page(desk, request, number, (form.session.name, token), form.text("note"))
        page.cookies += [
            _holding(desk, request, number, token),
            desk.cookie(request, desk.sessions.renewed(form.session)),
        ]
        return page

    return take


def _decide(desk: Desk) -> Any:
    @post("/items/{number:int}/decide", status_code=303)
    async def settle(request: Connection, number: FromPath[int]) -> Response[Any]:
        form = await desk.posted(request)
        verdict = form.text("verdict")
        if verdict not in VERDICTS:
            raise Refused(400, "a verdict is safe, unsafe or unsure")
        if len(form.text("note")) > LONGEST_NOTE:
            raise Refused(400, f"a note has at most {LONGEST_NOTE:,} characters: nothing is decided yet")
        try:
            await desk.in_thread(_settled, desk, _number(number), form, verdict)
        except LeaseError:
            return await _lost(desk, request, form, number)
        return _left(desk, request, form, f"{PATH}?done={number}")

    return settle


def _release(desk: Desk) -> Any:
    @post("/items/{number:int}/release", status_code=303)
    async def give_back(request: Connection, number: FromPath[int]) -> Response[Any]:
        form = await desk.posted(request)
        try:
            await desk.in_thread(_given_back, desk, _number(number), form)
        except LeaseError:
            return await _lost(desk, request, form, number)
        return _left(desk, request, form, PATH)

    return give_back


def _held(desk: Desk, number: int, token: str, name: str) -> str:
    """The token of a lease on that item: the one that there is, renewed, or that of a new one."""
    store, seconds, now = desk.service.store, desk.service.gateway.review.lease_s, desk.clock()
    try:
        renew(store, number, token, seconds, now, by=name)
    except LeaseError:
        held = lease(store, name, seconds, now, item=number)
        if held is None:
            raise
        return held.token
    return token


def _given_back(desk: Desk, number: int, form: Form) -> None:
    release(desk.service.store, number, form.text("lease"), desk.clock(), by=form.session.name)


def _settled(desk: Desk, number: int, form: Form, verdict: Verdict) -> None:
    capture, by = desk.service.gateway.audit.capture, form.session.name
    note, token = form.text("note"), form.text("lease")
    decide(desk.service.store, number, token, verdict, desk.clock(), by=by, note=note, capture=capture)


async def _item_page(desk: Desk, request: Connection, number: int, holder: tuple[str, str], note: str = "") -> Page:
    """An item; ``holder``: who asks, and the token of the lease that they may have."""
    seen = await _seen(desk, number, *holder)
    shown = await desk.in_thread(evidence, seen.decision, seen.content)
    values = {
        "seen": seen,
        "item": seen.item,
        "decision": seen.decision,
        "evidence": shown,
        "lease": holder[1] if seen.held else "",
        "written": note,
        "longest": LONGEST_NOTE,
    }
    return await desk.in_thread(lambda: desk.page(request, "item.html.j2", values))


async def _lost(desk: Desk, request: Connection, form: Form, number: int) -> Page:
    """Why nothing was recorded, how the item stands, and the note that was written."""
    seen = await _seen(desk, number)
    values = {"item": seen.item, "seen": seen, "written": form.text("note")}
    page = desk.page(request, "lost.html.j2", values, status=409)
    page.cookies.append(desk.cookie(request, desk.sessions.renewed(form.session)))
    return page


async def _seen(desk: Desk, number: int, by: str = "", token: str = "") -> Seen:
    store, now = desk.service.store, desk.clock()
    found = await desk.in_thread(lambda: look(store, _number(number), now, token=token, by=by))
    if found is None:
        raise Refused(404, NO_ITEM)
    return found


def _left(desk: Desk, request: Connection, form: Form, address: str) -> Redirect:
    page = desk.go(request, address, form.session)
    page.cookies.append(desk.forgotten(request, LEASE))
    return page


def _holding(desk: Desk, request: Connection, number: int, token: str) -> Any:
    seconds = desk.service.gateway.review.lease_s
    return desk.private_cookie(request, LEASE, f"{number}.{token}", int(seconds))


def _token(request: Connection, number: int) -> str:
    name, _, token = request.cookies.get(LEASE, "").partition(".")
    return token if name == str(number) else ""


def _number(number: int) -> int:
    if not 0 <= number <= _LARGEST:
        raise Refused(404, NO_ITEM)
    return number
