"""Where a backbone comes from: enough to open the same one again on another machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import msgspec

from offmap.backbones.guard_families import GuardName

if TYPE_CHECKING:
    from offmap.backbones.torch import TorchBackbone

POCKET = "pocket"
"""The backbone that the package ships."""


class BackboneSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model and how it is read; see ``TorchBackbone.load`` for the fields.

    ``BackboneSource("guards/mine", guard="llama-guard")`` is a published guard, which also gives the scalar "guard".
    """

    model: str = POCKET
    revision: str | None = None
    adapter: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_tokens: int | None = None
    guard: GuardName | None = None
    policy: str | None = None
    unsafe_label: str | None = None


def open_backbone(
    source: BackboneSource | str = POCKET,
    *,
    revision: str | None = None,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> TorchBackbone:
    """Open a backbone.

    Args:
        source: ``pocket``, a model's directory, the id of a model of the hub, or a ``BackboneSource``.
        revision: the commit of a model of the hub, 40 hexadecimal digits. A ``BackboneSource`` has its own.
        device: ``auto`` is CUDA where there is one.
        progress: told, now and then, how many more conversations are done.

    Raises:
        InputError: it cannot be loaded, or a model of the hub has no commit as revision.
        ValueError: a revision beside a ``BackboneSource``.
    """
    from offmap.backbones.torch import TorchBackbone

    if isinstance(source, str):
        source = BackboneSource(source, revision)
    elif revision is not None:
        raise ValueError(f"revision {revision!r} beside a BackboneSource: wanted as BackboneSource(revision=...)")
    return TorchBackbone.load(source, device=device, progress=progress)


def model_path(model: str) -> str:
    """The directory of the embedded model for ``pocket``; any other name as it is."""
    return str(files("offmap.backbones") / POCKET) if model == POCKET else model
