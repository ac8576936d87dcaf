from dataclasses import replace

import numpy as np
import pytest

from offmap.detectors import GuardProbe
from offmap.detectors.guard_ensemble import GuardEnsemble
from offmap.features import FeatureSpec, Pool
from offmap.testing import make_features

PROBE = GuardProbe(layers=(-1,), pools=(Pool.LAST,), heads=5, strengths=(1e-3,))
NAMES = tuple(f"guard-{i}" for i in range(1, 6))
ORACLE = {
    "disagreement": lambda row: (sum((v - sum(row) / len(row)) ** 2 for v in row) / len(row)) ** 0.5,
    "pessimistic": max,
    "mean": lambda row: sum(row) / len(row),
    "min": min,
}


@pytest.fixture(scope="module")
def parts():
    return make_features(PROBE.needs(), 150, 0), make_features(PROBE.needs(), 80, 1, 0.5)


def logits_of(x, arrays):
    rows = x.hidden[(-1, Pool.LAST)].astype(np.float64)
    return (rows - arrays["mean"]) @ arrays["heads"] + arrays["intercepts"]


@pytest.mark.parametrize("combine", ["disagreement", "pessimistic", "mean"])
def test_it_hears_the_probes_own_heads(combine, parts):
    x = make_features(PROBE.needs(), 40, 2, 0.3)
    probe, ensemble = PROBE.fit(*parts), GuardEnsemble(combine, probe=PROBE)
    fitted = ensemble.fit(*parts)
    wanted = [ORACLE[combine](row) for row in logits_of(x, probe.arrays()).tolist()]
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(ensemble.restore(probe.arrays()).score(x), fitted.score(x))


def test_the_probes_score_is_the_mean_and_the_disagreement(parts):
    x = make_features(PROBE.needs(), 40, 2, 0.3)
    mean, apart = (GuardEnsemble(combine, probe=PROBE).fit(*parts).score(x) for combine in ("mean", "disagreement"))
    wary = replace(PROBE, beta=2.0).fit(*parts).score(x)
    np.testing.assert_allclose(wary, mean + 2 * apart, rtol=1e-9, atol=1e-9)


def test_far_away_the_probabilities_agree_and_the_logits_do_not(parts):
    fitted = GuardEnsemble(probe=PROBE).fit(*parts)
    usual, far = make_features(PROBE.needs(), 60, 3), make_features(PROBE.needs(), 60, 3, -30.0)
    apart = [(1 / (1 + np.exp(-fitted.guards(x)))).std(axis=1) for x in (usual, far)]
    assert np.median(apart[1]) < np.median(apart[0])
    assert fitted.score(far).min() > fitted.score(usual).max()


@pytest.mark.parametrize("combine", list(ORACLE))
def test_scalars_are_combined_as_they_are(combine):
    detector = GuardEnsemble(combine, scalars=NAMES)
    x = make_features(detector.needs(), 30, 4)
    assert detector.needs() == FeatureSpec(scalars=frozenset(NAMES))
    wanted = [ORACLE[combine](row) for row in np.stack([x.scalars[name] for name in NAMES], axis=1).tolist()]
    np.testing.assert_allclose(detector.fit(x).score(x), wanted, rtol=1e-12)
    x.scalars[NAMES[2]][7] = np.nan
    assert np.flatnonzero(np.isnan(detector.fit(x).score(x))).tolist() == [7]


def test_the_published_min_after_the_sign_flip_keeps_the_most_optimistic_guard():
    """Harm that one or two of five guards see: the union of their suspicions finds it, the published min loses it."""
    rng = np.random.default_rng(0)
    n = 4000
    safety = {name: rng.normal(size=2 * n) for name in NAMES}
    harmful = np.arange(2 * n) >= n
    for row in np.flatnonzero(harmful):
        for name in rng.choice(NAMES, rng.integers(1, 3), replace=False):
            safety[name][row] -= 5
    x = replace(make_features(FeatureSpec(), 2 * n, 0), scalars={name: -values for name, values in safety.items()})
    recall = {}
    for combine in ("min", "mean", "pessimistic"):
        scores = GuardEnsemble(combine, scalars=NAMES).fit(x).score(x)
        recall[combine] = np.mean(scores[harmful] > np.quantile(scores[~harmful], 0.99))
    least_safe = np.min(list(safety.values()), axis=0)
    np.testing.assert_array_equal(GuardEnsemble("pessimistic", scalars=NAMES).fit(x).score(x), -least_safe)
    assert recall["min"] < 0.15
    assert recall["pessimistic"] > 0.8
    assert recall["min"] < recall["mean"] < recall["pessimistic"]


def test_the_question_follows_from_the_combination():
    asked = {combine: GuardEnsemble(combine, scalars=NAMES).question for combine in ORACLE}
    assert asked == {"disagreement": "unknown", "pessimistic": "unsafe", "mean": "unsafe", "min": "unsafe"}


def test_wrong_use_is_named(parts):
    for wrong, message in (
        ({"combine": "max"}, "combine='max': wanted 'disagreement'"),
        ({"combine": "min"}, "'pessimistic' is what it means"),
        ({"scalars": ("guard",)}, "at least two different names"),
        ({"scalars": ("guard", "guard", "judge")}, "at least two different names"),
        ({"scalars": ("guard", "")}, "at least two different names"),
        ({"probe": GuardProbe(heads=1)}, "probe.heads=1: wanted at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            GuardEnsemble(**wrong)
    with pytest.raises(ValueError, match="0 unsafe rows"):
        GuardEnsemble(probe=PROBE).fit(parts[0])
    x = make_features(FeatureSpec(scalars=frozenset(NAMES[:2])), 3, 0)
    with pytest.raises(ValueError, match="lack the scalar 'guard-3'"):
        GuardEnsemble("mean", scalars=NAMES).fit(x).score(x)
