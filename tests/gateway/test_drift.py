"""The drift watch: what it watches, which looks count, restarts, at a cost that does not grow."""

import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from offmap.combination import Combination
from offmap.conversation import Conversation, Message
from offmap.fusion import Fusion
from offmap.gateway.config import Actions, Drift, Gateway, MonitorTable, StageTable, Step
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.drift import Watch, calibration_p_values, setups
from offmap.gateway.drift import watch as room
from offmap.gateway.drift.firsts import Firsts, keys
from offmap.gateway.opening import JudgeScorer
from offmap.monitor import Monitor
from offmap.panel import Panel

from .drifting import calibrated, fused, running

# ---- what is watched


def test_ranks_among_reference_p_values_are_ranks_among_calibration_rows():
    """Whatever the tail makes of a score, its rank among the n is found again."""
    rng = np.random.default_rng(11)
    combination, questions = fused(rng, 150)
    known = calibration_p_values(running(Monitor(None, Panel((), combination, None, {}))))
    found, _ = combination(questions(rng, 400))
    for question, answer in combination.answers.items():
        pooled = answer.union if answer.union.calibrator else next(iter(answer.views.values()))
        assert len(known[question]) == 150
        scores = np.linspace(pooled.calibrator.scores.min() - 1, pooled.calibrator.scores.max() + 2, 500)
        ranks = [np.sum(pooled.calibrator.scores >= score) for score in scores]
        p_values = pooled.calibrator.p_values(scores)
        assert [np.sum(known[question] <= p) for p in p_values] == ranks
        assert np.all((found[question] > 0) & (found[question] <= 1))


def test_a_lone_detector_and_a_judge_bring_their_own_scores():
    rng = np.random.default_rng(12)
    calibrator = calibrated(rng, 50)
    combination = Combination.fit({"unsafe": {"guards": calibrator.own_p_values(calibrator.scores)[:, None]}}, Fusion())
    member = SimpleNamespace(calibrator=calibrator, detector=SimpleNamespace(question="unsafe"))
    for scorer in (Monitor(None, Panel((member,), combination, None, {})), JudgeScorer(None, "unsafe", calibrator)):
        known = calibration_p_values(running(scorer))
        assert list(known) == ["unsafe"]
        assert np.sort(known["unsafe"]) == pytest.approx(np.sort(calibrator.p_values(calibrator.scores)))
    assert calibration_p_values(SimpleNamespace(version="v1")) == {}


def gateway(**fields):
    monitors = {name: MonitorTable(bundle="pocket") for name in ("cheap", "strong")}
    stages = {
        "input": StageTable(("cheap",), actions=Actions(unknown="allow")),
        "response": StageTable(("cheap", "strong")),
    }
    return Gateway(monitors=monitors, stages=stages, drift=Drift(**fields))


def test_every_question_that_is_acted_on_is_watched_and_the_level_is_shared():
    judge = running(JudgeScorer(None, "unsafe", calibrated(np.random.default_rng(13), 50)))
    told = setups(gateway(level=0.02, window=100), {"cheap": judge, "strong": judge})
    of = {(each.stage, each.monitor, each.kind): each for each in told}
    assert {kind for stage, _, kind in of if stage == "input"} == {"unsafe", "length", "unscored", "error"}
    assert {kind for stage, monitor, kind in of if (stage, monitor) == ("response", "strong")} == {
        "unsafe",
        "unknown",
        "length",
        "unscored",
        "error",
    }
    for pair in {key[:2] for key in of}:
        assert sum(each.level for key, each in of.items() if key[:2] == pair) == pytest.approx(0.02)
    assert len(of["response", "cheap", "unsafe"].reference) == 50
    assert of["response", "cheap", "unknown"].reference is None  # the judge does not answer it
    assert of["response", "strong", "unsafe"].reference is None  # it sees what the first one left in doubt
    assert of["response", "cheap", "unsafe"].beyond == -0.0025


# ---- the watch


