import asyncio
import contextlib
import gzip
import json
import time

import pytest

from offmap.errors import InputError
from offmap.gateway.config import Upstream as Table
from offmap.gateway.upstream import Bounds, Upstream, UpstreamError, open_upstream

KEY = "sk-very-secret"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
RESET, HANG, PAUSE = object(), object(), object()


def plain(body, status=b"200 OK", *headers):
    lines = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


@contextlib.asynccontextmanager
async def server(*script):
    """A server on loopback that plays a script for every connection; its address, and what it was sent."""
    got, gone, playing = [], asyncio.Event(), []

    async def play(reader, writer):
        playing.append(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0
            )
            got.append((head.decode(), await reader.readexactly(length)))
            for step in script:
                if step is RESET:
                    writer.transport.abort()
                    return
                if step is PAUSE:
                    await asyncio.sleep(0.05)
                    continue
                if step is HANG:
                    await reader.read()
                    gone.set()
                    return
                writer.write(step)
                await writer.drain()

    listening = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", got, gone
    finally:
        listening.close()
        await asyncio.wait_for(asyncio.gather(*playing), 10)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def client(url, timeout=5.0, key=KEY, **bounds):
    upstream = Upstream(url, key, timeout, bounds=Bounds(**bounds))
    try:
        yield upstream
    finally:
        await upstream.aclose()


def answered(*script, timeout=5.0, **bounds):
    async def main():
        async with server(*script) as (url, got, _), client(url, timeout, **bounds) as upstream:
            return await upstream.answer("POST", "/chat/completions", b"{}"), got

    return asyncio.run(main())


def failed(*script, timeout=5.0, **bounds):
    with pytest.raises(UpstreamError) as caught:
        answered(*script, timeout=timeout, **bounds)
    assert KEY not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value


def streamed(*script, timeout=5.0, **bounds):
    """What came of a stream, and the error it ended with."""

    async def main():
        found = []
        async with server(*script) as (url, _, _), client(url, timeout, **bounds) as upstream:
            try:
                async with upstream.events("/chat/completions", b"{}") as events:
                    async for data in events:
                        found.append(data)  # noqa: PERF401 - what came before an error counts
            except UpstreamError as error:
                return found, error
        return found, None

    return asyncio.run(main())


def test_a_request_has_the_key_and_no_compression():
    answer, got = answered(plain(b'{"a": 1}'))
    head, body = got[0]
    assert answer == {"a": 1}
    assert head.startswith("POST /v1/chat/completions ")
    assert f"authorization: Bearer {KEY}".lower() in head.lower()
    assert "accept-encoding: identity" in head.lower()
    assert body == b"{}"


@pytest.mark.parametrize("body", [b"", b"nothing", b"[1]", b'{"a": NaN}', b'"\xff"', b"[" * 100_000])
def test_what_is_no_object_is_an_error(body):
    error = failed(plain(body))
    assert (error.status, error.outage) == (502, True)


def test_a_status_is_passed_on_without_the_key():
    told = {"error": {"message": f"bad {KEY} here", "type": "invalid_request_error", "code": "too_long"}}
    error = failed(plain(json.dumps(told).encode(), b"400 Bad Request"))
    assert (error.status, error.kind, error.code) == (400, "invalid_request_error", "too_long")
    assert (str(error), error.outage) == ("bad [key] here", False)


@pytest.mark.parametrize(
    ("status", "passed"), [(404, 404), (418, 418), (500, 502), (501, 502), (503, 503), (504, 504), (529, 502)]
)
def test_no_failure_has_a_status_that_is_not_declared(status, passed):
    error = failed(plain(b"{}", b"%d X" % status))
    assert (error.status, error.outage) == (passed, status >= 500)


def test_a_refused_key_is_the_gateways_and_nothing_of_it_is_told():
    told = {"error": {"message": "Incorrect API key provided: sk-v*****ret", "type": "auth"}}
    error = failed(plain(json.dumps(told).encode(), b"401 X"))
    assert (error.status, error.kind, error.outage) == (502, "upstream_error", True)
    assert str(error) == "the upstream refused the gateway's key"


def test_what_it_says_of_its_own_failure_is_not_passed_on():
    told = {"error": {"message": "Traceback: /srv/secret.py", "type": "secret", "code": "secret"}}
    error = failed(plain(json.dumps(told).encode(), b"500 X"))
    assert (str(error), error.kind, error.code) == ("the upstream answered with status 500", "upstream_error", "")


@pytest.mark.parametrize(
    ("script", "told"), [([b"tide\n\n"], "does not answer in HTTP"), ([], "closed the connection without an answer")]
)
def test_what_is_no_answer_is_told_as_none(script, told):
    error = failed(*script)
    assert (error.status, error.outage) == (502, True)
    assert told in str(error)


@pytest.mark.parametrize("body", [b"<html>", b'{"error": "text"}', b'{"error": {"message": 3}}', b""])
def test_a_status_alone_is_enough(body):
    error = failed(plain(body, b"503 Service Unavailable", b"retry-after: 7"))
    assert (error.status, error.kind, error.headers) == (503, "upstream_error", {"retry-after": "7"})


def test_redirects_are_not_followed():
    error = failed(plain(b"", b"307 Temporary Redirect", b"location: http://127.0.0.1:1/v1/chat/completions"))
    assert error.status == 502
    assert "redirect" in str(error)


