"""HTTP connections that send what is written in one turn of the event loop at once. Knows nothing of what is sent.

uvicorn writes the head of an answer and its body one after the other, and uvloop sends each by itself: two system
calls, and a reader who is woken for a head without a body.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's protocol on a ``Joined`` transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open."""
        super().connection_made(Joined(transport))  # type: ignore[arg-type]


class Joined:
    """A transport that keeps what is written until this turn of the loop ends; all else is the transport's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it with all that is written in this turn."""
        if not self._kept:
            asyncio.get_running_loop().call_soon(self._send)
        self._kept.append(data)

    def close(self) -> None:
        """Send what is kept, then close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        kept, self._kept = self._kept, []
        if kept:
            self._transport.write(b"".join(kept))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
