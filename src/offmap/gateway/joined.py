"""HTTP connections that send what is written in one turn of the event loop at once. Knows nothing of what is sent.

uvicorn writes the head of an answer and its body one after the other, and uvloop sends each by itself: two system
calls, and a reader who is woken for a head without a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_KEPT = 1 << 16
"""Bytes."""


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's protocol on a ``Joined`` transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open."""
        super().connection_made(Joined(transport))  # type: ignore[arg-type]


class Joined:
    """A transport that keeps what is written until this turn of the loop ends; all else is the transport's.

    What would be much to keep is sent at once, so that the transport says when its reader is too slow.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._kept: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send it with all that is written in this turn."""
        if not self._kept:
            asyncio.get_running_loop().call_soon(self._send)
        self._kept.append(data)
        self._size += len(data)
        if self._size > MOST_KEPT:
            self._send()

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Write each."""
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        """Send what is kept, then say that nothing more comes."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is kept, then close."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close and send nothing."""
        self._kept, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are written and not sent."""
        return self._size + self._transport.get_write_buffer_size()

    def _send(self) -> None:
        kept, self._kept, self._size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
