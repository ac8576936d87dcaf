"""What stands behind a gateway, on this machine: an upstream and a judge's endpoint that do what they are told to."""

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .faces import reply_to

HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m"}
DONE = b"data: [DONE]\n\n"


class Behind(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint; ``fault(handler, body)`` answers in its place."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, healthy):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.healthy, self.fault, self.released = healthy, None, threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_):
        """Callers leave while they are answered: that is what is tried out."""

    def close(self):
        self.released.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        self.say({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.close_connection = True
        (self.server.fault or self.server.healthy)(self, body)

    def log_message(self, *_):
        pass

    def begin(self, kind="application/json", status=200, length=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        if length is not None:
            self.send_header("content-length", str(length))
        self.end_headers()

    def say(self, value, status=200):
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.begin(status=status, length=len(payload))
        self.wfile.write(payload)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (self.wfile, self.rfile):
            with contextlib.suppress(OSError):
                each.close()
        self.connection.close()


def frame(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def pieces(text, size=40):
    return [frame({"content": text[at : at + size]}) for at in range(0, len(text), size)]


def completion(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**HEAD, "object": "chat.completion", "choices": [choice]}


def reply_of(body):
    return reply_to(body["messages"][-1]["content"])


def chats(handler, body):
    """The upstream as it should be."""
    text = reply_of(body)
    if not body.get("stream"):
        return handler.say(completion(text))
    handler.begin("text/event-stream")
    handler.wfile.write(b"".join([*pieces(text), frame({}, "stop"), DONE]))
    return None


def begun(handler, body):
    """The first half of a reply, and no end."""
    text = reply_of(body)
    if body.get("stream"):
        handler.begin("text/event-stream")
        half = pieces(text)
        handler.wfile.write(b"".join(half[: len(half) * 3 // 4]))
    else:
        whole = json.dumps(completion(text)).encode()
        handler.begin(length=len(whole))
        handler.wfile.write(whole[: len(whole) // 2])
    handler.wfile.flush()


def resets(handler, body):
    begun(handler, body)
    handler.reset()


def ends_early(handler, body):
    begun(handler, body)


def hangs(handler, body):
    begun(handler, body)
    handler.server.released.wait(10)


def says_nothing(handler, body):
    handler.server.released.wait(10)


def garbage(handler, body):
    """Events of a stream that are none, after some that are; a body that is no JSON."""
    begun_text = b"".join(pieces(reply_of(body))[:3])
    junk = b"data: {nothing\n\n" + bytes(range(256)) + b"\n\ndata: [[[[\n\n"
    if body.get("stream"):
        handler.begin("text/event-stream")
        handler.wfile.write(begun_text + junk + frame({}, "stop") + DONE)
    else:
        handler.say(junk)


def error_event(handler, body):
    if not body.get("stream"):
        return handler.say({"error": {"message": "broken"}}, 500)
    handler.begin("text/event-stream")
    handler.wfile.write(b"".join([*pieces(reply_of(body))[:20], b'data: {"error": {"message": "broken"}}\n\n', DONE]))
    return None


def server_error(handler, body):
    handler.say({"error": {"message": "broken", "type": "server_error", "code": None}}, 500)


def unauthorized(handler, body):
    handler.say({"error": {"message": "no such key", "type": "invalid_request_error", "code": None}}, 401)


def huge(handler, body):
    """More than any answer may be: of a stream, one event without an end."""
    handler.begin("text/event-stream" if body.get("stream") else "application/json")
    with contextlib.suppress(OSError):
        handler.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "')
        for _ in range(160):
            handler.wfile.write(b"x" * (1 << 16))


def judges(handler, body):
    """A judge as it should be, which knows one word."""
    handler.say(completion("yes" if "poison" in json.dumps(body["messages"][-1]) else "no"))


def mumbles(handler, body):
    handler.say(completion("It depends on how you look at it."))


def no_completion(handler, body):
    handler.say(b"<html>busy</html>")
