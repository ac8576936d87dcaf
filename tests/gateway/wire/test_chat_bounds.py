"""What one caller may hold of the chat proxy: so many answers at once, and each of them only while it is read."""

import asyncio
import json
from contextlib import ExitStack

from tests.gateway.wire.chatting import HANG, HELLO, ask, choice, text_pieces

from offmap.gateway.config import Server, Upstream


def test_there_are_as_many_answers_as_connections_and_as_many_more_as_may_wait(serve, behind):
    client = serve(upstream=Upstream(behind.url, connections=2), server=Server(queue=1))
    behind.says(choice("hi"))
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(client.service.exchange())
        assert ask(client).status_code == 200
        others.enter_context(client.service.exchange())
        found = ask(client)
        assert found.status_code == 503
        assert int(found.headers["retry-after"]) >= 1
    assert ask(client).status_code == 200


def scope(body):
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8400),
    }


def test_who_does_not_read_a_stream_is_left(proxy, behind, monkeypatch, caplog):
    monkeypatch.setattr("offmap.gateway.wire.chat.TAKEN_SECONDS", 0.05)
    client = proxy(stages=("response",))
    behind.streams(*text_pieces("A sentence that is looked at. " * 40), HANG)
    body = json.dumps({"model": "m", "messages": HELLO, "stream": True}).encode()
    sent = []

    async def receive():
        if sent:
            await asyncio.Event().wait()
        sent.append("asked")
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def asking():
        async with asyncio.timeout(20):
            await client.app(scope(body), receive, send)

    client.blocking_portal.call(asking)
    assert sent == ["asked", "http.response.start", "http.response.body"]
    assert behind.left.wait(10)
    assert len(client.service.exchanges) == client.service.pending == 0
    assert "its caller took nothing for 0.05 s" in caplog.text
