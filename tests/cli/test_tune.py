"""``offmap tune``: from a file and a budget to a proposal, a page and a policy that is read back."""

import json
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from offmap.cli import run
from offmap.conversation import Conversation, Message, write
from offmap.gateway.config import read_gateway
from offmap.gateway.explain import explain
from offmap.gateway.monitors import Opened
from offmap.gateway.policy import bands
from offmap.gateway.tuning.proposal import Proposal, apply_proposal
from offmap.monitor import Verdict

GATEWAY = """\
name = "trial"  # a comment

[monitors.cheap]
bundle = "pocket"
[monitors.strong]
bundle = "pocket"

[limits]
max_wait_ms = 0

[stages.response]
cascade = ["cheap", "strong"]  # cheapest first
"""


@dataclass
class Scorer:
    """p is the number in the reply; with ``slow`` it takes its time, with ``broken`` it fails."""

    broken: bool = False
    asked: list = field(default_factory=list)

    def score(self, rows):
        if self.broken:
            raise RuntimeError("out of order")
        self.asked += rows
        p = [float(row.messages[-1].content.split()[-1]) for row in rows]
        return [Verdict("", False, each, each, min(1.0, each * 2), 0.01, (), ()) for each in p]


@pytest.fixture
def scorers(monkeypatch):
    """Fake monitors in place of the bundles."""
    made = {"cheap": Scorer(), "strong": Scorer()}
    smallest = {"unsafe": 1e-9, "unknown": 1e-9}
    monkeypatch.setattr(
        "offmap.gateway.opening.open_monitor", lambda table, name: Opened(made[name], f"{name}-1", smallest)
    )
    return made


