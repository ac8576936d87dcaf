import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.tuning.budget import Budget

from .rows import table_of


def test_what_is_said_per_day_becomes_shares_of_requests():
    budget = Budget(
        false_alarms_per_day=5, requests_per_day=10_000, reviewer_minutes_per_day=60, minutes_per_review=2, p99_ms=250
    )
    shares = budget.shares(table_of(1))
    assert shares.alpha == 5 / 10_000
    assert shares.review == 30 / 10_000
    assert shares.late_s == 0.25
    assert shares.reach is None


def test_what_is_not_said_is_the_tiers_or_no_bound():
    strict = Budget().shares(table_of(2, tier="strict"))
    assert (strict.alpha, strict.review, strict.reach, strict.late_s) == (0.05, None, None, None)
    assert Budget(alpha=0.2).shares(table_of(1)).alpha == 0.2
    everyone = Budget(reviewer_minutes_per_day=1e9, requests_per_day=10).shares(table_of(1))
    assert everyone.review == 1.0


def test_money_buys_calls_of_the_second_monitor_after_the_first_is_paid():
    budget = Budget(requests_per_day=1000, cost={"a": 0.001, "b": 0.01}, cost_per_day=3)
    assert budget.shares(table_of(2)).reach == pytest.approx((0.2,))
    assert budget.cost_of(table_of(2), (1.0, 0.2)) == pytest.approx(3)
    free = Budget(requests_per_day=1000, cost={"a": 0.001}, cost_per_day=3)
    assert free.shares(table_of(3)).reach == (1.0, 1.0)


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0, 30.0]), min_size=1, max_size=3).filter(any),
    st.floats(0.01, 60),
)
def test_money_is_never_overspent_and_shared_as_well_as_any_grid_of_equals(costs, money):
    """Among nested shares: what is spent is within the money, and all of it where nothing is cut short."""
    named = dict(zip("bcd", costs, strict=False))
    table = table_of(1 + len(costs))
    shares = Budget(requests_per_day=1, cost=named, cost_per_day=money).shares(table).reach
    spent = sum(cost * share for cost, share in zip(costs, shares, strict=True))
    assert spent <= money * (1 + 1e-9)
    assert all(0 < share <= 1 for share in shares)
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))
    if sum(costs) <= money:
        assert shares == (1.0,) * len(costs)
    elif len(costs) == 1:
        assert spent == pytest.approx(money)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"alpha": 0.1, "false_alarms_per_day": 5, "requests_per_day": 10}, "alpha: found beside"),
        ({"false_alarms_per_day": 5}, "false_alarms_per_day: found without requests_per_day"),
        ({"reviewer_minutes_per_day": 5}, "without requests_per_day"),
        ({"cost_per_day": 5, "requests_per_day": 5}, "without the cost of a call"),
        ({"cost_per_day": 5, "cost": {"a": 1.0}}, "without requests_per_day"),
        ({"p99_ms": 0.0}, "p99_ms: found 0, wanted a number above 0"),
        ({"minutes_per_review": 0.0}, "minutes_per_review"),
        ({"cost": {"a": -1.0}}, "cost of 'a': found -1"),
        ({"alpha": float("nan")}, "alpha: found nan"),
        ({"requests_per_day": float("inf")}, "requests_per_day"),
    ],
)
def test_budgets_that_contradict_themselves_are_told(given_, said):
    with pytest.raises(InputError, match=said):
        Budget(**given_)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(alpha=1.5), "found a share of 1.5"),
        (Budget(false_alarms_per_day=50, requests_per_day=10), "found a share of 5"),
        (Budget(cost={"z": 1.0}), "cost: found 'z', wanted a monitor of the cascade: a, b"),
        (Budget(cost={"a": 1.0}, cost_per_day=3, requests_per_day=10), "wanted at least 10: 'a' is asked about every"),
        (Budget(cost={"a": 1.0, "b": 1.0}, cost_per_day=10, requests_per_day=10), "leaves nothing"),
    ],
)
def test_budgets_that_a_cascade_cannot_keep_are_told(budget, said):
    with pytest.raises(InputError, match=said):
        budget.shares(table_of(2))