def test_a_server_that_is_not_there():
    async def main():
        async with server() as (url, _, _):
            pass
        async with client(url) as upstream:
            await upstream.answer("GET", "/models")

    with pytest.raises(UpstreamError, match="cannot be reached") as caught:
        asyncio.run(main())
    assert caught.value.status == 502


@pytest.mark.parametrize("script", [(HANG,), (OK + b"content-length: 10\r\n\r\n{", HANG)])
def test_a_server_that_is_silent(script):
    assert failed(*script, timeout=0.1).status == 504
    assert streamed(*script, timeout=0.1)[1].status == 504


@pytest.mark.parametrize("script", [(RESET,), (OK + b"content-length: 10\r\n\r\n{", RESET), (OK + b"\r\n", RESET), ()])
def test_a_server_that_resets(script):
    assert failed(*script).status == 502


def test_a_slow_drip_does_not_outlast_the_time():
    drip = [OK + b"content-length: 100\r\n\r\n", *[b" "] * 3, HANG]
    assert failed(*drip, timeout=0.2).status == 504


def test_a_large_answer_is_not_read():
    assert "bytes" in str(failed(plain(b'"' + b"x" * 5000 + b'"'), answer=1000))


def test_compression_is_refused():
    body = gzip.compress(b" " * 10_000_000 + b"{}")
    assert "compressed" in str(failed(plain(body, b"200 OK", b"content-encoding: gzip")))


def test_events_until_a_reset():
    head = OK + b"transfer-encoding: chunked\r\n\r\n"
    pieces = [b"%x\r\n%s\r\n" % (len(p), p) for p in (b"data: on", b"e\xc3", b"\xa9\n\r", b"\ndata: two")]
    found, error = streamed(head, *pieces, RESET)
    assert found == ["oneé"]
    assert error.status == 502


def test_events_without_a_blank_line_at_the_end():
    found, error = streamed(OK + b"\r\ndata: a\n\ndata: [DONE]")
    assert (found, error) == (["a", "[DONE]"], None)


def test_events_are_bounded():
    found, error = streamed(OK + b"\r\ndata: a\n\ndata: " + b"x" * 5000, event=1000)
    assert "1000" in str(error)
    found, error = streamed(OK + b"\r\n" + b"data: a\n\n" * 2000, answer=1000)
    assert len(found) <= 2000
    assert error.status == 502


def test_leaving_a_stream_closes_the_connection():
    async def main():
        async with server(OK + b"\r\ndata: a\n\n", HANG) as (url, _, gone), client(url) as upstream:
            async with upstream.events("/x", b"{}") as events:
                assert await anext(events) == "a"
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(main())


def test_no_cookie_is_kept():
    async def main():
        told = plain(b"{}", b"200 OK", b"set-cookie: who=alice")
        async with server(told) as (url, got, _), client(url, key="") as upstream:
            for _ in range(2):
                await upstream.answer("GET", "/models")
        return got

    got = asyncio.run(main())
    assert len(got) == 2
    assert all("cookie" not in head.lower() and "authorization" not in head.lower() for head, _ in got)


def test_a_key_in_place_of_its_name_is_not_told():
    for key in ("sk-abc123", "gsk_abc123"):
        with pytest.raises(InputError, match="wanted one like UPSTREAM_KEY") as told:
            open_upstream(Table("http://up.example/v1", key))
        assert "abc123" not in str(told.value)


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("UP_KEY", f" {KEY}\n")
    open_upstream(Table("http://up.example/v1", "UP_KEY"))
    for value in ("", "two\nlines", "schlüssel"):
        monkeypatch.setenv("UP_KEY", value)
        with pytest.raises(InputError, match="UP_KEY"):
            open_upstream(Table("http://up.example/v1", "UP_KEY"))


@pytest.mark.parametrize("url", ["", "up.example/v1", "ftp://up.example", "http://a:b@up.example/v1", "http://"])
def test_addresses_that_cannot_be_used(url):
    with pytest.raises(InputError, match="base_url") as caught:
        open_upstream(Table(url))
    assert "b@" not in str(caught.value)


def paused(*steps):
    """A script whose steps leave in packets of their own."""
    return [each for step in steps for each in (step, PAUSE)]


@pytest.mark.parametrize("junk", [b"Internal Server Error\r\n", b"zz\r\n{}\r\n"])
def test_an_answer_that_turns_into_something_else_ends(junk):
    """Later than what came before, since it then finds the client at another place."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    script = paused(head, b"d\r\ndata: {}\n\n  \r\n", junk)
    started = time.monotonic()
    found, error = streamed(*script, timeout=0.5)
    assert error is not None
    assert error.status in (502, 504)
    assert len(found) <= 1
    assert failed(*script, timeout=0.5).status in (502, 504)
    assert time.monotonic() - started < 5


def test_a_server_that_never_reads_is_too_slow():
    async def main():
        async def deaf(reader, writer):
            with contextlib.closing(writer):
                await left.wait()

        left = asyncio.Event()
        listening = await asyncio.start_server(deaf, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        async with client(url, 0.3) as upstream:
            with pytest.raises(UpstreamError) as caught:
                async with asyncio.timeout(5), upstream.events("/chat/completions", bytes(32 << 20)):
                    raise AssertionError
        left.set()
        listening.close()
        return caught.value.status

    assert asyncio.run(main()) == 504


def test_a_header_that_cannot_be_passed_on_is_left_out():
    assert failed(plain(b"{}", b"503 No", b"retry-after: 7")).headers == {"retry-after": "7"}
    assert failed(plain(b"{}", b"503 No", b"retry-after: \xff")).headers == {}
