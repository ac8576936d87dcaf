"""Where a backbone comes from: enough to open the same one again on another machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import msgspec

from offmap.backbones.guard_families import CLASSIFIER, GuardName
from offmap.errors import InputError

if TYPE_CHECKING:
    from offmap.backbones.joined import Joined
    from offmap.backbones.torch import TorchBackbone

POCKET = "pocket"
"""The backbone that the package ships."""


class BackboneSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model and how it is read; see ``TorchBackbone.load`` for the fields.

    ``BackboneSource("guards/mine", guard="llama-guard")`` is a published guard, which also gives the scalar "guard".

    A classifier has no LM head. With ``lm``, the token statistics are those of a second model, as in the pipeline
    published with MOOD: a base with a guard's adapter, and the same base with a causal LM's.
    """

    model: str = POCKET
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_tokens: int | None = None
    guard: GuardName | None = None
    policy: str | None = None
    unsafe_label: str | None = None
    transcript: bool = False
    lm: BackboneSource | None = None

    @property
    def gives_tokens(self) -> bool:
        """Whether the opened backbone gives token statistics; ``guard`` is not "auto" there."""
        return self.guard != CLASSIFIER or self.lm is not None

    @property
    def parts(self) -> tuple[BackboneSource, ...]:
        """The models that make up the backbone: the one that reads and judges, then the one for token statistics.

        Raises:
            InputError: a second model beside one that gives token statistics, or one that is no plain causal LM.
        """
        if self.lm is None:
            return (self,)
        if self.guard not in ("auto", CLASSIFIER):
            raise InputError(f"lm {self.lm.model!r}: beside guard={self.guard!r}; only a classifier needs another LM")
        if self.lm.guard is not None or self.lm.lm is not None:
            raise InputError(f"lm {self.lm.model!r}: found a guard or a third model; wanted a plain causal LM")
        return (msgspec.structs.replace(self, lm=None), self.lm)


def open_backbone(
    source: BackboneSource | str = POCKET,
    *,
    revision: str | None = None,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> TorchBackbone | Joined:
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
    from offmap.backbones.joined import Joined

    if isinstance(source, str):
        source = BackboneSource(source, revision)
    elif revision is not None:
        raise ValueError(f"revision {revision!r} beside a BackboneSource: wanted as BackboneSource(revision=...)")
    tell = _each(progress, 2) if progress and source.lm else progress
    opened = open_parts(source, device=device, progress=tell)
    return Joined(opened) if len(opened) > 1 else opened[0]


def open_parts(
    source: BackboneSource, *, device: str = "auto", progress: Callable[[int], None] | None = None
) -> tuple[TorchBackbone, ...]:
    """The models of a backbone, to be cached each on its own; ``Joined`` makes one of them.

    Args:
        source: one model, or with ``lm`` two.
        device: ``auto`` is CUDA where there is one.
        progress: told how many more conversations each of them has done.

    Raises:
        InputError: one cannot be loaded, or they do not go together.
    """
    from offmap.backbones.joined import gives_tokens
    from offmap.backbones.torch import TorchBackbone

    first, *others = source.parts
    opened = TorchBackbone.load(first, device=device, progress=progress)
    if others and gives_tokens(opened):
        raise InputError(f"lm {others[0].model!r}: {source.model!r} gives token statistics itself")
    return (opened, *(TorchBackbone.load(other, device=device, progress=progress) for other in others))


def _each(progress: Callable[[int], None], readers: int) -> Callable[[int], None]:
    """``progress`` for several models that all read every conversation: it is done when the last has read it."""
    read = 0

    def tell(count: int) -> None:
        nonlocal read
        before, read = read, read + count
        progress(read // readers - before // readers)

    return tell


def model_path(model: str) -> str:
    """The directory of the embedded model for ``pocket``; any other name as it is."""
    return str(files("offmap.backbones") / POCKET) if model == POCKET else model
