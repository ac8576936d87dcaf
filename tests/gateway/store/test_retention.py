"""Purged content is gone from the bytes of the data base, and the chain holds; a probe notices what cannot write."""

import contextlib
import hashlib
import json
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from offmap.gateway.store import (
    AuditLog,
    ReviewRules,
    StoreError,
    decide,
    entries,
    export,
    find,
    labelled,
    lease,
    open_store,
    opening,
    purge,
    result,
    verify,
    verify_export,
)
from offmap.gateway.store import retention as room
from offmap.gateway.store.chain import about, row_hash
from offmap.gateway.store.retention import purges
from offmap.gateway.store.state import probe, remember, remembered
from offmap.gateway.store.tables import REVIEW

WORDS = "the boat leaves at noon"


@pytest.fixture
def filled(store, make):
    """Eight decisions, one a second from 100 on, and one review, which quotes."""
    now = [99.0]
    with AuditLog(store, "full", ReviewRules(due_in=900.0), clock=lambda: now[0]) as log:
        for number in range(8):
            now[0] += 1.0
            log.submit(make(number, "escalate" if number == 0 else "block"), f"{WORDS} {number}").result()
    held = lease(store, "anna", 50, 110.0)
    decide(store, held.item.id, held.token, "unsafe", 111.0, by="anna", note=f"it says {WORDS}", capture="full")
    return store


def contents(store):
    with store.read() as connection:
        return [(entry.content, entry.salt) for entry in entries(connection)]


def test_what_is_old_is_purged_and_the_chain_holds(filled):
    before, kept = verify(filled), verify(filled).last
    assert (before.n, before.purged) == (9, 0)
    done = purge(filled, 104.0, 200.0)
    assert (done.rows, done.notes, done.before) == (4, 0, 104_000)
    after = verify(filled, kept)
    assert (after.n, after.broken_at, after.purged) == (10, None, 4)
    assert [content is None for content, _ in contents(filled)] == [True] * 4 + [False] * 5 + [True]
    assert [salt is None for _, salt in contents(filled)] == [True] * 4 + [False] * 5 + [True]
    assert find(filled, "id-000003").purged
    assert not find(filled, "id-000004").purged


def test_purges_are_on_record_and_nothing_to_purge_is_not(filled):
    assert purge(filled, 50.0, 200.0).rows == 0
    assert verify(filled).n == 9
    purge(filled, 104.0, 200.0)
    purge(filled, 104.0, 201.0)
    with filled.read() as connection:
        rows = [entry for entry in entries(connection) if entry.kind == "purge"]
    assert [json.loads(row.record) for row in rows] == [
        {"at": 200_000, "before": 104_000, "notes": 0, "rows": 4, "seqs": [[1, 4]]}
    ]


def test_much_is_purged_in_short_steps(filled, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 3)
    assert [each.rows for each in purges(filled, 900.0, 900.0)] == [3, 3, 3]
    found = verify(filled)
    assert (found.n, found.purged, found.broken_at) == (12, 9, None)


def test_notes_are_content_too(filled, make):
    with filled.read() as connection:
        (review,) = [entry for entry in entries(connection) if entry.kind == "review"]
    assert WORDS not in review.record
    assert review.kept.note == f"it says {WORDS}"
    assert next(labelled(filled)).content == f'"{WORDS} 0"'
    assert purge(filled, 900.0, 900.0).notes == 1
    assert result(filled, make(0).id, 900.0).note is None
    (row,) = labelled(filled)
    assert (row.unsafe, row.by, row.content) == (True, "anna", None)


def test_nothing_of_it_is_left_in_the_files(sqlite_url, tmp_path, make):
    with contextlib.closing(open_store(sqlite_url)) as store:
        with AuditLog(store, "full", clock=lambda: 1.0) as log:
            for number in range(50):
                log.submit(make(number), WORDS * 300 * (number % 3)).result()
        salts = [salt.encode() for _, salt in contents(store)]
        assert WORDS.encode() in b"".join(path.read_bytes() for path in tmp_path.iterdir())
        purge(store, 2.0, 3.0)
        raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert WORDS[:9].encode() not in raw
        assert not [salt for salt in salts if salt in raw]
        assert verify(store).purged == 50


