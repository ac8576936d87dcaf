"""When no traffic should come: a monitor that fails again and again, a store that takes nothing; and when it may."""

import sqlalchemy as sa

from offmap.gateway.store import verify

USER = {"role": "user", "content": "hello"}


def ask(client, text, count=1):
    body = {"stage": "response", "conversation": {"messages": [USER | {"content": text}]}}
    for _ in range(count):
        assert client.post("/v1/decisions", json=body).status_code in (200, 503)
    client.service._readiness = None


def test_a_monitor_that_fails_at_once_is_not_ready_until_it_answers_a_probe(serve, monitor):
    client = serve()
    assert client.get("/readyz").status_code == 200
    for fault in ("failed", "timeout"):
        monitor.fault = fault
        ask(client, "hello", 4)
        assert client.get("/readyz").status_code == 200
        ask(client, "hello")
        assert client.get("/readyz").json()["reasons"] == ["monitor fake does not answer"]
        monitor.fault = ""
        client.service._readiness = None
        assert client.get("/readyz").status_code == 200


def test_failures_between_answers_and_a_full_queue_leave_it_ready(serve, monitor):
    client = serve()
    ask(client, "<failed>", 4)
    ask(client, "hello")
    ask(client, "<failed>", 4)
    asked = len(monitor.asked)
    assert client.get("/readyz").status_code == 200
    ask(client, "hello")
    monitor.fault = "overloaded"
    ask(client, "hello", 6)
    assert client.get("/readyz").status_code == 200
    assert len(monitor.asked) == asked + 7  # no probe was needed


def test_a_full_data_base_is_not_ready_and_one_with_room_again_is(serve):
    client = serve()
    engine = client.service.store.engine
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    limit = [pages]
    pragma = lambda connection, *_: connection.execute(f"PRAGMA max_page_count = {limit[0]}")  # noqa: E731
    sa.event.listen(engine, "checkout", pragma)
    client.service._readiness = None
    assert client.get("/readyz").json()["reasons"] == ["the store cannot be written"]
    limit[0] = 1 << 30
    client.service._readiness = None
    assert client.get("/readyz").status_code == 200
    before = verify(client.service.store).n
    client.service._readiness = None
    assert client.get("/readyz").status_code == 200
    assert verify(client.service.store).n == before
