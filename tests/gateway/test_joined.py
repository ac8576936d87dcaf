"""What a connection writes in one turn of the event loop leaves at once, in order, and nothing is lost at its end."""

import asyncio
from dataclasses import dataclass, field

import uvicorn

from offmap.gateway.joined import Joined, JoinedWrites


@dataclass
class Transport:
    """Keeps what is written to it; ``None`` is its end."""

    sent: list = field(default_factory=list)
    paused: bool = False

    def write(self, data):
        self.sent.append(data)

    def close(self):
        self.sent.append(None)

    def pause_reading(self):
        self.paused = True


def test_what_is_written_in_one_turn_leaves_together_and_in_order():
    async def main():
        under = Transport()
        joined = Joined(under)
        joined.write(b"head ")
        joined.write(b"body")
        assert under.sent == []
        await asyncio.sleep(0)
        joined.write(b"next")
        await asyncio.sleep(0)
        assert under.sent == [b"head body", b"next"]

    asyncio.run(main())


def test_what_is_kept_leaves_before_the_end():
    async def main():
        under = Transport()
        joined = Joined(under)
        joined.write(b"last words")
        joined.close()
        await asyncio.sleep(0)
        assert under.sent == [b"last words", None]

    asyncio.run(main())


def test_all_else_is_the_transports():
    under = Transport()
    Joined(under).pause_reading()
    assert under.paused


def test_an_answer_of_uvicorn_is_one_write(monkeypatch):
    """Its head and its body come one after the other; a caller gets them in one piece."""
    writes = []
    send = Joined._send

    def counted(self):
        writes.append(b"".join(self._kept))
        send(self)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async def main():
        monkeypatch.setattr(Joined, "_send", counted)
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=JoinedWrites, lifespan="off", log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        got = await reader.read()
        writer.close()
        server.should_exit = True
        await serving
        return got

    got = asyncio.run(main())
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert [each for each in writes if each] == [got]