def test_a_purge_beside_a_reader_waits_for_nobody(sqlite, make):
    """What is in the log beside the file then goes with the next purge; the patience of connections stays."""
    with AuditLog(sqlite, "full", clock=lambda: 1.0) as log:
        log.submit(make(1), WORDS).result()
        with sqlite.read() as connection:
            rows = entries(connection)
            next(rows)
            started = time.monotonic()
            assert purge(sqlite, 2.0, 3.0).rows == 1
            assert time.monotonic() - started < 2
            rows.close()
        log.submit(make(2)).result()
    with sqlite.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    purge(sqlite, 2.0, 3.0)
    wal = Path(f"{sqlite.engine.url.database}-wal")
    assert wal.stat().st_size == 0


def test_an_export_of_a_purged_chain_can_be_checked(filled, tmp_path):
    purge(filled, 104.0, 200.0)
    export(filled, tmp_path / "audit.jsonl", 201.0)
    assert verify_export(tmp_path / "audit.jsonl") == verify(filled)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    purged = [line for line in lines if line["commitment"] and line["content"] is None]
    assert len(purged) == sum(json.loads(line["record"])["rows"] for line in lines if line["kind"] == "purge") == 4


def take(store, seq):
    with store.write() as connection:
        connection.execute(sa.text("UPDATE audit SET content = NULL, salt = NULL WHERE seq = :seq"), {"seq": seq})


def test_newer_content_that_is_gone_without_a_purge_is_found(filled):
    purge(filled, 102.0, 200.0)
    take(filled, 3)
    found = verify(filled)
    assert (found.n, found.broken_at) == (10, 11)
    assert found.reason == "the content that is gone is not what purges took: they differ from row 1 on"


def test_content_that_was_gone_before_a_purge_is_found(filled):
    take(filled, 1)
    purge(filled, 104.0, 201.0)
    found = verify(filled)
    assert (found.n, found.broken_at, found.purged) == (10, 11, 4)
    assert found.reason == "the content that is gone is not what purges took: they differ from row 1 on"


def test_a_purge_accounts_for_its_own_rows_and_no_others(filled):
    """As many are gone as the purge says, and others."""
    purge(filled, 102.0, 200.0)
    with filled.write() as connection:
        connection.execute(sa.text("UPDATE audit SET salt = 'aa', content = 'x' WHERE seq = 2"))
        commitment = hashlib.sha256(b"\xaax").hexdigest()
        rows = list(entries(connection))
        connection.execute(sa.text("UPDATE audit SET content = NULL, salt = NULL WHERE seq = 5"))
        assert len(rows) == 10
        prev = rows[0].hash
        for row in rows[1:]:
            made = msgspec.structs.replace(
                row, prev_hash=prev, commitment=commitment if row.seq == 2 else row.commitment
            )
            values = {"prev": prev, "hash": (prev := row_hash(made)), "commitment": made.commitment, "seq": row.seq}
            update = "UPDATE audit SET prev_hash = :prev, hash = :hash, commitment = :commitment WHERE seq = :seq"
            connection.execute(sa.text(update), values)
        connection.execute(sa.text("UPDATE audit_head SET hash = :hash"), {"hash": prev})
    found = verify(filled)
    assert (found.purged, found.reason) == (
        2,
        "the content that is gone is not what purges took: they differ from row 1 on",
    )


def test_purges_since_a_checkpoint_are_counted(filled):
    purge(filled, 102.0, 200.0)
    kept = verify(filled).last
    assert (verify(filled).purges, verify(filled, kept).purges) == (1, 0)
    purge(filled, 104.0, 201.0)
    assert (verify(filled).purges, verify(filled, kept).purges) == (2, 1)


