"""``offmap audit`` as its users meet it: exit codes, files, and data bases that are not there."""

import contextlib
import hashlib
import json
import sqlite3

import pytest

from offmap.cli import run
from offmap.conversation import Conversation, Message
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.store import AuditLog, ReviewRules, decide, lease, open_store

WORDS = "the boat leaves \u202e at noon"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url(place):
    """Five decisions, of which one was reviewed, with all content, from long ago."""
    found = f"sqlite:///{place}/audit.db"
    store = open_store(found)
    with AuditLog(store, "full", ReviewRules(due_in=900.0), clock=lambda: 1000.0) as log:
        for number in range(5):
            action = "escalate" if number == 0 else "block"
            finding = Finding("pocket", "v1", "scored", p_value=0.001, p_unsafe=0.001)
            placed = "response", action, action, "enforced", "response.unsafe", "default@1"
            decision = Decision(f"id-{number}", 1000.0, *placed, findings=(finding,))
            log.submit(decision, Conversation("c", (Message("user", f"{WORDS} {number}"),))).result()
    held = lease(store, "anna", 50, 1100.0)
    decide(store, held.item.id, held.token, "unsafe", 1101.0, by="anna", note="as it says", capture="full")
    store.close()
    return found


def tamper(place, statement):
    with sqlite3.connect(place / "audit.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_log_that_holds(url, capsys):
    assert run(["audit", "verify", "--store", url]) == 0
    said = capsys.readouterr().out
    assert said.startswith("The log holds: 6 rows, of 0 the content was purged; the last is row 6, ")
    assert run(["audit", "verify", "--store", url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["broken_at"], told["purged"]) == (6, None, 0)
    assert told["last"]["hash"] in said


def test_a_log_that_is_broken_says_where_and_why(url, place, capsys):
    tamper(place, "UPDATE audit SET record = replace(record, 'block', 'allow') WHERE seq = 3")
    assert run(["audit", "verify", "--store", url]) == 1
    said = capsys.readouterr().out
    assert said.startswith("BROKEN at row 3: its hash does not fit what it says. What holds: 2 rows")


def test_of_a_broken_log_no_checkpoint_is_written_and_an_export_says_so(url, place, capsys):
    tamper(place, "UPDATE audit SET record = replace(record, 'block', 'allow') WHERE seq = 3")
    assert run(["audit", "checkpoint", "--out", "kept.json", "--store", url]) == 1
    assert "BROKEN at row 3" in capsys.readouterr().out
    assert not (place / "kept.json").exists()
    assert run(["audit", "export", "--out", "audit.jsonl", "--store", url]) == 1
    assert "6 rows: audit.jsonl" in (said := capsys.readouterr().out)
    assert "BROKEN at row 3" in said
    assert len((place / "audit.jsonl").read_text().splitlines()) == 6


def test_a_log_against_a_checkpoint(url, place, capsys):
    assert run(["audit", "checkpoint", "--out", "kept.json", "--store", url]) == 0
    kept = json.loads((place / "kept.json").read_text())
    assert (kept["seq"], len(kept["hash"])) == (6, 64)
    assert run(["audit", "verify", "--checkpoint", "kept.json", "--store", url]) == 0
    assert "It is what the checkpoint of row 6 says; purges since then: 0." in capsys.readouterr().out
    tamper(place, "DELETE FROM audit WHERE seq > 4")
    tamper(place, "UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4)")
    tamper(place, "DELETE FROM review")
    assert run(["audit", "verify", "--store", url]) == 0
    assert run(["audit", "verify", "--checkpoint", "kept.json", "--store", url]) == 1
    assert "the checkpoint says that the chain reached 6: its end was cut" in capsys.readouterr().out


def test_an_export_is_checked_by_us_and_by_anybody(url, place, capsys):
    assert run(["audit", "export", "--out", "audit.jsonl", "--store", url]) == 0
    assert run(["audit", "verify", "--export", "audit.jsonl"]) == 0
    assert run(["audit", "verify", "--export", "audit.jsonl", "--checkpoint", "audit.jsonl.manifest.json"]) == 0
    assert "It is what the checkpoint of row 6 says; purges since then: 0." in capsys.readouterr().out
    before = "0" * 64
    for line in (place / "audit.jsonl").read_text().splitlines():
        row = json.loads(line)
        told = {name: row[name] for name in ("at", "capture", "commitment", "decision_id", "kind", "record", "seq")}
        text = before + json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        assert row["prev_hash"] == before
        before = hashlib.sha256(text.encode()).hexdigest()
        assert row["hash"] == before
        if row["content"] is not None:
            salted = bytes.fromhex(row["salt"]) + row["content"].encode()
            assert row["commitment"] == hashlib.sha256(salted).hexdigest()
    lines = (place / "audit.jsonl").read_text().replace("leaves", "stays")
    (place / "audit.jsonl").write_text(lines)
    assert run(["audit", "verify", "--export", "audit.jsonl"]) == 1
    assert "BROKEN at row 1: its content does not fit its commitment" in capsys.readouterr().out


def test_all_of_a_decision_is_shown_and_steers_no_terminal(url, capsys):
    assert run(["audit", "show", "id-0", "--store", url]) == 0
    raw = capsys.readouterr().out
    assert raw.isascii()
    decision, review = json.loads(raw)
    assert decision["record"]["action"] == "escalate"
    assert decision["content"]["messages"][0]["content"] == f"{WORDS} 0"
    assert decision["written"] == "1970-01-01T00:16:40.000+00:00"
    assert (review["kind"], review["record"]["verdict"], review["note"]) == ("review", "unsafe", "as it says")
    assert run(["audit", "show", "id-9", "--store", url]) == 2
    said = capsys.readouterr()
    assert (said.out, "no decision 'id-9'" in said.err) == ("", True)


def test_what_is_old_is_purged_and_the_log_says_so(url, capsys):
    assert run(["audit", "purge", "--older-than", "99999999999w", "--store", url]) == 0
    assert "of 0 rows and 0 notes" in capsys.readouterr().out
    assert run(["audit", "purge", "--older-than", "30d", "--store", url]) == 0
    assert capsys.readouterr().out.startswith("Purged the content of 6 rows and 1 notes from before 20")
    assert run(["audit", "verify", "--store", url]) == 0
    assert "7 rows, of 6 the content was purged" in capsys.readouterr().out
    assert run(["audit", "show", "id-0", "--store", url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["purged"] for row in shown] == [True, True]
    assert "content" not in shown[0]


def test_labels_are_written(url, place, capsys):
    assert run(["audit", "labels", "--out", "labels.jsonl", "--store", url]) == 0
    assert capsys.readouterr().out == "1 labels: labels.jsonl\n"
    (row,) = [json.loads(line) for line in (place / "labels.jsonl").read_text().splitlines()]
    assert (row["decision_id"], row["unsafe"], row["by"]) == ("id-0", True, "anna")


@pytest.mark.parametrize(
    "command",
    [
        ["verify"],
        ["show", "id-0"],
        ["purge", "--older-than", "1d"],
        *(["export", "--out", "o"], ["checkpoint", "--out", "o"], ["labels", "--out", "o"]),
    ],
)
def test_a_data_base_that_is_not_there_is_wrong_input_and_is_not_made(place, capsys, command):
    assert run(["audit", *command, "--store", "sqlite:///nothing.db"]) == 2
    assert "nothing.db: no data base can be read there" in capsys.readouterr().err
    assert list(place.iterdir()) == []


COMMANDS = [["purge", "--older-than", "1d"], ["purge", "--older-than", "99999999999w"], ["checkpoint", "--out", "o"]]
COMMANDS += [["verify"], ["export", "--out", "o"], ["labels", "--out", "o"]]


def spoil(path, how):
    """A data base as a bad disk, or a copy that was cut off, leaves it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()
    data = path.read_bytes()
    half, start = len(data) // 2 // 4096 * 4096, (page - 1) * 4096
    return {
        "no data base": b"notes" * 2000,
        "no header": b"X" * 16 + data[16:],
        "one page": data[:4096],
        "half": data[:half],
        "cut within a page": data[: half + 100],
        "zeros in the middle": data[:start] + bytes(4096) + data[start + 4096 :],
    }[how]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "how", ["no data base", "no header", "one page", "half", "cut within a page", "zeros in the middle"]
)
def test_a_damaged_file_is_wrong_input_whichever_rows_are_wanted(url, place, capsys, command, how):
    (place / "bad.db").write_bytes(spoil(place / "audit.db", how))
    assert run(["audit", *command, "--store", "sqlite:///bad.db"]) == 2
    said = capsys.readouterr()
    assert "go back to a copy from before" in " ".join(said.err.split())
    assert said.out == ""
    assert not (place / "o").exists()


def test_wrong_input(url, place, capsys):
    (place / "gateway.toml").write_text(f'[store]\nurl = "{url}"\n')
    (place / "notes.txt").write_text("notes" * 500)
    wrong = [
        (["verify", "--store", url, "--config", "gateway.toml"], "wanted one of them at most"),
        (["verify", "--export", "x.jsonl", "--store", url], "found --export beside --store or --config"),
        (["verify", "--export", "x.jsonl"], "x.jsonl.manifest.json: cannot be read"),
        (["verify", "--store", url, "--checkpoint", "gateway.toml"], "no checkpoint"),
        (["verify", "--store", url, "--checkpoint", "no.json"], "no.json: cannot be read"),
        (["verify", "--store", "sqlite:///notes.txt"], "not a database"),
        (["verify", "--store", "mysql://u:hidden@host/db"], "wanted sqlite or postgresql"),
        (["verify", "--config", "no.toml"], "no.toml: cannot be read"),
        (["purge", "--store", url, "--older-than", "a month"], "wanted a number and one of s, m, h, d, w"),
        (["purge", "--store", url, "--older-than=-1d"], "wanted a number and one of"),
        (["export", "--store", url, "--out", "."], "found a directory"),
    ]
    for command, told in wrong:
        assert run(["audit", *command]) == 2, command
        said = "".join(capsys.readouterr())
        assert told in said, command
        assert "hidden" not in said
    assert run(["audit", "verify", "--config", "gateway.toml"]) == 0


def test_without_options_it_is_the_log_of_a_gateway_without_a_configuration(url, place, capsys):
    assert run(["audit", "verify"]) == 2
    assert "runs/gateway/gateway.sqlite" in capsys.readouterr().err
    (place / "runs/gateway").mkdir(parents=True)
    (place / "audit.db").rename(place / "runs/gateway/gateway.sqlite")
    assert run(["audit", "verify"]) == 0


def test_an_empty_checkpoint_is_none(url, place, capsys):
    (place / "kept.json").write_text("{}")
    assert run(["audit", "verify", "--store", url, "--checkpoint", "kept.json"]) == 2
    assert "found neither a checkpoint nor the manifest of an export" in capsys.readouterr().err
