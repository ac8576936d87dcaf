import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import HuberRegressor

from offmap.calibration import ConformalCalibrator, marginal_threshold
from offmap.conditioning import Studentiser, context
from offmap.features import Features

LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy": lambda rng, n: rng.standard_t(2, n),
    "skewed": lambda rng, n: rng.exponential(size=n),
    "counts": lambda rng, n: rng.poisson(3, n) * 1.0,
}


def traffic(rng, n):
    """A context: a third with tools, which are longer, and 1 to 8 turns."""
    tools = rng.random(n) < 0.3
    return np.column_stack([rng.normal(6, 1, n) + 0.5 * tools, tools, np.log(rng.integers(1, 9, n))])


def by_length(rows):
    """A nuisance: the scale of a score, growing with length."""
    return np.exp(0.6 * (rows[:, 0] - 6))


def rates(scores, rows):
    """The false-positive rates of the shortest and of the longest quarter at a threshold of 1 % overall."""
    alarms = scores > np.quantile(scores, 0.99)
    ends = np.quantile(rows[:, 0], [0.25, 0.75])
    return alarms[rows[:, 0] < ends[0]].mean(), alarms[rows[:, 0] > ends[1]].mean()


def recall(safe, bad):
    return np.mean(bad > np.quantile(safe, 0.99))


def test_context_is_length_tools_and_turns():
    features = Features(
        ("a", "b"),
        ("", ""),
        np.array([0, 99], np.int32),
        np.zeros(2, np.int32),
        np.array([1, 4]),
        np.array([True, False]),
    )
    found = context(features)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0, 1, 0], [np.log(100), 0, np.log(4)]])


@pytest.mark.parametrize(("law", "shift", "gain"), [("normal", 2.5, 0.25), ("skewed", 4, 0.2)])
def test_a_shared_nuisance_is_removed(law, shift, gain):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(8):
        rows, fresh = traffic(rng, 1000), traffic(rng, 20_000)
        fitted = Studentiser.fit(LAWS[law](rng, 1000) * by_length(rows), rows)
        ordinary, scale = LAWS[law](rng, 20_000), by_length(fresh)
        safe, bad = ordinary * scale, (ordinary + shift) * scale
        gained = recall(fitted(safe, fresh), fitted(bad, fresh)) - recall(safe, bad)
        found.append([*rates(safe, fresh), *rates(fitted(safe, fresh), fresh), gained])
    raw_short, raw_long, short, long, gained = np.mean(found, axis=0)
    assert raw_short < 0.001
    assert raw_long > 0.035
    assert 0.006 < short < 0.015
    assert 0.006 < long < 0.015
    assert gained > gain


def test_detectors_that_share_a_nuisance_fuse_to_more_power():
    """The whole pipeline: studentise and rank on calibrate rows, threshold on others, five detectors, harmonic mean."""
    rng = np.random.default_rng(1)
    calibrate, threshold, fresh = traffic(rng, 1000), traffic(rng, 1000), traffic(rng, 5000)

    def scores(rows, shift):
        return (rng.normal(size=(5, len(rows))) + np.array([shift, 0, 0, 0, 0])[:, None]) * by_length(rows)

    sets = [(scores(rows, shift), rows) for rows, shift in [(calibrate, 0), (threshold, 0), (fresh, 0), (fresh, 4)]]

    def fused(studentise):
        columns = []
        for k in range(5):
            fitted = Studentiser.fit(sets[0][0][k], calibrate) if studentise else lambda s, rows: s
            ranked = ConformalCalibrator.fit(fitted(sets[0][0][k], calibrate))
            columns.append([1 / ranked.p_values(fitted(s[k], rows)) for s, rows in sets[1:]])
        held_out, safe, bad = (np.mean(column, axis=0) for column in zip(*columns, strict=True))
        alarm_above = marginal_threshold(held_out, 0.01).value
        return np.mean(safe > alarm_above), np.mean(bad > alarm_above)

    (_, raw), (false_alarms, removed) = fused(False), fused(True)
    assert false_alarms == pytest.approx(0.01, abs=0.008)
    assert removed > raw + 0.3


