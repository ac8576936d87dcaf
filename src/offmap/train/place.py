"""Where the loop computes: one process, one device. Knows nothing of what is learned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from offmap.errors import InputError


@dataclass(frozen=True)
class Place:
    """Where and how the loop computes.

    Attributes:
        work: the directory of checkpoints.
        device: the processor, or the first accelerator: the one that the Trainer takes.
        bfloat16: whether products are computed in it.
    """

    work: Path
    device: torch.device
    bfloat16: bool


def require_alone() -> None:
    """No launcher started several processes: each would train the whole guard, in one directory.

    Raises:
        InputError: one did.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        raise InputError(f"WORLD_SIZE is {count}; training runs in one process on one device, wanted no launcher")


def require_first(device: torch.device) -> None:
    """The model is where the Trainer would take it: on the first accelerator that the process sees, if on any.

    Raises:
        InputError: it is on another.
    """
    if device.index:
        raise InputError(
            f"device {device}: training takes the first accelerator; wanted {device.type} alone, with "
            f"CUDA_VISIBLE_DEVICES={device.index} for this one"
        )
