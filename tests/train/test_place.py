"""One process, one device."""

import pytest
import torch

from offmap.errors import InputError
from offmap.train import train
from offmap.train.place import require_alone, require_first


def test_several_processes_are_refused(shapes, talks, source, small, tmp_path, monkeypatch):
    require_alone()
    monkeypatch.setenv("WORLD_SIZE", "1")
    require_alone()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^WORLD_SIZE is 2; training runs in one process on one device, wanted no"):
        train(talks(40), source(shapes["llama"]), tmp_path / "guard", small())
    assert not (tmp_path / "guard" / "training" / "run.json").exists()


def test_an_accelerator_that_is_not_the_first_is_refused():
    for device in ("cpu", "cuda", "cuda:0", "mps:0"):
        require_first(torch.device(device))
    with pytest.raises(InputError, match=r"^device cuda:1: .* wanted cuda alone, with CUDA_VISIBLE_DEVICES=1"):
        require_first(torch.device("cuda:1"))
