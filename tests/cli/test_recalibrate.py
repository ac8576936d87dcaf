"""``offmap recalibrate``: what it prints, what it keeps, and that only --promote with a name changes anything."""

import contextlib
import re
from dataclasses import dataclass

import numpy as np
import pytest
import sqlalchemy as sa

from offmap.cli import run
from offmap.gateway.config import read_gateway
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.live import Live
from offmap.gateway.policy import bands, policy_id
from offmap.gateway.store import AuditLog, Review, ReviewRules, chain, open_store, verify
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.promotions import proposals
from offmap.gateway.store.tables import REVIEW

TOML = """
[monitors.pocket]
bundle = "pocket"

[stages.response]
cascade = ["pocket"]
tier = "strict"
actions = { unknown = "allow" }

[review]
sample = 1.0

[store]
url = "sqlite:///gateway.sqlite"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def store(place):
    with contextlib.closing(open_store("sqlite:///gateway.sqlite")) as opened:
        yield opened


def fill(store, n=100, at=1e9, version="v1"):
    """Traffic of which twice as much lies below any cut as should; every row looked at and found safe, five unsafe."""
    policy = policy_id(read_gateway("gateway.toml"))
    with AuditLog(store, review=ReviewRules(sample=1.0)) as log:
        waiting = []
        for row, p in enumerate([*(np.arange(n) + 0.5) / n / 2, *[1e-6] * 5]):
            finding = Finding("pocket", version, "scored", float(p), float(p), 0.9, seconds=0.01)
            action = "block" if p <= 0.025 else "allow"
            decision = ("response", action, action, "enforced", "response.x", policy)
            waiting.append(log.submit(Decision(f"{version}-{row:04d}", at + row, *decision, findings=(finding,))))
        for each in waiting:
            each.result()
    with store.write() as connection:
        unsafe = REVIEW.c.decision_id >= f"{version}-{n:04d}"
        said = {"state": "decided", "decided_by": "anna", "decided_at": at}
        verdict = sa.case((unsafe, "unsafe"), else_="safe")
        mine = REVIEW.c.decision_id.startswith(version)
        connection.execute(sa.update(REVIEW).where(mine).values(**said, verdict=verdict))
        settled = connection.execute(sa.select(REVIEW.c.id, REVIEW.c.decision_id, REVIEW.c.verdict).where(mine)).all()
        reviews = [Review(number, name, "decided", at, word, "anna") for number, name, word in settled]
        chain.append(connection, [chain.Row("review", each.decision_id, canonical(each), "none") for each in reviews])


def told(capsys, *arguments, code=0):
    assert run(["recalibrate", "--config", "gateway.toml", *map(str, arguments)]) == code
    found = capsys.readouterr()
    return found.err if code else found.out


def test_a_proposal_is_told_kept_and_not_in_force(store, capsys):
    fill(store)
    out = told(capsys)
    own, kept = proposals(store)
    assert "105 decisions, 105 with a label that counts, 105 of these of the random sample" in out
    assert "Wanted: at most 2.5 % of safe traffic stopped or held; set on 100 rows" in out
    assert re.search(r"pocket +unsafe +0\.025 +0\.00", out)
    assert "unknown" not in out  # nothing is done about it
    assert re.search(r"false alarms, of safe +5 % \([\d.]+ to [\d.]+\) +1 % ", out)
    assert re.search(r"found, of unsafe +100 % \(.*\) +100 % ", out)
    assert "block -> allow" in out
    assert f"--promote {kept.id} --by NAME" in out
    assert (own.proposal, kept.state) == (None, "proposed")
    assert Live(store, read_gateway("gateway.toml")).now.told == ()


def test_what_is_told_is_what_was_counted(store, capsys):
    fill(store)
    out = told(capsys, "--alpha", 0.05)
    (_, kept) = proposals(store)
    live = Live(store, read_gateway("gateway.toml"))
    live.promote(kept.id, "ada")
    stop = bands(live.read().gateway.stages["response"])[0].unsafe[0]
    p = np.array([*(np.arange(100) + 0.5) / 200, *[1e-6] * 5])
    freed = int(np.sum((p <= 0.025) & (p > stop)))
    assert freed > 0
    assert f"Of 105 past decisions {105 - freed} stay as they are" in out
    assert f"  {freed}: block -> allow" in out
    assert f"{100 * np.mean(p <= stop):.3g} %" in out


def test_promoting_wants_a_name_and_going_back_is_promoting(store, capsys):
    fill(store)
    told(capsys)
    own, kept = (each.id for each in proposals(store))
    assert "--by: found no name" in told(capsys, "--promote", kept, code=2)
    assert verify(store).n == 210
    out = told(capsys, "--promote", kept, "--by", "ada")
    assert f"Proposal {kept} is in force for stage response, promoted by ada" in out
    listed = told(capsys, "--list")
    assert re.search(rf"^{kept}: stage response, proposed .*, in force \(promoted by ada", listed, re.MULTILINE)
    assert f"{own}: stage response, the file's own bands, promoted before" in listed
    assert "found it in force" in told(capsys, "--promote", kept, "--by", "ada", code=2)
    out = told(capsys, "--promote", own, "--by", "ben")
    assert "The file's own bands are in force" in out
    assert Live(store, read_gateway("gateway.toml")).now.told == ()
    assert f"Proposal {kept} is rejected by ben" in told(capsys, "--reject", kept, "--by", "ben")
    assert "found it rejected by ben" in told(capsys, "--promote", kept, "--by", "ada", code=2)
    assert (verify(store).n, verify(store).broken_at) == (213, None)


def test_a_second_proposal_is_compared_with_what_is_in_force(store, capsys):
    fill(store)
    told(capsys)
    told(capsys, "--promote", proposals(store)[1].id, "--by", "ada")
    assert "Of 105 past decisions 105 stay as they are" in told(capsys)


def test_only_the_days_that_are_asked_for_and_the_last_version(store, capsys):
    import time

    fill(store, at=1e9)
    assert "found no decision" in told(capsys, "--days", 30, code=2)
    fill(store, 60, at=time.time() - 86400, version="w2")
    assert "65 decisions, 65 with a label" in told(capsys, "--days", 30)
    out = told(capsys)
    assert "65 decisions, 65 with a label" in out
    assert "105 decisions by other versions of these monitors are left out" in out


def test_too_few_labels_say_how_many_more(store, capsys):
    fill(store, 30)
    assert re.search(r"30 safe labels.* needs 39: at least 9 more", told(capsys, code=2).replace("\n", " "))
    assert proposals(store) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--alpha", "2"), "--alpha is 2"),
        (("--days", "-1"), "--days is -1"),
        (("--promote", "1", "--reject", "1", "--by", "a"), "wanted one of them at most"),
        (("--promote", "1", "--by", "ada"), "proposal 1: found none"),
        (("--stage", "input"), "stages.input: found none"),
    ],
)
def test_wrong_input_is_refused(store, capsys, arguments, message):
    assert message in told(capsys, *arguments, code=2)


def test_a_store_that_nobody_has_written_is_not_made(place, capsys):
    assert "no data base can be read there" in told(capsys, code=2)
    assert not (place / "gateway.sqlite").exists()


@dataclass
class Silent:
    """A monitor that nobody asks."""

    version: str

    def __call__(self, gateway):
        return {"pocket": self}


@pytest.mark.parametrize(("version", "wanted"), [("v1", "are in force in place of"), ("v2", "is NOT in force, since")])
def test_serving_says_at_its_start_what_was_promoted(store, capsys, monkeypatch, version, wanted):
    fill(store)
    told(capsys)
    told(capsys, "--promote", proposals(store)[1].id, "--by", "ada")
    monkeypatch.setattr("offmap.gateway.service.open_monitors", Silent(version))
    services = []
    monkeypatch.setattr("offmap.cli.serve._run", lambda app, service, listener: services.append(service))
    assert run(["serve", "--config", "gateway.toml", "--port", "0"]) == 0
    out = capsys.readouterr().out
    assert wanted in out
    assert f"Policy in force: {services[0].engine.policy}." in out
    services[0].log.close()
    services[0].store.close()
