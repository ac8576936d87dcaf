"""What goes on beside the traffic: drift told once everywhere, content purged, the watch kept."""

import asyncio
import contextlib
import json
import logging
import threading
import time

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from offmap.gateway import upkeep as room
from offmap.gateway.config import Audit, Drift
from offmap.gateway.decision import Decision
from offmap.gateway.explain import explain
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.policy import policy_id
from offmap.gateway.store import StoreError, entries, open_store, verify

from .services import kinds, lived, opened, see, until, watching

USER = {"role": "user", "content": "hello"}


@pytest.fixture
def small(configured):
    return watching(configured)


def metric(service, name):
    families = text_string_to_metric_families(service.telemetry.text().decode())
    order = "stage", "monitor", "kind"
    samples = (each for family in families for each in family.samples if each.name == name)
    return {tuple(each.labels[label] for label in order): each.value for each in samples}


def test_drift_is_told_once_in_the_log_the_metrics_the_chain_and_the_report(small, monitor, caplog):
    service = opened(small(), monitor)
    see(service, low=True)
    with caplog.at_level(logging.WARNING):
        service.upkeep.look()
        service.upkeep.look()
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("Drift at response, monitor 'fake': its p-values of harm lie lower")
    ((kind, decision_id, record),) = kinds(service.store)
    assert (kind, record["words"]) == ("drift", said)
    assert decision_id == record["decision_id"] != ""
    assert verify(service.store).n == 1
    alarms = metric(service, "offmap_drift_alarm")
    assert {key for key, value in alarms.items() if value} == {("response", "fake", "unsafe")}
    assert len(alarms) == 4 * 5
    assert metric(service, "offmap_drift_capital")["response", "fake", "unsafe"] > 100
    assert metric(service, "offmap_drift_rate")["response", "fake", "unsafe"] > 0.05
    assert metric(service, "offmap_drift_rate")["response", "fake", "error"] == 0
    assert service.drift.report().alarms[0].words == said
    assert "zebra" not in service.telemetry.text().decode() + json.dumps(record)


def test_ordinary_traffic_is_no_alarm(small, monitor, caplog):
    service = opened(small(), monitor)
    see(service, low=False)
    with caplog.at_level(logging.WARNING):
        service.upkeep.look()
    assert (caplog.records, kinds(service.store)) == ([], [])


def test_reviewers_are_told_and_callers_are_not(serve):
    keys, records = zip(*(new_key(role, role) for role in ("caller", "reviewer", "admin")), strict=True)
    client = serve(keys=Keys(records))
    found = [client.get("/v1/drift", headers={"x-api-key": key}) for key in keys]
    assert [answer.status_code for answer in found] == [403, 200, 200]
    told = found[1].json()
    assert (told["enabled"], told["level"], told["missed"]) == (True, 0.01, 0)
    assert len(told["watched"]) == 4 * 5
    assert client.get("/v1/drift").status_code == 401
    described = client.get("/openapi.json", headers={"x-api-key": keys[0]}).json()
    assert "/v1/drift" in described["paths"]


def test_decisions_of_the_faces_are_seen(serve):
    client = serve()
    for number in range(5):
        body = {"stage": "input", "conversation": {"messages": [USER | {"content": f"hello {number}"}]}}
        assert client.post("/v1/decisions", json=body).status_code == 200
    client.service.drift.work()
    watched = {(x.stage, x.kind): x for x in client.service.drift.report().watched}
    assert watched["input", "length"].compared == "in the first 1,000 decisions, of which 5 are there"
    assert watched["response", "length"].compared == "in the first 1,000 decisions, of which 0 are there"


def test_purging_keeps_nothing_else_waiting(small, monitor, monkeypatch):
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    service, entered, go_on = (
        opened(small(audit=Audit("full", keep_days=1)), monitor),
        threading.Event(),
        threading.Event(),
    )

    def slow(*_):
        entered.set()
        go_on.wait(10)
        yield from ()

    monkeypatch.setattr(room, "purges", slow)

    async def work():
        try:
            await until(entered.is_set)
            see(service, low=True)
            await until(lambda: [kind for kind, *_ in kinds(service.store)] == ["drift"], 5)
        finally:
            go_on.set()

    assert asyncio.run(lived(service, work))


