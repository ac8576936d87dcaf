import math

import numpy as np
import pytest
from scipy import stats

from offmap.calibration import ConformalCalibrator
from offmap.drift import SPLITS, check_drift
from offmap.errors import InputError

LAWS = {
    "continuous": lambda rng, n: rng.normal(size=n),
    "tied": lambda rng, n: rng.integers(0, 4, n) * 1.0,
    "constant": lambda rng, n: np.zeros(n),
}


def p_values(rng, n, m, law="continuous", shift=0.0):
    safe, recent = LAWS[law](rng, n), LAWS[law](rng, m) + shift
    return ConformalCalibrator.fit(safe, tail_fraction=0).p_values(recent, rng)


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize(("n", "m"), [(20, 30), (30, 1000), (500, 200)])
def test_false_alarms_are_as_rare_as_stated(law, n, m):
    rng = np.random.default_rng(0)
    found = [check_drift(p_values(rng, n, m, law), n, alpha=0.05, level=0.15) for _ in range(200)]
    noise = 3 * math.sqrt(0.15 * 0.85 / 200)
    assert np.mean([drift.drifted for drift in found]) <= 0.15 + noise
    # What a monitor that looks after every row sees: the capital at its best.
    assert np.mean([drift.capital >= 1 / 0.15 for drift in found]) <= 0.15 + noise
    for probability in ("p_alarms", "p_uniform"):
        assert np.mean([getattr(drift, probability) <= 0.15 for drift in found]) <= 0.15 + noise


def test_taking_the_p_values_for_independent_and_uniform_would_not_do():
    """Twenty calibration rows and much traffic: the usual one-sample test rejects nearly always."""
    rng = np.random.default_rng(1)
    p = [p_values(rng, 20, 1000) for _ in range(100)]
    assert np.mean([stats.kstest(x, "uniform").pvalue <= 0.01 for x in p]) > 0.5
    assert np.mean([check_drift(x, 20).drifted for x in p]) <= 0.04


@pytest.mark.parametrize(
    "change",
    [lambda z: z + 0.4, lambda z: z - 0.4, lambda z: 1.5 * z, lambda z: 0.6 * z],
    ids=["+", "-", "wide", "narrow"],
)
def test_changed_traffic_is_found(change):
    rng = np.random.default_rng(2)
    for _ in range(20):
        ranked = ConformalCalibrator.fit(rng.normal(size=1000), tail_fraction=0)
        p = ranked.p_values(change(rng.normal(size=1000)), rng)
        assert check_drift(p, 1000).drifted
        assert check_drift(p, 1000, repeated=True).says == ("martingale",)


def test_a_change_in_the_tail_alone_is_found_by_the_alarm_rate():
    """Three per cent of rows that all alarm: too few to move the distribution as a whole."""
    rng = np.random.default_rng(3)
    ranked = ConformalCalibrator.fit(rng.normal(size=2000), tail_fraction=0)
    p = ranked.p_values(np.where(np.arange(500) % 33 == 0, 9.0, rng.normal(size=500)), rng)
    drift = check_drift(p, 2000)
    assert "alarm rate" in drift.says
    assert drift.p_uniform > 0.05
    assert drift.alarms >= 16


def test_growing_traffic_can_be_checked_again_and_again():
    """The capital after each prefix is the running maximum, and crossing tells when."""
    rng = np.random.default_rng(4)
    p = np.r_[p_values(rng, 500, 100), rng.random(200) ** 2]
    prefixes = [check_drift(p[:m], 500, repeated=True) for m in range(1, 301)]
    capitals = [drift.capital for drift in prefixes]
    assert capitals == sorted(capitals)
    first = next(m for m, drift in enumerate(prefixes, 1) if drift.drifted)
    assert prefixes[-1].crossed == first == prefixes[first - 1].crossed
    assert 100 < first < 300
    assert capitals[first - 2] < 100 <= capitals[first - 1]


def test_the_capital_is_what_betting_row_by_row_against_the_urn_earns():
    rng = np.random.default_rng(5)
    n = 49
    p = rng.random(60) ** 1.5
    steps = sorted({max(1, math.floor(share * 50 + 1e-9)) for share in SPLITS})
    purses, best = np.ones(len(steps)), 1.0
    below = np.zeros(len(steps))
    for t, x in enumerate(p):
        for k, step in enumerate(steps):
            urn, bet = (step + below[k]) / (n + 1 + t), (0.5 + below[k]) / (1 + t)
            inside = x <= step / 50
            purses[k] *= bet / urn if inside else (1 - bet) / (1 - urn)
            below[k] += inside
        best = max(best, purses.mean())
    assert best > 1
    assert check_drift(p, n).capital == pytest.approx(best)


