"""The options that say which model reads the conversations, shared by the commands that fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cyclopts import Parameter
from rich.console import Console

if TYPE_CHECKING:
    from offmap.backbones import Backbone, BackboneSource
    from offmap.backbones.guard_families import GuardName
    from offmap.backbones.joined import Joined
    from offmap.backbones.torch import TorchBackbone
    from offmap.cli.progress import Tick
    from offmap.detectors import Detector


@Parameter(name="*", group="Backbone")
@dataclass(frozen=True)
class BackboneOptions:
    """The model that reads the conversations, and how.

    Attributes:
        backbone: pocket, a local Hugging Face model directory, what `offmap train` left, or a hub id with --revision.
        revision: The pinned revision of a backbone from the hub.
        adapter: A PEFT adapter for the backbone, merged into it: a directory, or a hub id with --adapter-revision; or a
            directory of several, of `offmap train --particles`, which make as many models.
        adapter_revision: The pinned revision of an adapter from the hub.
        lm_adapter: Beside a classifier, which has no LM head: the adapter that makes the same backbone the causal LM
            that token statistics (perplexity) come from.
        lm_adapter_revision: The pinned revision of that adapter.
        guard: The backbone is a published guard of this family, and its own score a detector too: llama-guard,
            qwen3guard, shieldgemma, granite-guardian, classifier, or auto.
        policy: What a shieldgemma (always) or a granite-guardian (otherwise: harm) judges by.
        unsafe_label: The label of a classifier that means unsafe, where its labels do not say; 'not X' of a lone output
            X that is high where a conversation is safe.
        transcript: Conversations are read as "Human: ..." and "Assistant: ..." after empty lines, as the guards
            published with MOOD read them, and not by the backbone's chat template.
    """

    backbone: str = "pocket"
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None
    lm_adapter: str | None = None
    lm_adapter_revision: str | None = None
    guard: str | None = None
    policy: str | None = None
    unsafe_label: str | None = None
    transcript: bool = False

    @property
    def source(self) -> BackboneSource:
        """The model and how it is read, nothing of it loaded.

        Raises:
            InputError: half of an adapter's name.
        """
        from msgspec.structs import replace

        from offmap.backbones import BackboneSource
        from offmap.errors import InputError

        if self.lm_adapter is None and self.lm_adapter_revision is not None:
            raise InputError("found --lm-adapter-revision alone; wanted --lm-adapter too")
        plain = BackboneSource(self.backbone, self.revision, transcript=self.transcript)
        lm = plain if self.lm_adapter else None
        return replace(
            plain,
            adapter=self.adapter,
            adapter_revision=self.adapter_revision,
            guard=cast("GuardName | None", self.guard),  # opening refuses any other
            policy=self.policy,
            unsafe_label=self.unsafe_label,
            lm=lm and replace(lm, adapter=self.lm_adapter, adapter_revision=self.lm_adapter_revision),
        )

    def open(self, tick: Tick) -> TorchBackbone | Joined:
        """The model, loaded; it tells ``tick`` how many more conversations it has read.

        Raises:
            InputError: it cannot be loaded, or an option is not for it.
        """
        from offmap.backbones import open_backbone

        return open_backbone(self.source, progress=tick)


POCKET = BackboneOptions()
"""The embedded backbone."""


def detectors_for(backbone: Backbone) -> dict[str, Detector]:
    """The default detectors of a backbone; says on standard error which of the usual ones it cannot serve."""
    from offmap.defaults import default_detectors
    from offmap.monitor import DEFAULT_DETECTORS

    chosen = default_detectors(backbone)
    missing = [name for name in DEFAULT_DETECTORS if name not in chosen]
    if missing:
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"left out: {', '.join(missing)}; a classifier gives no token statistics")
    return chosen
