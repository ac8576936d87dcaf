"""The log as a picture: which points it has, and that it can be done without."""

import importlib.util
from xml.etree import ElementTree

import pytest

from offmap.train import curves

LOG = [
    {"eval_guard": 0.7, "eval_guard_plain": 0.75, "eval_lm": 5.0, "eval_auroc": 0.6, "step": 0},
    {"loss": 2.0, "guard": 0.69, "lm": 5.5, "step": 2},
    {"loss": 1.5, "guard": 0.42, "lm": 5.25, "step": 4},
    {"eval_guard": 0.5, "eval_guard_plain": 0.625, "eval_lm": 4.5, "eval_auroc": 0.875, "step": 4},
    {"train_runtime": 3.0, "step": 4},
]
GUARD, RESCALED = "guard loss, the heads' mean", "guard loss after the best scale and shift"
TITLES = {GUARD, "language-model loss", RESCALED, "AUROC on held-out rows"}


def test_every_loss_of_the_log_is_a_point_of_its_panel():
    found = {(p["panel"], p["rows"]): [] for p in curves.points(LOG)}
    for point in curves.points(LOG):
        found[point["panel"], point["rows"]].append((point["step"], point["value"]))
    assert found == {
        (GUARD, "training"): [(2, 0.69), (4, 0.42)],
        (GUARD, "held out"): [(0, 0.75), (4, 0.625)],
        ("language-model loss", "training"): [(2, 5.5), (4, 5.25)],
        ("language-model loss", "held out"): [(0, 5.0), (4, 4.5)],
        (RESCALED, "held out"): [(0, 0.7), (4, 0.5)],
        ("AUROC on held-out rows", "held out"): [(0, 0.6), (4, 0.875)],
    }


def words(path):
    return {text.strip() for text in ElementTree.parse(path).getroot().itertext() if text.strip()}  # noqa: S314 - ours


def test_the_picture_holds_all_panels_and_a_legend(tmp_path):
    assert curves.draw(LOG, 4, tmp_path / "curves.svg")
    assert {*TITLES, "training", "held out", "step"} <= words(tmp_path / "curves.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.svg"]


def test_what_was_not_learned_has_no_panel(tmp_path):
    log = [{name: value for name, value in entry.items() if not name.endswith("lm")} for entry in LOG]
    assert curves.draw(log, 0, tmp_path / "curves.svg")
    assert words(tmp_path / "curves.svg") & TITLES == TITLES - {"language-model loss"}


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_packages_that_draw_nothing_is_drawn(tmp_path, monkeypatch, missing):
    plain = importlib.util.find_spec
    monkeypatch.setattr(curves, "find_spec", lambda name: None if name == missing else plain(name))
    assert not curves.draw(LOG, 4, tmp_path / "curves.svg")
    assert not list(tmp_path.iterdir())


def test_a_run_leaves_its_picture(shapes, talks, source, small, tmp_path):
    from offmap.train import train

    train(talks(40), source(shapes["llama"]), tmp_path / "guard", small(epochs=1))
    assert words(tmp_path / "guard" / "training" / "curves.svg") >= TITLES
