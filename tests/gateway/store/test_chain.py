"""The chain: what anybody can recompute, every kind of tampering, checkpoints, exports."""

import hashlib
import json

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.decision import Decision
from offmap.gateway.store import (
    AuditLog,
    Checkpoint,
    StoreError,
    Verified,
    entries,
    export,
    find,
    verify,
    verify_export,
)
from offmap.gateway.store.chain import GENESIS, Row, _entry, append, row_hash
from offmap.gateway.store.export import manifest_path
from offmap.gateway.store.tables import AUDIT, HEAD


def hash_by_hand(prev_hash, row):
    """By the words of the manifest, with the standard library only."""
    told = {name: row[name] for name in ("at", "capture", "commitment", "decision_id", "kind", "record", "seq")}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256((prev_hash + text).encode()).hexdigest()


def commitment_by_hand(row):
    if row["content"] is None:
        return row["commitment"]  # none was kept, or it was purged
    return hashlib.sha256(bytes.fromhex(row["salt"]) + row["content"].encode()).hexdigest()


@pytest.fixture
def filled(store, make):
    with AuditLog(store, "full") as log:
        done = [log.submit(make(number), {"text": f"né {number}\0"}) for number in range(1, 9)]
        assert [each.result().seq for each in done] == list(range(1, 9))
    return store


text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.integers(1, 2**60), st.integers(0, 2**60), text, text, st.none() | text)
@settings(deadline=None)
def test_a_hash_is_what_the_standard_library_computes(seq, at, decision_id, record, content):
    row = _entry(Checkpoint(seq - 1, GENESIS), at, Row("decision", decision_id, record, "full", content))
    told = msgspec.structs.asdict(row)
    assert (row.hash, row.commitment) == (hash_by_hand(GENESIS, told), commitment_by_hand(told))
    assert row_hash(msgspec.structs.replace(row, content=None, salt=None)) == row.hash


def test_rows_are_linked_and_come_back(filled, make):
    with filled.read() as connection:
        rows = list(entries(connection))
        assert [row.seq for row in entries(connection, after=3, limit=2)] == [4, 5]
    assert [row.prev_hash for row in rows] == [GENESIS, *[row.hash for row in rows[:-1]]]
    assert [row.decision for row in rows] == [make(number) for number in range(1, 9)]
    assert rows[2].content == '{"content":{"text":"né 3\\u0000"}}'
    assert len({row.salt for row in rows}) == 8
    assert all(len(bytes.fromhex(row.salt)) == 32 for row in rows)
    assert find(filled, "id-000003") == rows[2]
    assert find(filled, "id-none") is None
    assert verify(filled) == Verified(8, None, "", Checkpoint(8, rows[-1].hash))
    assert verify(filled).last == Checkpoint(8, rows[-1].hash)


def test_an_empty_chain_holds(store):
    assert verify(store) == Verified(0, None, "", Checkpoint(0, GENESIS))


