"""One number that is watched: false alarms as rare as stated, shifts found soon enough."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from offmap.calibration import ConformalCalibrator
from offmap.gateway.drift import calibration_p_values
from offmap.gateway.drift import series as room
from offmap.gateway.drift.capital import log_capital, p_more, steps
from offmap.gateway.drift.series import Look, Series
from offmap.monitor import Monitor
from offmap.panel import Panel

from .drifting import LEVEL, RUNS, at_most, calibrated, fused, reference, running, setup, watched

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
    """Each run has calibration rows of its own, and the tail that calibrators fit."""
    rng, found = np.random.default_rng(0), []
    for seed in range(300):
        calibrator = calibrated(rng)
        told = setup(reference=reference(calibrator), level=0.1)
        series, alarm = watched(told, -calibrator.p_values(rng.normal(size=500)), seed=seed)
        assert (series.stands().decisions, series.stands().one_sided) == (500, False)
        found.append(alarm is not None)
    assert at_most(0.1, found)
    assert any(found)  # else this could not fail


def test_p_values_of_several_detectors_raise_no_more_alarms_than_stated():
    rng, found = np.random.default_rng(1), []
    for seed in range(RUNS):
        combination, questions = fused(rng, 200)
        p_values, _ = combination(questions(rng, 500))
        panel = Panel((), combination, None, {})
        known = calibration_p_values(running(Monitor(None, panel)))
        for question in ("unsafe", "unknown"):
            told = setup(question, -known[question], level=LEVEL)
            found.append(watched(told, -p_values[question], seed=seed)[1] is not None)
    assert at_most(LEVEL, found)


@pytest.mark.parametrize("kind", ["unsafe", "length", "error"])
def test_what_is_compared_with_its_own_first_rows_raises_no_more_alarms_than_stated(kind):
    rng = np.random.default_rng(2)
    laws = {"unsafe": lambda: -rng.beta(0.3, 1, 900), "length": lambda: np.round(rng.lognormal(3, 1, 900))}
    law = laws.get(kind, lambda: rng.random(900) < 0.03)
    told = setup(kind, window=300, size=300)
    assert at_most(LEVEL, [watched(told, law(), seed=seed)[1] is not None for seed in range(RUNS)])


def test_grades_in_whole_numbers_are_only_asked_for_more():
    """A judge's p-values are tied: two-sided tests would always say that they are too large."""
    rng, found = np.random.default_rng(3), []
    for seed in range(RUNS):
        calibrator = ConformalCalibrator.fit(rng.integers(0, 5, 200) * 1.0)
        told = setup(reference=reference(calibrator))
        series, alarm = watched(told, -calibrator.p_values(rng.integers(0, 5, 500) * 1.0), seed=seed)
        assert series.stands().one_sided
        found.append(alarm is not None)
    assert at_most(LEVEL, found)
    shifted = -calibrator.p_values(np.minimum(4.0, rng.integers(2, 9, 1000)))
    assert watched(told, shifted)[1].direction == "more"


def test_p_values_that_were_corrected_for_windows_are_only_asked_for_more():
    rng, found, two_sided = np.random.default_rng(4), [], []
    for seed in range(RUNS):
        calibrator = calibrated(rng)
        told = setup(reference=reference(calibrator))
        parts = calibrator.p_values(rng.normal(size=(500, 4)))
        corrected = -np.minimum(1, 4 * parts.min(axis=1))
        found.append(watched(told, corrected, whole=False, seed=seed)[1] is not None)
        two_sided.append(watched(told, corrected, whole=True, seed=seed)[1] is not None)
    assert at_most(LEVEL, found)
    assert all(two_sided)  # what would be told if nobody knew


@pytest.mark.parametrize("kind", ["unsafe", "error"])
def test_the_parts_of_the_level_together_are_no_more_than_the_level(kind, monkeypatch):
    """What windows are tested at and what the capital must reach, as they are used; the tests themselves are slack."""
    spent, rng = [], np.random.default_rng(16)
    none = SimpleNamespace(says=(), p_alarms=1.0)
    monkeypatch.setattr(room, "check_drift", lambda ranked, n, alpha, level: spent.append(level) or none)
    monkeypatch.setattr(Series, "_grown", lambda self, rate, n, level: spent.append(level) or ())
    watched(setup(kind, size=50, window=10), -rng.random(2000), step=50)
    assert len(spent) == 195
    assert sum(spent) == pytest.approx((LEVEL if kind == "error" else LEVEL / 2) * (1 - 1 / 196))
    if kind == "unsafe":
        low = Series(setup(reference=reference(calibrated(rng)), window=5000), rng)
        for at in range(300):
            p = float(rng.beta(0.5, 1))
            capital = low.stands().capital
            if low.add([Look(-p, at, str(at))]):
                break
            assert low.stands().capital < 2 / LEVEL
        assert capital < 2 / LEVEL <= low.stands().capital


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
