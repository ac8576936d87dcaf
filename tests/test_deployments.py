"""A thousand simulated deployments: the certified bound holds, ends where traffic drifts, and the drift check says so.

With 1,000 threshold rows 4 may lie above the threshold, and the true false-positive rate is at most 1 % with
probability P(Beta(5, 996) <= 0.01) = 0.971: a whole number of rows makes the bound more cautious than the 95 % asked
for. The simulated share has a standard error of 0.5 points, so "at least 95 %" is asserted as it stands.
"""

import math

import numpy as np
import pytest
from scipy import stats

from offmap.calibration import ConformalCalibrator, certified_threshold, suspicion
from offmap.drift import check_drift
from offmap.fusion import Fusion

TIMES, N, ALPHA, DELTA, LEVEL = 1000, 1000, 0.01, 0.05, 0.01
SHIFT = 0.5
HELD = stats.beta.cdf(ALPHA, 5, N - 4)


def certified(held):
    """The share of deployments that hold the bound is at least 1 - delta, and what the theory says."""
    assert held >= 1 - DELTA
    assert held >= HELD - 3 * math.sqrt(HELD * (1 - HELD) / TIMES)


@pytest.fixture(scope="module")
def deployments():
    """The threshold rows' scores and the threshold chosen on them, of 1,000 deployments with normal scores."""
    safe = np.random.default_rng(0).normal(size=(TIMES, N))
    return safe, np.array([certified_threshold(scores, ALPHA, DELTA).value for scores in safe])


def checked(safe, shift):
    """What the check finds in each deployment on 500 rows of traffic, moved by ``shift``."""
    rng = np.random.default_rng(1)
    for scores in safe:
        ranked = ConformalCalibrator.fit(scores, tail_fraction=0)
        yield check_drift(ranked.p_values(rng.normal(size=500) + shift, rng), N, ALPHA, LEVEL)


def test_the_certified_bound_holds_in_at_least_95_percent_of_deployments(deployments):
    held = np.mean(stats.norm.sf(deployments[1]) <= ALPHA)
    certified(held)
    assert held == pytest.approx(HELD, abs=3 * math.sqrt(HELD * (1 - HELD) / TIMES))


def test_it_fails_where_exchangeability_is_broken(deployments):
    held = np.mean(stats.norm.sf(deployments[1] - SHIFT) <= ALPHA)
    wanted = stats.beta.cdf(stats.norm.sf(stats.norm.isf(ALPHA) + SHIFT), 5, N - 4)
    assert held < 0.15
    assert held == pytest.approx(wanted, abs=3 * math.sqrt(wanted * (1 - wanted) / TIMES))


def test_the_drift_check_says_so_in_broken_deployments_and_hardly_ever_in_intact_ones(deployments):
    intact, broken = list(checked(deployments[0], 0.0)), list(checked(deployments[0][:200], SHIFT))
    assert np.mean([drift.drifted for drift in intact]) <= LEVEL
    assert np.mean([drift.drifted for drift in broken]) >= 0.98
    # Under monitoring the martingale speaks alone, and its false alarms are those after any row.
    assert np.mean([drift.capital >= 1 / LEVEL for drift in intact]) <= LEVEL
    assert np.mean([drift.capital >= 1 / LEVEL for drift in broken]) >= 0.98


def test_the_bound_holds_after_a_detector_is_ranked_on_other_rows():
    """Two steps, as a panel takes them: p-values with a tail from calibrate rows, a threshold on their suspicion."""
    rng, grid = np.random.default_rng(2), np.linspace(1, 6, 20_001)
    held, times = [], 200
    for _ in range(times):
        ranked = ConformalCalibrator.fit(rng.normal(size=400))
        chosen = certified_threshold(suspicion(ranked.p_values(rng.normal(size=N))), ALPHA, DELTA)
        # Suspicion rises with the score: the true rate is the normal mass above the first score that alarms.
        alarms = chosen.alarms(suspicion(ranked.p_values(grid)))
        held.append(stats.norm.sf(grid[np.argmax(alarms)]) <= ALPHA if alarms.any() else True)
    assert np.mean(held) >= 1 - DELTA
    assert np.mean(held) >= HELD - 3 * math.sqrt(HELD * (1 - HELD) / times)


class Tied:
    """Two detectors whose scores are counts: every pair of scores has a known probability, so every rate is exact."""

    top = 20

    def __init__(self, shift=0.0):
        counts = np.arange(self.top)
        # A common nuisance makes the two depend on each other: half of the rows have a higher mean.
        laws = [stats.poisson.pmf(counts, mean + shift) for mean in (2.0, 4.0)]
        pairs = sum(np.outer(law, law) for law in laws)
        self.mass = (pairs / pairs.sum()).ravel()

    def draw(self, rng, n):
        """(2, n) scores."""
        at = np.searchsorted(np.cumsum(self.mass)[:-1], rng.random(n), side="right")
        return np.array(np.divmod(at, self.top), dtype=float)


class Pipeline:
    """Two detectors ranked on calibrate rows, fused, and a certified threshold on other rows."""

    def __init__(self, rng, law):
        counts = np.arange(law.top, dtype=float)
        columns = [ConformalCalibrator.fit(scores).p_values(counts) for scores in law.draw(rng, 300)]
        pairs = np.stack([p.ravel() for p in np.meshgrid(*columns, indexing="ij")], axis=1)
        self.suspicion = suspicion(Fusion("harmonic").fit(pairs).fuse(pairs)).reshape(law.top, law.top)
        self.safe = self(law.draw(rng, N))
        self.threshold = certified_threshold(self.safe, ALPHA, DELTA)

    def __call__(self, scores):
        return self.suspicion[tuple(scores.astype(int))]

    def rate(self, law):
        """The exact share of a law's rows that alarm."""
        return law.mass[self.threshold.alarms(self.suspicion).ravel()].sum()


def test_the_bound_and_the_drift_check_hold_for_two_fused_detectors_with_tied_scores():
    rng, usual, moved = np.random.default_rng(3), Tied(), Tied(shift=1.5)
    deployed = [Pipeline(rng, usual) for _ in range(TIMES)]
    certified(np.mean([pipeline.rate(usual) <= ALPHA for pipeline in deployed]))
    assert np.mean([pipeline.rate(moved) <= ALPHA for pipeline in deployed]) < 0.05

    def found(pipeline, law):
        ranked = ConformalCalibrator.fit(pipeline.safe, tail_fraction=0)
        return check_drift(ranked.p_values(pipeline(law.draw(rng, 500)), rng), N, ALPHA, LEVEL).drifted

    assert np.mean([found(pipeline, usual) for pipeline in deployed[:400]]) <= LEVEL
    assert np.mean([found(pipeline, moved) for pipeline in deployed[:100]]) >= 0.98
