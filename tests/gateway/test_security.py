import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.config import Server, Upstream
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.security import HEADERS, RateLimit, add_headers
from offmap.gateway.service import Service

HELLO = {"input": "hello"}


def test_a_key_is_taken_from_either_header_and_no_other_is(serve):
    key, record = new_key("robot", "caller")
    client = serve(keys=Keys((record,)))

    def status(**headers):
        return client.post("/v1/moderations", json=HELLO, headers=headers).status_code

    assert status(authorization=f"Bearer {key}") == 200
    assert status(authorization=f"bearer  {key}") == 200
    assert status(**{"x-api-key": key}) == 200
    for wrong in ("", key[:-1], key + "x", key.upper(), record.sha256, "x" * 10_000):
        assert status(authorization=f"Bearer {wrong}") == 401
        assert status(**{"x-api-key": wrong}) == 401
    assert status(authorization=f"Basic {key}") == 401
    assert status() == 401
    assert client.post(f"/v1/moderations?api_key={key}", json=HELLO).status_code == 401


def test_the_caller_s_name_is_recorded_and_the_key_is_not(serve, tmp_path):
    key, record = new_key("robot", "caller")
    client = serve(keys=Keys((record,)))
    client.post("/v1/moderations", json=HELLO, headers={"x-api-key": key})
    client.service.log.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.sqlite*"))
    assert b"robot" in kept
    assert key.encode() not in kept


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        ("caller", "/v1/score", 400),
        ("caller", "/v1/moderations", 400),
        ("reviewer", "/v1/score", 400),
        ("reviewer", "/v1/moderations", 403),
        ("reviewer", "/beta/litellm_basic_guardrail_api", 403),
        ("reviewer", "/v1/guardrail/checks", 403),
        ("admin", "/v1/moderations", 400),
    ],
)
def test_roles(serve, role, path, status):
    key, record = new_key("someone", role)
    client = serve(keys=Keys((record,)))
    assert client.post(path, json=[], headers={"x-api-key": key}).status_code == status


def test_every_route_says_who_may_call_it(serve):
    _, record = new_key("someone", "caller")
    app = serve(keys=Keys((record,)), upstream=Upstream("http://127.0.0.1:1/v1")).app
    routes = [route for route in app.routes if not route.path.startswith("/openapi")]
    handlers = [(route.path, handler) for route in routes for handler in getattr(route, "route_handlers", ())]
    assert len(handlers) > 20
    silent = [
        path for path, each in handlers if not {"open", "roles"} & set(each.opt) and "OPTIONS" not in each.http_methods
    ]
    assert silent == []


def test_what_asks_for_no_key_tells_nothing_but_health(serve):
    _, record = new_key("robot", "caller")
    client = serve(keys=Keys((record,)))
    open_ = [path for path in ("/healthz", "/readyz", "/metrics", "/openapi.json") if client.get(path).is_success]
    assert open_ == ["/healthz", "/readyz"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_without_keys_only_names_of_this_machine_are_served(client, host):
    assert client.post("/v1/moderations", json=HELLO, headers={"host": host}).status_code == 403
    assert client.get("/healthz", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8400", "127.0.0.1:1", "[::1]", "[::1]:8400", "LOCALHOST"])
def test_this_machine_has_several_names(client, host):
    assert client.post("/v1/moderations", json=HELLO, headers={"host": host}).status_code == 200


def test_with_keys_any_name_is_served(serve):
    key, record = new_key("robot", "caller")
    headers = {"host": "gateway.example", "x-api-key": key}
    assert serve(keys=Keys((record,))).post("/v1/moderations", json=HELLO, headers=headers).status_code == 200


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_what_a_page_can_send_without_asking_is_refused(client, type_):
    answer = client.post("/v1/moderations", content=b'{"input": "hi"}', headers={"content-type": type_})
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/healthz", "/elsewhere", "/v1/moderations"])
def test_headers_on_every_answer(client, path):
    headers = client.get(path).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_nobody_else_without_keys(configured, monitor):
    with pytest.raises(InputError, match="API keys"):
        Service(configured(server=Server(host="0.0.0.0")), monitors={"fake": monitor}, keys=Keys())  # noqa: S104


def test_a_body_that_never_ends_is_given_up(configured, monitor, monkeypatch):
    from offmap.gateway.app import create_app

    monkeypatch.setattr("offmap.gateway.security.BODY_SECONDS", 0.05)
    sent = []

    async def main():
        service = Service(configured(), monitors={"fake": monitor}, keys=Keys())
        app = create_app(service.gateway, service=service)
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/moderations", "query_string": b"", "headers": headers}
        scope |= {"http_version": "1.1", "scheme": "http", "root_path": "", "raw_path": b"", "client": None}

        async def receive():
            await asyncio.sleep(0 if not sent else 60)
            sent.append(None)
            if len(sent) > 1:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def send(message):
            sent.append(message)

        await app({**scope, "server": None}, receive, send)
        await service.drain()

    asyncio.run(main())
    assert next(each["status"] for each in sent if each and "status" in each) == 408


@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=40))
def test_a_bucket_lets_through_no_more_than_its_rate(per_minute, gaps):
    now, taken = [0.0], []
    limit = RateLimit(per_minute, lambda: now[0])
    for gap in gaps:
        now[0] += gap
        wait = limit.wait("a")
        if wait == 0:
            taken.append(now[0])
        else:
            assert wait <= 60 / per_minute + 1e-9
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first + 1 <= per_minute * (1 + (end - start) / 60) + 1e-6


def test_buckets_are_each_key_s_own_and_fill_again():
    now = [0.0]
    limit = RateLimit(1, lambda: now[0])
    assert limit.wait("a") == 0
    assert limit.wait("b") == 0
    assert limit.wait("a") == pytest.approx(60)
    now[0] = 30
    assert limit.wait("a") == pytest.approx(30)
    now[0] = 60.001
    assert limit.wait("a") == 0
    assert all(RateLimit(0).wait("a") == 0 for _ in range(1000))


def test_an_answers_own_header_stands_and_none_comes_twice():
    own = {"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"no-cache")]}
    bare = {"type": "http.response.start", "status": 200}
    for message in (own, bare):
        asyncio.run(add_headers(message, {}))
        assert sorted(name.decode().lower() for name, _ in message["headers"]) == sorted(map(str.lower, HEADERS))
    assert own["headers"][0] == (b"Cache-Control", b"no-cache")
