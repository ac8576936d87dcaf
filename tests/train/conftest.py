"""What the tests of training share: small models of three families, and rows that their letters tell apart."""

import gc
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from offmap.backbones.source import BackboneSource
from offmap.conversation import Conversation, Message
from offmap.detectors import GuardProbe
from offmap.train import TrainOptions, train

FAMILIES = ("llama", "qwen3", "gemma2")


@pytest.fixture(scope="session")
def beside_backbones():
    """What the tests of backbones make their models with, by the name of their file."""

    def helpers(name):
        place = Path(__file__).parents[1] / "backbones" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"small_{name}", place)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found

    return helpers


@pytest.fixture(scope="session")
def shapes(beside_backbones, tmp_path_factory):
    """Family -> the directory of a small random model and its tokenizer, those that the backbones are tested on."""
    helpers = beside_backbones("test_torch")
    return {name: helpers.save(helpers.SHAPES[name], tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(autouse=True, scope="session")
def small_heap():
    """Every run collects garbage; what the imports left need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def undrawn(monkeypatch):
    """No picture is drawn: it takes as long as a small run."""
    monkeypatch.setattr("offmap.train.fit.draw", lambda *_: False)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums of several threads differ in the last bit from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def talks():
    """Rows whose replies draw letters of one half of the alphabet ``sharp`` times as often: safe, unsafe, safe, ..."""

    def made(n, sharp=3.0, start=0, lengths=(8, 30)):
        rng = np.random.default_rng(start)
        rows = []
        for number in range(start, start + n):
            unsafe = bool(number % 2)
            odds = np.where((np.arange(26) >= 13) == unsafe, sharp, 1.0)
            reply, asked = (
                "".join(chr(97 + letter) for letter in rng.choice(26, size, p=p))
                for size, p in ((rng.integers(*lengths), odds / odds.sum()), (24, np.full(26, 1 / 26)))
            )
            messages = (Message("user", asked), Message("assistant", reply))
            rows.append(Conversation(f"r{number}", messages, domain=f"d{number // 2 % 2}", unsafe=unsafe))
        return rows

    return made


@pytest.fixture(scope="session")
def source():
    """A small model read in float32."""
    return lambda model: BackboneSource(str(model), dtype="float32")


@pytest.fixture(scope="session")
def small():
    """Options of a run that takes a second."""

    def made(**changes):
        usual = {
            "heads": GuardProbe(heads=2, strengths=(1e-3,)),
            "epochs": 2,
            "rate": 3e-3,
            "head_rate": 3e-3,
            "batch_tokens": 256,
            "accumulate": 1,
            "validation": 0.25,
            "evaluations": 4,
            "precision": "float32",
        }
        return TrainOptions(**usual | changes)

    return made


@pytest.fixture(scope="session")
def made(shapes, talks, source, small, tmp_path_factory):
    """Family, method -> the record and the directory of a guard of two heads, trained on 60 rows."""

    def run(family, method):
        out = tmp_path_factory.mktemp("guards") / f"{family}-{method}"
        torch.set_num_threads(1)
        return train(talks(60), source(shapes[family]), out, small(method=method), split_seed=3), out

    return cache(run)
