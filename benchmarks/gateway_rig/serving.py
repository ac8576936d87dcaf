"""uvicorn as ``offmap serve`` starts it, for the rig's own servers."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


def exact_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to some microseconds; the default one rounds up to milliseconds (epoll)."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def serve_app(app: Any, port: int, *, exact: bool = False) -> None:
    """Serve on loopback until SIGTERM. ``exact``: with timers as ``exact_loop`` has them, else as fast as it goes."""
    import uvicorn

    config = uvicorn.Config(
        app, port=port, access_log=False, server_header=False, proxy_headers=False, log_level="warning", lifespan="auto"
    )
    server = uvicorn.Server(config)
    if not exact:
        return server.run()
    with asyncio.Runner(loop_factory=exact_loop) as runner:
        return runner.run(server.serve())
