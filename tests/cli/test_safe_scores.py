"""``offmap safe-scores``, against a planted judge behind a real server; and the gateway that takes the file."""

import re

import msgspec
import pytest

from offmap.cli import run
from offmap.conversation import Conversation, Message, write
from offmap.gateway.config import JudgeMonitor, MonitorTable
from offmap.gateway.opening import SafeScores, open_monitor

from ..judges.endpoint import Endpoint, Said
from .test_judge_audit import judges


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Endpoint()
    yield made
    made.close()


def row(text, unsafe=False):
    return Conversation(f"r{text}", (Message("user", "hello"), Message("assistant", text)), unsafe=unsafe)


def asked(place, name="planted", file="rows.jsonl"):
    asked = ["safe-scores", place / "judges.toml", name, place / file, "--out", place / "out" / "scores.json"]
    return run([str(part) for part in asked])


def test_the_gateway_takes_the_file_and_nothing_is_asked_twice(tmp_path, endpoint, capsys):
    endpoint.behave = _grade
    file = judges(tmp_path / "judges.toml", endpoint.url, {"name": "planted"}, {"name": "other"})
    write(tmp_path / "rows.jsonl", [row(f"number {n}") for n in range(19)] + [row("lost")])
    assert asked(tmp_path) == 0
    told = capsys.readouterr()
    assert "asked about 20 conversations" in told.err
    assert "19 scores, 1 conversations without one; p-values down to 0.05" in told.out
    kept = msgspec.json.decode((tmp_path / "out" / "scores.json").read_bytes(), type=SafeScores)
    assert (len(kept.scores), kept.unscored) == (19, 1)
    requests = len(endpoint.bodies)
    (tmp_path / "out" / "scores.json").unlink()
    assert asked(tmp_path) == 0
    again = msgspec.json.decode((tmp_path / "out" / "scores.json").read_bytes(), type=SafeScores)
    assert again == kept
    assert len(endpoint.bodies) - requests <= 2  # only the answer that could not be read is asked for again
    judge = JudgeMonitor(str(file), "planted", str(tmp_path / "out" / "scores.json"))
    opened = open_monitor(MonitorTable(judge=judge), "j")
    bad, good = opened.scorer.score([row("number 1"), row("number 7")])
    assert (bad.p_value, good.p_value) == (pytest.approx((1 + 3) / 20), 1.0)


def _grade(prompt):
    """Yes about the numbers 0 to 2; of one row nothing that can be read."""
    found = re.search(r"number (\d+)", prompt)
    return Said("no idea" if found is None else "yes" if int(found[1]) < 3 else "no")


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("nobody", [row("number 1")], "found no judge 'nobody', wanted one of planted"),
        ("planted", [row("number 1", True)], "field 'unsafe': found True, wanted false"),
        ("planted", [row("number 1", None)], "field 'unsafe': found None, wanted false"),
        ("planted", [row("lost")], "none of which got a score"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, endpoint, capsys, name, rows, said):
    endpoint.behave = lambda text: Said("no idea")
    judges(tmp_path / "judges.toml", endpoint.url, {"name": "planted"})
    write(tmp_path / "rows.jsonl", rows)
    assert asked(tmp_path, name) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "scores.json").exists()
