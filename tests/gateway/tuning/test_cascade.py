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
from offmap.gateway.tuning.handing_on import NEVER, cut
from offmap.gateway.tuning.routes import route, with_bands
from offmap.gateway.tuning.shares import Shares, rows_needed

from .rows import ONE, dependent, table_of, traffic_of

PEOPLE = Actions(unsafe="block", unknown="escalate", uncertain="escalate", unscored="block")


def calibrated(p, alpha, actions=ONE, seed=0, unknown=None, **shares):
    """The bands, where nothing else is said with everything handed on that may be."""
    traffic = traffic_of(p, unknown)
    k = traffic.p_unsafe.shape[1]
    table = table_of(k, actions)
    shares["reach"] = shares.get("reach") or (1.0,) * (k - 1)
    found = calibrate_cascade(traffic, table, Shares(alpha, **shares), seed)
    return found, with_bands(table, found.steps)


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


def test_weights_that_are_equal_change_nothing_and_the_heaviest_stands_for_the_next_row(rng):
    p = rng.random(300)
    same = cut(p, np.full(300, 7.0), 0.05, "x")
    assert same == cut(p, np.ones(300), 0.05, "x") == np.nextafter(np.sort(p)[14], 0)
    weight = rng.choice([1.0, 5.0], 300)
    found = cut(p, weight, 0.05, "x")
    allowed = [c for c in np.append(p, 1.0) if (weight[p < c].sum() + 5) / (weight.sum() + 5) <= 0.05]
    assert found == np.nextafter(max(allowed), 0)
    assert cut(np.full(300, NEVER), np.ones(300), 0.05, "x") == 1.0


@pytest.mark.parametrize("reach", [(1.0, 1.0), (0.3, 0.2), (0.05, 0.04)])
def test_nothing_of_the_rate_is_wasted_where_few_rows_are_handed_on(reach):
    """Without ties exactly as many of the rows that set the rate are stopped as the bound allows."""
    p = np.random.default_rng(6).random((1000, 3))
    found, _ = calibrated(p, 0.1, reach=reach, review=0.02)
    n = 1000 if reach[0] == 1 else 500
    assert len(found.rows) == n
    assert int(found.ends.stopped.sum()) == int(0.1 * (n + 1)) - 1
    assert int(found.ends.held.sum()) <= int(0.02 * (n + 1)) - 1
    for step, wanted in enumerate(reach, start=1):
        assert np.mean(found.ends.steps > step) <= wanted + 4 * np.sqrt(wanted / 500)
    assert "false alarms" in found.binding
    assert ("reach" in found.binding) == (reach[0] < 1)


def test_what_takes_too_long_is_handed_on_no_more_than_the_percentile_allows():
    """The second monitor is too slow for half of the rows: all the others may be handed on."""
    rng = np.random.default_rng(2)
    n, late = 1600, []
    table = table_of(2)
    for seed in range(150):
        slow = rng.random(n) < 0.5
        seconds = np.stack([np.full(n, 0.01), np.where(slow, 0.5, 0.02)], axis=-1)
        traffic = traffic_of(rng.random((n, 2)), seconds=seconds)
        found = calibrate_cascade(traffic, table, Shares(0.004, late_s=0.1), seed)
        assert found.binding >= {"latency"}
        stop, passing = found.steps[0].unsafe
        late.append((passing - max(stop, 0)) / 2)  # exactly, p being uniform
    assert np.mean(np.array(late) > 0.01) <= 0.05 + 2 * np.sqrt(0.05 / 150)
    assert np.mean(late) > 0.002
    free = calibrate_cascade(traffic, table, Shares(0.004, late_s=0.6), 0)
    assert free.steps[0].unsafe[1] == 1.0
    assert "latency" not in free.binding


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


def test_where_a_monitor_was_not_asked_the_row_counts_and_no_more_is_handed_on(rng):
    """As from a log: the second monitor was asked where the first one was in doubt."""
    p = rng.random((2000, 2))
    table = table_of(2)
    present = replace_bands(table, [((0.01, 0.2), (0, 0)), ((0.01, 0.01), (0, 0))])
    asked = np.stack([np.ones(2000, bool), (p[:, 0] > 0.01) & (p[:, 0] <= 0.2)], axis=1)
    seen = np.where(asked, p, np.nan)
    found = calibrate_cascade(traffic_of(seen, asked=asked), present, Shares(0.03))
    assert found.steps[0].unsafe[1] == 0.2
    ends = route(traffic_of(p), with_bands(table, found.steps))
    assert ends.stopped.sum() <= int(0.03 * 2001) - 1
    assert ends.stopped.mean() > 0.02
    with pytest.raises(InputError, match="no p-value"):  # to stop less, rows that were stopped had to be asked on
        calibrate_cascade(traffic_of(seen, asked=asked), present, Shares(0.005))


def test_what_is_handed_on_stays_as_it_is_where_nothing_is_said_of_it(rng):
    p, other = rng.random((2, 500, 2))
    table = replace_bands(table_of(2, PEOPLE), [((0.01, 0.3), (0.02, 0.05)), ((0.01, 0.01), (0.01, 0.01))])
    found = calibrate_cascade(traffic_of(p, other), table, Shares(0.04))
    assert len(found.rows) == 500
    assert (found.steps[0].unsafe[1], found.steps[0].unknown[1]) == (0.3, 0.05)
    assert int(found.ends.stopped.sum()) == int(0.04 * 501) - 1


def replace_bands(table, questions):
    steps = [replace(b, unsafe=u, unknown=o) for b, (u, o) in zip(bands(table), questions, strict=True)]
    return with_bands(table, steps)


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


def test_rows_that_are_needed_are_counted_as_they_are_divided(rng):
    for shares, k, wanted in (
        (Shares(0.01), 1, 99),
        (Shares(0.01), 3, 99),
        (Shares(0.01, reach=(0.1,)), 2, 197),
        (Shares(0.1, reach=(0.02,)), 2, 98),
        (Shares(0.1, late_s=1.0), 2, 598),
        (Shares(0.0005, late_s=1.0), 1, 1999),
    ):
        assert rows_needed(shares, table_of(k)) == wanted
        calibrate_cascade(traffic_of(rng.random((wanted, k))), table_of(k), shares)
        with pytest.raises(InputError, match="needs"):
            calibrate_cascade(traffic_of(rng.random((wanted - 1, k))), table_of(k), shares)


@pytest.mark.parametrize(
    ("rows", "shares", "said"),
    [
        (np.full((10, 1), 0.5), Shares(0.01), "needs 99 safe rows"),
        (np.zeros((0, 2)), Shares(0.01), "no safe rows"),
        (np.full((300, 2), 0.5), Shares(0.01, reach=(0.1, 0.1)), "reach: found 2 shares"),
        (np.full((300, 2), 0.5), Shares(0.01, reach=(0.0,)), "wanted shares"),
        (np.full((300, 2), 0.5), Shares(0.01, review=-1), "review"),
        (np.full((300, 2), 0.5), Shares(0.01, "all"), "counted"),
        (np.full((300, 2), 0.5), Shares(1.0), "alpha"),
        (np.full((300, 2), 0.0), Shares(0.1), "300 of 300 safe rows have no p-value or one of 0"),
    ],
)
def test_wrong_input_is_told(rows, shares, said):
    with pytest.raises(InputError, match=said):
        calibrate_cascade(traffic_of(rows), table_of(rows.shape[1]), shares)


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
