"""The drift watch: false alarms as rare as stated, shifts found soon enough, at a cost that does not grow."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from offmap.calibration import ConformalCalibrator
from offmap.combination import Combination
from offmap.conversation import Conversation, Message
from offmap.fusion import Fusion
from offmap.gateway.config import Actions, Drift, Gateway, MonitorTable, StageTable
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.drift import Watch, calibration_p_values, setups
from offmap.gateway.drift import watch as room
from offmap.gateway.drift.capital import log_capital, p_more, steps
from offmap.gateway.drift.firsts import Firsts, keys
from offmap.gateway.drift.series import Look, Series, Setup
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.opening import JudgeScorer
from offmap.monitor import Monitor
from offmap.panel import Panel

LEVEL = 0.1


def counts(n, ranks):
    below = np.cumsum(np.asarray(ranks)[:, None] < np.array(steps(n)), axis=0)
    return below, np.arange(1, len(ranks) + 1)


def setup(kind="unsafe", reference=None, level=LEVEL, window=500, size=500, **fields):
    beyond = {"unsafe": -0.005, "unknown": -0.005, "length": None}.get(kind, 0.5)
    fields = {"alpha": 0.005 if beyond == -0.005 else 0.01, "beyond": beyond, "share": beyond == 0.5} | fields
    return Setup("response", "pocket", "v1", kind, level, window, size, reference, **fields)


def watched(told, values, *, whole=True, seed=0, step=500):
    """A series that has seen these numbers, and the alarm that it raised."""
    series = Series(told, np.random.default_rng(seed))
    looks = [Look(float(value), float(at), f"id-{at}", whole) for at, value in enumerate(values)]
    raised = [series.add(looks[first : first + step]) for first in range(0, len(looks), step)]
    raised = [each for each in raised if each]
    assert len(raised) <= 1
    return series, raised[0] if raised else None


def calibrated(rng, n=300):
    return ConformalCalibrator.fit(rng.normal(size=n))


def reference(calibrator):
    return -calibrator.p_values(calibrator.scores)


def at_most(level, found):
    """Whether so many of the runs are compatible with that level: three standard deviations."""
    return np.mean(found) <= level + 3 * math.sqrt(level * (1 - level) / len(found))


# ---- the arithmetic


@pytest.mark.parametrize("n", [1, 7, 60])
@pytest.mark.parametrize("total", [1, 5, 40])
def test_the_capital_is_what_integrals_say(n, total):
    rng = np.random.default_rng(n + total)
    below = np.sort(rng.integers(0, total + 1, len(steps(n))))
    wanted, jeffreys = [], stats.beta(0.5, 0.5)
    for step, c in zip(steps(n), below.tolist(), strict=True):
        mode = (step - 0.5) / n
        bet = integrate.quad(lambda q, c=c: q**c * (1 - q) ** (total - c) * jeffreys.pdf(q), mode, 1)[0]
        urn = np.exp(stats.betabinom.logpmf(c, total, step, n + 1 - step)) / math.comb(total, c)
        wanted.append(bet / jeffreys.sf(mode) / urn)
    found = log_capital(below[None, :], np.array([total]), n)
    assert math.exp(found[0]) == pytest.approx(np.mean(wanted), rel=1e-6)


@pytest.mark.parametrize("total", [1, 10, 200])
def test_the_capital_is_fair(total):
    """Its mean under the urn is 1 at any time: here exactly, for the one step that one reference row has."""
    c = np.arange(total + 1)
    capital = np.exp(log_capital(c[:, None], np.full(total + 1, total), 1))
    assert np.sum(capital * stats.betabinom.pmf(c, total, 1, 1)) == pytest.approx(1)


@given(st.integers(1, 2000), st.integers(1, 3000))
@settings(deadline=None, max_examples=50)
def test_larger_ranks_never_earn_more(n, total):
    c = np.unique(np.linspace(0, total, 40).astype(int))
    below = np.repeat(c[:, None], len(steps(n)), axis=1)
    capital = np.nan_to_num(log_capital(below, np.full(len(c), total), n), neginf=-1e9)
    assert (np.diff(capital) >= -1e-6 * np.abs(capital[1:]) - 1e-9).all()


@pytest.mark.parametrize(("count", "of", "before", "of_before"), [(0, 50, 3, 90), (9, 50, 3, 90), (50, 50, 90, 90)])
def test_shares_are_tested_by_fisher(count, of, before, of_before):
    table = [[count, of - count], [before, of_before - before]]
    wanted = stats.fisher_exact(table, alternative="greater").pvalue
    assert p_more(count, of, before, of_before) == pytest.approx(wanted)


# ---- false alarms


def test_exchangeable_p_values_raise_no_more_alarms_than_stated():
    """300 runs of 2,000, each with calibration rows of its own and the tail that calibrators fit."""
    rng, found = np.random.default_rng(0), []
    for seed in range(300):
        calibrator = calibrated(rng)
        told = setup(reference=reference(calibrator), window=2000)
        series, alarm = watched(told, -calibrator.p_values(rng.normal(size=2000)), seed=seed, step=2000)
        assert (series.stands().decisions, series.stands().one_sided) == (2000, False)
        found.append(alarm is not None)
    assert at_most(LEVEL, found)
    assert any(found)  # else this could not fail


def test_p_values_of_several_detectors_raise_no_more_alarms_than_stated():
    rng, found = np.random.default_rng(1), []
    for seed in range(40):
        combination, questions = fused(rng, 200)
        p_values, _ = combination(questions(rng, 1000))
        panel = Panel((), combination, None, {})
        known = calibration_p_values(running(Monitor(None, panel)))
        for question in ("unsafe", "unknown"):
            told = setup(question, -known[question], level=LEVEL)
            found.append(watched(told, -p_values[question], seed=seed, step=1000)[1] is not None)
    assert at_most(LEVEL, found)


@pytest.mark.parametrize("kind", ["unsafe", "length", "error"])
def test_what_is_compared_with_its_own_first_rows_raises_no_more_alarms_than_stated(kind):
    rng = np.random.default_rng(2)
    laws = {"unsafe": lambda: -rng.beta(0.3, 1, 1500), "length": lambda: np.round(rng.lognormal(3, 1, 1500))}
    law = laws.get(kind, lambda: rng.random(1500) < 0.03)
    assert at_most(LEVEL, [watched(setup(kind), law(), seed=seed)[1] is not None for seed in range(100)])


def test_grades_in_whole_numbers_are_only_asked_for_more():
    """A judge's p-values are tied: two-sided tests would always say that they are too large."""
    rng, found = np.random.default_rng(3), []
    for seed in range(60):
        calibrator = ConformalCalibrator.fit(rng.integers(0, 5, 200) * 1.0)
        told = setup(reference=reference(calibrator))
        series, alarm = watched(told, -calibrator.p_values(rng.integers(0, 5, 1000) * 1.0), seed=seed)
        assert series.stands().one_sided
        found.append(alarm is not None)
    assert at_most(LEVEL, found)
    shifted = -calibrator.p_values(np.minimum(4.0, rng.integers(2, 9, 1000)))
    assert watched(told, shifted)[1].direction == "more"


