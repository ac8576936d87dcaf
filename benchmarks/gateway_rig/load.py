"""Who sends: requests at given moments, whatever became of those before them, over connections that are kept.

A time counts from the moment at which a request was DUE, so one that had to wait to be sent, here or anywhere, is not
flattered (no coordinated omission). The client is as small as HTTP/1.1 allows, so that it takes little of the two
cores that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from gateway_rig.figures import Array

TIMEOUT = 60.0
IDLE = 3.0
"""Seconds after which a connection is not used again: uvicorn closes it after 5, which must not meet a request."""


class Target(NamedTuple):
    """A server on loopback, and headers of every request to it."""

    port: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        due, sent, done: moments on the monotonic clock.
        status: of HTTP; 0 where the connection broke or timed out.
        headers: of the answer, names in lower case.
        pieces: what came of the body and when.
    """

    due: float
    sent: float
    done: float
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    pieces: tuple[tuple[float, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(piece for _, piece in self.pieces)

    @property
    def seconds(self) -> float:
        """From the moment at which it was due."""
        return self.done - self.due


class Client:
    """Connections to one server, as many as there are requests under way."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, body: bytes, due: float, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        """Post one chat."""
        sent = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await self._connection()
                writer.write(self._head(body, headers) + body)
                status, found = await _read_head(reader)
                pieces = [(time.monotonic(), piece) async for piece in _read_body(reader, found)]
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            return Answer(due, sent, time.monotonic(), 0)
        done = time.monotonic()
        if found.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((done, reader, writer))
        return Answer(due, sent, done, status, found, tuple(pieces))

    async def aclose(self) -> None:
        """Close what is idle."""
        for *_, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._target.port)

    def _head(self, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
        told = [("content-type", "application/json"), ("content-length", str(len(body)))]
        lines = [f"{name}: {value}" for name, value in (*told, *self._target.headers, *headers)]
        head = ["POST /v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{self._target.port}", *lines, "", ""]
        return "\r\n".join(head).encode()


async def open_loop(
    client: Client,
    bodies: Sequence[bytes],
    due: Array,
    headers: Sequence[Sequence[tuple[str, str]]] = (),
    *,
    keep: bool = True,
) -> list[Answer]:
    """Send each body when it is due, seconds from now, and wait for all answers, in the order of the bodies.

    ``headers``: of each request beside the target's. ``keep``: whether answers keep what they say.
    """

    async def ask(body: bytes, moment: float, own: Sequence[tuple[str, str]]) -> Answer:
        answer = await client.ask(body, moment, own)
        return answer if keep else replace(answer, headers={}, pieces=())

    gc.collect()
    gc.disable()  # a pause here would be a delay in every server
    try:
        start = time.monotonic() + 0.1
        tasks = []
        for number, (body, offset) in enumerate(zip(bodies, due, strict=True)):
            moment = start + float(offset)
            if (left := moment - time.monotonic()) > 0:
                await asyncio.sleep(left)
            own = headers[number] if headers else ()
            tasks.append(asyncio.create_task(ask(body, moment, own)))
        return list(await asyncio.gather(*tasks))
    finally:
        gc.enable()


async def closed_loop(client: Client, bodies: Sequence[bytes]) -> list[Answer]:
    """One after the other: each waits for the answer before it."""
    return [await client.ask(body, time.monotonic()) for body in bodies]


def lag(answers: Sequence[Answer]) -> Array:
    """How late each request was sent: what the sender itself adds."""
    return np.array([answer.sent - answer.due for answer in answers])


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split(" ", 2)[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield await reader.readexactly(int(headers.get("content-length", "0")))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        piece = await reader.readexactly(size)
        await reader.readexactly(2)
        yield piece
    await reader.readuntil(b"\r\n")