@pytest.mark.parametrize(("law", "shift"), [("normal", 2.5), ("heavy", 6), ("skewed", 4)])
@pytest.mark.parametrize("n", [400, 2000])
def test_without_a_nuisance_hardly_anything_is_lost(law, shift, n):
    rng = np.random.default_rng(2)
    losses = []
    for _ in range(10):
        rows, fresh = traffic(rng, n), traffic(rng, 10_000)
        fitted = Studentiser.fit(LAWS[law](rng, n), rows)
        safe = LAWS[law](rng, 10_000)
        losses.append(recall(safe, safe + shift) - recall(fitted(safe, fresh), fitted(safe + shift, fresh)))
    assert np.mean(losses) < 0.05


def test_the_true_centre_and_spread_are_found():
    rng = np.random.default_rng(3)
    rows, fresh = traffic(rng, 20_000), traffic(rng, 2000)

    def truth(at):
        centre = np.sin(at[:, 0]) + 2 * at[:, 1] + 0.3 * at[:, 2] ** 2
        return 100 + 5 * centre, 5 * np.exp(0.4 * at[:, 0] - 0.5 * at[:, 1])

    centre, spread = truth(rows)
    fitted = Studentiser.fit(centre + spread * rng.normal(size=20_000), rows)
    inside = (np.abs(fresh[:, 0] - 6) < 2) & (fresh[:, 1] == 0)
    found, wanted = fitted.moments(fresh[inside]), truth(fresh[inside])
    assert np.abs((found[0] - wanted[0]) / wanted[1]).max() < 0.15
    assert np.abs(np.log(found[1] / wanted[1])).max() < 0.15
    z = fitted(wanted[0] + wanted[1], fresh[inside])
    assert z == pytest.approx(np.ones(len(z)), abs=0.3)


def test_the_centre_is_a_huber_regression():
    """scikit-learn minimises Huber's loss with its own joint scale; on many rows the two centres agree."""
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.uniform(4, 8, 8000), np.zeros(8000), np.zeros(8000)])
    scores = 3 * rows[:, 0] + rng.normal(size=8000) + 500 * (rng.random(8000) < 0.05)
    fitted = Studentiser.fit(scores, rows)
    oracle = HuberRegressor(epsilon=1.345, alpha=0, max_iter=1000).fit(rows[:, :1], scores)
    at = np.column_stack([np.linspace(4.5, 7.5, 20), np.zeros(20), np.zeros(20)])
    assert np.abs(fitted.moments(at)[0] - oracle.predict(at[:, :1])).max() < 0.1
    plain = np.polynomial.Polynomial.fit(rows[:, 0], scores, 1)
    assert np.abs(plain(at[:, 0]) - oracle.predict(at[:, :1])).min() > 10


def test_beyond_the_context_seen_its_end_counts():
    rng = np.random.default_rng(5)
    rows = traffic(rng, 500)
    fitted = Studentiser.fit(rng.normal(size=500) * by_length(rows), rows)
    far = np.array([[50.0, 1.0, 9.0], [-3.0, 0.0, 0.0]])
    ends = np.array([[rows[:, 0].max(), 1, rows[:, 2].max()], [rows[:, 0].min(), 0, 0]])
    assert np.array_equal(fitted.moments(far), fitted.moments(ends))


@pytest.mark.parametrize("n", [1, 2, 99])
def test_few_rows_give_one_centre_and_one_spread(n):
    rng = np.random.default_rng(6)
    rows, scores = traffic(rng, n), rng.normal(size=n)
    centre, spread = Studentiser.fit(scores, rows).moments(traffic(rng, 50))
    assert np.unique(centre) == pytest.approx(np.median(scores))
    deviation = np.median(np.abs(scores - np.median(scores)))
    assert np.unique(spread) == pytest.approx(1.4826 * deviation if deviation else 1.0, rel=1e-4)


@pytest.mark.parametrize(("with_tools", "alike"), [(29, True), (60, False)])
def test_a_kind_with_few_rows_is_treated_like_the_other(with_tools, alike):
    rng = np.random.default_rng(7)
    rows = np.column_stack([rng.normal(6, 1, 600), np.arange(600) < with_tools, np.zeros(600)])
    fitted = Studentiser.fit(rng.normal(size=600) + 5 * rows[:, 1], rows)
    at = np.array([[6.0, 0, 0], [6.0, 1, 0]])
    without, with_ = fitted.moments(at)[0]
    assert (with_ == without) == alike
    assert alike or with_ > without + 3


