"""What is learned, against numpy, against transformers' own losses, and against the saved guard as a backbone."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import expit, log_expit
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from offmap.backbones.loading import load_model
from offmap.backbones.torch import TorchBackbone
from offmap.conversation import Conversation, Message
from offmap.detectors import GuardProbe
from offmap.features import ROLE_CODE, FeatureSpec
from offmap.rendering import Renderer
from offmap.train import TrainOptions
from offmap.train.batches import collate, plan
from offmap.train.objective import CHUNK, GuardHeads
from offmap.train.rows import material
from offmap.train.trunk import build

FAMILIES = ("llama", "qwen3", "gemma2")
PROBE = GuardProbe(layers=(-1, 1), heads=3, strengths=(1e-2,))


def heads_of(width, seed=0):
    """Random heads on three pools of two layers."""
    rng = np.random.default_rng(seed)
    size = 6 * width
    arrays = {"mean": rng.normal(size=size), "heads": rng.normal(size=(size, 3)) / 10, "intercepts": rng.normal(size=3)}
    return GuardHeads(PROBE.restore(arrays | {"strength": np.array([0.01])}), rng.uniform(0.5, 2, size))


@pytest.fixture
def made(shapes, talks, source):
    """Family -> an objective in training, its rows as material, and what it was loaded from."""

    def make(family, method="full", lm_weight=0.3, **options):
        torch.manual_seed(0)
        loaded = load_model(source(shapes[family]), "cpu")
        chosen = TrainOptions(method=method, heads=PROBE, lm_weight=lm_weight, rank=4, **options)
        objective = build(loaded, heads_of(32), chosen).train()
        rows = talks(8, lengths=(5, 45))
        counts = PROBE.counts(np.array([row.unsafe for row in rows]))
        return objective, material(rows, Renderer(loaded.tokenizer), PROBE.pools, counts=counts), rows

    return make


def losses(objective, data, lines):
    return objective(**collate(lines, data))


def rows_of(data):
    return [[at] for at in range(len(data))]


def gradients(objective):
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("seed", range(3))
def test_the_guard_loss_is_the_weighted_cross_entropy(made, seed):
    objective, data, _ = made("llama")
    objective.norms["rows"] = 5.0
    found = losses(objective, data, rows_of(data))
    total = 0.0
    for row, (unsafe, weights) in enumerate(zip(data.unsafe, data.weights, strict=True)):
        for logit, weight in zip(found["logits"][row].double().numpy(), weights, strict=True):
            total -= weight * (np.log(expit(logit)) if unsafe else log_expit(-logit)) / 3
    assert float(found["guard"]) == pytest.approx(total / 5, rel=1e-5)


def test_what_is_minimised_is_guard_penalty_and_language_model(made):
    objective, data, _ = made("llama", lm_weight=0.7)
    found = losses(objective, data, rows_of(data))
    squares = objective.guard.weight.detach().double().square().sum(dim=1).mean()
    wanted = float(found["guard"]) + 0.01 / 2 * float(squares) + 0.7 * float(found["lm"])
    assert float(found["loss"].detach()) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pack", [False, True])
def test_the_language_model_loss_is_what_transformers_says(made, shapes, family, pack):
    objective, data, _ = made(family)
    lines = [[0, 3, 1], [4, 2], [6, 5, 7]] if pack else rows_of(data)
    objective.norms["tokens"] = 11.0
    model = AutoModelForCausalLM.from_pretrained(shapes[family], dtype=torch.float32).eval()
    total, count = 0.0, 0
    for at, row in enumerate(data.rows):
        labels = np.where(data.spoken(at), row.ids, -100).astype(np.int64)
        if (labels >= 0).any():
            with torch.no_grad():
                found = model(input_ids=torch.tensor(row.ids[None].astype(np.int64)), labels=torch.tensor(labels[None]))
            total += float(found.loss) * (labels >= 0).sum()
            count += (labels >= 0).sum()
    assert count == data.n_spoken
    assert float(losses(objective, data, lines)["lm"]) == pytest.approx(total / 11, rel=1e-5)


def test_more_tokens_than_a_chunk_are_all_learned(made):
    objective, data, _ = made("llama")
    many = [[0, 2, 4, 6, 0, 2], [4, 6, 2], [2, 4, 0], [6, 6, 6, 6], *([[2, 2, 2]] * 6)]
    batch = collate(many, data)
    assert int(batch["spoken"].sum()) > CHUNK
    one = {at: float(losses(objective, data, [[at]])["lm"]) for at in (0, 2, 4, 6)}
    wanted = sum(one[at] for line in many for at in line)
    assert float(objective(**batch)["lm"]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_s_logits_are_the_same_alone_in_a_batch_and_packed(made, family):
    objective, data, _ = made(family)
    objective.eval()
    order = [5, 0, 3, 7, 1, 6, 2, 4]
    with torch.no_grad():
        alone = torch.cat([losses(objective, data, [[at]])["logits"] for at in order])
        padded = losses(objective, data, [[at] for at in order])["logits"]
        packed = losses(objective, data, [order[:3], order[3:5], order[5:]])["logits"]
        short = losses(objective, data, [order])["logits"]
    assert alone.std(dim=0).min() > 1e-2
    for found in (padded, packed, short):
        np.testing.assert_allclose(found, alone, atol=2e-5)


def test_every_row_s_states_are_pooled_from_its_own_tokens_alone(made):
    """Against a loop over rows and layers, of lines that hold unlike numbers of rows."""
    objective, data, _ = made("llama")
    objective.eval()
    lines = [[4], [0, 2, 6], [7, 1], [3, 5]]
    batch, seen = collate(lines, data), []
    objective.guard.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        objective(**batch)
        states = objective.read(batch["ids"], batch["positions"]).hidden_states
    place = 0
    for number, line in enumerate(lines):
        start = 0
        for at in line:
            end = start + len(data.rows[at])
            wanted = []
            for layer in PROBE.layers:
                mine, replies = states[layer][number, start:end].double(), data.rows[at].roles == ROLE_CODE["assistant"]
                wanted += [mine[torch.from_numpy(replies)].mean(0), mine.mean(0), mine[-1]]
            np.testing.assert_allclose(seen[0][place], torch.cat(wanted), atol=1e-5)
            start, place = end, place + 1
    assert batch["pools"].numel() <= len(lines) * 3 * len(PROBE.pools) * batch["ids"].shape[1]


def test_a_model_of_learned_positions_is_trained_up_to_its_last_one(shapes, tmp_path, talks, source):
    limit = 90
    sizes = {"vocab_size": 300, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": limit}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(shapes["llama"]).save_pretrained(tmp_path)
    loaded = load_model(source(tmp_path), "cpu")
    objective = build(loaded, heads_of(32), TrainOptions(method="full", heads=PROBE)).eval()
    rows = talks(8, lengths=(3, 80))
    render = Renderer(AutoTokenizer.from_pretrained(tmp_path), limit)
    data = material(rows, render, PROBE.pools, limit=loaded.positions)
    assert data.lengths.max() == limit
    assert data.lengths.min() < limit
    for pack in (False, True):
        for batch in plan(data.lengths, 200, 1.0, 0, pack=pack, limit=data.limit):
            with torch.no_grad():
                assert np.isfinite(float(losses(objective, data, batch)["loss"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_attention_and_gradients_stay_within_a_row(made, family):
    objective, data, _ = made(family)
    batch = collate([[0, 1, 2]], data)
    embedded = objective.model.get_input_embeddings()
    seen = []
    embedded.register_forward_hook(lambda *call: seen.append(call[2]) or call[2].retain_grad())
    logits = {}
    objective.guard.register_forward_hook(lambda *call: logits.update(of=call[2]))
    objective(**batch)
    start = 0
    for place, at in enumerate((0, 1, 2)):
        seen[0].grad = None
        logits["of"][place].sum().backward(retain_graph=True)
        felt = np.flatnonzero(seen[0].grad[0].abs().sum(dim=1).numpy())
        assert felt.min() == start
        assert felt.max() == start + len(data.rows[at]) - 1
        start += len(data.rows[at])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_reach_what_is_trained_and_nothing_else(made, family, method):
    objective, data, _ = made(family, method)
    for _ in range(2):  # an adapter's second matrix begins at zero: its first learns from the second step on
        objective.zero_grad()
        losses(objective, data, rows_of(data))["loss"].backward()
        if method == "lora":
            with torch.no_grad():
                for name, p in objective.named_parameters():
                    if "lora_B" in name:
                        p.add_(1e-2)
    got = {name for name, grad in gradients(objective).items() if grad.abs().max() > 0}
    assert got == {name for name, p in objective.named_parameters() if p.requires_grad}
    assert {"guard.weight", "guard.bias"} < got
    assert all(("lora_" in name) == (method == "lora") for name in got if name.startswith("model."))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_checkpointing_changes_no_gradient(made, family, method):
    found = []
    for checkpointing in (False, True):
        objective, data, _ = made(family, method, checkpointing=checkpointing)
        calls = []
        block = objective._decoder[0].layers[1].mlp
        block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        losses(objective, data, [[0, 1], [2, 3]])["loss"].backward()
        assert len(calls) == 1 + checkpointing
        found.append(gradients(objective))
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        np.testing.assert_allclose(found[1][name], grad, rtol=1e-5, atol=1e-7)


def test_without_weight_the_language_model_is_not_trained_but_still_measured(made):
    objective, data, _ = made("qwen3", lm_weight=0.0)
    joint, *_ = made("qwen3", lm_weight=0.3)
    found = losses(objective, data, rows_of(data))
    found["loss"].backward()
    assert objective.model.lm_head.weight.grad is None
    assert float(found["lm"]) == 0
    losses(joint, data, rows_of(data))["loss"].backward()
    assert joint.model.lm_head.weight.grad.abs().max() > 0
    with torch.no_grad():
        assert float(losses(objective.eval(), data, rows_of(data))["lm"]) == pytest.approx(
            float(losses(joint.eval(), data, rows_of(data))["lm"]), rel=1e-6
        )


def test_rows_of_unsafe_assistants_teach_the_language_model_nothing(made):
    objective, data, _ = made("llama")
    unsafe = [[at] for at in np.flatnonzero(data.unsafe)]
    found = losses(objective, data, unsafe)
    assert float(found["lm"]) == 0
    found["loss"].backward()
    assert objective.guard.weight.grad.abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_of_a_probe_stay_what_they_were_in_other_coordinates(family):
    heads = heads_of(4)
    states = np.random.default_rng(1).normal(size=(7, 24))
    fitted = heads.fitted()
    wanted = (states - fitted.mean) @ fitted.heads + fitted.intercepts
    with torch.no_grad():
        np.testing.assert_allclose(heads(torch.tensor(states, dtype=torch.float32)), wanted, atol=1e-5)
    start = np.random.default_rng(0)
    np.testing.assert_allclose(fitted.mean, start.normal(size=24), atol=1e-6)
    np.testing.assert_allclose(fitted.heads, start.normal(size=(24, 3)) / 10, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_guard_says_as_a_backbone_what_it_said_in_training(shapes, talks, source, small, tmp_path, family, method):
    from offmap.train import train

    rows = talks(40)
    train(rows, source(shapes[family]), tmp_path / "guard", small(method=method, epochs=1, evaluations=1, heads=PROBE))
    backbone = TorchBackbone.load(source(tmp_path / "guard"), device="cpu")
    loaded = load_model(source(shapes[family]), "cpu")
    objective = build(loaded, heads_of(32), small(method=method, heads=PROBE)).eval()
    stored = load_file(tmp_path / "guard" / ("model.safetensors" if method == "full" else "adapter_model.safetensors"))
    with torch.no_grad():
        for name, p in objective.model.named_parameters():
            kept = name.replace(".default.", ".")
            if kept in stored:
                p.copy_(stored[kept])
    objective.guard = GuardHeads(backbone._trained.heads, np.ones(192))
    data = material(rows, Renderer(loaded.tokenizer), PROBE.pools)
    with torch.no_grad():
        logits = losses(objective, data, rows_of(data))["logits"].numpy()
    features = backbone(rows, FeatureSpec(scalars=backbone.scalars))
    given = np.stack([features.scalars[f"guard {number}"] for number in (1, 2, 3)], axis=1)
    np.testing.assert_allclose(given, logits, atol=2e-4)
    assert given.std() > 0.05
    silent = Conversation("silent", (Message("user", "nobody answers"),))
    assert np.isfinite(backbone([silent], FeatureSpec(scalars=backbone.scalars)).scalars["guard 1"]).all()
