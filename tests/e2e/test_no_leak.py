"""No test row influences a fitted number, a threshold or a choice."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from offmap.bench import run


def state(panel):
    """Every number that a panel was left with by fitting."""
    arrays = {}
    for member in panel.members:
        arrays |= {f"{member.name}/{key}": value for key, value in member.fitted.arrays().items()}
        arrays |= {f"{member.name}/calibrator/{key}": value for key, value in member.calibrator.arrays().items()}
    for question, answer in panel.combination.answers.items():
        arrays |= {f"{question}/{key}": value for key, value in answer.fusion.arrays().items()}
        if answer.calibrator is not None:
            arrays |= {f"{question}/calibrator/{key}": value for key, value in answer.calibrator.arrays().items()}
    return arrays | {"across": panel.combination.across.correlation, "threshold": np.array(panel.threshold.value)}


def tampered(suite, seed):
    """The same suite with its test labels shuffled and half of its test rows taken away."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([row.unsafe for row in suite.test])
    rows = [msgspec.structs.replace(row, unsafe=bool(label)) for row, label in zip(suite.test, labels, strict=True)]
    return replace(suite, test=tuple(rows[i] for i in sorted(rng.permutation(len(rows))[: len(rows) // 2])))


@pytest.mark.parametrize("seed", [1, 2])
def test_other_test_rows_and_labels_change_nothing_that_was_fitted(outcome, small_suite, pocket, seed):
    other = run(tampered(small_suite, seed), pocket)
    before, after = state(outcome.monitor.panel), state(other.monitor.panel)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert np.array_equal(array, after[name], equal_nan=True), name
    thresholds = {monitor.name: monitor.threshold for monitor in outcome.scores.monitors}
    for monitor in other.scores.monitors:
        if monitor.name != "reference":  # the best on test rows, as its note says
            assert monitor.threshold == thresholds[monitor.name]


def test_only_rows_that_say_so_look_at_test_rows(outcome):
    published = {monitor.name for monitor in outcome.scores.monitors if "as published" in monitor.note}
    assert published == {f"guard + {name} (as published)" for name in ("mahalanobis", "perplexity", "both")}


def test_scores_of_a_row_do_not_depend_on_other_test_rows(outcome, small_suite, pocket):
    other = run(tampered(small_suite, 3), pocket)
    kept = {identity: i for i, identity in enumerate(outcome.scores.ids)}
    index = [kept[identity] for identity in other.scores.ids]
    for before in outcome.scores.monitors:
        if before.name == "reference" or "as published" in before.note:
            continue
        after = other.scores.monitor(before.name)
        np.testing.assert_allclose(before.scores[index], after.scores, rtol=1e-9, atol=1e-9)
