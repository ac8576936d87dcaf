"""A benchmark run: which monitors it holds, that their numbers are those of its pieces, that test rows tune none."""

from dataclasses import asdict, replace

import msgspec
import numpy as np
import pytest

from offmap.bench import evaluate, run
from offmap.bench.run import COMBINATIONS, PUBLISHED
from offmap.bench.scores import DEFAULT, GUARD, REFERENCE
from offmap.bundle import save
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


def tampered(suite):
    """The suite with all test labels shuffled, half of the test rows dropped and a tenth of the rest replaced."""
    rng = np.random.default_rng(0)
    labels = rng.permutation([row.unsafe for row in suite.test])
    rows = [msgspec.structs.replace(row, unsafe=bool(label)) for row, label in zip(suite.test, labels, strict=True)]
    kept = [rows[i] for i in sorted(rng.permutation(len(rows))[: len(rows) // 2])]
    for i in range(0, len(kept), 10):
        kept[i] = msgspec.structs.replace(kept[i], id=f"replaced-{i}", messages=suite.train[i].messages)
    return replace(suite, test=tuple(kept))


@pytest.fixture(scope="module")
def other(small_suite, pocket):
    return run(tampered(small_suite), pocket)


def test_no_test_row_or_label_has_a_say_in_the_default_monitor(outcome, other, tmp_path):
    """Every number of a fitted monitor is in its bundle, and the bundle is the same to the last bit."""
    for name, found in (("before", outcome), ("after", other)):
        save(found.monitor, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "before").iterdir())
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes(), file
    before, after = (found.monitor.panel for found in (outcome, other))
    assert len(before.choice.considered) > 1
    assert asdict(before.choice) == asdict(after.choice)
    assert before.threshold == after.threshold


def test_no_test_row_or_label_has_a_say_in_what_it_is_compared_with(outcome, other, small_suite):
    """Threshold, weight (in the note) and the score of every row that is still the same row."""
    place = {row.id: i for i, row in enumerate(small_suite.test)}
    kept = [i for i, identity in enumerate(other.scores.ids) if identity in place]
    same = [place[other.scores.ids[i]] for i in kept]
    assert 0 < len(kept) < len(other.scores.ids) < len(place)
    honest = {"bag-of-words", GUARD, DEFAULT, *DEFAULT_DETECTORS, *PUBLISHED, *COMBINATIONS}
    for name in honest:
        before, after = outcome.scores.monitor(name), other.scores.monitor(name)
        assert before.threshold == after.threshold is not None
        assert before.note == after.note
        np.testing.assert_allclose(after.scores[kept], before.scores[same], rtol=1e-9, atol=1e-9)
    tuned = {monitor.name for monitor in outcome.scores.monitors} - honest
    assert tuned == {REFERENCE, *(f"{name} (as published)" for name in COMBINATIONS)}
    moved = [outcome.scores.monitor(name).note != other.scores.monitor(name).note for name in tuned]
    assert any(moved)  # the shuffle reaches what does look at test rows
