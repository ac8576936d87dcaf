"""The pages on which people review what the gateway held, rendered on the server, below ``/review``.

To add a page, write a module and a template:

    # thresholds.py
    def handlers(desk: Desk) -> list[Any]:
        @get("/thresholds")
        async def look(request: Connection) -> Page:
            desk.signed_in(request)                       # or desk.signed_in(request, "admin")
            rows = await desk.in_thread(read, desk.service.store)
            return desk.page(request, "thresholds.html.j2", {"rows": rows})

        @post("/thresholds", status_code=303)
        async def promote(request: Connection) -> Redirect:
            form = await desk.posted(request, "admin")    # same site, signed in, the form's token
            ...                                           # form.text("field"), form.session.name
            return desk.go(request, "/review/thresholds", form.session)

        return [look, promote]

    {# templates/thresholds.html.j2 #}
    {% extends "base.html.j2" %}
    {% block title %}Thresholds{% endblock %}
    {% block content %} ... every form has
    <input type="hidden" name="token" value="{{ token }}"> ... {% endblock %}

then add its handlers to ``router`` below, and its name and address to ``desk.NAVIGATION``. A template shows
texts of strangers with ``{{ text }}``: markup and what cannot be seen are escaped there; within long texts
``| marked_up`` marks such escapes. The policy of the pages forbids inline scripts, inline styles and style attributes:
use ``static/``. What a handler raises (``Refused``, ``InputError``, anything else) becomes a page.
"""

from __future__ import annotations

from litestar import Router
from litestar.exceptions import HTTPException

from offmap.gateway.pages import review, signing, thresholds
from offmap.gateway.pages.desk import PATH, Connection, Desk, Page, SignInError
from offmap.gateway.pages.session import Sessions
from offmap.gateway.security import PAGE, RateLimit
from offmap.gateway.service import Service

__all__ = ["Desk", "router"]


def router(service: Service, rate: RateLimit) -> Router:
    """Every page.

    Args:
        service: whose queue it is.
        rate: of each key.

    Raises:
        InputError: see ``Sessions``.
    """
    desk = Desk(service, Sessions.from_environment(service.keys), rate)

    # Litestar copies what a router holds: a function stays the same one, a method would bring a copy of its desk.
    def failed(request: Connection, error: Exception) -> Page:
        return desk.error(request, error)

    async def begun(request: Connection) -> None:
        desk.begun(request)

    return Router(
        PATH,
        route_handlers=[*signing.handlers(desk), *review.handlers(desk), *thresholds.handlers(desk)],
        before_request=begun,
        opt=PAGE,
        include_in_schema=False,
        exception_handlers={SignInError: signing.not_signed_in(desk), HTTPException: failed, Exception: failed},
    )
