"""Who holds a request asks what a person said of it, and is told that alone."""

import json
import time

import msgspec
import pytest

from offmap.gateway.config import Actions, Review
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.store import StoreError, decide, lease

ESCALATE = {"actions": Actions(unsafe="escalate", unknown="allow")}
KEYS = {name: new_key(name, role) for name, role in {"robot": "caller", "other": "caller", "anna": "reviewer"}.items()}
ONLY = {"decision", "state", "action"}


@pytest.fixture
def gateway(configured, monitor):
    """A function that opens a gateway that holds what is unsafe for a person."""
    from litestar.testing import TestClient

    from offmap.gateway.app import create_app
    from offmap.gateway.service import Service

    def opened(review=Review(), known=True):  # noqa: B008
        config = msgspec.structs.replace(configured(**ESCALATE), review=review)
        keys = Keys(tuple(record for _, record in KEYS.values()) if known else ())
        service = Service(config, monitors={"fake": monitor}, keys=keys)
        client = TestClient(create_app(config, service=service), base_url="http://127.0.0.1")
        client.service = service
        return client

    return opened


def asked(client, text="bomb", name="robot"):
    """The id of a decision about that text."""
    body = {"stage": "input", "conversation": {"messages": [{"role": "user", "content": text}]}}
    return client.post("/v1/decisions", json=body, headers={"x-api-key": KEYS[name][0]}).json()["id"]


def answer(client, decision, name="robot"):
    return client.get(f"/v1/reviews/{decision}", headers={"x-api-key": KEYS[name][0]})


def settle(client, verdict):
    now = time.time()
    held = lease(client.service.store, "anna", 60, now)
    decide(client.service.store, held.item.id, held.token, verdict, now, note="plain", by="anna")


@pytest.mark.parametrize(
    ("verdict", "default", "action"),
    [
        ("safe", "block", "allow"),
        ("unsafe", "allow", "block"),
        ("unsure", "block", "block"),
        ("unsure", "allow", "allow"),
    ],
)
def test_a_caller_is_told_what_is_done_and_nothing_else(gateway, verdict, default, action):
    with gateway(Review(default=default, reason="tested")) as client:
        decision = asked(client)
        found = answer(client, decision)
        assert (found.status_code, found.json()) == (200, {"decision": decision, "state": "open"})
        settle(client, verdict)
        assert answer(client, decision).json() == {"decision": decision, "state": "decided", "action": action}


def test_a_deadline_that_passed_is_the_default(gateway):
    with gateway(Review(timeout_s=0.01)) as client:
        decision = asked(client)
        time.sleep(0.02)
        assert answer(client, decision).json() == {"decision": decision, "state": "timed_out", "action": "block"}


def test_a_reviewer_is_told_who_said_what(gateway):
    with gateway() as client:
        decision = asked(client)
        found = answer(client, decision, "anna").json()
        assert 800 < found["due_at"] - time.time() <= 900
        assert set(found) == {"decision", "state", "due_at"}
        settle(client, "unsafe")
        found = answer(client, decision, "anna").json()
        assert (found["verdict"], found["by"], found["note"], found["action"]) == ("unsafe", "anna", "plain", "block")


def test_others_decisions_samples_and_what_is_not_reviewed_are_all_not_there(gateway):
    with gateway(Review(sample=1.0)) as client:
        mine, sampled = asked(client), asked(client, "tea")
        unknown = "0" * 8 + mine[8:]
        gone = [answer(client, *each) for each in ((mine, "other"), (sampled, "robot"), (unknown, "robot"))]
        assert {each.status_code for each in gone} == {404}
        assert len({each.text for each in gone}) == 1
        assert answer(client, sampled, "anna").json()["state"] == "open"


@pytest.mark.parametrize("name", ["", "x", "%00", "%ED%A0%80", "a" * 5000, "..", "' or 1=1", "0" * 35 + "G"])
def test_any_name_may_be_asked_for(gateway, name):
    with gateway() as client:
        assert answer(client, name).status_code in (404, 405)


def test_without_keys_whoever_is_here_may_ask(gateway):
    with gateway(known=False) as client:
        decision = asked(client)
        assert client.get(f"/v1/reviews/{decision}").json()["state"] == "open"


def test_without_a_key_and_without_a_store_there_is_an_error(gateway, monkeypatch):
    with gateway() as client:
        decision = asked(client)
        assert client.get(f"/v1/reviews/{decision}").status_code == 401

        def broken(*_):
            raise StoreError("gone")

        monkeypatch.setattr("offmap.gateway.wire.reviews.result", broken)
        found = answer(client, decision)
        assert (found.status_code, found.json()["error"]["type"]) == (503, "unavailable")
        assert "retry-after" in found.headers


def test_it_is_described(gateway):
    with gateway() as client:
        described = client.get("/openapi.json", headers={"x-api-key": KEYS["robot"][0]}).json()
        route = described["paths"]["/v1/reviews/{decision_id}"]["get"]
        assert {"200", "401", "403", "404", "429", "503"} <= set(route["responses"])
        assert "due_at" in json.dumps(described["components"]["schemas"]["ReviewAnswer"])
