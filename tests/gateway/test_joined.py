"""What a connection writes in one turn of the event loop leaves at once, in order, and nothing is lost at its end."""

import asyncio
from dataclasses import dataclass, field

import pytest
import uvicorn
import uvloop

from offmap.gateway.joined import Joined, JoinedWrites


@dataclass
class Transport:
    """Keeps what is written to it; ``None`` is its end."""

    sent: list = field(default_factory=list)
    paused: bool = False
    closing: bool = False

    def write(self, data):
        self.sent.append(data)

    def close(self):
        self.sent.append(None)

    def is_closing(self):
        return self.closing

    def write_eof(self):
        self.sent.append(b"eof")

    def abort(self):
        self.sent.append(b"abort")

    def get_write_buffer_size(self):
        return 7

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


def test_much_is_sent_at_once_so_that_the_transport_says_when_it_is_too_much():
    async def main():
        under = Transport()
        joined = Joined(under)
        for _ in range(200):
            joined.write(b"x" * (1 << 20))
        assert len(under.sent) == 200
        assert joined.get_write_buffer_size() == 7
        joined.write(b"few")
        assert joined.get_write_buffer_size() == 10

    asyncio.run(main())


def test_whatever_ends_or_goes_on_with_writing_comes_behind_what_is_kept():
    async def main():
        under = Transport()
        joined = Joined(under)
        joined.write(b"1")
        joined.writelines([b"2", b"3"])
        joined.write_eof()
        assert under.sent == [b"123", b"eof"]
        joined.write(b"4")
        joined.abort()
        await asyncio.sleep(0)
        assert under.sent[2:] == [b"abort"]
        joined.write(b"5")
        under.closing = True
        await asyncio.sleep(0)
        assert under.sent[3:] == []

    asyncio.run(main())


def test_all_else_is_the_transports():
    under = Transport()
    Joined(under).pause_reading()
    assert under.paused


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_of_uvicorn_is_one_write(monkeypatch, loop):
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
        config = uvicorn.Config(app, port=0, http=JoinedWrites, ws="none", lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        got = []
        for last in ("", "connection: close\r\n"):
            writer.write(f"GET / HTTP/1.1\r\nhost: localhost\r\n{last}\r\n".encode())
            got.append(await reader.readuntil(b"hello"))
        writer.close()
        server.should_exit = True
        await serving
        return got

    with asyncio.Runner(loop_factory=loop) as runner:
        got = runner.run(main())
    assert got[0].startswith(b"HTTP/1.1 200 OK")
    assert [each for each in writes if each] == got
