from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from offmap.detectors import GuardProbe
from offmap.features import Pool
from offmap.testing import make_features

KEYS = ((-1, Pool.LAST), (-1, Pool.MEAN))
SMALL = {"layers": (-1,), "pools": (Pool.LAST, Pool.MEAN)}


def both(detector, safe=120, unsafe=50, shift=0.4):
    return make_features(detector.needs(), safe, 0), make_features(detector.needs(), unsafe, 1, shift)


def joined(x):
    return np.concatenate([x.hidden[key] for key in KEYS], axis=1).astype(np.float64)


def design(safe, unsafe):
    x, y = np.concatenate([joined(safe), joined(unsafe)]), np.repeat([0, 1], [len(safe), len(unsafe)])
    scaler = StandardScaler().fit(x)
    return scaler, scaler.transform(x) / np.sqrt(x.shape[1]), y


def sklearn_head(x, y, strength):
    model = LogisticRegression(C=1 / (strength * len(y)), class_weight="balanced", tol=1e-10, max_iter=20000)
    return model.fit(x, y)


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(("safe", "unsafe", "shift"), [(120, 50, 0.4), (20, 9, 0.4), (120, 50, 4.0)])
def test_a_single_head_is_scikit_learns(strength, safe, unsafe, shift):
    detector = GuardProbe(heads=1, strengths=(strength,), **SMALL)
    parts, new = both(detector, safe, unsafe, shift), make_features(detector.needs(), 40, 2, 0.2)
    scaler, x, y = design(*parts)
    logits = sklearn_head(x, y, strength).decision_function(scaler.transform(joined(new)) / np.sqrt(x.shape[1]))
    found = detector.fit(*parts).score(new)
    np.testing.assert_allclose(found, logits, atol=3e-5 * np.abs(logits).max(), rtol=0)


def test_the_strength_is_that_of_the_lowest_held_out_loss():
    strengths = (1e-6, 1e-4, 1e-2, 1.0)
    detector = GuardProbe(strengths=strengths, **SMALL)
    parts = both(detector, 300, 200, shift=0.3)
    _, x, y = design(*parts)
    losses = np.zeros(len(strengths))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        for i, strength in enumerate(strengths):
            margins = np.where(y[test] == 1, 1, -1) * sklearn_head(x[train], y[train], strength).decision_function(
                x[test]
            )
            losses[i] += sum(np.logaddexp(0, -margins[y[test] == label]).mean() for label in (0, 1))
    assert detector.fit(*parts).strength == strengths[int(np.argmin(losses))]


def test_the_score_is_the_mean_of_the_heads_plus_their_spread():
    detector = GuardProbe(heads=5, beta=2.0, strengths=(1e-3,), **SMALL)
    parts, new = both(detector), make_features(detector.needs(), 30, 2)
    arrays = detector.fit(*parts).arrays()
    logits = (joined(new) - arrays["mean"]) @ arrays["heads"] + arrays["intercepts"]
    assert logits.std(axis=1).min() > 0
    wanted = [row.mean() + 2.0 * row.std() for row in logits]
    np.testing.assert_allclose(detector.fit(*parts).score(new), wanted, rtol=1e-9)


def test_heads_are_bootstraps_around_the_single_head():
    parts = both(GuardProbe(**SMALL), 400, 300)
    single = GuardProbe(heads=1, strengths=(1e-3,), **SMALL).fit(*parts).arrays()["heads"]
    heads = GuardProbe(heads=12, strengths=(1e-3,), **SMALL).fit(*parts).arrays()["heads"]
    similar = (heads.T @ single)[:, 0] / np.linalg.norm(heads, axis=0) / np.linalg.norm(single)
    assert similar.min() > 0.7
    assert len(np.unique(heads.round(12), axis=1).T) == 12


def test_disagreement_never_lowers_suspicion():
    parts = both(GuardProbe(**SMALL))
    calm, wary = (GuardProbe(beta=beta, strengths=(1e-3,), **SMALL).fit(*parts) for beta in (0.0, 1.5))
    far = make_features(GuardProbe(**SMALL).needs(), 50, 3, shift=-8.0)
    assert (wary.score(far) > calm.score(far)).all()


def test_the_seed_decides():
    parts = both(GuardProbe(**SMALL))
    first, again, other = (GuardProbe(seed=seed, strengths=(1e-3,), **SMALL).fit(*parts).arrays() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["heads"], again["heads"])
    assert not np.array_equal(first["heads"], other["heads"])


def test_a_constant_feature_and_more_features_than_rows_do_no_harm():
    detector = GuardProbe(**SMALL)
    safe, unsafe = both(detector, 12, 6)
    flat = {
        key: np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1) for key, rows in safe.hidden.items()
    }
    flat_unsafe = {key: np.pad(rows, ((0, 0), (0, 1)), constant_values=1) for key, rows in unsafe.hidden.items()}
    parts = [replace(x, hidden=hidden) for x, hidden in ((safe, flat), (unsafe, flat_unsafe))]
    scores = [detector.fit(*parts).score(part) for part in parts]
    assert np.median(scores[1]) > np.median(scores[0])


def test_wrong_use_is_named():
    detector = GuardProbe(**SMALL)
    safe, unsafe = both(detector)
    with pytest.raises(ValueError, match="0 unsafe rows to fit on: wanted at least 2"):
        detector.fit(safe)
    with pytest.raises(ValueError, match="1 safe rows to fit on: wanted at least 2"):
        detector.fit(safe.take([0]), unsafe)
    for wrong in ({"heads": 0}, {"beta": -1.0}, {"beta": float("nan")}, {"strengths": ()}, {"strengths": (0.0,)}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            GuardProbe(**wrong)


def test_the_counts_are_those_that_the_heads_were_fitted_with():
    for strengths in ((1e-3,), (1e-3, 1e-3)):
        detector = GuardProbe(heads=3, seed=4, strengths=strengths, **SMALL)
        parts, new = both(detector), make_features(detector.needs(), 40, 2, 0.2)
        scaler, x, y = design(*parts)
        counts = detector.counts(y == 1)
        logits = detector.fit(*parts).logits(new)
        assert [counts[y == label].sum(axis=0).tolist() for label in (0, 1)] == [[120.0] * 3, [50.0] * 3]
        for head in range(3):
            weights = counts[:, head] * np.where(y == 1, 170 / 2 / 50, 170 / 2 / 120)
            model = LogisticRegression(C=1 / (1e-3 * len(y)), tol=1e-10, max_iter=20000).fit(x, y, weights)
            wanted = model.decision_function(scaler.transform(joined(new)) / np.sqrt(x.shape[1]))
            np.testing.assert_allclose(logits[:, head], wanted, atol=3e-5 * np.abs(wanted).max(), rtol=0)


def test_counts_follow_rows_within_their_class_however_classes_are_mixed():
    detector = GuardProbe(heads=4, seed=1)
    mixed = np.random.default_rng(0).random(60) < 0.4
    counts, apart = detector.counts(mixed), detector.counts(np.sort(mixed))
    np.testing.assert_array_equal(np.concatenate([counts[~mixed], counts[mixed]]), apart)
    np.testing.assert_array_equal(GuardProbe(heads=1).counts(mixed), np.ones((60, 1)))
    assert not np.array_equal(GuardProbe(heads=4, seed=2).counts(mixed), counts)
