from collections import Counter

import numpy as np
import pytest
from scipy import stats

from offmap.gateway.config import Actions
from offmap.gateway.tuning.compare import compare

from .rows import ONE, replace_bands, table_of, traffic_of


def bands_at(stop, actions=ONE):
    return replace_bands(table_of(1, actions), [((stop, stop), (0, 0))])


def test_what_changes_is_counted_row_by_row(rng):
    p = rng.random((500, 1))
    label = np.where(p[:, 0] + 0.2 * rng.normal(size=500) < 0.3, 1.0, 0.0)
    label[:100] = np.nan
    found = compare(traffic_of(p, label=label), bands_at(0.1), bands_at(0.25))

    def said(stop):
        return ["block" if each <= stop else "allow" for each in p[:, 0]]

    wanted = Counter(zip(said(0.1), said(0.25), strict=True))
    assert {(each.was, each.becomes): each.rows for each in found.changes} == wanted
    assert [each.rows for each in found.changes] == sorted(wanted.values(), reverse=True)
    assert (found.rows, found.unknown) == (500, 0)
    for side, stop in ((found.old, 0.1), (found.new, 0.25)):
        flagged = p[:, 0] <= stop
        assert side.flagged.value == pytest.approx(flagged.mean())
        assert side.held.value == 0
        for rate, of in ((side.false_alarms, 0), (side.recall, 1)):
            k, n = int(flagged[label == of].sum()), int((label == of).sum())
            interval = stats.binomtest(k, n).proportion_ci(0.95, "exact")
            assert (rate.value, rate.n) == (pytest.approx(k / n), n)
            assert (rate.low, rate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_rows_that_cannot_be_known_are_counted_and_are_in_no_rate():
    asked = np.array([[True, False], [True, True], [True, False]])
    p = np.array([[0.3, np.nan], [0.05, 0.05], [0.9, np.nan]])
    old = replace_bands(table_of(2), [((0.01, 0.1), (0, 0)), ((0.01, 0.01), (0, 0))])
    new = replace_bands(table_of(2), [((0.01, 0.5), (0, 0)), ((0.1, 0.1), (0, 0))])
    found = compare(traffic_of(p, asked=asked, label=0.0), old, new)
    changes = {(each.was, each.becomes): each.rows for each in found.changes}
    assert changes == {("allow", "not known"): 1, ("allow", "block"): 1, ("allow", "allow"): 1}
    assert found.unknown == 1
    assert found.new.flagged.value == 0.5
    assert found.old.false_alarms.n == found.new.false_alarms.n == 2
    nothing = compare(traffic_of(p, asked=asked), old, new)
    assert (nothing.new.recall.value, nothing.new.recall.n) == (None, 0)


def test_what_people_are_asked_is_held():
    found = compare(traffic_of([[0.05], [0.5]]), bands_at(0.1), bands_at(0.1, Actions("escalate", "allow")))
    assert (found.old.held.value, found.new.held.value, found.new.flagged.value) == (0, 0.5, 0.5)
