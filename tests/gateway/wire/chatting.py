"""Chats through a gateway before a server on loopback that plays a script."""

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from offmap.gateway.store.chain import entries

RESET, HANG = object(), object()
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m", "system_fingerprint": "f", "hidden": "secret text"}
HELLO = [{"role": "user", "content": "hello"}]
LONG = "".join(f"This is sentence number {n} of a text that goes on. " for n in range(60))


class Behind(ThreadingHTTPServer):
    """A server on loopback that plays a script for every request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Plays)
        self.script, self.status, self.kind = [b"{}"], 200, "application/json"
        self.got, self.left = [], threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def says(self, *choices, **more):
        answer = {**HEAD, "object": "chat.completion", "choices": list(choices), "usage": USAGE, **more}
        self.script, self.kind = [json.dumps(answer).encode()], "application/json"

    def streams(self, *steps, done=True):
        self.script, self.kind = [*steps, *[b"data: [DONE]\n\n"] * done], "text/event-stream"


class _Plays(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        self.server.got.append(json.loads(self.rfile.read(length) or b"null"))
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.kind)
        self.end_headers()
        with contextlib.suppress(OSError):
            try:
                return self.play()
            except ConnectionError:  # who asked has left
                self.server.left.set()
        return None

    def play(self):
        for step in self.server.script:
            if step is RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return self.connection.close()
            if step is HANG:
                self.connection.settimeout(10)
                with contextlib.suppress(ConnectionError):
                    self.connection.recv(1)
                return self.server.left.set()
            self.wfile.write(step if isinstance(step, bytes) else frame(step))
            self.wfile.flush()
        return None

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_):
        pass

    def finish(self):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            super().finish()


def frame(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(delta=None, reason=None, index=0, **more):
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **more}


def text_pieces(text, size=17, index=0):
    return [piece({"content": text[at : at + size]}, index=index) for at in range(0, len(text), size)]


def call(name, arguments, id="c1", **more):  # noqa: A002
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def choice(content=None, reason="stop", index=0, **message):
    return {"index": index, "message": {"role": "assistant", "content": content, **message}, "finish_reason": reason}


def ask(client, headers=None, **more):
    return client.post("/v1/chat/completions", json={"model": "m", "messages": HELLO, **more}, headers=headers)


def said(client, **more):
    """The frames of a stream, all but the last, which says that it is done."""
    answer = ask(client, stream=True, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(each.removeprefix("data: ")) for each in frames]


def text_of(frames, index=0, name="content"):
    choices = [each for frame in frames for each in frame.get("choices", []) if each["index"] == index]
    return "".join(each["delta"].get(name) or "" for each in choices)


def reason_of(frames, index=0):
    choices = [each for frame in frames for each in frame.get("choices", []) if each["index"] == index]
    reasons = [each["finish_reason"] for each in choices if each["finish_reason"]]
    assert len(reasons) <= 1
    assert not reasons or choices[-1]["finish_reason"], "nothing comes after the end"
    return reasons[0] if reasons else None


def recorded(client):
    """Actions and rules of all decisions on record, oldest first."""
    with client.service.store.read() as connection:
        rows = [each.decision for each in entries(connection) if each.kind == "decision"]
    return [(each.action, each.rule) for each in rows]


def replies(monitor):
    """What the monitor was asked about, behind the request."""
    return [each.messages[-1] for each in monitor.asked if each.id == "chat" and each.messages[-1].role == "assistant"]


def with_stage(client, monkeypatch, stage, **options):
    """Give a stage of a running gateway a policy of its own."""
    gateway = client.service.engine.gateway
    table = msgspec.structs.replace(gateway.stages[stage], **options)
    gateway = msgspec.structs.replace(gateway, stages=gateway.stages | {stage: table})
    monkeypatch.setattr(client.service.engine, "gateway", gateway)
