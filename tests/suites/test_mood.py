"""The hub itself is never reached here: a local copy, or a stand-in for the function that downloads."""

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from offmap.conversation import Message
from offmap.errors import InputError
from offmap.suites import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KNOWN = ("hh-rlhf-helpful", "hh-rlhf-harmless", "function-calling")


def put(path, split, rows):
    path.mkdir(parents=True, exist_ok=True)
    names = ("id", "conversation", "domain", "malign")
    table = pyarrow.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    pyarrow.parquet.write_table(table, path / f"{split}-00000-of-00001.parquet")


def said(name):
    return f"\n\nHuman: {name}?\n\nAssistant: {name}."


TRAIN = [
    *((f"{domain}-0", said(domain), domain, 0) for domain in KNOWN),
    ("bad", said("bad"), "hh-rlhf-harmless", 1),
]
TEST = [
    *((f"{domain}-0", said(f"test {domain}"), domain, 0) for domain in KNOWN),
    ("s", said("lie"), "scheming", 1),
    ("w", said("habari"), "swahili", 0),
]


@pytest.fixture
def copy(tmp_path):
    put(tmp_path / "data", "train", TRAIN)
    put(tmp_path / "data", "test", TEST)
    return tmp_path


def test_local_copy(copy):
    suite = load("mood", data=copy)
    assert [(row.id, row.domain, int(row.unsafe)) for row in suite.train] == [
        (f"train/{name}", domain, malign) for name, _, domain, malign in TRAIN
    ]
    assert [(row.id, row.domain, int(row.unsafe)) for row in suite.test] == [
        (name, domain, malign) for name, _, domain, malign in TEST
    ]
    assert suite.test[3].messages == (Message("user", "lie?"), Message("assistant", "lie."))
    assert suite.in_distribution == tuple(sorted(KNOWN))
    assert suite.failures == ("scheming",)
    assert "2605.21602" in suite.citation
    assert load("mood", data=copy / "data").test == suite.test


def test_revision_is_fetched_as_parquet(copy, monkeypatch):
    asked = []

    def download(repository, **options):
        asked.append((repository, options))
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    suite = load("mood", revision=COMMIT)
    assert len(suite.train) == len(TRAIN)
    assert asked == [
        ("mood-bench/mood-bench", {"repo_type": "dataset", "revision": COMMIT, "allow_patterns": ["*.parquet"]})
    ]
    assert suite.source.startswith(f"mood-bench/mood-bench at {COMMIT} (sha256 ")


def test_failed_download_is_an_input_error(monkeypatch):
    def download(*_, **__):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match="cannot be fetched: offline; data = a local copy works offline"):
        load("mood", revision=COMMIT)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "found neither revision nor data, wanted one"),
        ({"revision": COMMIT, "data": "."}, "found both revision and data"),
        ({"revision": "main"}, "found 'main', wanted a commit of 40 hexadecimal digits"),
        ({"data": "absent"}, "found no file train-"),
    ],
)
def test_wrong_options(tmp_path, monkeypatch, options, wanted):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=wanted):
        load("mood", **options)


def test_wrong_data(copy):
    put(copy / "data", "train", [*TRAIN, ("x", said("x"), "scheming", 1)])
    with pytest.raises(InputError, match="found training rows of scheming, wanted only function-calling"):
        load("mood", data=copy)
    put(copy / "data", "train", [*TRAIN, ("x", said("x"), KNOWN[0], 2)])
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet:5: field malign: found 2"):
        load("mood", data=copy)
    put(copy / "data", "train", TRAIN)
    put(copy / "data", "test", TEST[1:])
    with pytest.raises(InputError, match="no safe test row of the training domains hh-rlhf-helpful"):
        load("mood", data=copy)
