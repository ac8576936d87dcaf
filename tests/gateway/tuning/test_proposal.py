import re

import msgspec
import numpy as np
import pytest
from scipy import stats

from offmap.errors import InputError
from offmap.gateway.config import Actions, Gateway, MonitorTable, Step
from offmap.gateway.policy import bands
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.proposal import Proposal, apply_proposal, percentile, propose
from offmap.gateway.tuning.routes import route

from .rows import PEOPLE, dependent, table_of, traffic_of


def gateway_of(table):
    return Gateway(monitors={name: MonitorTable(bundle="pocket") for name in "abc"}, stages={"response": table})


def test_a_proposal_goes_into_the_policy_and_does_there_what_it_says(rng):
    p, table = dependent(2000, rng, 2), table_of(2)
    safe = traffic_of(p, label=0.0)
    budget = Budget(false_alarms_per_day=20, requests_per_day=1000, cost={"b": 0.5}, cost_per_day=50)
    made = propose(safe, table, budget)
    assert (made.alpha, made.counted, made.n, made.versions) == (0.02, "stopped", 1000, ("1", "1"))
    changed = apply_proposal(gateway_of(table), made).stages["response"]
    assert [step.unsafe for step in bands(changed)] == [step.unsafe for step in made.steps]
    assert changed.steps[0].unknown is None
    ends = route(safe, changed)
    assert ends.stopped.mean() == pytest.approx(made.rates.stopped, abs=0.01)
    assert np.mean(ends.steps > 1) == pytest.approx(made.rates.reached[1], abs=0.02)
    assert made.rates.reached[0] == 1.0
    assert made.rates.cost_per_day == pytest.approx(1000 * 0.5 * made.rates.reached[1])
    assert made.rates.cost_per_day <= 55
    assert made.rates.p99_ms == pytest.approx(2.0)
    assert made.binding == ("false alarms", "reach")
    assert msgspec.json.decode(msgspec.json.encode(made), type=Proposal) == made


def test_unsafe_and_unlabelled_rows_set_nothing(rng):
    p = dependent(1200, rng, 1)
    label = np.repeat([0.0, 1.0, np.nan], 400)
    other = p.copy()
    other[400:] = rng.random((800, 1)) ** 9
    one, two = (propose(traffic_of(each, label=label), table_of(1), Budget(alpha=0.05)) for each in (p, other))
    assert one.steps == two.steps
    assert one.n == 400
    assert any("400 rows without a label set nothing" in note for note in one.notes)


def test_without_a_label_all_is_presumed_safe_and_that_is_said(rng):
    made = propose(traffic_of(dependent(400, rng, 1)), table_of(1), Budget(alpha=0.05))
    assert made.n == 400
    assert any("No row is labelled safe" in note and "alpha / (1 - h)" in note for note in made.notes)


def highest(made):
    """The bound for the one sample, as it is told."""
    told = re.search(r"may be up to ([\d.]+) % \(95 % confidence([^)]*)\)", "; ".join(made.notes))
    return float(told[1]) / 100, told[2]


@pytest.mark.parametrize("counted", ["stopped", "blocked"])
def test_rows_that_a_monitor_failed_about_count_in_what_is_told_as_in_the_cut_off(counted, rng):
    asked = np.ones((1000, 2), bool)
    asked[:20, 1] = asked[20:30, 0] = False
    p = np.where(asked, rng.random((1000, 2)) * 0.9 + 0.05, np.nan)
    table = table_of(2)
    table = msgspec.structs.replace(table, cascade=(Step("a", (0.01, 1.0)), Step("b", (0.01, 0.01))))
    made = propose(traffic_of(p, asked=asked), table, Budget(alpha=0.06, counted=counted))
    assert made.rates.stopped == pytest.approx(0.059)  # floor(0.06 * 1001) - 1, 30 of them not known
    assert made.rates.reached[1] == pytest.approx(np.mean(asked[:, 0] & (p[:, 0] > made.steps[0].unsafe[0])))
    assert highest(made) == (pytest.approx(stats.beta.ppf(0.95, 60, 941), rel=0.005), "")
    assert any(note.startswith("30 rows reach a monitor that did not answer") for note in made.notes)


def test_the_bound_is_of_the_rank_that_the_share_fixes_however_many_rows_are_tied(rng):
    made = propose(traffic_of(np.ceil(rng.random((999, 1)) * 30) / 30), table_of(1), Budget(alpha=0.05))
    assert made.rates.stopped < 0.04
    assert highest(made)[0] == pytest.approx(stats.beta.ppf(0.95, 50, 950), rel=0.005)


