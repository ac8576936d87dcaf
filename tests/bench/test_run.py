"""A benchmark run: which monitors it holds, and that its numbers are those of the pieces."""

import numpy as np
import pytest

from offmap.bench import evaluate
from offmap.bench.run import PUBLISHED
from offmap.bench.scores import DEFAULT, GUARD, REFERENCE
from offmap.calibration import suspicion
from offmap.monitor import DEFAULT_DETECTORS


def test_the_table_has_its_rows(outcome):
    names = [monitor.name for monitor in outcome.scores.monitors]
    assert {"bag-of-words", GUARD, REFERENCE, DEFAULT, *DEFAULT_DETECTORS, *PUBLISHED} <= set(names)
    assert names[-1] == DEFAULT


def test_the_default_row_is_what_the_saved_monitor_says(outcome, small_suite):
    judged = outcome.monitor.panel.judge(outcome.monitor.backbone(small_suite.test, outcome.monitor.reads))
    row = outcome.scores.monitor(DEFAULT)
    np.testing.assert_allclose(row.scores, suspicion(judged.fused), rtol=1e-9)
    assert np.array_equal(row.scores > row.threshold, judged.flagged)


def test_the_reference_is_the_best_published_combination(outcome):
    report = evaluate(outcome.scores, resamples=20)
    combinations = [report.monitor(f"guard + {name}") for name in ("mahalanobis", "perplexity", "both")]
    best = max(found.recall_ood.value for found in combinations)
    assert report.monitor(REFERENCE).recall_ood.value == best
    assert "in its favour" in report.monitor(REFERENCE).note


def test_a_report_counts_every_failure(outcome, small_suite):
    report = evaluate(outcome.scores, resamples=20)
    default = report.monitor(DEFAULT)
    assert set(default.domains) == set(small_suite.failures) | {"swahili"}
    for name in small_suite.failures:
        wanted = sum(bool(row.unsafe) for row in small_suite.test if row.domain == name)
        assert default.domains[name].n_unsafe == wanted
    assert report.splits["fit_unsafe"] > 0
    assert report.versions["offmap"]


@pytest.mark.parametrize("step", ["features", "detectors", "scores"])
def test_steps_are_timed(outcome, step):
    assert outcome.scores.run.timings[step] >= 0