def conversation(*texts, roles=("user", "assistant")):
    return Conversation("c", tuple(Message(roles[at % 2], text) for at, text in enumerate(texts)))


def decided(number, *, stage="response", outcome="scored", p=0.5, name="", partial=False):
    scored = (p, p, p) if outcome == "scored" else ()
    finding = Finding("cheap", "v1", outcome, *scored, windows=1)
    placed = number * 1.0, stage, "allow", "allow", "enforced", "response.pass", "p@1", name
    return Decision(f"id-{number}", *placed, findings=(finding,), partial=partial)


def watch(**fields):
    settings = gateway(**{"window": 50, "reference": 50} | fields)
    simple = SimpleNamespace(version="v1")
    return Watch(settings.drift, setups(settings, {"cheap": simple, "strong": simple}))


def standing(found, kind, stage="response", monitor="cheap"):
    return next(x for x in found.report().watched if (x.stage, x.monitor, x.kind) == (stage, monitor, kind))


def test_the_first_look_at_each_conversation_counts():
    first = Firsts(100)
    turns = conversation("q1"), conversation("q1", "a1"), conversation("q1", "a1", "q2"), conversation("q1", "a1 and")
    assert [first("response", keys(each, "", "me")) for each in turns] == [True, False, False, False]
    assert first("input", keys(turns[0], "", "me"))
    assert first("response", keys(turns[0], "", "you"))
    assert first("response", keys(conversation("q3"), "", "me"))
    system = [conversation("be kind", text, roles=("system", "user")) for text in ("a", "b")]
    assert [first("response", keys(each, "", "me")) for each in system] == [True, True]
    assert [first("response", keys(conversation(str(at)), "id", "me")) for at in range(3)] == [True, False, False]
    assert first("response", keys(conversation("0"), "other", "me"))
    assert first("response", keys(conversation("only a reply", roles=("assistant",) * 2), "", "me"))


def looks(*conversations):
    """Which of them are first; each is pairs of "s", "u" or "a" and a text."""
    first, roles = Firsts(100), {"s": "system", "u": "user", "a": "assistant"}
    spoken = [Conversation("c", tuple(Message(roles[each[0]], each) for each in said)) for said in conversations]
    return [first("input", keys(each, "", "me")) for each in spoken]


@pytest.mark.parametrize("sent", [["s be kind"], ["s be kind", "u here is a document"]])
def test_what_an_application_sends_before_every_request_is_no_conversation(sent):
    """Looked at alone it would silence the watch: every later request begins with it."""
    assert looks(sent, *([*sent, f"u question {number}"] for number in range(3))) == [True] * 4


def test_examples_before_every_request_are_no_conversation():
    examples = ["s be kind", "u example", "a answer"]
    assert looks(["s be kind"], *([*examples, f"u question {number}"] for number in range(3))) == [True] * 4


def test_a_later_turn_goes_on_with_what_was_answered():
    turns = ["s be kind", "u q1", "a a1", "u q2", "a a2", "u q3"]
    assert looks(*(turns[:n] for n in (2, 3, 4, 6))) == [True, False, False, False]
    assert looks(turns[:4], turns) == [True, False]


def test_what_is_left_out_is_counted():
    found = watch()
    for number, texts in enumerate([("q1",), ("q1", "a1"), ("q1", "a1", "q2"), ("q2",)]):
        found.saw(decided(number), conversation(*texts))
    found.work()
    assert (found.report().repeated, found.report().partial) == (2, 0)


def test_of_a_streamed_reply_the_whole_counts_and_its_parts_do_not():
    found, reply = watch(), "a long reply " * 5
    for number in range(60):
        for part in (0.2, 0.5, 1):
            text = reply[: int(part * len(reply))]
            found.saw(decided(number, partial=part < 1), conversation(f"q{number:02}", text))
    found.work()
    assert standing(found, "unsafe").decisions == 10
    assert (found.report().repeated, found.report().partial) == (0, 120)
    assert found._series["response", "cheap", "length"].state.reference == [3.0 + len(reply)] * 50


