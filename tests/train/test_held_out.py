"""What is looked at on held-out rows, against scikit-learn; which look is best, and when there have been enough."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from offmap.train.held_out import auroc, enough, guard_measures, is_best, looks, rescaled_loss


def log_of(*losses):
    """Looks between entries of training; each a rescaled loss, or that and a plain one."""
    pairs = [loss if isinstance(loss, tuple) else (loss, 1.0) for loss in losses]
    each = ({"eval_guard": rescaled, "eval_guard_plain": plain} for rescaled, plain in pairs)
    return [entry for look in each for entry in ({"loss": 0.1}, look)]


def test_patience_counts_evaluations_since_the_best():
    for losses, patience, stop in (
        ([3.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([(0.0, 0.5), (0.0, 0.4)], 1, False),
        ([(0.0, 0.4), (0.0, 0.5)], 1, True),
        ([(1e-9, 0.4), (0.0, 0.5)], 1, True),
        ([(0.2, 0.4), (0.1, 0.5)], 1, False),
    ):
        assert enough(log_of(*losses), patience, "eval_guard") == stop
    assert not enough([], 1, "eval_guard")


def test_of_rows_that_separate_the_plain_loss_decides():
    unsafe = np.arange(20) % 2 == 1
    sure, unsure = (size * np.where(unsafe, 1.0, -1.0)[:, None] * np.ones(3) for size in (9.0, 0.1))
    found = [guard_measures(logits, unsafe, np.ones(20)) for logits in (unsure, sure)]
    assert [round(each["guard"], 6) for each in found] == [0, 0]
    plain = [np.logaddexp(0, -np.abs(logits)).mean() for logits in (unsure, sure)]
    log = log_of((found[0]["guard"], plain[0]))
    assert is_best(log_of((found[1]["guard"], plain[1]))[1], log, "eval_guard")
    assert not is_best(looks(log, "eval_guard")[0], log, "eval_guard")
    assert is_best({"eval_lm": 5.0}, [{"eval_lm": 5.00001}], "eval_lm"), "a lone loss counts in all its digits"


def test_the_most_suspicious_head_is_measured():
    rng = np.random.default_rng(0)
    unsafe, weights = rng.random(80) < 0.4, rng.random(80)
    logits = rng.normal(size=(80, 3)) + np.outer(unsafe, [3.0, 0.2, 0.0])
    logits[:, 1] *= 4
    found = guard_measures(logits, unsafe, weights)
    assert found["auroc"] == pytest.approx(roc_auc_score(unsafe, logits.max(axis=1)))
    assert found["guard"] == rescaled_loss(logits.max(axis=1), unsafe, weights)
    assert found["auroc"] != pytest.approx(roc_auc_score(unsafe, logits.mean(axis=1)))


@pytest.mark.parametrize(("spread", "mean"), [(1, 0), (0.01, -4), (50, 30)])
def test_the_rescaled_loss_is_that_of_an_unpenalised_logistic_regression_on_the_logit(spread, mean):
    rng = np.random.default_rng(0)
    unsafe, weights = rng.random(150) < 0.4, rng.random(150)
    logits = spread * (rng.normal(size=150) + unsafe) + mean
    column = ((logits - mean) / spread)[:, None]
    fitted = LogisticRegression(C=1e9, tol=1e-9).fit(column, unsafe, weights)
    wanted = log_loss(unsafe, fitted.predict_proba(column), sample_weight=weights)
    assert rescaled_loss(logits, unsafe, weights) == pytest.approx(wanted, abs=1e-6)
    backwards = rescaled_loss(-logits, unsafe, weights)
    share = weights[unsafe].sum() / weights.sum()
    assert backwards == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share), abs=1e-4)


def test_logits_that_separate_lose_nothing_and_those_that_do_not_vary_all():
    unsafe = np.array([False, False, True, True])
    assert rescaled_loss(np.array([-1e-9, 0, 1e-9, 2e-9]), unsafe, np.ones(4)) == pytest.approx(0, abs=1e-6)
    assert rescaled_loss(np.ones(4), unsafe, np.ones(4)) == pytest.approx(np.log(2))


def test_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, unsafe = rng.integers(0, 9, 50) / 3, rng.random(50) < 0.4
    assert auroc(scores, unsafe) == pytest.approx(roc_auc_score(unsafe, scores))
