"""What the tests of drift are made of: series that have seen numbers, calibrated p-values, and how sure a rate is."""

import numpy as np
from scipy import stats

from offmap.calibration import ConformalCalibrator
from offmap.combination import Combination
from offmap.fusion import Fusion
from offmap.gateway.drift.series import Look, Series, Setup
from offmap.gateway.monitors import Opened, Running

LEVEL = 0.25
RUNS = 90


def setup(kind="unsafe", reference=None, level=LEVEL, window=500, size=500, **fields):
    beyond = {"unsafe": -0.005, "unknown": -0.005, "length": None}.get(kind, 0.5)
    fields = {"alpha": 0.005 if beyond == -0.005 else 0.01, "beyond": beyond, "share": beyond == 0.5} | fields
    return Setup("response", "pocket", "v1", kind, level, window, size, reference, **fields)


def watched(told, values, *, whole=True, seed=0, step=500):
    """A series that has seen these numbers, and the alarm that it raised."""
    series = Series(told, np.random.default_rng(seed))
    looks = [Look(float(value), float(at), f"id-{at}", whole) for at, value in enumerate(values)]
    raised = [series.add(looks[first : first + step]) for first in range(0, len(looks), step)]
    raised = [each for each in raised if each]
    assert len(raised) <= 1
    return series, raised[0] if raised else None


def calibrated(rng, n=300):
    return ConformalCalibrator.fit(rng.normal(size=n))


def reference(calibrator):
    return -calibrator.p_values(calibrator.scores)


def at_most(level, found):
    """Whether so many of the runs are compatible with that level, at one in a thousand; a doubled rate is not."""
    most = stats.binom.isf(1e-3, len(found), level)
    assert stats.binom.sf(most, len(found), 2 * level) > 0.95, "too few runs to see a doubled rate"
    return np.sum(found) <= most


def fused(rng, n):
    """A combination of three guards and two views of two detectors, and a function that gives new rows' p-values."""
    shapes = {"guards": 3, "states": 2, "tokens": 2}

    def scores(rows):
        common = rng.normal(size=(rows, 1))
        return {view: 0.6 * common + rng.normal(size=(rows, k)) for view, k in shapes.items()}

    calibrate = scores(n)
    each = {view: [ConformalCalibrator.fit(column) for column in table.T] for view, table in calibrate.items()}

    def columns(table, method):
        found = {
            view: np.column_stack([getattr(c, method)(x) for c, x in zip(each[view], table[view].T, strict=True)])
            for view in shapes
        }
        return {"unsafe": {"guards": found.pop("guards")}, "unknown": found}

    combination = Combination.fit(columns(calibrate, "own_p_values"), Fusion())
    return combination, lambda _, rows: columns(scores(rows), "p_values")


def running(scorer, version="v1"):
    return Running("m", Opened(scorer, version))
