"""Whatever is sent, from the gateway's own description or against every rule, the answer is one that is declared.

The gateway runs in a process of its own: no answer of 5xx but the declared ones, no crash, a bounded memory, and it
still serves afterwards. Everything is deterministic.
"""

import contextlib
import copy
import itertools
import os
import random
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from . import behind
from .hostile_http import BODIES, ODD_JSON, PATHS, PIECES, REQUESTS, TEMPLATES, TYPES, large
from .nursery import Nursery

JSON = {"content-type": "application/json"}
READ = {200, 400, 413}
"""What any body may be answered with: monitors, store and upstream are well."""
HTTP = {200, 400, 403, 404, 405, 408, 411, 413, 414, 415, 431}
"""What barely HTTP may be answered with."""
MOST_MEGABYTES = 300
"""What the gateway may take on top of what it takes at first, whatever is sent: 16 bodies of 1 MiB at once."""
MOST_SECONDS = 15
"""For one request, on a busy machine."""


def replies(handler, body):
    """An upstream that says the same to everything."""
    if not body.get("stream"):
        return handler.say(behind.completion("Fine."))
    handler.begin("text/event-stream")
    handler.wfile.write(behind.frame({"content": "Fine."}) + behind.frame({}, "stop") + behind.DONE)
    return None


