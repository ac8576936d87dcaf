import itertools

import numpy as np
import pytest

from offmap.gateway.config import Actions, StageTable, Step
from offmap.gateway.decision import Finding
from offmap.gateway.policy import SEVERITY, bands, heard, rule, signals
from offmap.gateway.tuning.routes import route, with_bands

from .rows import traffic_of


def walk(traffic, table, row):
    """One row as the engine takes it: a finding at a time."""
    met, steps = (), bands(table)
    for at, step in enumerate(steps):
        place = traffic.monitors.index(step.monitor) if step.monitor in traffic.monitors else None
        if place is None or not traffic.asked[row, place]:
            return None, at
        p = [
            None if np.isnan(column[row, place]) else column[row, place]
            for column in (traffic.p_unsafe, traffic.p_unknown)
        ]
        outcome = "unscored" if p == [None, None] else "scored"
        found, settled = signals(table, step, Finding(step.monitor, "1", outcome, None, *p), last=at == len(steps) - 1)
        met += found
        if settled:
            break
    return rule(table, met, enforced=True).action, at + 1


def random_traffic(rng, n, k):
    unsafe, unknown = np.round(rng.random((n, k)), 2), np.round(rng.random((n, k)), 2)
    unsafe[rng.random((n, k)) < 0.1] = np.nan
    unknown[rng.random((n, k)) < 0.1] = np.nan
    asked = rng.random((n, k)) < 0.97
    unsafe[~asked], unknown[~asked] = np.nan, np.nan
    return traffic_of(unsafe, unknown, asked=asked, seconds=np.where(asked, rng.random((n, k)), np.nan))


ACTS = [
    Actions(unsafe, unknown, uncertain, unscored)
    for unsafe, unknown, uncertain, unscored in itertools.product(
        ("block", "modify", "escalate"), ("allow", "escalate", "block"), ("allow", "escalate"), ("block", "allow")
    )
]


@pytest.mark.parametrize(
    "actions", ACTS, ids=lambda each: "-".join((each.unsafe, each.unknown, each.uncertain, each.unscored))
)
def test_rows_end_where_the_policy_ends_them_one_by_one(actions, rng):
    for k in (1, 2, 3):
        steps = tuple(Step(name, *(tuple(sorted(rng.random(2))) for _ in range(2))) for name in "abc"[:k])
        table = StageTable(steps, actions=actions, reason="a test", fallback="partial", tier="strict")
        traffic = random_traffic(rng, 80, k)
        found = route(traffic, table)
        wanted = [walk(traffic, table, row) for row in range(80)]
        assert list(zip(found.names(), found.steps.tolist(), strict=True)) == wanted
        assert found.stopped.tolist() == [would not in ("allow", None) for would, _ in wanted]
        assert found.held.tolist() == [would == "escalate" for would, _ in wanted]
        for row, (would, steps_taken) in enumerate(wanted):
            if would is not None:
                assert found.seconds[row] == pytest.approx(traffic.seconds[row, :steps_taken].sum())
            assert np.isnan(found.seconds[row]) == (would is None)


def test_a_monitor_of_another_cascade_leaves_what_reaches_it_unknown():
    table = StageTable((Step("a", (0.1, 0.5), (0.1, 0.5)), "new"), actions=Actions(unknown="allow"))
    found = route(traffic_of([[0.05], [0.3], [0.9]]), table)
    assert found.names() == ["block", None, "allow"]
    assert found.known.tolist() == [True, False, True]


def test_bands_are_set_for_the_questions_that_are_heard():
    table = StageTable(("a", Step("b", None, (0.2, 0.3))), actions=Actions(unknown="allow"))
    steps = bands(StageTable((Step("a", (0.01, 0.1), (0.9, 0.9)), Step("b", (0.01, 0.01), (0.9, 0.9)))))
    changed = with_bands(table, steps)
    assert changed.steps == (Step("a", (0.01, 0.1)), Step("b", (0.01, 0.01), (0.2, 0.3)))
    assert [heard(changed, step) for step in bands(changed)] == [{"unsafe": (0.01, 0.1)}, {"unsafe": (0.01, 0.01)}]


def test_a_row_that_no_monitor_settled_is_an_alarm_and_reaches_the_one_that_did_not_answer():
    asked = np.array([[True, False], [False, False], [True, True], [True, True]])
    p = np.where(asked, [[0.3, 0.5], [0.5, 0.5], [0.05, 0.5], [0.3, 0.9]], np.nan)
    steps = (Step("a", (0.1, 0.5)), Step("b", (0.1, 0.1)))
    found = route(traffic_of(p, asked=asked), StageTable(steps, actions=Actions(unknown="allow")))
    assert found.names() == [None, None, "block", "allow"]
    assert found.alarms.tolist() == [True, True, True, False]
    assert found.reached.tolist() == [2, 1, 1, 2]


def test_of_several_actions_columns_take_the_one_that_the_policy_takes():
    assert SEVERITY == ("allow", "modify", "escalate", "block", "error")
    for unsafe, unknown in itertools.permutations(("modify", "escalate", "block"), 2):
        table = StageTable((Step("a", (0.1, 0.1), (0.1, 0.1)),), actions=Actions(unsafe, unknown), fallback="partial")
        assert route(traffic_of([[0.05]], [[0.05]]), table).names() == [max(unsafe, unknown, key=SEVERITY.index)]