def test_conversations_are_forgotten_the_longest_unseen_first():
    first = Firsts(3)
    for name in ("a", "b", "c"):
        assert first("input", keys(conversation(name), name, ""))
    assert not first("input", keys(conversation("a"), "a", ""))
    assert first("input", keys(conversation("d"), "d", ""))
    assert not first("input", keys(conversation("a"), "a", ""))
    assert first("input", keys(conversation("b"), "b", ""))


def test_a_long_history_has_few_keys():
    history = conversation(*(f"turn {at}" for at in range(1001)))
    assert len(keys(history, "", "")) == 128
    first = Firsts(10)
    assert first("response", keys(history, "", ""))
    assert not first("response", keys(conversation(*(m.content for m in history.messages), "a", "q"), "", ""))


def test_the_numbers_of_a_decision_are_those_of_its_findings():
    found = watch()
    outcomes = ["scored"] * 60 + ["unscored"] * 30 + ["timeout"] * 10 + ["skipped"] * 5
    for number, outcome in enumerate(outcomes):
        found.saw(decided(number, outcome=outcome), conversation(f"q{number:03}", "answer"))
    found.saw(
        Decision("x", 0.0, "response", "error", "error", "enforced", "response.upstream", "p@1"), conversation("q")
    )
    assert found.work() == []
    assert standing(found, "error").decisions == 50  # of 100 the first 50 are the reference
    assert standing(found, "unscored").decisions == 40
    assert standing(found, "length").decisions == 40
    assert standing(found, "unsafe").decisions == 10
    assert standing(found, "error").rate == pytest.approx(10 / 50)
    assert standing(found, "unscored", stage="input").decisions == 0
    assert standing(found, "unsafe", monitor="strong").compared == "in the first 50 decisions, of which 0 are there"


def test_longer_inputs_are_found_from_decisions():
    found, rng, alarms = watch(), np.random.default_rng(14), []
    for number in range(200):
        size = int(rng.lognormal(4, 0.5) * (1 if number < 100 else 4))
        found.saw(decided(number, p=float(rng.random())), conversation(f"{number:06}" + "x" * size, "yes"))
        if number % 10 == 0:
            alarms += found.work()
    assert [alarm.kind for alarm in alarms] == ["length"]
    assert found.report().alarms == tuple(alarms)


def test_nothing_is_watched_where_it_is_not_enabled():
    found = watch(enabled=False)
    found.saw(decided(1), conversation("q"))
    assert (found.work(), found.report().watched, found.report().enabled) == ([], (), False)


def test_what_comes_too_fast_is_counted(monkeypatch):
    monkeypatch.setattr(room, "MOST_WAITING", 30)
    found = watch()
    for number in range(50):
        found.saw(decided(number), conversation(f"q{number}"))
    found.work()
    assert found.report().missed == 20
    found.saw(decided(99), conversation("q99"))
    found.work()
    assert found.report().missed == 20


def drifted(found, start=0):
    rng = np.random.default_rng(start)
    for number in range(start, start + 200):
        p = float(rng.beta(0.2, 1) if number > start + 60 else rng.random())
        found.saw(decided(number, p=p), conversation(f"q{number:04}", "answer"))
    return found.work()


def test_a_restart_goes_on_where_it_was():
    before, after = watch(), watch()
    assert {alarm.kind for alarm in drifted(before)} == {"unsafe", "unknown"}
    assert after.resume(before.state())
    assert after.report() == before.report()
    assert drifted(after, 1000) == []  # told once
    assert standing(after, "length").decisions == 350
    assert standing(after, "length").compared == "in the first 50 decisions"


@pytest.mark.parametrize("changed", [{"run": "after the fix"}, {"level": 0.02}, {"reference": 60}])
def test_other_settings_start_anew(changed):
    before, after = watch(), watch(**changed)
    drifted(before)
    assert not after.resume(before.state())
    assert after.report().alarms == ()
    assert not after.resume(None)
    assert not after.resume("{")


