"""The mock upstream: answers known exchanges after a fixed time, whole or in pieces.

    python -m gateway_rig.upstream PORT EXCHANGES THINK PACE

THINK: seconds before an answer. PACE: seconds between pieces of a stream.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway_rig.serving import serve_app
from gateway_rig.traffic import read_exchanges

_JSON, _EVENTS = (b"content-type", b"application/json"), (b"content-type", b"text/event-stream")


class Upstream:
    """An ASGI application."""

    def __init__(self, path: Path, think: float, pace: float) -> None:
        rows = read_exchanges(path)
        self._whole = {row.name: row.answer() for row in rows}
        self._pieces = {row.name: row.pieces() for row in rows}
        self._think, self._pace = think, pace

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        asked = msgspec.json.decode(await _body(receive) or b"{}")
        await asyncio.sleep(self._think)
        if asked.get("stream"):
            await self._stream(self._pieces[str(asked["seed"])], send)
        else:
            found = self._whole.get(str(asked.get("seed")), b'{"object": "list", "data": []}')
            length = (b"content-length", str(len(found)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
            await send({"type": "http.response.body", "body": found})

    async def _stream(self, pieces: list[bytes], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(self._pace)
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


if __name__ == "__main__":
    serve_app(Upstream(Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])), int(sys.argv[1]), exact=True)