INSERT = (
    "INSERT INTO audit SELECT {}, at, prev_hash, hash, 'review', 'x', record, capture, commitment, salt, content "
    "FROM audit WHERE seq = 8"
)
TAMPERING = {
    "change": ("UPDATE audit SET record = replace(record, 'block', 'allow') WHERE seq = 4", 4, "hash"),
    "content": ("UPDATE audit SET content = '{}' WHERE seq = 4", 4, "commitment"),
    "content gone": ("UPDATE audit SET content = NULL WHERE seq = 4", 4, "without salt"),
    "salt": ("UPDATE audit SET salt = 'aaaa' WHERE seq = 4", 4, "commitment"),
    "no salt": ("UPDATE audit SET salt = 'z' WHERE seq = 4", 4, "commitment"),
    "salt gone": ("UPDATE audit SET salt = NULL WHERE seq = 4", 4, "without salt"),
    "commitment": ("UPDATE audit SET commitment = 'aaaa' WHERE seq = 4", 4, "hash"),
    "commitment gone": ("UPDATE audit SET commitment = NULL WHERE seq = 4", 4, "hash"),
    "all of it": ("UPDATE audit SET content = NULL, salt = NULL, commitment = NULL WHERE seq = 4", 4, "hash"),
    "purged without a purge": ("UPDATE audit SET content = NULL, salt = NULL WHERE seq = 4", 9, "not what purges took"),
    "time": ("UPDATE audit SET at = at - 1 WHERE seq = 4", 4, "hash"),
    "capture": ("UPDATE audit SET capture = 'none' WHERE seq = 4", 4, "hash"),
    "kind": ("UPDATE audit SET kind = 'review' WHERE seq = 4", 4, "hash"),
    "id": ("UPDATE audit SET decision_id = 'x' WHERE seq = 4", 4, "hash"),
    "space": ("UPDATE audit SET record = record || ' ' WHERE seq = 4", 4, "hash"),
    "stored hash": ("UPDATE audit SET hash = 'aaaa' WHERE seq = 4", 4, "hash"),
    "stored link": ("UPDATE audit SET prev_hash = 'aaaa' WHERE seq = 4", 4, "link"),
    "deletion": ("DELETE FROM audit WHERE seq = 4", 4, "missing"),
    "first": ("DELETE FROM audit WHERE seq = 1", 1, "missing"),
    "all": ("DELETE FROM audit", 1, "head"),
    "insertion at the end": (INSERT.format(9), 9, "link"),
    "insertion before the first": (INSERT.format(0), 1, "found row 0"),
    "renumbered": (
        "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5;"
        "UPDATE audit SET seq = 5 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = 7",
        4,
        "link",
    ),
    "order": (
        "UPDATE audit SET seq = -1 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5;"
        "UPDATE audit SET seq = 5 WHERE seq = -1",
        4,
        "link",
    ),
    "cut": ("DELETE FROM audit WHERE seq > 6", 7, "head"),
    "head": ("UPDATE audit_head SET hash = 'aaaa'", 9, "head"),
    "head gone": ("DELETE FROM audit_head", 9, "head of the audit chain is gone"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_found_where_it_is(filled, kind):
    statements, place, word = TAMPERING[kind]
    with filled.write() as connection:
        for statement in statements.split(";"):
            connection.exec_driver_sql(statement)
    found = verify(filled)
    assert (found.n, found.broken_at) == (place - 1, place)
    assert word in found.reason


def test_a_text_that_is_none_is_found(sqlite, make):
    with AuditLog(sqlite) as log:
        for number in range(3):
            log.submit(make(number)).result()
    for value in (sa.text("CAST(X'FF' AS TEXT)"), sa.text("X'00'"), "5"):
        with sqlite.write() as connection:
            connection.execute(sa.update(AUDIT).where(AUDIT.c.seq == 2).values(record=value))
        assert verify(sqlite).broken_at == 2


def test_a_cut_end_with_its_head_set_back_shows_against_a_checkpoint(filled):
    kept = verify(filled).last
    with filled.write() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE seq > 6")
        connection.exec_driver_sql("UPDATE audit_head SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)")
    assert verify(filled).broken_at is None
    found = verify(filled, kept)
    assert (found.n, found.broken_at) == (6, 7)
    assert "reached 8" in found.reason


def test_a_chain_written_anew_shows_against_a_checkpoint(filled, make):
    kept = verify(filled).last
    with filled.write() as connection:
        connection.exec_driver_sql("DELETE FROM audit")
        connection.execute(sa.update(HEAD).values(seq=0, hash=GENESIS))
        append(connection, [Row("decision", f"id-{n}", "{}", "none") for n in range(12)])
    assert verify(filled).n == 12
    found = verify(filled, kept)
    assert found.broken_at == 8
    assert "rewritten" in found.reason


def test_a_chain_that_grew_fits_its_checkpoint(filled, make):
    kept = verify(filled).last
    with AuditLog(filled) as log:
        log.submit(make(99)).result()
    assert verify(filled, kept).n == 9


def test_nothing_is_added_without_a_head(filled, make):
    with filled.write() as connection:
        connection.exec_driver_sql("DELETE FROM audit_head")
    with AuditLog(filled) as log, pytest.raises(StoreError, match="head of the audit chain is gone"):
        log.submit(make(99)).result()


def test_a_decision_is_recorded_once_and_the_others_beside_it_are_kept(store, make):
    with AuditLog(store) as log:
        log.submit(make(1)).result()
        done = [log.submit(make(number)) for number in (2, 1, 3, 1, 4)]
        outcomes = [each.exception() for each in done]
    assert [type(each) for each in outcomes].count(type(None)) == 3
    assert all(isinstance(outcomes[place], StoreError) for place in (1, 3))
    assert verify(store).n == 4


def test_an_export_is_for_its_owner_as_the_data_base_is(filled, tmp_path):
    export(filled, tmp_path / "log.jsonl", 1.0)
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_export_can_be_checked_by_hand(filled, tmp_path):
    path = tmp_path / "audit.jsonl"
    manifest = export(filled, path, now=5.0)
    told = json.loads(manifest_path(path).read_text())
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == manifest.sha256
    prev_hash = GENESIS
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = json.loads(line)
        assert row["seq"] == number
        assert row["prev_hash"] == prev_hash
        assert row["hash"] == (prev_hash := hash_by_hand(prev_hash, row))
        assert row["commitment"] == commitment_by_hand(row)
        assert msgspec.json.decode(row["record"], type=Decision).id == row["decision_id"]
    assert told["last"] == {"seq": 8, "hash": prev_hash}
    assert (told["rows"], told["exported_at"]) == (8, 5.0)
    assert verify_export(path, verify(filled).last) == verify(filled)


def test_an_export_that_was_changed_is_found(filled, tmp_path):
    path = tmp_path / "audit.jsonl"
    export(filled, path, now=5.0)
    lines = path.read_text().splitlines(keepends=True)
    for changed, place in (
        ([*lines[:3], lines[3].replace("block", "allow"), *lines[4:]], 4),
        ([*lines[:3], *lines[4:]], 4),
        (lines[:-2], 7),
        ([*lines[:3], "{}\n", *lines[4:]], 4),
        ([*lines[:3], lines[3][:40]], 4),
        ([*lines[:3], lines[3].replace("{", '{"extra":1,', 1), *lines[4:]], 4),
        ([*lines[:3], lines[3].replace("{", "{ ", 1), *lines[4:]], 9),
    ):
        path.write_text("".join(changed))
        assert verify_export(path).broken_at == place
    path.write_text("".join(lines))
    assert verify_export(path).n == 8
    told = json.loads(manifest_path(path).read_text())
    for other in ({"rows": 7}, {"sha256": "0" * 64}):
        manifest_path(path).write_text(json.dumps(told | other))
        assert (verify_export(path).broken_at, "of its manifest" in verify_export(path).reason) == (9, True)
    manifest_path(path).write_text(json.dumps(told | {"extra": 1}))
    with pytest.raises(InputError, match="no manifest"):
        verify_export(path)
    manifest_path(path).unlink()
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        verify_export(path)


def test_a_chain_is_verified_as_it_is_at_one_moment(store, make):
    """Rows that come while it is walked are not half seen."""
    with AuditLog(store) as log:
        for number in range(5):
            log.submit(make(number)).result()
        with store.read() as connection:
            assert connection.execute(sa.text("SELECT seq FROM audit_head")).scalar() == 5
            log.submit(make(9)).result()
            assert len(list(entries(connection))) == 5
    assert verify(store).n == 6
