"""Whether rows that share a line keep apart: models that do, and models that mix them."""

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
)

from offmap.backbones.loading import load_model
from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.rendering import Renderer
from offmap.train import train
from offmap.train.objective import Objective
from offmap.train.packing import require_apart
from offmap.train.rows import material

SIZES = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
MIXING = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SIZES, hidden_size=32, num_hidden_layers=2, state_size=4)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**SIZES, hidden_size=32, n_layer=2, n_head=4)),
}
PACKED = [[[0], [1]], [[2], [3, 4, 5]]]


@pytest.fixture
def opened(source, shapes, talks):
    """A model's directory -> an objective that only reads, and rows."""

    def make(place):
        loaded = load_model(source(place), "cpu")
        data = material(talks(6), Renderer(AutoTokenizer.from_pretrained(shapes["llama"])), GuardProbe().pools)
        return Objective(loaded.model, loaded.decoder, None, None, (), 0.0), data

    return make


def save(model, shapes, place):
    torch.manual_seed(0)
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(shapes["llama"]).save_pretrained(place)
    return place


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_whose_attention_heeds_positions_pass(shapes, opened, family, dtype):
    objective, data = opened(shapes[family])
    require_apart(objective.train(), PACKED, data, dtype)
    assert objective.training


def test_learned_positions_pass(shapes, opened, tmp_path):
    model = GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=120))
    require_apart(*_first(opened(save(model, shapes, tmp_path))), torch.float32)


def _first(made):
    objective, data = made
    return objective, PACKED, data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MIXING)
def test_models_that_mix_rows_are_refused(shapes, opened, tmp_path, name):
    objective, data = opened(save(MIXING[name](), shapes, tmp_path))
    with pytest.raises(InputError, match=r"ForCausalLM: (mixes rows|takes no positions).*; wanted pack off"):
        require_apart(objective, PACKED, data, torch.float32)
    require_apart(objective, [[[0], [1]]], data, torch.float32)


def test_nothing_is_trained_where_attention_crosses_rows(shapes, talks, source, small, tmp_path, monkeypatch, undrawn):
    plain = Objective.read
    monkeypatch.setattr(Objective, "read", lambda self, ids, positions: plain(self, ids, positions.clamp(min=1)))
    call = (talks(40, lengths=(4, 120)), source(shapes["llama"]), tmp_path / "guard")
    with pytest.raises(InputError, match="LlamaForCausalLM: mixes rows that share a line; wanted pack off"):
        train(*call, small(pack=True, epochs=1, batch_tokens=1024))
    assert not (tmp_path / "guard" / "training" / "run.json").exists()
    train(*call, small(epochs=0.1))
