"""The options that say which model reads the conversations, shared by the commands that fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cyclopts import Parameter
from rich.console import Console

if TYPE_CHECKING:
    from offmap.backbones import Backbone
    from offmap.backbones.guard_families import GuardName
    from offmap.backbones.torch import TorchBackbone
    from offmap.cli.progress import Tick
    from offmap.detectors import Detector


@Parameter(name="*", group="Backbone")
@dataclass(frozen=True)
class BackboneOptions:
    """The model that reads the conversations, and how.

    Attributes:
        backbone: pocket, a local Hugging Face model directory, or a hub id with --revision.
        revision: The pinned revision of a backbone from the hub.
        guard: The backbone is a published guard of this family, and its own score a detector too: llama-guard,
            qwen3guard, shieldgemma, granite-guardian, classifier, or auto.
        policy: What a shieldgemma (always) or a granite-guardian (otherwise: harm) judges by.
        unsafe_label: The label of a classifier that means unsafe, where its labels do not say.
    """

    backbone: str = "pocket"
    revision: str | None = None
    guard: str | None = None
    policy: str | None = None
    unsafe_label: str | None = None

    def open(self, tick: Tick) -> TorchBackbone:
        """The model, loaded; it tells ``tick`` how many more conversations it has read.

        Raises:
            InputError: it cannot be loaded, or an option is not for it.
        """
        from offmap.backbones import BackboneSource, open_backbone

        source = BackboneSource(
            self.backbone,
            self.revision,
            guard=cast("GuardName | None", self.guard),  # opening refuses any other
            policy=self.policy,
            unsafe_label=self.unsafe_label,
        )
        return open_backbone(source, progress=tick)


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
