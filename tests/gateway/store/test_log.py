"""The log under load and faults: what was acknowledged is there, what was not kept is said so, the chain holds.

``kill -9`` of a writer proves that no acknowledged decision waits in its memory; that the disk has it when the power
fails rests on SQLite's synchronous=FULL and PostgreSQL's synchronous_commit, which no test here can pull the plug on.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest
import sqlalchemy as sa

from offmap.gateway.store import (
    AuditLog,
    ReviewRules,
    StoreError,
    Ticket,
    chain,
    counts,
    entries,
    open_store,
    opening,
    result,
    verify,
)


def written(store):
    with store.read() as connection:
        return [entry.decision_id for entry in entries(connection)]


def test_a_killed_writer_loses_nothing_that_it_acknowledged(url, nursery):
    """kill -9 under load, 20 times on one data base; every escalation that was acknowledged is in the queue too."""
    acknowledged = []
    for life in range(20):
        told, exits = nursery.run(["write", url, str(life), 16, 10_000], kill_after=10 + 3 * life)
        assert exits == [-9]
        assert len(told) >= 10
        acknowledged += told
    with contextlib.closing(open_store(url)) as store:
        found = verify(store)
        assert (found.broken_at, found.reason) == (None, "")
        kept = written(store)
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept)) == found.n
        assert counts(store, 0.0).waiting == found.n


def test_two_processes_keep_one_chain(url, nursery):
    open_store(url).close()
    acknowledged, exits = nursery.run(["write", url, "a", 4, 25], ["write", url, "b", 4, 25])
    assert exits == [0, 0]
    with contextlib.closing(open_store(url)) as store:
        assert verify(store).n == 200
        kept = written(store)
    assert sorted(kept) == sorted(acknowledged)
    assert {name[0] for name in kept[:150]} == {"a", "b"}


def test_a_crashed_server_loses_nothing_that_was_acknowledged(postgres, make):
    url = postgres.new()
    with contextlib.closing(open_store(url)) as store, AuditLog(store) as log:
        for number in range(20):
            log.submit(make(number)).result()
        postgres.stop("immediate")
        with pytest.raises(StoreError):
            log.submit(make(100)).result()
        postgres.start()
        log.submit(make(101)).result()
        assert written(store) == [make(number).id for number in (*range(20), 101)]
        assert verify(store).n == 21


def test_the_log_keeps_one_connection_and_takes_another_where_that_leads_nowhere(postgres, make):
    with contextlib.closing(open_store(postgres.new())) as store, AuditLog(store) as log:
        taken = []
        sa.event.listen(store.engine, "checkout", lambda *_: taken.append(1))
        for number in range(5):
            log.submit(make(number)).result()
        assert len(taken) == 1
        with store.read() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.exec_driver_sql(f"{others} AND datname = current_database()")
        log.submit(make(5)).result()
        assert len(taken) == 3  # with the reader's
        assert written(store) == [make(number).id for number in range(6)]
        assert verify(store).n == 6


def test_a_connection_that_ends_within_a_transaction_keeps_nothing_of_it(postgres, make, monkeypatch):
    with contextlib.closing(open_store(postgres.new())) as store, AuditLog(store, review=ReviewRules()) as log:
        log.submit(make(0, "escalate")).result()
        move = chain._MOVE.on

        def cut(connection, *values):
            monkeypatch.undo()
            with store.read() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({connection.connection.info.backend_pid})")
            return move(connection, *values)

        monkeypatch.setattr(chain._MOVE, "on", cut)  # the row is there, the head is not moved yet
        with pytest.raises(StoreError):
            log.submit(make(1, "escalate")).result()
        log.submit(make(2, "escalate")).result()
        assert written(store) == [make(number).id for number in (0, 2)]
        assert verify(store).n == 2
        assert counts(store, 0.0).waiting == 2


def test_another_file_in_the_place_of_the_first_is_written_to_next(tmp_path, make):
    path, other = tmp_path / "gateway.sqlite", tmp_path / "other.sqlite"
    open_store(f"sqlite:///{other}").close()
    with contextlib.closing(open_store(f"sqlite:///{path}")) as store, AuditLog(store) as log:
        taken = []
        sa.event.listen(store.engine, "checkout", lambda *_: taken.append(1))
        for number in range(5):
            log.submit(make(number)).result()
        assert len(taken) == 1
        for file in tmp_path.glob("gateway.sqlite*"):
            file.unlink()
        with pytest.raises(StoreError, match="gone"):
            log.submit(make(5)).result()
        other.rename(path)
        log.submit(make(6)).result()
        assert written(store) == [make(6).id]


def test_many_at_once_share_transactions_and_each_gets_its_place(store, make):
    commits = []
    sa.event.listen(store.engine, "commit", lambda _: commits.append(1))

    async def everything():
        return await asyncio.gather(*(log.append(make(number)) for number in range(200)))

    with AuditLog(store) as log:
        places = asyncio.run(everything())
    assert sorted(place.seq for place in places) == list(range(1, 201))
    assert len(commits) < 50
    with store.read() as connection:
        assert {entry.seq: entry.hash for entry in entries(connection)} == {place.seq: place.hash for place in places}


def test_a_locked_data_base_is_an_error_and_then_works_again(sqlite_url, make, monkeypatch):
    monkeypatch.setattr(opening, "WAIT_SECONDS", 0.2)
    with contextlib.closing(open_store(sqlite_url)) as store, AuditLog(store) as log:
        with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                log.submit(make(1)).result()
            assert written(store) == []
            other.execute("ROLLBACK")
        log.submit(make(1)).result()
        assert written(store) == ["id-000001"]


def test_a_head_that_another_holds_is_an_error(postgres, make, monkeypatch):
    monkeypatch.setattr(opening, "WAIT_SECONDS", 0.2)
    with contextlib.closing(open_store(postgres.new())) as store, AuditLog(store) as log:
        with store.engine.connect() as other:
            other.execute(sa.text("SELECT * FROM audit_head FOR UPDATE"))
            with pytest.raises(StoreError, match="lock timeout"):
                log.submit(make(1)).result()
        log.submit(make(1)).result()
        assert verify(store).n == 1


@pytest.mark.parametrize("more", [0, 40_000, 90_000])
def test_a_full_disk_is_an_error_and_then_works_again(sqlite_url, nursery, more):
    kept, exits = nursery.run(["write_until_full", sqlite_url, more])
    assert exits == [0]
    assert (len(kept) > 2) == (more > 0)
    assert (kept[0], kept[-1]) == ("first", "last")
    with contextlib.closing(open_store(sqlite_url)) as store:
        assert written(store) == kept
        assert verify(store).n == len(kept)


def test_a_full_data_base_is_an_error(sqlite_url, make):
    with contextlib.closing(open_store(sqlite_url)) as store:
        sa.event.listen(
            store.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 30")
        )
        kept = []
        with AuditLog(store, "full") as log, pytest.raises(StoreError, match="full"):
            for number in range(500):
                log.submit(make(number), "x" * 1000).result()
                kept.append(make(number).id)
        assert kept
        assert written(store) == kept
        assert verify(store).n == len(kept)


def test_a_read_only_data_base_is_an_error(sqlite_url, make):
    open_store(sqlite_url).close()
    path = sqlite_url.removeprefix("sqlite:///")
    with contextlib.closing(open_store(f"sqlite:///file:{path}?mode=ro&uri=true")) as store, AuditLog(store) as log:
        with pytest.raises(StoreError, match="readonly"):
            log.submit(make(1)).result()
        assert verify(store).n == 0


@pytest.mark.parametrize("table", ["audit", "audit_head", "review"])
def test_nothing_is_kept_by_halves(sqlite, make, table):
    """A trigger refuses the last row of a batch in any of its tables: none of the three is changed."""
    with sqlite.write() as connection:
        what = "UPDATE" if table == "audit_head" else "INSERT"
        connection.exec_driver_sql(f"CREATE TRIGGER t AFTER {what} ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
    with AuditLog(sqlite, review=ReviewRules()) as log:
        for number in range(3):
            with pytest.raises(StoreError, match="no"):
                log.submit(make(number, "escalate")).result()
    assert verify(sqlite).n == 0
    assert counts(sqlite, 0.0).waiting == 0


def test_a_dropped_table_is_an_error(store, make):
    with store.write() as connection:
        connection.execute(sa.text("DROP TABLE audit"))
    with AuditLog(store, "full") as log, pytest.raises(StoreError) as caught:
        log.submit(make(1), "the content").result()
    assert "the content" not in str(caught.value)


def test_what_cannot_be_written_as_json_fails_alone(store, make):
    with AuditLog(store, "full") as log:
        done = [log.submit(make(1), {}), log.submit(make(2), object()), log.submit(make(3), {})]
        assert [type(each.exception()) for each in done] == [type(None), StoreError, type(None)]
    assert written(store) == ["id-000001", "id-000003"]


def test_escalations_and_the_sample_are_in_the_queue_when_their_decision_is_kept(store, make):
    def rules(decision):
        return Ticket("escalated") if decision.action == "escalate" else None

    with AuditLog(store, review=rules, clock=lambda: 77.0) as log:
        for number, action in enumerate(("block", "escalate", "allow")):
            log.submit(make(number, action)).result()
    assert [result(store, make(number).id, 0.0) is not None for number in range(3)] == [False, True, False]
    assert result(store, make(1).id, 0.0).enqueued_at == 77.0


class Gate:
    """Holds the writer inside a transaction until it is opened."""

    def __init__(self, engine):
        self.reached, self.open = threading.Event(), threading.Event()
        sa.event.listen(engine, "commit", self)

    def __call__(self, _):
        self.reached.set()
        self.open.wait(10)


def test_too_many_waiting_are_refused_at_once_and_a_cancelled_one_is_not_written(sqlite, make):
    gate = Gate(sqlite.engine)
    log = AuditLog(sqlite, most_waiting=2)
    done = [log.submit(make(1))]
    assert gate.reached.wait(10)
    done += [log.submit(make(2)), log.submit(make(3))]
    with pytest.raises(StoreError, match="2 decisions wait"):
        log.submit(make(4))
    assert done[1].cancel()
    assert not done[0].done()
    gate.open.set()
    log.close()
    assert [done[0].result().seq, done[2].result().seq] == [1, 2]
    assert written(sqlite) == ["id-000001", "id-000003"]


def test_an_abandoned_append_does_not_disturb_the_next(sqlite, make):
    gate = Gate(sqlite.engine)

    async def scenario(log):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.append(make(1)), 0.05)
        gate.open.set()
        await log.append(make(2))

    with AuditLog(sqlite) as log:
        asyncio.run(scenario(log))
    assert written(sqlite)[-1] == "id-000002"
    assert verify(sqlite).broken_at is None


def test_an_append_that_is_given_up_before_its_turn_is_never_written(sqlite, make):
    gate = Gate(sqlite.engine)

    async def scenario(log):
        first = asyncio.create_task(log.append(make(1)))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.append(make(2)), 0.05)
        gate.open.set()
        return (await first).seq, (await log.append(make(3))).seq

    with AuditLog(sqlite) as log:
        assert asyncio.run(scenario(log)) == (1, 2)
    assert written(sqlite) == ["id-000001", "id-000003"]


def test_a_closed_log_has_written_everything_and_takes_no_more(sqlite, make):
    log = AuditLog(sqlite)
    done = [log.submit(make(number)) for number in range(500)]
    log.close()
    log.close()
    assert all(each.done() for each in done)
    assert verify(sqlite).n == 500
    with pytest.raises(StoreError, match="closed"):
        log.submit(make(501))


def test_the_loop_is_not_blocked_while_the_disk_is_slow(sqlite, make):
    gate = Gate(sqlite.engine)

    async def scenario(log):
        waiting = asyncio.ensure_future(log.append(make(1)))
        start = time.monotonic()
        while not gate.reached.is_set():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert time.monotonic() - start < 5
        gate.open.set()
        await waiting

    with AuditLog(sqlite) as log:
        asyncio.run(scenario(log))
