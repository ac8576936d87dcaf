from dataclasses import replace

import numpy as np
import pytest

from offmap.errors import InputError
from offmap.gateway.tuning.cascade import calibrate_cascade
from offmap.gateway.tuning.handing_on import NEVER, cut
from offmap.gateway.tuning.routes import route, with_bands
from offmap.gateway.tuning.shares import Shares

from .rows import PEOPLE, calibrated, replace_bands, table_of, traffic_of


def test_rows_that_share_an_id_fix_what_is_handed_on_or_set_the_rate_and_never_both(rng):
    """200 conversations of 10 rows."""
    traffic = replace(traffic_of(rng.random((2000, 2))), ids=tuple(str(row // 10) for row in range(2000)))
    found = calibrate_cascade(traffic, table_of(2), Shares(0.05, reach=(0.3,)))
    assert len(found.rows) == 1000
    assert len(set(found.rows.ids)) == 100
    with pytest.raises(InputError, match="found 1 conversations"):
        calibrate_cascade(replace(traffic, ids=("x",) * 2000), table_of(2), Shares(0.05, reach=(0.3,)))


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
