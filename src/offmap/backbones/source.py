"""Where a backbone comes from: enough to open the same one again on another machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import msgspec

from offmap.backbones.guard_families import CLASSIFIER, GuardName
from offmap.backbones.particles import count_particles, particle
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

    A ``model``, or where there is one an ``adapter``, may be a directory of particles (``offmap train --particles``):
    the backbone is then all of them, each a model of its own in memory and a pass of its own, and ``particle`` says
    that this is the one of that number alone.
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
    particle: int | None = None

    @property
    def gives_tokens(self) -> bool:
        """Whether the opened backbone gives token statistics; ``guard`` is not "auto" there."""
        return self.guard != CLASSIFIER or self.lm is not None

    @property
    def parts(self) -> tuple[BackboneSource, ...]:
        """The models that make up the backbone: the one that reads and judges, or its particles; then that for tokens.

        Raises:
            InputError: a second model beside one that gives token statistics, or one that is no plain causal LM; a
                directory of particles that are not all there.
        """
        if self.lm is None:
            return self._members
        if self.guard not in ("auto", CLASSIFIER):
            raise InputError(f"lm {self.lm.model!r}: beside guard={self.guard!r}; only a classifier needs another LM")
        if self.lm.guard is not None or self.lm.lm is not None:
            raise InputError(f"lm {self.lm.model!r}: found a guard or a third model; wanted a plain causal LM")
        return (*msgspec.structs.replace(self, lm=None)._members, self.lm)

    @property
    def place(self) -> BackboneSource:
        """What is read from disk: the particle's own directory in place of the directory of all of them.

        Raises:
            InputError: a particle that is not there, or all of them where one model is wanted.
        """
        directory = self._directory
        count = count_particles(directory)
        if self.particle is None and not count:
            return self
        if self.particle is None or not 1 <= self.particle <= count:
            raise InputError(
                f"{directory}: holds {count or 'no'} particles; found particle={self.particle}, wanted one"
            )
        name = "model" if self.adapter is None else "adapter"
        return msgspec.structs.replace(self, particle=None, **{name: str(particle(directory, self.particle))})

    @property
    def _directory(self) -> str:
        """Where particles would be."""
        return model_path(self.model) if self.adapter is None else self.adapter

    @property
    def _members(self) -> tuple[BackboneSource, ...]:
        """This model, or each of its particles."""
        count = count_particles(self._directory) if self.particle is None else 0
        return tuple(msgspec.structs.replace(self, particle=at) for at in range(1, count + 1)) or (self,)


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
    readers = len(source.parts)
    tell = _each(progress, readers) if progress and readers > 1 else progress
    opened = open_parts(source, device=device, progress=tell)
    return Joined(opened) if len(opened) > 1 else opened[0]


def open_parts(
    source: BackboneSource, *, device: str = "auto", progress: Callable[[int], None] | None = None
) -> tuple[TorchBackbone, ...]:
    """The models of a backbone, to be cached each on its own; ``Joined`` makes one of them.

    Args:
        source: one model, with ``lm`` two; of particles each.
        device: ``auto`` is CUDA where there is one.
        progress: told how many more conversations each of them has done.

    Raises:
        InputError: one cannot be loaded, or they do not go together.
    """
    from offmap.backbones.joined import gives_tokens
    from offmap.backbones.torch import TorchBackbone

    first, *others = source.parts
    opened = TorchBackbone.load(first, device=device, progress=progress)
    if source.lm and gives_tokens(opened):
        raise InputError(f"lm {source.lm.model!r}: {source.model!r} gives token statistics itself")
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
