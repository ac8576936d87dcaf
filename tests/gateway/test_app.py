import asyncio
import json
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offmap.gateway.config import Limits, Server, Upstream
from offmap.gateway.keys import Keys, new_key

POSTS = ("/v1/score", "/v1/decisions", "/v1/moderations", "/beta/litellm_basic_guardrail_api", "/v1/guardrail/checks")
JSON = {"content-type": "application/json"}
DECLARED = {200, 400, 413, 503}


def told(answer):
    """The type of an error, which has the form of every error."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message"}
    return body["error"]["type"]


def test_health_and_readiness(client, monitor):
    assert client.get("/healthz").json()["status"] == "ok"
    assert (client.get("/readyz").status_code, client.get("/readyz").json()["status"]) == (200, "ready")
    monitor.stuck = True
    client.service._readiness = None
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["monitor fake does not answer"])
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("role", "status"), [("caller", 403), ("reviewer", 200), ("admin", 200)])
def test_metrics_are_not_for_callers(serve, role, status):
    """Who probes would read in them what its probes did."""
    key, record = new_key("someone", role)
    client = serve(keys=Keys((record,)))
    assert client.get("/metrics").status_code == 401
    answer = client.get("/metrics", headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, "offmap_" in answer.text) == (status, status == 200)


def test_without_keys_metrics_are_read_on_this_machine(client):
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"host": "evil.example"}).status_code == 403


def test_a_monitor_that_never_answered_is_not_ready_until_it_does(serve, monitor):
    monitor.fault = "failed"
    client = serve()
    assert client.get("/readyz").status_code == 503
    monitor.fault = ""
    client.service._readiness = None
    assert client.get("/readyz").status_code == 200


def test_a_store_that_cannot_be_written_is_not_ready_and_nothing_is_allowed(client, monkeypatch):
    from offmap.gateway.store import StoreError
    from offmap.gateway.store.opening import Store, Writer

    def broken(*_):
        raise StoreError("disk full")

    for owner in (Store, Writer):
        monkeypatch.setattr(owner, "write", broken)
    assert client.get("/readyz").json()["reasons"] == ["the store cannot be written"]
    answer = client.post("/v1/decisions", json={"stage": "input", "conversation": {"messages": [USER]}})
    assert (answer.status_code, answer.json()["action"]) == (503, "error")
    assert client.post("/v1/moderations", json={"input": "hello"}).json()["results"][0]["flagged"]


USER = {"role": "user", "content": "hello"}


def test_the_description_names_every_route_and_its_errors(client):
    described = client.get("/openapi.json").json()
    assert {*POSTS, "/healthz", "/readyz"} <= set(described["paths"])
    for path in POSTS:
        assert {"200", "400", "401", "413", "429", "503"} <= set(described["paths"][path]["post"]["responses"])


def test_chat_is_there_only_with_an_upstream(client):
    assert client.post("/v1/chat/completions", json={}).status_code == 404


@pytest.mark.parametrize("path", POSTS)
def test_bodies_are_limited_before_they_are_parsed(serve, monitor, path):
    client = serve(server=Server(max_body_bytes=1000, max_depth=4))
    before = len(monitor.asked)
    large = b'{"input": "' + b"x" * 2000 + b'"}'
    for content in (large, iter([large[:900], large[900:]])):  # announced, and not
        answer = client.post(path, content=content, headers=JSON)
        assert told(answer) == "too_large"
        assert "wanted at most 1,000 bytes" in answer.text
    assert told(client.post(path, content=b"[" * 5 + b"]" * 5, headers=JSON)) == "invalid_request"
    assert "nested" in client.post(path, content=b'{"a":' * 190, headers=JSON).text
    assert told(client.post(path, content=b"{}", headers={"content-type": "text/plain"})) == "unsupported_media_type"
    assert told(client.get(path)) == "method_not_allowed"
    assert len(monitor.asked) == before


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_the_deepest_bodies_that_may_be_allowed_are_answered(serve, path, opened, closed):
    client = serve(server=Server(max_depth=128))
    deep = opened * 120 + "1" + closed * 120
    for body in (deep, f'{{"input": {deep}, "messages": {deep}, "texts": {deep}, "conversation": {deep}}}'):
        assert client.post(path, content=body.encode(), headers=JSON).status_code in (400, 422)
    tool = {"type": "function", "function": {"name": "f", "parameters": "DEEP"}}
    asked = json.dumps({"messages": [{"role": "user", "content": "hi"}], "tools": [tool]}).replace('"DEEP"', deep)
    for body in (asked, f'{{"stage": "input", "conversation": {asked}}}', f'{{"conversations": [{asked}]}}'):
        assert client.post(path, content=body.encode(), headers=JSON).status_code in (200, 400, 422)


def test_unknown_paths_and_failures_of_ours_are_plain_errors(client, monkeypatch):
    assert told(client.get("/elsewhere")) == "not_found"

    async def broken(*_, **__):
        raise RuntimeError("zebra")

    monkeypatch.setattr(client.service.engine, "decide", broken)
    answer = client.post("/v1/moderations", json={"input": "hello"})
    assert (answer.status_code, told(answer)) == (500, "internal")
    assert "zebra" not in answer.text


def test_a_full_queue_and_draining_are_503_with_a_time(serve, monitor):
    client = serve(server=Server(queue=2))
    body = {"conversations": [{"messages": [USER]}]}
    assert client.post("/v1/score", json={"conversations": body["conversations"] * 3}).status_code == 413
    client.service.pending = 2
    answer = client.post("/v1/score", json=body)
    assert (answer.status_code, told(answer)) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    client.service.pending = 0
    client.service.draining = True
    for path in ("/v1/score", "/readyz"):
        answer = client.post(path, json=body) if path == "/v1/score" else client.get(path)
        assert answer.status_code == 503
    assert client.get("/readyz").json()["reasons"] == ["draining"]


def test_what_is_under_way_is_answered_when_the_service_drains(configured, monitor):
    from offmap.conversation import Conversation, Message
    from offmap.gateway.service import BusyError, Service

    async def main():
        service = Service(configured(), monitors={"fake": monitor}, keys=Keys())
        await service.start()
        monitor.released = asyncio.Event()
        row = Conversation("c", (Message("user", "hello"),))
        under_way = asyncio.create_task(service.decide("input", row))
        await asyncio.sleep(0.01)
        closed = []
        service.closers.append(lambda: asyncio.sleep(0, closed.append(service.pending)))
        service.draining = True
        with pytest.raises(BusyError):
            await service.decide("input", row)
        monitor.released.set()
        decision = await under_way
        assert await service.drain()
        return decision, closed

    decision, closed = asyncio.run(main())
    assert (decision.action, closed) == ("allow", [0])


def test_many_at_once_are_each_answered_as_they_should(client):
    wrong = []

    def ask(number):
        text = "bomb" if number % 3 == 0 else "hello"
        found = client.post("/v1/moderations", json={"input": text}).json()["results"][0]["flagged"]
        if found != (number % 3 == 0):
            wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_depth_is_found_in_linear_time():
    from offmap.gateway.security import require_depth
    from offmap.gateway.wire.base import Refused

    bodies = [b"[" * 500_000 + b"]" * 500_000, b"[]" * 500_000, b'"' * 999_999, b'"\\' * 500_000, b"{[" * 500_000]
    started = time.process_time()
    for body in bodies:
        try:
            require_depth(body, 32)
        except Refused:
            continue
    assert time.process_time() - started < 2


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.integers(0, 5))
def test_depth_is_that_of_the_parsed_value(value, most):
    from offmap.gateway.security import require_depth
    from offmap.gateway.wire.base import Refused

    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        require_depth(body, most)
        refused = False
    except Refused:
        refused = True
    assert refused == (depth(value) > most)


FIELDS = (
    "input stage conversation conversations messages role content type text tools tool_calls function name arguments "
    "input_type texts images structured_messages litellm_call_id litellm_trace_id conversation_id id guardrails stream "
    "model user assistant tool system input response request image_url refusal chosen rejected unsafe meta"
).split()
words = (
    st.sampled_from(FIELDS) | st.text(max_size=12) | st.sampled_from(["\x00", "\ud800", "\u202e", "bomb", "<failed>"])
)
bodies = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=15,
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "input": bodies,
        "input_type": st.sampled_from(["request", "response"]) | bodies,
        "stage": st.sampled_from(["input", "response", "tool_call", "conversation"]) | bodies,
        "texts": st.lists(words, max_size=3) | bodies,
        "tool_calls": st.lists(st.fixed_dictionaries({"function": bodies}), max_size=2) | bodies,
        **dict.fromkeys(
            ("messages", "structured_messages"),
            st.lists(st.fixed_dictionaries({"role": words}, optional={"content": bodies}), max_size=3) | bodies,
        ),
        **dict.fromkeys(("litellm_call_id", "litellm_trace_id", "conversation_id"), words | bodies),
        "conversation": st.fixed_dictionaries({"messages": bodies}) | bodies,
        "conversations": st.lists(st.fixed_dictionaries({"messages": bodies}), max_size=2) | bodies,
    },
)
raw = st.binary(max_size=60) | (bodies | likely).map(lambda each: json.dumps(each).encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=raw)
def test_whatever_is_sent_the_answer_is_a_declared_one(client, path, body):
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in DECLARED, answer.text
    if answer.status_code != 200 and "action" not in answer.json():
        told(answer)


def test_figures_are_told_whatever_the_traffic_takes(serve):
    """Without keys everybody is one caller, and an overload is when the figures are wanted."""
    client = serve(limits=Limits(requests_per_minute=1))
    found = [client.post("/v1/moderations", json={"input": "hi"}).status_code for _ in range(2)]
    assert [*found, client.get("/metrics").status_code] == [200, 429, 200]


def test_keys_limits_and_rates_hold_together(serve):
    key, record = new_key("robot", "caller")
    client = serve(keys=Keys((record,)), limits=Limits(requests_per_minute=2))
    headers = {"x-api-key": key}
    found = [client.post("/v1/moderations", json={"input": "hi"}, headers=headers) for _ in range(3)]
    assert [each.status_code for each in found] == [200, 200, 429]
    assert int(found[2].headers["retry-after"]) >= 1
    assert told(client.post("/v1/moderations", json={"input": "hi"})) == "unauthorized"


def test_an_upstream_is_read_strictly():
    from offmap.errors import InputError
    from offmap.gateway.config import parse_gateway

    read = parse_gateway({"upstream": {"base_url": "http://127.0.0.1:1/v1"}})
    assert read.upstream == Upstream("http://127.0.0.1:1/v1", "", 60)
    for bad in ({}, {"base_url": 1}, {"base_url": "x", "key": "y"}, {"base_url": "x", "timeout_s": 0}):
        with pytest.raises(InputError, match="upstream"):
            parse_gateway({"upstream": bad})


def test_every_status_of_readiness_is_described(client):
    described = client.get("/openapi.json").json()["paths"]["/readyz"]["get"]["responses"]
    assert {"200", "503"} <= set(described)