def test_verifying_compares_reviews_with_the_chain(filled):
    changes = {
        "UPDATE review SET verdict = 'safe'": "review 1: found 'safe' where the chain says 'unsafe' (row 9",
        "UPDATE review SET state = 'open'": "review 1: found 'open' where the chain says 'decided' (row 9",
        "UPDATE review SET decided_by = 'ben'": "review 1: found 'ben' where the chain says 'anna' (row 9",
        "UPDATE review SET decided_at = 1.5": "review 1: found 1.5 where the chain says 111.0 (row 9",
        "UPDATE review SET decision_id = 'id-000001'": "review 1: found 'decided' where the chain says 'open' (no row",
        "DELETE FROM review": "row 9 of the chain is about a review that is gone",
    }
    with filled.read() as connection:
        (was,) = connection.execute(sa.select(REVIEW)).mappings().all()
    for change, reason in changes.items():
        with filled.write() as connection:
            connection.execute(sa.text(change))
        found = verify(filled)
        assert found.broken_at == 10, change
        assert found.reason.startswith(reason)
        with filled.write() as connection:
            connection.execute(sa.delete(REVIEW))
            connection.execute(sa.insert(REVIEW), dict(was))
    assert verify(filled).broken_at is None


def test_a_purge_that_does_not_say_what_it_took_is_found(filled):
    from offmap.gateway.store.chain import Row, append

    with filled.write() as connection:
        append(connection, [Row("purge", "", "{}", "none")], 300.0)
    assert "does not say what it purged" in verify(filled).reason


def test_values_are_remembered_by_name(store):
    assert remembered(store, "a") is None
    for value in ("1", "2"):
        remember(store, "a", value, 5.0)
    remember(store, "b", "3", 5.0)
    assert (remembered(store, "a"), remembered(store, "b")) == ("2", "3")


def test_a_probe_writes_and_leaves_the_chain_as_it_is(store):
    commits = []
    sa.event.listen(store.engine, "commit", lambda _: commits.append(1))
    for _ in range(3):
        probe(store)
    assert (len(commits), verify(store).n) == (3, 0)
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM state")).scalar() == 1


def test_a_probe_notices_a_full_disk(sqlite_url, nursery):
    assert nursery.run(["probe_when_full", sqlite_url]) == (["written", "refused", "written"], [0])


def test_a_probe_notices_a_full_data_base_when_decisions_do(sqlite_url, make):
    with contextlib.closing(open_store(sqlite_url)) as store:
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        pragma = f"PRAGMA max_page_count = {pages + 20}"
        sa.event.listen(store.engine, "checkout", lambda connection, *_: connection.execute(pragma))
        probe(store)
        with AuditLog(store, "full") as log, pytest.raises(StoreError, match="full"):
            for number in range(500):
                log.submit(make(number), "x" * 500).result()
        with pytest.raises(StoreError, match="full"):
            probe(store)


def test_a_probe_notices_a_locked_or_a_read_only_data_base_and_a_lost_head(sqlite_url, monkeypatch):
    monkeypatch.setattr(opening, "WAIT_SECONDS", 0.1)
    path = sqlite_url.removeprefix("sqlite:///")
    with contextlib.closing(open_store(sqlite_url)) as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                probe(store)
            other.execute("ROLLBACK")
        probe(store)
        read_only = open_store(f"sqlite:///file:{path}?mode=ro&uri=true")
        with contextlib.closing(read_only), pytest.raises(StoreError, match="readonly"):
            probe(read_only)
        with store.write() as connection:
            connection.exec_driver_sql("DELETE FROM audit_head")
        with pytest.raises(StoreError, match="head"):
            probe(store)


def test_decisions_are_looked_up_and_purged_by_index(sqlite, make):
    with AuditLog(sqlite, "full") as log:
        log.submit(make(1), "x").result()
    seen = []

    @sa.event.listens_for(sqlite.engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT audit"):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            seen.append(plan[0][3])

    find(sqlite, "id-000001")
    purge(sqlite, 0.0, 1.0)
    about(sqlite, "id-000001")
    assert "_audit_decision" in seen[0]
    assert "ix_audit_decision_id" in seen[-1]
    assert any("ix_audit_at_kept" in plan for plan in seen)
