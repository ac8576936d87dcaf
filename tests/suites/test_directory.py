import gzip
import hashlib
import json
import re

import pytest

from offmap import suites
from offmap.conversation import Conversation, Message, write
from offmap.errors import InputError
from offmap.suites import directory, load


def row(name, *, unsafe, domain=""):
    plain = {"id": name, "malign": int(unsafe), "messages": [{"role": "user", "content": name}]}
    return plain | ({"domain": domain} if domain else {})


def put(path, *rows):
    text = "".join(json.dumps(one) + "\n" for one in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.fixture
def folder(tmp_path):
    put(tmp_path / "train-helpful.jsonl", row("a1", unsafe=False), row("a2", unsafe=True))
    put(tmp_path / "train-tools-00000-of-00002.jsonl.gz", row("b1", unsafe=False))
    put(tmp_path / "train-tools-00001-of-00002.jsonl.gz", row("b2", unsafe=False, domain="calls"))
    put(tmp_path / "test-helpful.jsonl", row("c1", unsafe=False))
    put(tmp_path / "test-known.jsonl", row("c2", unsafe=False, domain="tools"), row("c3", unsafe=False, domain="calls"))
    put(tmp_path / "test-lies.jsonl", row("d1", unsafe=True), row("d2", unsafe=False))
    messages = (Message("user", "habari"),)
    write(tmp_path / "test-swahili.parquet", [Conversation("e1", messages, unsafe=False)])
    put(tmp_path / "pretrain-text.jsonl", {"text": "no conversation"})
    (tmp_path / "test-notes.txt").write_text("not rows")
    return tmp_path


def error_of(path):
    with pytest.raises(InputError) as caught:
        load(path)
    return str(caught.value)


def test_rows_splits_and_domains(folder):
    suite = load(folder)
    assert [(one.id, one.domain, one.unsafe) for one in suite.train] == [
        ("a1", "helpful", False),
        ("a2", "helpful", True),
        ("b1", "tools", False),
        ("b2", "calls", False),
    ]
    assert [(one.id, one.domain) for one in suite.test] == [
        ("c1", "helpful"),
        ("c2", "tools"),
        ("c3", "calls"),
        ("d1", "lies"),
        ("d2", "lies"),
        ("e1", "swahili"),
    ]
    assert suite.in_distribution == ("calls", "helpful", "tools")
    assert suite.failures == ("lies",)
    assert suite.name == folder.name


def test_source_changes_with_any_file_that_is_read(folder):
    before = load(str(folder)).source
    (folder / "test-notes.txt").write_text("changed")
    assert load(folder).source == before
    put(folder / "test-lies.jsonl", row("d1", unsafe=True), row("d3", unsafe=False))
    assert load(folder).source != before
    assert before.startswith(str(folder))


def test_digest_by_hand(tmp_path):
    (tmp_path / "one").write_bytes(b"x")
    line = b"one\0" + hashlib.sha256(b"x").hexdigest().encode() + b"\n"
    assert directory.digest([tmp_path / "one"]) == hashlib.sha256(line).hexdigest()[:16]


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="found no directory"):
        directory.load(tmp_path / "absent")
    assert "found no file train-*" in error_of(tmp_path)
    put(tmp_path / "train-a.jsonl", row("a", unsafe=False))
    assert "found no file test-*" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("file", "rows", "wanted"),
    [
        ("train-helpful.jsonl", [row("a1", unsafe=False)], "found no unsafe row among 3 training rows"),
        (
            "test-known.jsonl",
            [row("c2", unsafe=False, domain="tools")],
            "no safe test row of the training domains calls",
        ),
        ("test-helpful.jsonl", [row("c1", unsafe=True)], "no safe test row of the training domains helpful"),
        ("test-lies.jsonl", [row("a2", unsafe=True)], "found 1 ids in training and test alike, such as 'a2'"),
        ("test-lies.jsonl", [row("c1", unsafe=True)], "row 'c1': .*test-helpful.jsonl holds this id too"),
        ("test-lies.jsonl", [{"id": "x", "messages": [{"role": "user"}]}], "test-lies.jsonl: row 'x': found no label"),
        ("test-lies.jsonl", [row("x", unsafe=True), {"text": "x"}], "test-lies.jsonl:2: the row's shape"),
        ("test-00000-of-00001.jsonl", [row("x", unsafe=True)], "row 'x': found no domain"),
    ],
)
def test_errors(folder, file, rows, wanted):
    put(folder / file, *rows)
    assert re.search(wanted, error_of(folder))


def test_no_safe_training_rows(tmp_path):
    put(tmp_path / "train-a.jsonl", row("a", unsafe=True))
    put(tmp_path / "test-a.jsonl", row("b", unsafe=False))
    assert "found no safe row among 1 training rows" in error_of(tmp_path)


def test_unknown_names_are_explained(tmp_path):
    assert "no suite is called 'prosedural'; did you mean 'procedural'?" in error_of("prosedural")
    assert "a directory with train-* and test-* files is a suite too" in error_of(tmp_path / "absent")


def test_options_reach_the_suites_that_have_them(folder, monkeypatch):
    monkeypatch.setitem(suites.SUITES.builtin, "toy", "json:loads")
    monkeypatch.setattr(json, "loads", lambda *, seed=0: seed)
    assert load("toy", seed=7) == 7
    with pytest.raises(InputError, match="suite toy: found the option revision, which this suite does not have"):
        load("toy", revision="0" * 40)
    with pytest.raises(InputError, match="the option data"):
        load(folder, data=folder)


def test_a_name_wins_over_a_directory_of_that_name(folder, monkeypatch):
    (folder / "mood").mkdir()
    monkeypatch.chdir(folder)
    assert "found neither revision nor data" in error_of("mood")
    assert "found no file train-*" in error_of("./mood")
