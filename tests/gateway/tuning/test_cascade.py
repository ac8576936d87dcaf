import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.config import Actions
from offmap.gateway.policy import bands, heard
from offmap.gateway.tuning.cascade import calibrate_cascade
from offmap.gateway.tuning.routes import route, with_bands
from offmap.gateway.tuning.shares import Shares

from .rows import calibrated, dependent, table_of, traffic_of


@pytest.mark.parametrize("counted", ["stopped", "blocked"])
@pytest.mark.parametrize(("k", "reach", "honest"), [(1, None, True), (2, (0.2,), False), (3, (0.3, 0.1), False)])
def test_over_many_deployments_the_rate_holds_and_so_do_the_budgets(k, reach, honest, counted):
    alpha, review, n, fresh, deployments = 0.05, 0.01, 200, 200, 300
    rng = np.random.default_rng(k)
    false, held, reached = [], [], []
    for seed in range(deployments):
        options = {"reach": reach, "review": review, "counted": counted, "seed": seed}
        _, table = calibrated(dependent(n, rng, k, honest), alpha, **options)
        ends = route(traffic_of(dependent(fresh, rng, k, honest)), table)
        false.append(np.mean(ends.stopped if counted == "stopped" else ends.stopped & ~ends.held))
        held.append(np.mean(ends.held))
        reached.append([np.mean(ends.steps > step) for step in range(1, k)])
    assert np.mean(false) <= alpha + 4 * np.std(false) / np.sqrt(deployments)
    rows = n if reach is None else n // 2
    assert np.mean(false) >= alpha - 2.5 / (rows + 1) - 4 * np.std(false) / np.sqrt(deployments)
    assert np.mean(held) <= review + 4 * np.std(held) / np.sqrt(deployments)
    for step, share in enumerate(reach or ()):
        assert np.mean(reached, axis=0)[step] <= share + 4 * np.std(np.array(reached)[:, step]) / np.sqrt(deployments)


def sampled(n, rng):
    """Safe rows of which the suspicious are labelled always and the others by chance, and their weights."""
    p = dependent(n, rng, 2, honest=False)
    chance = np.where(p.min(axis=1) < 0.02, 1.0, 0.1)
    there = rng.random(n) < chance
    return p[there], 1 / chance[there]


def test_rows_that_were_sampled_unequally_keep_the_rate_by_their_weights_and_not_without():
    alpha, deployments = 0.05, 300
    rng = np.random.default_rng(9)
    rates = {True: [], False: []}
    for seed in range(deployments):
        p, weight = sampled(3000, rng)
        fresh = traffic_of(dependent(300, rng, 2, honest=False))
        for weighted in rates:
            traffic = traffic_of(p, weight=weight if weighted else None)
            table = table_of(2)
            found = calibrate_cascade(traffic, table, Shares(alpha, reach=(1.0,)), seed)
            rates[weighted].append(np.mean(route(fresh, with_bands(table, found.steps)).stopped))
    assert np.mean(rates[True]) <= alpha + 4 * np.std(rates[True]) / np.sqrt(deployments)
    assert np.mean(rates[True]) >= alpha - 0.015
    assert np.mean(rates[False]) < alpha / 2


def test_among_presumed_safe_rows_harm_takes_the_place_of_false_alarms():
    """With a share h of harm that is flagged first the rate on safe rows stays below; never flagged: alpha/(1-h)."""
    alpha, h, n, deployments = 0.05, 0.03, 400, 300
    rng = np.random.default_rng(3)
    for harm, bound in ((1e-4, alpha - h), (1.0, alpha / (1 - h))):
        false = []
        for seed in range(deployments):
            p = dependent(n, rng, 1)
            p[rng.random(n) < h] = harm
            _, table = calibrated(p, alpha, seed=seed)
            false.append(np.mean(route(traffic_of(dependent(400, rng, 1)), table).stopped))
        error = 4 * np.std(false) / np.sqrt(deployments)
        assert np.mean(false) == pytest.approx(bound, abs=error + 0.006)
        assert np.mean(false) <= alpha / (1 - h) + error


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("unknown", ["escalate", "allow"])
def test_the_cut_off_is_the_largest_that_keeps_the_rate_by_brute_force(k, unknown, rng):
    """Every p-value is tried as the one ``stop``: one alarm more than is allowed breaks the bound."""
    for n, alpha in itertools.product((39, 60, 99), (0.05, 0.1)):
        p, other = dependent(n, rng, k), dependent(n, rng, k)
        actions = replace_unknown(unknown)
        found, table = calibrated(p, alpha, actions, unknown=other)
        allowed = int(np.floor(alpha * (n + 1) + 1e-9)) - 1
        tried = {}
        for c in np.nextafter(np.concatenate([p, other]).ravel(), 0):
            steps = [replace(step, unsafe=(c, 1.0), unknown=(c, 1.0)) for step in found.steps]
            steps[-1] = replace(steps[-1], unsafe=(c, c), unknown=(c, c))
            tried[c] = int(route(traffic_of(p, other), with_bands(table, steps)).stopped.sum())
        stop = found.steps[0].unsafe[0]
        assert int(found.ends.stopped.sum()) == allowed == max(each for each in tried.values() if each <= allowed)
        assert stop == pytest.approx(max(c for c, alarms in tried.items() if alarms <= allowed), rel=1e-12)


