"""What was trained on: written and read, united over directories, refused where it is met again."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from offmap.artifacts import pack_arrays
from offmap.backbones import BackboneSource, open_backbone
from offmap.backbones.guard_heads import GuardRecord, write_guard
from offmap.backbones.loading import identity_of
from offmap.backbones.source import model_path
from offmap.backbones.trained_on import (
    content_hashes,
    read_trained_on,
    require_unseen,
    trained_on,
    union,
    write_trained_on,
)
from offmap.conversation import Conversation, Message
from offmap.detectors import GuardProbe
from offmap.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TALKS = [Conversation(f"c{n}", (Message("user", "hi " * n), Message("assistant", "so " * n))) for n in range(1, 7)]
FIRST, SECOND = (content_hashes(TALKS[at : at + 2]) for at in (0, 2))
HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=9)


@given(st.lists(HASHES, max_size=4))
def test_a_union_is_that_of_sets(each):
    found = union(*(np.array(hashes, np.uint64) for hashes in each))
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(set().union(*each))


def test_what_is_written_is_read_and_silence_is_nothing(tmp_path):
    write_trained_on(tmp_path, SECOND, FIRST, FIRST)
    (tmp_path / "empty").mkdir()
    for places in ((tmp_path,), (tmp_path, tmp_path / "empty"), (tmp_path / "nowhere", tmp_path, tmp_path)):
        assert read_trained_on(*places).tolist() == sorted([*FIRST.tolist(), *SECOND.tolist()])
    assert read_trained_on(tmp_path / "empty", tmp_path / "nowhere").dtype == np.uint64
    for name in ("guard.safetensors", "trained_on.safetensors"):
        (tmp_path / "empty" / name).write_bytes(pack_arrays({"other": FIRST}))
        with pytest.raises(InputError, match=rf"{name}: lacks the array 'trained_on'"):
            read_trained_on(tmp_path, tmp_path / "empty")
        (tmp_path / "empty" / name).unlink()


@dataclass
class Seen:
    trained_on: np.ndarray = field(default_factory=lambda: content_hashes(TALKS[:2]))
    fingerprint: str = "seen"


def test_rows_that_were_seen_are_counted_and_named():
    new = TALKS[2:5]
    require_unseen(Seen(), {"calibrate": new, "test": []})
    require_unseen(object(), {"calibrate": TALKS})
    assert not len(trained_on(object()))
    renamed = msgspec.structs.replace(TALKS[1], id="twin", unsafe=True)
    with pytest.raises(InputError, match=r"^2 of 4 test rows, such as 'twin', were trained on by the backbone"):
        require_unseen(Seen(), {"calibrate": new, "test": [renamed, *new[:2], TALKS[0]]})


def guard(place, hashes, method="full", base=None):
    """Make a guard of what is in a directory."""
    probe = GuardProbe(heads=1)
    size = len(probe.layers) * len(probe.pools) * 192
    fitted = probe.restore(
        {
            "mean": np.zeros(size), "heads": np.ones((size, 1)), "intercepts": np.zeros(1), "strength": np.ones(1),
        }
    )  # fmt: skip
    base = base or BackboneSource()
    write_guard(place, GuardRecord(base, identity_of(base), method, probe), fitted, hashes)


def adapt(place, task, base):
    """An adapter of random weights for a base."""
    kind = AutoModelForSequenceClassification if task == "SEQ_CLS" else AutoModelForCausalLM
    options = {"num_labels": 2} if task == "SEQ_CLS" else {}
    torch.manual_seed(0)
    model = kind.from_pretrained(base, dtype=torch.float32, **options)
    saved = {"modules_to_save": ["score"]} if options else {}
    get_peft_model(model, LoraConfig(r=1, task_type=task, target_modules=["q_proj"], **saved)).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The embedded model as a guard that was trained on the first rows."""
    place = shutil.copytree(model_path("pocket"), tmp_path_factory.mktemp("full") / "guard")
    guard(place, FIRST)
    return place


def known(source):
    return open_backbone(source, device="cpu").trained_on.tolist()


BOTH = sorted([*FIRST.tolist(), *SECOND.tolist()])


def test_a_guard_and_an_adapter_on_it_say_what_either_was_trained_on(full, tmp_path):
    assert known(str(full)) == sorted(FIRST.tolist())
    lm = adapt(tmp_path / "lm", "CAUSAL_LM", full)
    write_trained_on(lm, SECOND)
    assert known(BackboneSource(str(full), adapter=str(lm))) == BOTH


def test_another_guard_on_a_trained_one_says_it_too(full, tmp_path):
    judge = adapt(tmp_path / "judge", "SEQ_CLS", full)
    told = BackboneSource(str(full), None, str(judge), None, "float32", guard="classifier", unsafe_label="LABEL_1")
    assert known(told) == sorted(FIRST.tolist()), "the adapter says nothing, its base does"
    write_trained_on(judge, SECOND)
    assert known(told) == BOTH


def test_a_guard_that_is_an_adapter_says_what_its_base_was_trained_on(full, tmp_path):
    place, base = adapt(tmp_path / "lora", "CAUSAL_LM", full), BackboneSource(str(full))
    guard(place, SECOND, "lora", base)
    assert known(str(place)) == BOTH
    assert known(BackboneSource(str(full), adapter=str(place))) == BOTH


@pytest.mark.parametrize("named", ["pocket", "directory"])
def test_an_adapter_goes_onto_no_other_weights_than_it_was_trained_on(tmp_path, monkeypatch, named):
    model = shutil.copytree(model_path("pocket"), tmp_path / "model")
    base = BackboneSource("pocket" if named == "pocket" else str(model))
    place = adapt(tmp_path / "lora", "CAUSAL_LM", model)
    guard(place, FIRST, "lora", base)
    before = open_backbone(str(place), device="cpu").fingerprint
    lm = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        lm.get_input_embeddings().weight[0, 0] += 1
    lm.save_pretrained(model)
    if named == "pocket":
        monkeypatch.setattr(
            "offmap.backbones.loading.model_path", lambda name: str(model) if name == "pocket" else name
        )
    for source in (BackboneSource(str(place)), BackboneSource(base.model, adapter=str(place))):
        said = rf"lora/guard\.json: base '{base.model}': found the weights sha256:(\w+), wanted sha256:(?!\1)\w+, which"
        with pytest.raises(InputError, match=said):
            open_backbone(source, device="cpu")
    for file in Path(model_path("pocket")).iterdir():
        shutil.copy(file, model)
    (model / "generation_config.json").unlink(missing_ok=True)
    assert open_backbone(str(place), device="cpu").fingerprint == before


def test_what_a_guard_trained_whole_came_from_is_a_record_alone(full, tmp_path):
    place = shutil.copytree(full, tmp_path / "guard")
    said = (place / "guard.json").read_text()
    (place / "guard.json").write_text(said.replace(identity_of(BackboneSource()), "sha256:gone"))
    assert "sha256:gone" in (place / "guard.json").read_text()
    assert open_backbone(str(place), device="cpu").scalars == {"guard"}
