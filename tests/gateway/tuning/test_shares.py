from fractions import Fraction

import numpy as np
import pytest

from offmap.calibration import marginal_threshold
from offmap.errors import InputError
from offmap.gateway.tuning.cascade import calibrate_cascade
from offmap.gateway.tuning.shares import Shares, rows_below, rows_for, rows_needed, rows_worth
from offmap.weighting import WeightedCalibrator, effective_size

from .rows import table_of, traffic_of


def test_rows_for_a_share_and_below_its_cut_off_are_those_of_the_split_conformal_threshold(rng):
    for thousandths in range(1, 1000, 7):
        share = thousandths / 1000
        needed = rows_for(share)
        assert needed == marginal_threshold(np.zeros(0), share).missing
        for n in (needed, needed + 1, 3 * needed + 5, 4999):
            wanted = Fraction(thousandths, 1000) * (n + 1) // 1 - 1
            assert rows_below(share, n) == wanted or n < needed


def test_what_weighted_rows_are_worth_is_what_a_weighted_threshold_asks_for(rng):
    weight = rng.choice([1.0, 4.0, 9.0], 300)
    worth = rows_worth(weight)
    assert worth <= effective_size(weight)
    calibrator = WeightedCalibrator.fit(rng.random(300), weight)
    calibrator.threshold(1 / (worth + 1) * (1 + 1e-6))
    with pytest.raises(InputError, match="count for"):
        calibrator.threshold(1 / (worth + 1) * (1 - 1e-6))
    assert rows_worth(np.full(40, 3.0)) == pytest.approx(40)
    assert rows_worth(np.zeros(0)) == 0


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
