"""The peer: a reverse proxy on the gateway's own stack (uvicorn, litestar, httpx2) that passes everything on unread.

    python -m gateway_rig.peer PORT UPSTREAM

What it adds is the price of the hop; what the gateway adds beyond it is the price of looking.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from litestar import Litestar, Request, Response, post
from litestar.response import Stream

from gateway_rig.serving import serve_app


def create_proxy(upstream: str) -> Litestar:
    """The application; ``upstream`` ends in "/v1"."""
    client = httpx2.AsyncClient(base_url=upstream, timeout=60, trust_env=False)
    headers = {"content-type": "application/json", "accept-encoding": "identity"}

    @post("/v1/chat/completions", status_code=200)
    async def complete(request: Request[Any, Any, Any]) -> Response[Any]:
        asked = client.build_request("POST", "/chat/completions", content=await request.body(), headers=headers)
        answer = await client.send(asked, stream=True)
        kind = answer.headers["content-type"]
        if not kind.startswith("text/event-stream"):
            body = await answer.aread()
            return Response(body, status_code=answer.status_code, media_type=kind)

        async def passed() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()

        return Stream(passed(), media_type=kind)

    async def close() -> None:
        await client.aclose()

    return Litestar([complete], on_shutdown=[close], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve_app(create_proxy(sys.argv[2]), int(sys.argv[1]))
