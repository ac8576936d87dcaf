"""The peer: a reverse proxy on the gateway's own stack (uvicorn, litestar, aiohttp) that passes everything on unread.

    python -m gateway_rig.peer PORT UPSTREAM

What it adds is the price of the hop; what the gateway adds beyond it is the price of looking.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from litestar import Litestar, Request, Response, post
from litestar.response import Stream

from gateway_rig.serving import serve_app


def create_proxy(upstream: str) -> Litestar:
    """The application; ``upstream`` ends in "/v1"."""
    clients: list[aiohttp.ClientSession] = []
    headers = {"content-type": "application/json", "accept-encoding": "identity"}

    async def connect() -> None:
        clients.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False))

    @post("/v1/chat/completions", status_code=200)
    async def complete(request: Request[Any, Any, Any]) -> Response[Any]:
        answer = await clients[0].post(f"{upstream}/chat/completions", data=await request.body(), headers=headers)
        kind = answer.headers["content-type"]
        if not kind.startswith("text/event-stream"):
            return Response(await answer.read(), status_code=answer.status, media_type=kind)

        async def passed() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.content.iter_any():
                    yield piece
            finally:
                answer.close()

        return Stream(passed(), media_type=kind)

    async def close() -> None:
        await clients[0].close()

    return Litestar([complete], on_startup=[connect], on_shutdown=[close], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve_app(create_proxy(sys.argv[2]), int(sys.argv[1]))
