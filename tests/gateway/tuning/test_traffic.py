import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.tuning.traffic import halves, presumed_safe

from .rows import traffic_of


@given(st.integers(0, 1000), st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=2, max_size=60))
def test_halves_are_disjoint_and_alike_and_tear_no_conversation(seed, labels):
    traffic = traffic_of(np.zeros((len(labels), 1)), label=labels)
    one, other = halves(traffic, seed)
    assert set(one.ids) | set(other.ids) == set(traffic.ids)
    assert not set(one.ids) & set(other.ids)
    for label in (0.0, 1.0):
        assert abs(int((one.unsafe == label).sum()) - int((other.unsafe == label).sum())) <= 1
    assert halves(traffic, seed)[0].ids == one.ids


def test_rows_that_share_an_id_stay_together_and_the_seed_counts():
    from dataclasses import replace

    traffic = replace(traffic_of(np.zeros((90, 1)), label=0.0), ids=tuple(str(row // 3) for row in range(90)))
    one, other = halves(traffic, 0)
    assert len(one) == len(other) == 45
    assert not set(one.ids) & set(other.ids)
    assert set(halves(traffic, 1)[0].ids) != set(one.ids)
    with pytest.raises(InputError, match="found 1 conversations"):
        halves(replace(traffic, ids=("x",) * 90), 0)


def test_thresholds_are_set_on_safe_rows_or_on_those_without_a_label():
    nan = np.nan
    p = np.zeros((4, 1))
    assert presumed_safe(traffic_of(p, label=[0, 1, nan, 0])).tolist() == [True, False, False, True]
    assert presumed_safe(traffic_of(p, label=[nan, 1, nan, 1])).tolist() == [True, False, True, False]


def test_rows_and_monitors_are_chosen():
    asked = np.array([[True, True], [True, False]])
    seconds = np.array([[0.1, 0.2], [0.3, np.nan]])
    traffic = traffic_of([[0.1, 0.2], [0.3, np.nan]], asked=asked, seconds=seconds, weight=np.array([1.0, 2.0]))
    second = traffic.rows(np.array([False, True]))
    assert (second.ids, second.weight.tolist(), second.asked.tolist()) == (("1",), [2.0], [[True, False]])
    assert traffic.rows(np.array([1, 0])).ids == ("1", "0")
    swapped = traffic.of(("b", "new"))
    assert swapped.versions == ("1", "")
    assert swapped.asked.tolist() == [[True, False], [False, False]]
    assert swapped.p_unsafe[0, 0] == 0.2
    assert np.isnan(swapped.seconds[:, 1]).all()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"p_unsafe": np.zeros((3, 1))}, "shape"),
        ({"versions": ("1", "2")}, "versions"),
        ({"p_unsafe": np.full((2, 1), 1.5)}, "outside"),
        ({"asked": np.zeros((2, 1), bool)}, "not asked"),
        ({"unsafe": np.array([0.5, 0])}, "unsafe"),
        ({"weight": np.array([0.0, 1])}, "weight"),
        ({"weight": np.array([np.nan, 1])}, "weight"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, said):
    from dataclasses import replace

    with pytest.raises(ValueError, match=said):
        replace(traffic_of(np.zeros((2, 1))), **columns)