class Target:
    """A gateway in a process of its own."""

    def __init__(self, nursery, url, upstream):
        limits = {"requests_per_minute": 0, "seconds": 20, "deadline_ms": 20_000}
        told = nursery.start(url=url, upstream=upstream, body_seconds=1.0, **limits)
        self.pid, self.port = told["pid"], told["port"]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def megabytes(self, name="VmRSS"):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

    def post(self, path, body, headers=JSON):
        answer = self.client.post(path, content=body, headers=headers)
        assert answer.elapsed.total_seconds() < MOST_SECONDS
        return answer

    def serves(self):
        answer = self.post("/v1/moderations", b'{"input": ["hello", "a bomb"]}')
        return [each["flagged"] for each in answer.json()["results"]] == [False, True]

    def said(self, request, *, more=(), wait=5.0):
        """What comes back on a socket for these bytes, and for more of them a moment later; b"" where it is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            found = b""
            with contextlib.suppress(OSError):
                connection.sendall(request)
                for each in more:
                    connection.sendall(each)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    found += piece
        return found


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    url = f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/gateway.sqlite"
    upstream = behind.Behind(replies)
    with contextlib.closing(upstream), contextlib.closing(Nursery()) as nursery:
        running = Target(nursery, url, upstream.url)
        try:
            running.client.get("/healthz")
            yield running
        finally:
            running.client.close()
            os.kill(running.pid, signal.SIGTERM)
        assert nursery.ended() == 0


def status_of(said):
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else None


def error_of(answer):
    """The error, which has the form of every error and repeats nothing."""
    (error,) = answer.json().values()
    assert error["message"]
    return error["type"]


def test_hostile_values_at_every_place(target):
    counts = Counter()
    for (path, template), (name, piece) in itertools.product(TEMPLATES, (PIECES | large(30_000)).items()):
        answer = target.post(path, template.replace(b"@", piece))
        assert answer.status_code in READ, (path, template, name, answer.status_code, answer.text[:300])
        if answer.status_code != 200:
            error_of(answer)
        counts[answer.status_code] += 1
    assert counts[200] > 100, counts
    assert counts[400] > 1000, counts
    assert target.serves()


@pytest.mark.parametrize("path", PATHS)
def test_hostile_bodies(target, path):
    for name, body in BODIES.items():
        for headers in (JSON, JSON | {"content-encoding": "gzip"}):
            answer = target.post(path, body, headers)
            wanted = READ if name == "duplicate names" else {400, 413}
            assert answer.status_code in wanted, (name, answer.status_code)
            if answer.status_code != 200:
                error_of(answer)
    for kind in TYPES:
        assert target.post(path, b'{"input": "hello"}', {"content-type": kind}).status_code == 415, kind
    for kind in ODD_JSON:
        assert target.post(path, b'{"input": "hello"}', {"content-type": kind}).status_code in READ, kind
    assert target.serves()


@pytest.mark.parametrize("path", PATHS)
def test_bodies_above_the_limit_are_not_read(target, path):
    before = target.megabytes("VmHWM")
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    whole = f"{head}content-length: {8 << 20}\r\n\r\n".encode()
    assert status_of(target.said(whole)) == 413
    pieces = [b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))] * 128
    assert status_of(target.said(f"{head}transfer-encoding: chunked\r\n\r\n".encode(), more=pieces)) in (413, None)
    assert target.megabytes("VmHWM") - before < 16
    assert target.serves()


def test_a_body_that_does_not_end_is_given_up(target):
    head = b"POST /v1/moderations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", target.port), timeout=5) as slow:
        slow.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        started, said = time.monotonic(), b""
        slow.settimeout(0.05)
        while not said and time.monotonic() - started < 5:
            with contextlib.suppress(OSError):
                slow.sendall(b"1\r\n \r\n")
            with contextlib.suppress(TimeoutError):
                said = slow.recv(1 << 16)
    assert status_of(said) == 408
    assert time.monotonic() - started >= 1
    assert target.serves()


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_barely_http(target, name):
    said = target.said(REQUESTS[name].encode())
    status = status_of(said)
    assert status in HTTP or not said, (status, said[:300])
    answered = said.count(b"HTTP/1.1 ")
    assert answered <= (50 if name == "pipelined" else 2)
    if name.startswith(("a length and", "chunks, ", "two lengths", "a list of")):
        assert b"404" not in said, "what hides in a body is no request"
    assert b"secret" not in said
    assert target.serves()


def test_bodies_that_are_nearly_right(target):
    """Valid bodies with bytes taken out, put in, exchanged, doubled."""
    chosen, counts = random.Random(5), Counter()
    alphabet = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\x00", b"\xff", b"\xed", b"0", b"e", b"null", b"-"]
    for _ in range(600):
        path, template = chosen.choice(TEMPLATES)
        body = template.replace(b"@", chosen.choice([b'"hello"', b"1", b"[]", b'[{"role":"user","content":"a"}]']))
        for _ in range(chosen.randrange(1, 4)):
            at, length = chosen.randrange(len(body) + 1), chosen.randrange(4)
            put = chosen.choice([b"", chosen.choice(alphabet), body[at : at + 9] * 2])
            body = body[:at] + put + body[at + length :]
        answer = target.post(path, body)
        assert answer.status_code in READ, (path, body, answer.status_code)
        counts[answer.status_code] += 1
    assert counts[200] > 10, counts
    assert counts[400] > 200, counts


def test_memory_is_bounded(target):
    """The most expensive bodies at once; again and again they take no more."""
    bodies = [(path, template.replace(b"@", piece, 1).replace(b"@", b"null"))
              for path, template in TEMPLATES for piece in large(900_000).values()]  # fmt: skip
    chosen, before = random.Random(3), target.megabytes()
    after = []
    with ThreadPoolExecutor(16) as pool:
        for _ in range(4):
            asked = chosen.sample(bodies, 20)
            found = list(pool.map(lambda each: target.client.post(each[0], content=each[1], headers=JSON), asked))
            assert {each.status_code for each in found} <= READ | {408, 503}
            after.append(target.megabytes())
    assert target.megabytes("VmHWM") - before < MOST_MEGABYTES
    assert after[-1] - after[1] < 48, after
    assert target.serves()


def test_everything_that_the_description_describes(target):
    """Made from /openapi.json, and again with the form of messages, which it leaves open: valid and invalid bodies."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: nothing was made from it")
    import requests
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
              checks.response_schema_conformance, checks.response_headers_conformance]  # fmt: skip
    described = target.client.get("/openapi.json").json()
    seen, session = Counter(), requests.Session()
    for document in (described, closer(described)):
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()
            for mode in schemathesis.GenerationMode:

                @settings(
                    max_examples=12,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(operation.as_strategy(generation_mode=mode))
                def conforms(case):
                    for name in FRAMING:
                        case.headers.pop(name, None)
                    answer = case.call(base_url=f"http://127.0.0.1:{target.port}", session=session)
                    case.validate_response(answer, checks=wanted)
                    seen[case.operation.label, answer.status_code] += 1

                conforms()
    session.close()
    assert {label.split()[1] for label, _ in seen} == set(described["paths"])
    assert {path for path in PATHS if seen[f"POST {path}", 200]} == set(PATHS), seen
    assert target.serves()


FRAMING = ("transfer-encoding", "content-length", "connection", "upgrade", "expect")
"""Headers that say where a message ends: with a wrong one it is no HTTP, which ``REQUESTS`` are about."""
MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant", "tool"]},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "null"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type", "text"],
                        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
            ]
        },
        "tool_calls": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "type", "function"],
                "properties": {
                    "id": {"type": "string"},
                    "type": {"const": "function"},
                    "function": {
                        "type": "object",
                        "required": ["name", "arguments"],
                        "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
MESSAGES = {"type": "array", "minItems": 1, "items": MESSAGE}
ROW = {"type": "object", "required": ["messages"], "properties": {"messages": MESSAGES}, "additionalProperties": False}
CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {"model": {"type": "string"}, "messages": MESSAGES, "stream": {"type": "boolean"}, "n": {"const": 1}},
    "additionalProperties": False,
}


def closer(described):
    """The paths whose description says "any object", with what clients really send in its place."""
    document = copy.deepcopy(described)
    paths = ("/v1/score", "/v1/decisions", "/v1/guardrail/checks", "/v1/chat/completions")
    document["paths"] = {path: document["paths"][path] for path in paths}
    schemas = document["components"]["schemas"]
    schemas["ScoreRequest"]["properties"]["conversations"]["items"] = ROW
    schemas["DecisionRequest"]["properties"]["conversation"] = ROW
    schemas["CheckRequest"]["properties"]["messages"] = MESSAGES
    chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
    chat["application/json"]["schema"] = CHAT
    return document