@pytest.mark.parametrize(
    "scores",
    [np.zeros(300), np.arange(300) % 10 == 0, np.r_[np.zeros(298), 1e308, -1e308], np.full(300, 0.1) + 1e-17],
    ids=["constant", "mostly tied", "far outliers", "rounding"],
)
def test_scores_that_hardly_vary_keep_their_order(scores):
    rows = traffic(np.random.default_rng(8), 300)
    fitted = Studentiser.fit(scores, rows)
    z = fitted(np.array([-1.0, 0.0, 1.0]), rows[:3])
    assert np.isfinite(z).all()
    assert z[0] < z[1] < z[2]


def test_discrete_scores_lose_their_nuisance_too():
    rng = np.random.default_rng(9)
    rows, fresh = traffic(rng, 2000), traffic(rng, 40_000)
    rate = np.exp(0.5 * (rows[:, 0] - 6)) * 20, np.exp(0.5 * (fresh[:, 0] - 6)) * 20
    fitted = Studentiser.fit(rng.poisson(rate[0]) * 1.0, rows)
    safe = rng.poisson(rate[1]) * 1.0
    assert rates(safe, fresh)[1] > 0.035
    assert max(rates(fitted(safe, fresh), fresh)) < 0.02


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 300),
    law=st.sampled_from(sorted(LAWS)),
    odd=st.sampled_from(["", "one length", "one turn", "all tools"]),
)
def test_any_scores_and_context_give_finite_increasing_results(seed, n, law, odd):
    rng = np.random.default_rng(seed)
    rows = traffic(rng, n)
    column = {"": None, "one length": 0, "all tools": 1, "one turn": 2}[odd]
    if column is not None:
        rows[:, column] = 1.0
    fitted = Studentiser.fit(LAWS[law](rng, n), rows)
    z = np.array([fitted(np.full(n, s), rows) for s in (-5.0, 0.0, 5.0)])
    assert np.isfinite(z).all()
    assert np.all(np.diff(z, axis=0) > 0)


def test_nan_stays_nan_infinities_stay_and_neither_is_learned_from():
    rng = np.random.default_rng(10)
    rows, scores = traffic(rng, 400), rng.normal(size=400)
    spoilt = scores.copy()
    spoilt[:3] = np.nan, np.inf, -np.inf
    fitted, clean = Studentiser.fit(spoilt, rows), Studentiser.fit(scores[3:], rows[3:])
    assert np.array_equal(fitted.moments(rows), clean.moments(rows))
    assert np.array_equal(fitted(spoilt, rows)[:3], [np.nan, np.inf, -np.inf], equal_nan=True)
    assert np.isfinite(fitted(spoilt, rows)[3:]).all()


@pytest.mark.parametrize("n", [1, 50, 800])
def test_a_restored_studentiser_gives_the_same_results(n):
    rng = np.random.default_rng(11)
    rows, scores = traffic(rng, n), rng.normal(size=n)
    fitted = Studentiser.fit(scores, rows)
    arrays = fitted.arrays()
    assert all(array.dtype == np.float64 for array in arrays.values())
    assert np.array_equal(Studentiser.restore(arrays)(scores, rows), fitted(scores, rows))


def test_wrong_input_is_refused():
    rows = traffic(np.random.default_rng(12), 5)
    with pytest.raises(ValueError, match="none of 5 scores is finite"):
        Studentiser.fit(np.full(5, np.nan), rows)
    with pytest.raises(ValueError, match=r"scores have shape \(4,\); the context has 5 rows"):
        Studentiser.fit(np.zeros(4), rows)
    with pytest.raises(ValueError, match=r"wanted \(n, 3\)"):
        Studentiser.fit(np.zeros(5), rows[:, :2])
    with pytest.raises(ValueError, match="1 of 5 rows of context are not finite"):
        Studentiser.fit(np.zeros(5), np.where(np.arange(5)[:, None] == 2, np.nan, rows))
    with pytest.raises(ValueError, match=r"scores have shape \(1,\); the context has 5 rows"):
        Studentiser.fit(np.zeros(5), rows)(np.zeros(1), rows)