def test_the_same_work_is_always_done_by_the_same_thread_which_ends(small, monitor, monkeypatch):
    """What a thread once needed the allocator keeps for it: done by any of several, it would be kept several times."""
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    service, seen = opened(small(), monitor), {"look": [], "settle": []}
    for name, threads in seen.items():
        monkeypatch.setattr(service.upkeep, name, lambda threads=threads: threads.append(threading.current_thread()))

    async def work():
        await until(lambda: min(map(len, seen.values())) > 4)

    assert asyncio.run(lived(service, work))
    assert [len(set(threads)) for threads in seen.values()] == [1, 1]
    assert set(seen["look"]) != set(seen["settle"])
    for thread in set(seen["look"]) | set(seen["settle"]):
        thread.join(5)
        assert not thread.is_alive()


def test_overdue_reviews_are_settled_while_nobody_asks(small, monitor, monkeypatch, caplog):
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    service = opened(small(), monitor)
    placed = "response", "escalate", "escalate", "enforced", "response.uncertain", "p@1"
    decision, real, tries = Decision("late", time.time(), *placed), room.settle_overdue, []
    service.log.submit(decision, {"text": "late"}).result()

    def broken(*args):
        tries.append(1)
        if len(tries) < 4:
            raise StoreError("zebra")
        return real(*args)

    monkeypatch.setattr(room, "settle_overdue", broken)
    service.upkeep._clock = lambda: time.time() + 10_000

    async def work():
        await until(lambda: [kind for kind, *_ in kinds(service.store)] == ["decision", "review"])

    assert asyncio.run(lived(service, work))
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["settling overdue reviews failed (StoreError)"]


def test_content_that_is_too_old_is_purged_while_it_runs(small, monitor):
    gateway = small(audit=Audit(capture="full", keep_days=1))
    service = opened(gateway, monitor)
    old, new = time.time() - 2 * 86_400, time.time()
    for at, name in ((old, "old"), (new, "new")):
        service.log._clock = lambda at=at: at
        placed = "response", "allow", "allow", "enforced", "response.pass", "p@1"
        service.log.submit(Decision(name, at, *placed), {"text": name}).result()

    async def purged():
        await until(lambda: verify(service.store).purged == 1)

    assert asyncio.run(lived(service, purged))
    with contextlib.closing(open_store(gateway.store.url)) as store, store.read() as connection:
        rows = {entry.decision_id: entry for entry in entries(connection)}
    assert (rows["old"].content, rows["old"].purged) == (None, True)
    assert rows["new"].content is not None


def test_failures_are_logged_once_and_tried_again(small, monitor, monkeypatch, caplog):
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    service = opened(small(), monitor)
    real, tries = type(service.store).write, []

    def broken(store):
        tries.append(1)
        if len(tries) < 4:
            raise StoreError("zebra")
        return real(store)

    async def work():
        see(service, low=True)
        monkeypatch.setattr(type(service.store), "write", broken)
        await until(lambda: len(tries) >= 4 and [kind for kind, *_ in kinds(service.store)] == ["drift"])

    assert asyncio.run(lived(service, work))
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert "drift failed (StoreError)" in said
    assert len(said) == len(set(said))
    assert "zebra" not in " ".join(said)


def test_drift_and_retention_are_told_in_words(configured):
    words = "\n".join(explain(configured()))
    assert "over the whole run it is false with probability at most 1 % for one monitor at one stage" in words
    assert "of which there are 4." in words
    assert "purged" not in words
    off = msgspec.structs.replace(configured(), drift=Drift(enabled=False), audit=Audit("full", keep_days=30))
    words = "\n".join(explain(off))
    assert "Drift is not watched: nobody is told when the nominal rates no longer hold." in words
    assert "What is kept of content, and reviewers' notes, are purged after 30 days." in words
    assert "kept for good" in "\n".join(explain(msgspec.structs.replace(off, audit=Audit("full"))))


def test_retention_and_drift_are_no_part_of_the_policy(configured):
    one = configured()
    audit = msgspec.structs.replace(one.audit, keep_days=30)
    other = msgspec.structs.replace(one, audit=audit, drift=Drift(level=0.1))
    assert policy_id(other) == policy_id(one)