def test_the_probability_of_the_alarms_is_beta_binomial_and_follows_the_urn():
    rng = np.random.default_rng(6)
    p = np.r_[np.full(7, 0.0189), np.linspace(0.2, 0.99, 193)]
    drift = check_drift(p, 199, alpha=0.0199)
    assert (drift.alarms, drift.alarm_share) == (0, pytest.approx(3 / 200))
    drift = check_drift(p, 199, alpha=0.02)
    assert (drift.alarms, drift.alarm_share) == (7, pytest.approx(4 / 200))
    assert drift.p_alarms == pytest.approx(stats.betabinom.sf(6, 200, 4, 196))
    drawn = [np.sum(stats.uniform.rvs(size=200, random_state=rng) < rng.beta(4, 196)) for _ in range(4000)]
    assert drift.p_alarms == pytest.approx(np.mean(np.array(drawn) >= 7), abs=0.03)


def test_the_distance_is_that_of_two_samples():
    rng = np.random.default_rng(7)
    for n, m, tolerance in [(1, 1, 1e-9), (15, 40, 1e-9), (200, 300, 0.02)]:
        safe, recent = rng.normal(size=n), rng.normal(0.3, 1, m)
        drift = check_drift(ConformalCalibrator.fit(safe, 0).p_values(recent, rng), n)
        exact = stats.ks_2samp(recent, safe, method="exact")
        assert drift.distance == pytest.approx(exact.statistic)
        assert drift.p_uniform == pytest.approx(exact.pvalue, abs=tolerance)


def test_rows_without_a_p_value_are_left_out_and_counted():
    p = p_values(np.random.default_rng(8), 100, 50)
    spoilt = np.insert(p, [0, 20, 50], np.nan)
    drift = check_drift(spoilt, 100)
    assert (drift.n, drift.n_unscored) == (50, 3)
    assert drift.capital == check_drift(p, 100).capital


def test_the_summary_says_what_was_found():
    rng = np.random.default_rng(9)
    quiet = check_drift(p_values(rng, 1000, 400), 1000)
    assert (quiet.says, quiet.drifted, quiet.crossed) == ((), False, None)
    assert quiet.summary.startswith("no drift found in 400 rows at a false-alarm probability of 0.01")
    loud = check_drift(p_values(rng, 1000, 400, shift=2.0), 1000)
    assert loud.says == ("martingale", "alarm rate", "uniformity")
    assert loud.summary.startswith("drift by martingale and alarm rate and uniformity in 400 rows")
    assert f"{loud.alarms} lie at p <= 0.00999" in loud.summary
    assert f"(enough after {loud.crossed} rows)" in loud.summary


def test_extreme_traffic_gives_finite_evidence():
    drift = check_drift(np.full(20_000, 1e-300), 100_000)
    assert drift.capital == pytest.approx(1e300)
    assert 0 <= drift.p_alarms < 1e-300
    assert drift.drifted
    assert check_drift(np.array([0.3]), 1).says == ()


@pytest.mark.parametrize(
    ("p", "n", "message"),
    [
        ([], 9, "none of 0 rows"),
        ([np.nan, np.nan], 9, "none of 2 rows"),
        ([0.0, 0.5], 9, "1 of 2 p-values lie outside"),
        ([1.5], 9, "1 of 1 p-values lie outside"),
        ([[0.5]], 9, "shape"),
        ([0.55], 0, "calibration_size is 0"),
    ],
)
def test_wrong_p_values_are_refused(p, n, message):
    with pytest.raises(ValueError, match=message):
        check_drift(np.array(p), n)


def test_p_values_that_are_not_randomised_are_refused():
    rng = np.random.default_rng(10)
    ranked = ConformalCalibrator.fit(rng.integers(0, 4, 100), tail_fraction=0)
    with pytest.raises(ValueError, match="not randomised"):
        check_drift(ranked.p_values(rng.integers(0, 4, 100)), 100)


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_shares_outside_zero_one_are_refused(share):
    with pytest.raises(InputError, match="alpha"):
        check_drift(np.array([0.55]), 9, alpha=share)
    with pytest.raises(InputError, match="level"):
        check_drift(np.array([0.55]), 9, level=share)