def replace_unknown(act):
    return Actions(unsafe="block", unknown=act)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(20, 120),
    k=st.integers(1, 3),
    grid=st.sampled_from([0, 5, 30]),
    alpha=st.floats(0.06, 0.6),
    review=st.one_of(st.none(), st.floats(0.05, 0.7)),
    counted=st.sampled_from(["stopped", "blocked"]),
    acts=st.tuples(*[st.sampled_from(("block", "modify", "escalate", "allow"))] * 3),
    weighted=st.booleans(),
    reach=st.sampled_from([None, True]),
)
def test_on_the_rows_that_set_it_the_rate_is_never_above(
    seed, n, k, grid, alpha, review, counted, acts, weighted, reach
):
    """Ties, rows without a score, weights, whatever is done with what is found."""
    rng = np.random.default_rng(seed)
    unsafe, unknown = rng.random((n, k)), rng.random((n, k))
    if grid:
        unsafe, unknown = np.ceil(unsafe * grid) / grid, np.ceil(unknown * grid) / grid
    unsafe[rng.random((n, k)) < 0.02] = np.nan
    weight = rng.choice([1.0, 3.0], n) if weighted else np.ones(n)
    actions = Actions("block", acts[0], "escalate" if acts[1] == "modify" else acts[1], acts[2])
    table = table_of(k, actions, reason="a test")
    traffic = traffic_of(unsafe, unknown, weight=weight)
    try:
        found = calibrate_cascade(
            traffic, table, Shares(alpha, counted, review, reach=reach and (1.0,) * (k - 1)), seed
        )
    except InputError as error:
        assert any(word in str(error) for word in ("needs", "no p-value", "goes to"))  # noqa: PT017
        return
    ends = route(traffic, with_bands(table, found.steps))
    false = ends.stopped if counted == "stopped" else ends.stopped & ~ends.held
    own, total = weight.max(), weight.sum()
    assert not false.any() or (weight[false].sum() + own) / (total + own) <= alpha * (1 + 1e-8)
    if review is not None and ends.held.any() and counted == "blocked":
        assert (weight[ends.held].sum() + own) / (total + own) <= review * (1 + 1e-8)
    for step in bands(with_bands(table, found.steps)):
        assert all(0 <= low <= high <= 1 for low, high in heard(table, step).values())


def test_three_monitors_raise_no_more_false_alarms_than_one():
    """Three guards at 90 % each would stop 27 %: here all of them together keep to 10 %."""
    rng = np.random.default_rng(7)
    independent = rng.random((20_000, 3))
    each_alone = np.mean((independent <= 0.1).any(axis=1))
    assert each_alone == pytest.approx(1 - 0.9**3, abs=0.01)
    _, table = calibrated(independent[:10_000], 0.1)
    ends = route(traffic_of(independent[10_000:]), table)
    assert np.mean(ends.stopped) == pytest.approx(0.1, abs=0.015)


def test_a_monitor_that_gives_no_score_costs_alarms_and_too_many_of_them_are_refused(rng):
    p = rng.random((1000, 1))
    p[:5] = np.nan
    found, _ = calibrated(p, 0.02)
    assert found.ends.stopped.sum() <= 0.02 * 1001 - 1
    assert found.ends.stopped[:5].all()
    p[:30] = np.nan
    with pytest.raises(InputError, match="30 of 1000 safe rows have no p-value"):
        calibrated(p, 0.02)
    open_ = Actions(unknown="allow", unscored="allow")
    free = calibrate_cascade(traffic_of(p), table_of(1, open_, reason="a test"), Shares(0.02))
    assert not free.ends.stopped[:30].any()
    assert free.ends.stopped.sum() == int(0.02 * 1001) - 1
