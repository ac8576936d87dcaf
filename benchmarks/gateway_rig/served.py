"""``offmap serve`` with a monitor that costs nothing, or with timers around its parts; all else is the real one.

    python -m gateway_rig.served CONFIG PORT [--constant] [--timers FILE] [--watch FILE]

--constant: every monitor of the configuration answers at once that nothing was found. It runs as any other does, in a
thread of its own and in batches: what is left is the gateway. --timers: what each request spent where, as JSON at the
end. --watch: allocated blocks of memory every second, for the soak.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from offmap.conversation import Conversation
from offmap.gateway.config import Gateway, read_gateway
from offmap.monitor import Verdict

CONSTANT = Verdict("constant", False, 0.5, 0.5, 0.5, 0.01, (), ())
"""Nothing was found."""
_REQUEST: ContextVar[dict[str, float] | None] = ContextVar("request", default=None)


class Constant:
    """A monitor without a model."""

    def score(self, conversations: Sequence[Conversation], /) -> list[Verdict]:
        """The same for everybody."""
        return [CONSTANT] * len(conversations)


def constant_monitors(gateway: Gateway) -> dict[str, Any]:
    """The configuration's monitors, as ``opening.open_monitors`` makes them, each around a ``Constant``."""
    from offmap.gateway.monitors import Opened, Running

    opened = Opened(Constant(), "constant", {"unsafe": 0.0, "unknown": 0.0})
    return {
        name: Running(name, opened, timeout=table.timeout_ms / 1000, limits=gateway.limits, queue=gateway.server.queue)
        for name, table in gateway.monitors.items()
    }


class Timers:
    """Seconds that each request spent in each part, and what came of batches."""

    def __init__(self) -> None:
        self.requests: list[dict[str, float]] = []
        self.batches: list[tuple[int, float]] = []
        self.commits: list[tuple[int, float]] = []
        self.collections: list[tuple[int, float]] = []
        self._collecting = 0.0

    def part(self, owner: Any, name: str, part: str) -> None:
        """Time an asynchronous method."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return await inner(*args, **kwargs)
            finally:
                self._add(part, time.perf_counter() - start)

        setattr(owner, name, timed)

    def function(self, owner: Any, name: str, part: str) -> None:
        """Time a plain function."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self._add(part, time.perf_counter() - start)

        setattr(owner, name, timed)

    def sized(self, owner: Any, name: str, seen: list[tuple[int, float]]) -> None:
        """Note how many items each call had, and its seconds; thread or not."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args)
            finally:
                seen.append((len(args[-1]), time.perf_counter() - start))

        setattr(owner, name, timed)

    def whole(self, app: Any) -> Callable[..., Any]:
        """The application, each of its chats timed from the first byte that it sees to the last that it gives."""

        async def timed(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["method"] != "POST":
                await app(scope, receive, send)
                return
            found: dict[str, float] = {}
            _REQUEST.set(found)
            start = time.perf_counter()
            try:
                await app(scope, receive, send)
            finally:
                self.requests.append({**found, "whole": time.perf_counter() - start})

        return timed

    def collected(self, phase: str, told: dict[str, int]) -> None:
        """A callback of ``gc.callbacks``: how long the garbage collector stopped everything, by generation."""
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self.collections.append((told["generation"], time.perf_counter() - self._collecting))

    def write(self, path: Path) -> None:
        """All of it, as JSON."""
        names = ("requests", "batches", "commits", "collections")
        path.write_text(json.dumps({name: getattr(self, name) for name in names}))

    def _add(self, part: str, seconds: float) -> None:
        found = _REQUEST.get()
        if found is not None:
            found[part] = found.get(part, 0.0) + seconds


def install(timers: Timers) -> None:
    """Put timers around the gateway's parts."""
    from offmap.gateway import engine, security
    from offmap.gateway.monitors import Running
    from offmap.gateway.store import AuditLog
    from offmap.gateway.wire import chat, chat_checks

    gc.callbacks.append(timers.collected)
    timers.part(security.Gate, "_checked", "gate")
    timers.function(chat, "read_request", "read request")
    timers.function(chat, "read_replies", "read reply")
    timers.part(chat, "_permitted", "check request")
    timers.part(chat_checks.Checks, "review", "check reply")
    timers.part(engine.Engine, "_ask", "monitor")
    timers.part(engine.Engine, "_written", "audit")
    timers.part(chat, "_upstream", "upstream")
    timers.sized(Running, "_read", timers.batches)
    timers.sized(AuditLog, "_write", timers.commits)


def watch(path: Path) -> None:
    """Every second: the time and the blocks that the interpreter has allocated."""

    def run() -> None:
        with path.open("w", buffering=1) as file:
            while True:
                file.write(f"{time.monotonic()} {sys.getallocatedblocks()}\n")
                time.sleep(1)

    threading.Thread(target=run, daemon=True, name="rig-watch").start()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--constant", action="store_true")
    parser.add_argument("--timers", type=Path)
    parser.add_argument("--watch", type=Path)
    asked = parser.parse_args()
    from offmap.cli.serve import _listening, _run
    from offmap.gateway import app
    from offmap.gateway.service import Service

    gateway, timers = read_gateway(asked.config), Timers()
    if asked.timers:
        install(timers)
        made = app.create_app
        app.create_app = lambda *args, **kwargs: timers.whole(made(*args, **kwargs))  # type: ignore[assignment]
    if asked.watch:
        watch(asked.watch)
    monitors = constant_monitors(gateway) if asked.constant else None
    with _listening("127.0.0.1", asked.port) as listener:
        service = Service(gateway, monitors=monitors)
        _run(app.create_app(gateway, service=service), service, listener)
    if asked.timers:
        timers.write(asked.timers)


if __name__ == "__main__":
    main()