def test_of_two_cut_offs_the_sum_of_two_bounds_is_told_and_that_it_is_not_exact(rng):
    traffic = traffic_of(rng.random((999, 1)), rng.random((999, 1)))
    budget = Budget(alpha=0.05, requests_per_day=1000, reviewer_minutes_per_day=40)
    made = propose(traffic, table_of(1, PEOPLE), budget)
    wanted = stats.beta.ppf(0.975, 20, 980) + stats.beta.ppf(0.975, 30, 970)
    found, why = highest(made)
    assert found == pytest.approx(wanted, rel=0.005)
    assert "the sum of a bound for what goes to people and one for the rest, which is not exact" in why


@pytest.mark.parametrize(
    ("budget", "binds"),
    [
        (Budget(alpha=0.05), {"false alarms"}),
        (Budget(alpha=0.05, requests_per_day=1000, reviewer_minutes_per_day=20), {"false alarms", "reviews"}),
        (Budget(alpha=0.05, requests_per_day=1000, reviewer_minutes_per_day=900), {"false alarms"}),
        (Budget(alpha=0.002, p99_ms=50), {"false alarms", "latency"}),
        (Budget(alpha=0.002, p99_ms=5000), {"false alarms"}),
    ],
)
def test_which_budget_binds_is_told(budget, binds, rng):
    unsafe, unknown = dependent(4000, rng, 2), dependent(4000, rng, 2)
    seconds = np.tile([0.01, 0.9], (4000, 1))
    made = propose(traffic_of(unsafe, unknown, seconds=seconds), table_of(2, Actions()), budget)
    assert set(made.binding) == binds
    words = "; ".join(made.notes)
    assert ("latency, which sets" in words) == ("latency" in binds)
    assert ("reviewers' time" in words.split("What binds")[1].split(";  ")[0].split("Reviewers")[0]) == (
        "reviews" in binds
    )
    if budget.p99_ms:
        assert made.rates.p99_ms <= budget.p99_ms


def test_what_cannot_be_kept_is_refused(rng):
    p = rng.random((300, 2))
    slow = traffic_of(p, seconds=np.tile([0.4, 0.9], (300, 1)))
    with pytest.raises(InputError, match="'a', which is asked first, alone takes 400 ms"):
        propose(slow, table_of(2), Budget(alpha=0.1, p99_ms=250))
    with pytest.raises(InputError, match="found no row labelled safe"):
        propose(traffic_of(p, label=1.0), table_of(2), Budget())
    with pytest.raises(InputError, match=r"false alarms of 0\.0005 need 1999 safe rows to tune on; found 300"):
        propose(traffic_of(p), table_of(2), Budget(false_alarms_per_day=5, requests_per_day=10_000))
    with pytest.raises(InputError, match="'b' would never be asked"):
        propose(traffic_of(p), table_of(2), Budget(alpha=0.2, cost={"b": 1.0}, requests_per_day=100, cost_per_day=1.5))


def test_a_proposal_goes_into_no_other_cascade(rng):
    made = propose(traffic_of(rng.random((200, 1))), table_of(1), Budget())
    with pytest.raises(InputError, match=r"stages\.response\.cascade: found a, b; the bands are for a"):
        apply_proposal(gateway_of(table_of(2)), made)
    with pytest.raises(InputError, match="wanted the stage"):
        apply_proposal(Gateway(), msgspec.structs.replace(made, stage="nowhere"))
    with pytest.raises(InputError, match="cascade"):
        apply_proposal(Gateway(), made)


def test_bands_of_a_question_that_is_not_heard_stay(rng):
    table = msgspec.structs.replace(table_of(1), cascade=(Step("a", unknown=(0.1, 0.2)),))
    made = propose(traffic_of(rng.random((200, 1))), table, Budget())
    assert apply_proposal(gateway_of(table), made).stages["response"].steps[0].unknown == (0.1, 0.2)


def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(rng):
    values = rng.random(1000)
    assert percentile(values, np.ones(1000), 0.99) == np.sort(values)[989]
    repeated = np.repeat(values[:50], np.arange(50) + 1)
    weighted = percentile(values[:50], np.arange(50) + 1.0, 0.9)
    assert weighted == np.quantile(repeated, 0.9, method="inverted_cdf")
    assert percentile(np.array([np.nan, 3.0]), np.ones(2), 0.5) == 3.0
    assert percentile(np.array([np.nan]), np.ones(1), 0.5) is None