def test_p_values_that_were_corrected_for_windows_are_only_asked_for_more():
    rng, found, two_sided = np.random.default_rng(4), [], []
    for seed in range(40):
        calibrator = calibrated(rng)
        told = setup(reference=reference(calibrator))
        parts = calibrator.p_values(rng.normal(size=(1000, 4)))
        corrected = -np.minimum(1, 4 * parts.min(axis=1))
        found.append(watched(told, corrected, whole=False, seed=seed)[1] is not None)
        two_sided.append(watched(told, corrected, whole=True, seed=seed)[1] is not None)
    assert at_most(LEVEL, found)
    assert all(two_sided)  # what would be told if nobody knew


# ---- shifts


@pytest.mark.parametrize("n", [200, 800])
def test_a_shift_at_the_start_is_found_within_250_decisions(n):
    rng = np.random.default_rng(5)
    for seed in range(30):
        told = setup(reference=reference(calibrated(rng, n)), level=0.01 / 4)
        alarm = watched(told, -rng.beta(0.5, 1, 300), seed=seed, step=50)[1]
        assert alarm.decisions <= 250
        assert (alarm.test, alarm.direction, alarm.decision_id) == ("martingale", "more", f"id-{alarm.decisions - 1}")


def test_a_shift_late_in_a_run_is_found_within_1000_decisions_by_its_window():
    rng = np.random.default_rng(6)
    for seed in range(10):
        calibrator = calibrated(rng)
        quiet = -calibrator.p_values(rng.normal(size=5200))
        told = setup(reference=reference(calibrator), level=0.01 / 4)
        series, alarm = watched(told, np.r_[quiet, -rng.beta(0.5, 1, 1000)], seed=seed)
        assert 5200 < alarm.decisions <= 6200
        assert 4700 <= alarm.since <= 5800
        assert alarm.rate > 5 * alarm.expected
        assert series.stands().windows[3].found == ()


