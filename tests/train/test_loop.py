"""The loop: what is interrupted ends as what was not; the best weights are kept; a loss that is no number stops it."""

import shutil
from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from offmap.backbones import open_backbone
from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.train import loop, train
from offmap.train import run as running
from offmap.train.loop import DONE, GuardTrainer, _auroc, _enough, rescaled_loss

pytestmark = pytest.mark.usefixtures("undrawn")


class Killed(Exception):  # noqa: N818 - what ends it is no error
    pass


def stopping_at(step):
    def watch(done, whole, losses):
        if done >= step:
            raise Killed

    return watch


def interrupted(step, *call, **named):
    with pytest.raises(Killed):
        train(*call, watch=stopping_at(step), **named)


def weights(out):
    """Every array that a run left: the model or the adapter, heads, hashes."""
    files = sorted(out.glob("*.safetensors"))
    return {f"{file.name}/{name}": array for file in files for name, array in load_file(file).items()}


def require_equal(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


def curve(record):
    told = record.run
    return told["before"], told["best"], told["steps"], told["trained_tokens"]


def checkpoints(out):
    return sorted(int(path.name.rpartition("-")[2]) for path in (out / "training").glob("checkpoint-*"))


@pytest.fixture(scope="module")
def trained(shapes, talks, source, small, tmp_path_factory):
    """Method -> an uninterrupted run: what it was called with, its record, its directory, what it told."""

    def run(method):
        out = tmp_path_factory.mktemp(method) / "guard"
        call = (talks(60), source(shapes["llama"]))
        options, seen = small(method=method, rank=4), []
        torch.set_num_threads(1)
        record = train(*call, out, options, watch=lambda done, whole, losses: seen.append((done, whole, dict(losses))))
        assert record.run["best"]["step"] > 0, "what it began with would be the same after any interruption"
        return call, options, record, out, seen

    return cache(run)


@pytest.fixture
def whole(trained):
    return trained("full")


@pytest.mark.parametrize(("method", "step"), [("full", 1), ("full", 9), ("lora", 9), ("lora", -1)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(trained, tmp_path, method, step):
    call, options, record, out, _ = trained(method)
    step = record.run["steps"] + 1 + step if step < 0 else step
    interrupted(step, *call, tmp_path / "guard", options)
    assert (checkpoints(tmp_path / "guard") != []) == (step > 1)
    seen = []
    again = train(*call, tmp_path / "guard", options, watch=lambda done, *_: seen.append(done))
    assert (seen[0] == 0) if step == 1 else (step // 2 < seen[0] <= step + 1)
    assert curve(again) == curve(record)
    require_equal(out, tmp_path / "guard")


def test_it_can_be_interrupted_again_and_again(whole, tmp_path):
    call, options, record, out, _ = whole
    for step in (4, 7, 11):
        interrupted(step, *call, tmp_path / "guard", options)
    assert curve(train(*call, tmp_path / "guard", options)) == curve(record)
    require_equal(out, tmp_path / "guard")


def test_a_half_written_checkpoint_is_dropped(whole, tmp_path):
    call, options, record, out, _ = whole
    interrupted(9, *call, tmp_path / "guard", options)
    (last,) = checkpoints(tmp_path / "guard")
    half = tmp_path / "guard" / "training" / "checkpoint-14"
    shutil.copytree(half.with_name(f"checkpoint-{last}"), half)
    (half / DONE).unlink()
    (half / "optimizer.pt").write_bytes(b"half")
    assert curve(train(*call, tmp_path / "guard", options)) == curve(record)
    require_equal(out, tmp_path / "guard")
    assert checkpoints(tmp_path / "guard") == []


def test_without_a_whole_checkpoint_it_begins_anew(whole, tmp_path):
    call, options, _, out, _ = whole
    interrupted(9, *call, tmp_path / "guard", options)
    for path in (tmp_path / "guard" / "training").glob(f"checkpoint-*/{DONE}"):
        path.unlink()
    seen = []
    train(*call, tmp_path / "guard", options, watch=lambda done, *_: seen.append(done))
    assert seen[0] == 0
    require_equal(out, tmp_path / "guard")


def test_killed_after_the_last_step_it_only_writes_what_was_learned(whole, tmp_path, monkeypatch):
    call, options, record, out, _ = whole

    def killed(*_):
        raise Killed

    for name in ("save_trunk", "write_guard"):
        with monkeypatch.context() as patch:
            patch.setattr(running, name, killed)
            with pytest.raises(Killed):
                train(*call, tmp_path / "guard", options)
        with pytest.raises(InputError, match="holds a training run that has not ended"):
            open_backbone(str(tmp_path / "guard"))
    steps = []
    monkeypatch.setattr(GuardTrainer, "training_step", lambda *_: steps.append(1))
    assert curve(train(*call, tmp_path / "guard", options)) == curve(record)
    assert not steps
    require_equal(out, tmp_path / "guard")


def test_early_stopping_decides_the_same_after_an_interruption(shapes, talks, source, small, tmp_path, monkeypatch):
    call = (talks(60), source(shapes["qwen3"]))
    options = small(rate=3e-2, head_rate=0.1, evaluations=12, patience=2, epochs=3)
    record = train(*call, tmp_path / "whole", options)
    looks = [e for e in _log(tmp_path / "whole") if "eval_guard" in e]
    best = int(np.argmin([entry["eval_guard"] for entry in looks]))
    assert len(looks) == best + 1 + 2, "it stopped two evaluations after the best"
    assert record.run["best"] == looks[best]
    assert looks[-1]["step"] == record.run["steps"] < 15
    with monkeypatch.context() as patch:
        patch.setattr(running, "save_trunk", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(*call, tmp_path / "late", options)
    interrupted(record.run["steps"] - 1, *call, tmp_path / "early", options)
    for name in ("late", "early"):
        assert curve(train(*call, tmp_path / name, options)) == curve(record)
        require_equal(tmp_path / "whole", tmp_path / name)


def _log(out):
    return [msgspec.json.decode(line) for line in (out / "training" / "log.jsonl").read_bytes().splitlines()]


def test_every_step_is_told_with_the_latest_losses(whole):
    *_, record, _, seen = whole
    assert [done for done, *_ in seen if done] == sorted(done for done, *_ in seen if done)
    assert {done for done, *_ in seen} >= set(range(1, record.run["steps"] + 1))
    assert {told for _, told, _ in seen} == {record.run["steps"]}
    assert seen[-1][2].keys() == {"guard", "lm", "eval_guard", "eval_lm", "eval_auroc"}
    assert seen[0][2]["eval_guard"] == record.run["before"]["eval_guard"]


def test_the_log_holds_both_losses_of_training_and_of_held_out_rows(whole):
    log = _log(whole[3])
    looked = [entry["step"] for entry in log if "eval_guard" in entry]
    assert (looked[0], looked[-1], len(looked)) == (0, whole[2].run["steps"], 5)
    assert all({"guard", "lm"} <= entry.keys() for entry in log if "loss" in entry)
    losses = [entry["guard"] for entry in log if "loss" in entry]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_a_guard_trained_alone_still_says_what_became_of_its_language_model(shapes, talks, source, small, tmp_path):
    record = train(talks(40), source(shapes["llama"]), tmp_path / "guard", small(lm_weight=0.0, epochs=1))
    log = _log(tmp_path / "guard")
    assert all("lm" not in entry for entry in log)
    assert record.run["before"]["eval_lm"] > 1
    assert record.run["best"]["eval_lm"] > 1


@pytest.mark.parametrize("when", ["the loss", "held-out rows", "a trained weight"])
def test_what_is_no_number_stops_the_run_and_leaves_the_checkpoint(whole, tmp_path, monkeypatch, when):
    call, options, record, out, _ = whole
    evaluated = max(1, record.run["steps"] // options.evaluations)
    at = {"the loss": 8, "held-out rows": 2 * evaluated, "a trained weight": evaluated // 2 * 3}[when]
    plain = GuardTrainer.training_step

    def poisoned(self, model, *args):
        loss = plain(self, model, *args)
        if self.state.global_step == at - 1:
            self.objective.guard.bias.grad.fill_(np.nan)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(GuardTrainer, "training_step", poisoned)
        with pytest.raises(InputError, match=rf"after step {at} .*{when}.*is not a number.*lower rate.*checkpoint"):
            train(*call, tmp_path / "guard", options)
    (last,) = checkpoints(tmp_path / "guard")
    assert 0 < last < at
    assert curve(train(*call, tmp_path / "guard", options)) == curve(record)
    require_equal(out, tmp_path / "guard")


def test_the_weights_kept_are_those_of_the_best_evaluation(shapes, talks, source, small, tmp_path, monkeypatch):
    looks = []
    plain = GuardTrainer._look

    def remembering(self):
        found = plain(self)
        looks.append((found["guard"], {k: v.clone() for k, v in loop.trained_weights(self.objective).items()}))
        return found

    monkeypatch.setattr(GuardTrainer, "_look", remembering)
    options = small(rate=1e-2, patience=9, evaluations=9)
    train(talks(60), source(shapes["llama"]), tmp_path / "guard", options)
    best = min(range(len(looks)), key=lambda at: looks[at][0])
    assert 0 < best < len(looks) - 1
    kept = weights(tmp_path / "guard")
    for name, weight in looks[best][1].items():
        if name.startswith("model."):
            np.testing.assert_array_equal(kept[f"model.safetensors/{name.removeprefix('model.')}"], weight)
    assert not np.array_equal(kept["model.safetensors/model.norm.weight"], looks[-1][1]["model.model.norm.weight"])


def test_accumulated_batches_weigh_as_one(shapes, talks, source, small, tmp_path):
    """With every row in one batch, or in several of a step, the first step is the same up to the clipped gradient."""
    rows, heads = talks(60), GuardProbe(heads=1, strengths=(1e-3,))
    found = []
    for name, budget, accumulate in (("one", 100_000, 1), ("many", 512, 100)):
        options = small(batch_tokens=budget, accumulate=accumulate, epochs=1, even=False, heads=heads, evaluations=1)
        record = train(rows, source(shapes["llama"]), tmp_path / name, options)
        assert record.run["steps"] == 1
        (logged,) = [entry for entry in _log(tmp_path / name) if "loss" in entry]
        found.append((logged["guard"], logged["lm"], logged["loss"], logged["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_bfloat16_is_near_float32_and_both_go_in_one_process(shapes, talks, source, small, tmp_path):
    found = {}
    for name in ("float32", "bfloat16", "float32 again"):
        options = small(precision=name.split()[0], epochs=1)
        record = train(talks(40), source(shapes["llama"]), tmp_path / name, options)
        found[name] = record.run["best"]["eval_guard"], record.run["best"]["eval_lm"]
    assert found["float32"] == found["float32 again"]
    assert found["float32"] != found["bfloat16"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.03)


def test_nothing_is_printed(shapes, talks, source, small, tmp_path, capfd):
    call = (talks(40), source(shapes["gemma2"]))
    for method in ("full", "lora"):
        options = small(method=method, checkpointing=True, pack=True)
        interrupted(4, *call, tmp_path / method, options)
        train(*call, tmp_path / method, options)
    assert capfd.readouterr() == ("", "")


def test_patience_counts_evaluations_since_the_lowest():
    for losses, patience, stop in (
        ([3.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
    ):
        log = [entry for loss in losses for entry in ({"loss": 0.1}, {"eval_guard": loss})]
        assert _enough(log, patience, "eval_guard") == stop


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
    assert _auroc(scores, unsafe) == pytest.approx(roc_auc_score(unsafe, scores))