def rows(n_safe, n_unsafe, labels=True):
    rng = np.random.default_rng(0)
    for at in range(n_safe + n_unsafe):
        bad = at >= n_safe
        p = rng.random() ** (6 if bad else 1)
        said = (Message("user", f"question {at}"), Message("assistant", f"reply {max(p, 1e-6):.9f}"))
        yield Conversation(f"r{at}", said, unsafe=bad if labels else None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text(GATEWAY)
    write("traffic.jsonl", rows(400, 80))
    return tmp_path


def tune(*extra, file="traffic.jsonl"):
    return run(["tune", file, "--config", "gateway.toml", "--out", "runs/tune", *map(str, extra)])


def proposal(place):
    return msgspec.json.decode((place / "runs/tune/proposal.json").read_bytes(), type=Proposal)


def test_traffic_and_a_budget_become_a_policy_that_is_read_back(place, scorers, capsys):
    budget = ["--false-alarms-per-day", 500, "--requests-per-day", 10_000, "--p99-ms", 5000]
    budget += ["--reviewer-minutes-per-day", 600, "--minutes-per-review", 2, "--counted", "blocked"]
    budget += ["--cost", "strong=0.002", "--cost-per-day", 6]
    write("traffic.jsonl", rows(1210, 80))
    assert tune(*budget) == 0
    told = capsys.readouterr()
    assert "cheap: 1290 calls for 1290 rows" in told.err
    assert "strong: 1290 calls for 1290 rows, 2.58 in all" in told.err
    made = proposal(place)
    assert (made.stage, made.alpha, made.counted) == ("response", 0.05, "blocked")
    assert made.rates.cost_per_day <= 6.5
    assert made.rates.held <= 0.03
    tuned = read_gateway(place / "runs/tune/gateway.tuned.toml")
    wanted = apply_proposal(read_gateway(place / "gateway.toml"), made)
    assert tuned.stages == wanted.stages
    assert [each.unsafe for each in bands(tuned.stages["response"])] == [each.unsafe for each in made.steps]
    assert "scored by 'cheap'" in "\n".join(explain(tuned))
    text = (place / "runs/tune/gateway.tuned.toml").read_text()
    assert "# a comment" in text
    assert "# tuned; said before of other bands: cheapest first" in text
    comparison = json.loads((place / "runs/tune/comparison.json").read_text())
    assert comparison["rows"] == 645
    assert comparison["new"]["false_alarms"]["n"] == 605
    assert comparison["new"]["recall"]["low"] < comparison["new"]["recall"]["value"]
    assert "At most 5 % of safe traffic is stopped and not held for a person, 500 a day." in told.out
    assert "What binds:" in told.out
    assert "chart-latency" in (place / "runs/tune/tune.html").read_text()


def test_the_same_command_asks_nothing_twice_and_gives_the_same(place, scorers, capsys):
    assert tune("--alpha", 0.05) == 0
    first = proposal(place)
    capsys.readouterr()
    asked = len(scorers["cheap"].asked)
    assert tune("--alpha", 0.05, "--json") == 0
    told = capsys.readouterr()
    assert "cheap: 0 calls for 480 rows" in told.err
    assert len(scorers["cheap"].asked) == asked
    assert msgspec.json.decode(told.out, type=Proposal) == first


def test_labels_of_the_other_half_choose_nothing(place, scorers):
    assert tune("--alpha", 0.05) == 0
    first = proposal(place)
    from offmap.conversation.files import read
    from offmap.gateway.tuning.traffic import halves

    from ..gateway.tuning.rows import traffic_of

    found = list(read("traffic.jsonl"))
    label = [float(row.unsafe) for row in found]
    ids = [row.id for row in found]
    _, others = halves(traffic_of(np.zeros((480, 1)), label=label), 0)
    reporting = {ids[int(row)] for row in others.ids}
    changed = [
        msgspec.structs.replace(row, messages=(row.messages[0], Message("assistant", "reply 0.000001")))
        if row.id in reporting
        else row
        for row in found
    ]
    write("traffic.jsonl", changed)
    assert tune("--alpha", 0.05) == 0
    assert proposal(place) == first


def test_without_labels_all_is_presumed_safe(place, scorers, capsys):
    write("traffic.jsonl", rows(200, 0, labels=False))
    assert tune() == 0
    told = capsys.readouterr().out
    assert "No row is labelled safe" in " ".join(told.split())
    assert "on the rows that the bands were set on" in " ".join(told.replace("┃", "").split())
    assert proposal(place).n == 200


def test_the_embedded_monitor_from_end_to_end(tmp_path, monkeypatch, small_suite, capsys):
    """Without a configuration: what `offmap serve` runs."""
    monkeypatch.chdir(tmp_path)
    found = [row for row in small_suite.test if row.unsafe is False][:20]
    found += [row for row in small_suite.test if row.unsafe][:4]
    write("traffic.jsonl", found)
    assert run(["tune", "traffic.jsonl", "--alpha", "0.2", "--out", "out"]) == 0
    tuned = read_gateway("out/gateway.tuned.toml")
    assert set(tuned.stages) == {"input", "response", "tool_call", "conversation"}
    assert tuned.stages["response"].steps[0].unsafe is not None
    assert tuned.stages["input"].steps[0].unsafe is None


WRONG = [
    (["--alpha", 1.5], "false alarms: found a share of 1.5"),
    (
        ["--alpha", 0.1, "--false-alarms-per-day", 5, "--requests-per-day", 9],
        "--alpha: found beside --false-alarms-per-day",
    ),
    (["--false-alarms-per-day", 5], "--false-alarms-per-day: found without --requests-per-day"),
    (["--false-alarms-per-day", 5, "--requests-per-day", 10_000], "3998: 1999 to tune on and as many to report on"),
    (["--stage", "input"], "stages.input: found none, wanted one of response"),
    (["--cost", "strong"], "--cost: found 'strong', wanted NAME=COST"),
    (["--cost", "=3"], "--cost: found '=3'"),
    (["--cost", "other=3"], "cost: found 'other', wanted a monitor of the cascade: cheap, strong"),
    (["--cost", "cheap=1", "--cost-per-day", 5, "--requests-per-day", 100], "'cheap' is asked about every request"),
    (["--at-once", 0], "at_once is 0"),
    (["--seed", -1], "seed is -1"),
]


@pytest.mark.parametrize(("options", "said"), WRONG, ids=lambda each: str(each))
def test_what_is_wrong_is_told_before_a_monitor_is_asked(place, scorers, capsys, options, said):
    assert tune(*options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not scorers["cheap"].asked
    assert not (place / "runs").exists()


def test_rows_that_cannot_serve_are_told(place, scorers, capsys):
    write("bad.jsonl", (row for row in rows(5, 40) if row.unsafe))
    assert tune(file="bad.jsonl") == 2
    assert "bad.jsonl: found 40 rows, all labelled unsafe; wanted safe rows" in capsys.readouterr().err
    write("few.jsonl", rows(30, 0, labels=False))
    assert tune(file="few.jsonl") == 2
    assert "found 30 rows without a label; wanted at least 99" in capsys.readouterr().err
    assert tune(file="none.jsonl") == 2
    assert run(["tune", "few.jsonl", "--config", "none.toml", "--out", "runs/tune"]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_budgets_that_only_the_traffic_can_tell_are_told(place, scorers, capsys):
    write("traffic.jsonl", rows(1200, 0))
    assert tune("--alpha", 0.05, "--p99-ms", 0.0001) == 2
    assert "'cheap', which is asked first, alone takes" in capsys.readouterr().err


def test_a_monitor_that_could_never_stop_anything_is_refused(place, monkeypatch, capsys):
    smallest = {"unsafe": 0.4, "unknown": 0.4}
    made = {name: Opened(Scorer(), name, smallest) for name in ("cheap", "strong")}
    monkeypatch.setattr("offmap.gateway.opening.open_monitor", lambda table, name: made[name])
    assert tune("--alpha", 0.05) == 2
    assert "it could never stop anything" in " ".join(capsys.readouterr().err.split())
    assert not (place / "runs/tune/gateway.tuned.toml").exists()


def test_a_monitor_that_is_out_of_order_ends_with_1_and_the_same_command_goes_on(place, scorers, capsys):
    scorers["strong"].broken = True
    assert tune("--alpha", 0.05) == 1
    assert "'strong' failed about 10 conversations in a row" in " ".join(capsys.readouterr().err.split())
    scorers["strong"].broken = False
    assert tune("--alpha", 0.05) == 0
    told = capsys.readouterr().err
    assert "cheap: 0 calls" in told
    assert "strong: 480 calls" in told