def test_p_values_that_became_larger_are_found_too():
    rng = np.random.default_rng(7)
    alarm = watched(setup(reference=reference(calibrated(rng))), -rng.beta(1, 0.5, 500))[1]
    assert (alarm.direction, alarm.rate < 0.01) == ("less", True)
    assert "lie higher than on the 300 rows that it was calibrated on" in alarm.words


@pytest.mark.parametrize(("factor", "word"), [(2.0, "longer"), (0.5, "shorter")])
def test_other_lengths_are_found(factor, word):
    rng = np.random.default_rng(8)
    values = np.round(np.r_[rng.lognormal(5, 1, 2000), factor * rng.lognormal(5, 1, 1000)])
    alarm = watched(setup("length", level=0.01 / 4), values)[1]
    assert 1500 < alarm.decisions <= 2500
    assert f"what it looks at is {word} than in the first 500 decisions" in alarm.words
    assert "may no longer hold" in alarm.words


@pytest.mark.parametrize("kind", ["unscored", "error"])
def test_more_failures_are_found_and_a_few_are_not(kind):
    rng = np.random.default_rng(9)
    quiet = rng.random(1000) < 0.01
    few, many = (watched(setup(kind, level=0.01 / 4), np.r_[quiet, rng.random(1000) < p]) for p in (0.02, 0.15))
    assert few[1] is None
    assert many[1].rate > 0.1
    assert many[0].stands().expected == pytest.approx(np.mean(quiet[:500]))
    assert many[0].stands().capital is None


def test_an_alarm_says_what_since_when_and_that_the_rate_does_not_hold():
    rng = np.random.default_rng(10)
    alarm = watched(setup(reference=reference(calibrated(rng))), -rng.beta(0.5, 1, 500))[1]
    assert alarm.words.startswith(
        "Drift at response, monitor 'pocket': its p-values of harm lie lower than on the 300 "
    )
    for said in ("since about 1970-01-01 00:0", "% at p <= 0.005, where 0.5 % are expected", "no longer holds there"):
        assert said in alarm.words
    assert "an attack, another use or another model" in alarm.words


# ---- what is watched


def fused(rng, n):
    """A combination of three guards and two views of two detectors, and a function that gives new rows' p-values."""
    shapes = {"guards": 3, "states": 2, "tokens": 2}

    def scores(rows):
        common = rng.normal(size=(rows, 1))
        return {view: 0.6 * common + rng.normal(size=(rows, k)) for view, k in shapes.items()}

    calibrate = scores(n)
    each = {view: [ConformalCalibrator.fit(column) for column in table.T] for view, table in calibrate.items()}

    def columns(table, method):
        found = {
            view: np.column_stack([getattr(c, method)(x) for c, x in zip(each[view], table[view].T, strict=True)])
            for view in shapes
        }
        return {"unsafe": {"guards": found.pop("guards")}, "unknown": found}

    combination = Combination.fit(columns(calibrate, "own_p_values"), Fusion())
    return combination, lambda _, rows: columns(scores(rows), "p_values")


def running(scorer, version="v1"):
    return Running("m", Opened(scorer, version))


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


def decided(number, *, stage="response", outcome="scored", p=0.5, name="", windows=1, monitor="cheap"):
    scored = (p, p, p) if outcome == "scored" else ()
    finding = Finding(monitor, "v1", outcome, *scored, windows=windows)
    placed = number * 1.0, stage, "allow", "allow", "enforced", "response.pass", "p@1", name
    return Decision(f"id-{number}", *placed, findings=(finding,))


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
