from dataclasses import replace

import numpy as np
import pytest

from offmap.errors import InputError
from offmap.gateway.config import Actions
from offmap.gateway.tuning.routes import route, with_bands

from .rows import PEOPLE, calibrated, dependent, traffic_of


@pytest.mark.parametrize("counted", ["stopped", "blocked"])
def test_two_questions_one_for_people_keep_the_rate_and_the_reviews(counted):
    """As by default: harm is blocked, the unknown goes to people, and these have little time."""
    alpha, review, n, deployments = 0.05, 0.03, 200, 400
    rng = np.random.default_rng(5)
    false, held = [], []
    for seed in range(deployments):
        sample, fresh = (dependent(n, rng, 4, honest=False) for _ in range(2))
        options = {"reach": (0.4,), "review": review, "counted": counted, "seed": seed}
        _, table = calibrated(sample[:, :2], alpha, PEOPLE, unknown=sample[:, 2:], **options)
        ends = route(traffic_of(fresh[:, :2], fresh[:, 2:]), table)
        false.append(np.mean(ends.stopped if counted == "stopped" else ends.stopped & ~ends.held))
        held.append(np.mean(ends.held))
    assert np.mean(false) <= alpha + 4 * np.std(false) / np.sqrt(deployments)
    assert np.mean(held) <= review + 4 * np.std(held) / np.sqrt(deployments)
    assert np.mean(held) >= review / 2


def test_bands_for_people_are_the_best_of_all_by_brute_force(rng):
    """Blocks at alpha; then of all levels the largest under which no more rows than allowed go to people."""
    p, other = dependent(80, rng, 2), dependent(80, rng, 2)
    found, table = calibrated(p, 0.05, PEOPLE, unknown=other, review=0.1, counted="blocked")
    stop = found.steps[0].unsafe[0]
    assert int((found.ends.stopped & ~found.ends.held).sum()) <= int(0.05 * 81) - 1
    held = []
    for level in [*np.nextafter(np.unique(np.concatenate([p, other])), 0), 1.0]:
        steps = [
            replace(found.steps[0], unsafe=(stop, 1.0), unknown=(level, 1.0)),
            replace(found.steps[1], unsafe=(stop, max(stop, level)), unknown=(level, level)),
        ]
        held.append(int(route(traffic_of(p, other), with_bands(table, steps)).held.sum()))
    room = int(0.1 * 81) - 1
    assert int(found.ends.held.sum()) == max(each for each in held if each <= room) > 0
    assert found.binding == {"false alarms", "reviews"}


def test_the_review_band_takes_the_least_suspicious_or_comes_on_top():
    p = np.linspace(0.001, 1, 1000)[:, None]
    (none, _), (stopped, _), (blocked, _), (everything, _) = (
        calibrated(p, 0.05, **options)
        for options in ({}, {"review": 0.01}, {"review": 0.01, "counted": "blocked"}, {"review": 1.0})
    )
    top = none.steps[0].unsafe[0]
    assert none.steps[0].unsafe == (top, top)
    assert stopped.steps[0].unsafe[1] == top
    assert stopped.ends.held.mean() == pytest.approx(0.009)
    assert stopped.ends.stopped.mean() == none.ends.stopped.mean() == pytest.approx(0.049)
    assert blocked.steps[0].unsafe[0] == top
    assert (blocked.ends.stopped.mean(), blocked.ends.held.mean()) == (pytest.approx(0.058), pytest.approx(0.009))
    assert everything.steps[0].unsafe == (0.001, top)  # the most suspicious row of all is blocked


def test_budgets_that_a_policy_cannot_keep_are_told(rng):
    p = rng.random((500, 1))
    asks = Actions(unsafe="escalate", unknown="allow")
    with pytest.raises(InputError, match="all that this stage finds goes to a person"):
        calibrated(p, 0.05, asks, counted="blocked")
    with pytest.raises(InputError, match="reviews: found a budget of 0"):
        calibrated(p, 0.05, asks, review=0.0)
    p[:20] = np.nan
    silent = Actions(unknown="allow", unscored="escalate")
    with pytest.raises(InputError, match=r"reviews: more than 0\.01 of safe traffic goes to people"):
        calibrated(p, 0.05, silent, review=0.01, counted="blocked")
