"""uvicorn as ``offmap serve`` starts it, for the rig's own servers."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


def exact_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to some microseconds; the default one rounds up to milliseconds (epoll)."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def serve_app(app: Any, port: int) -> None:
    """Serve on loopback until SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app, port=port, access_log=False, server_header=False, proxy_headers=False, log_level="warning", lifespan="auto"
    )
    with asyncio.Runner(loop_factory=exact_loop) as runner:
        runner.run(uvicorn.Server(config).serve())
