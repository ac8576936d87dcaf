"""The ASGI application: the faces on one service, health, metrics, and the description of it all.

Knows nothing of what the faces say.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router, get
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from prometheus_client import CONTENT_TYPE_LATEST

from offmap import __version__
from offmap.gateway import pages
from offmap.gateway.config import Gateway
from offmap.gateway.drift import Report
from offmap.gateway.security import OPEN, Gate, RateLimit, add_headers, roles
from offmap.gateway.service import BusyError, Service
from offmap.gateway.wire import litellm, moderation, native, nemo, reviews
from offmap.gateway.wire.base import ERRORS, Refused, answer_error


class Health(msgspec.Struct, frozen=True):
    """Whether it is well, and what is amiss."""

    status: str
    reasons: tuple[str, ...] = ()


_UNREADY = {503: ResponseSpec(Health, generate_examples=False, description="why no traffic should come here")}


def create_app(gateway: Gateway, *, service: Service | None = None) -> Litestar:
    """The gateway as an application; it drains its service when it is shut down.

    Raises:
        InputError, StoreError: see ``Service``.
    """
    running = service or Service(gateway)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await running.start()
        gc.collect()
        gc.freeze()  # a full collection would walk the models and stop all answers for a tenth of a second
        try:
            yield
        finally:
            gc.unfreeze()
            await running.drain()

    rate = RateLimit(gateway.limits.requests_per_minute)
    return Litestar(
        route_handlers=[*_faces(running), pages.router(running, rate), *_own(running)],
        lifespan=[lifespan],
        middleware=[Gate(gateway.server, running.keys, rate, running.telemetry.refused)],
        before_send=[add_headers],
        exception_handlers={HTTPException: answer_error, BusyError: _busy(running), Exception: answer_error},
        openapi_config=_described(),
        logging_config=None,
        request_max_body_size=gateway.server.max_body_bytes,
        debug=False,
    )


def _faces(service: Service) -> list[Router]:
    faces = [face.router(service) for face in (native, reviews, moderation, litellm, nemo)]
    if service.gateway.upstream:
        from offmap.gateway.wire.chat import chat_router

        faces.append(chat_router(service))
    return faces


def _own(service: Service) -> list[Any]:
    """What is no face."""

    @get("/healthz", opt=OPEN, summary="Alive")
    async def healthz() -> Health:
        return Health("ok")

    @get("/readyz", opt=OPEN, responses=_UNREADY, summary="Whether traffic should come here")
    async def readyz() -> Response[Health]:
        reasons = await service.unready()
        return Response(Health("unready" if reasons else "ready", reasons), status_code=503 if reasons else 200)

    # A caller who probes could read there what its probes did.
    reviewers: dict[str, Any] = {"unmetered": True} | (roles("reviewer") if service.keys else {})

    @get("/metrics", media_type=CONTENT_TYPE_LATEST, include_in_schema=False, opt=reviewers)
    async def metrics() -> bytes:
        return service.telemetry.text()

    @get("/v1/drift", opt=roles("reviewer"), responses=ERRORS, summary="Whether traffic is what it was")
    async def drift() -> Report:
        return await asyncio.to_thread(service.drift.report)

    return [healthz, readyz, metrics, drift]


def _busy(service: Service) -> Any:
    def answer(request: Request[Any, Any, Any], error: BusyError) -> Response[Any]:
        service.telemetry.refused(503)
        told = "the service is going down" if error.reason == "draining" else "too much is under way already"
        return answer_error(request, Refused(503, told, retry_after=error.retry_after))

    return answer


def _described() -> OpenAPIConfig:
    schemes: dict[str, Any] = {
        "bearer": SecurityScheme(type="http", scheme="bearer"),
        "key": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
    }
    return OpenAPIConfig(
        title="offmap gateway",
        version=__version__,
        description="Monitors in front of real traffic.",
        path="/openapi.json",  # Litestar answers whatever else lies below this path with a page
        render_plugins=[JsonRenderPlugin(path="/")],
        components=Components(security_schemes=schemes),
        security=[{"bearer": []}, {"key": []}],
    )