def test_another_version_starts_anew():
    before, settings = watch(), gateway(window=50, reference=50)
    drifted(before)
    named = {"cheap": SimpleNamespace(version="v2"), "strong": SimpleNamespace(version="v1")}
    after = Watch(settings.drift, setups(settings, named))
    assert after.resume(before.state())
    assert after.report().alarms == ()
    assert standing(after, "length").decisions == 0


def promoted(since=5.0, cut=0.03, **fields):
    """What is watched once bands were promoted at the response stage."""
    settings = gateway(**{"window": 50, "reference": 50} | fields)
    steps = tuple(Step(name, unsafe=(cut, cut), unknown=(cut, cut)) for name in ("cheap", "strong"))
    stages = settings.stages | {"response": msgspec.structs.replace(settings.stages["response"], cascade=steps)}
    judge = running(JudgeScorer(None, "unsafe", calibrated(np.random.default_rng(13), 200)))
    judges = {"cheap": judge, "strong": judge}
    return setups(msgspec.structs.replace(settings, stages=stages), judges, {"response": since})


def test_after_a_promotion_its_cut_is_watched_beside_the_first_decisions_under_it():
    of = {(each.stage, each.monitor, each.kind): each for each in promoted()}
    assert (of["response", "cheap", "unsafe"].reference, of["response", "cheap", "unsafe"].beyond) == (None, -0.03)
    assert len(of["input", "cheap", "unsafe"].reference) == 200


def test_a_promotion_begins_anew_what_is_about_its_cut_and_nothing_else():
    """Thresholds that were set on new traffic make a promise about it; an outage is one under any thresholds."""
    found = watch()
    drifted(found)
    for number in range(2000, 2200):
        found.saw(decided(number, outcome="failed"), conversation(f"i{number}"))
    found.work()
    before = {alarm.kind for alarm in found.report().alarms}
    assert {"unsafe", "unknown", "error"} <= before
    failing = standing(found, "error")
    for number in range(2200, 2260):  # they wait while the bands change, and were decided by the old ones
        found.saw(decided(number), conversation(f"i{number}"))
    found.adopt(promoted())
    found.work()
    assert {"unsafe", "unknown"} & {alarm.kind for alarm in found.report().alarms} == set()
    assert standing(found, "error").alarm == failing.alarm
    assert standing(found, "error").decisions == failing.decisions + 60
    assert standing(found, "unsafe").compared.endswith("under the promoted bands, of which 0 are there")
    assert standing(found, "unsafe").cut == "at p <= 0.03"
    for number in range(3000, 3400):  # as bad as what raised the alarm, from the first decision on
        found.saw(decided(number, p=0.001 * (1 + number % 7)), conversation(f"n{number}"))
    assert [alarm for alarm in found.work() if alarm.kind in ("unsafe", "unknown")] == []
    settings = gateway(window=50, reference=50).drift
    after, other = (Watch(settings, promoted(since)) for since in (5.0, 6.0))
    for each in (after, other):
        assert each.resume(found.state())
    assert (standing(after, "unsafe").decisions, standing(other, "unsafe").decisions) == (350, 0)
    assert standing(other, "error").alarm


def test_a_decision_costs_the_same_however_long_it_has_gone_on():
    """Twenty times as many decisions before it, and at most a few times the cost; and little while traffic waits."""
    found, rng = watch(window=500, reference=500), np.random.default_rng(15)
    rows = [conversation(f"q{number:06}", "a short answer") for number in range(21_000)]
    decisions = [decided(number, p=float(p)) for number, p in enumerate(rng.random(21_000))]
    working, seeing = [], []
    for first in range(0, 21_000, 1000):
        started = time.process_time()
        for decision, row in zip(decisions[first : first + 1000], rows[first : first + 1000], strict=True):
            found.saw(decision, row)
        seen = time.process_time()
        found.work()
        seeing.append(seen - started)
        working.append(time.process_time() - seen)
    assert min(working[-5:]) < 5 * min(working[1:6])
    assert min(seeing) / 1000 < 1e-3
    assert len(found.state()) < 200_000
