"""The detectors that a monitor is made of unless it is told otherwise, by what its backbone gives.

Knows nothing of how a detector works.
"""

from __future__ import annotations

from collections.abc import Mapping

from offmap.backbones.base import Backbone
from offmap.backbones.guard_families import CLASSIFIER
from offmap.backbones.joined import scalars_of
from offmap.backbones.source import BackboneSource
from offmap.detectors import Detector, Scalar
from offmap.monitor import DEFAULT_DETECTORS

PUBLISHED_GUARD = "published guard"
"""What the detector is called that hears the backbone's own verdict."""


def default_detectors(backbone: Backbone) -> dict[str, Detector]:
    """``DEFAULT_DETECTORS``, as far as the backbone gives what they read.

    A published guard's own score stands beside the guard probe and does not replace it: one knows what its makers
    called unsafe, the other what these training rows do. Their p-values fuse into one answer.
    """
    return served(DEFAULT_DETECTORS, backbone) | (
        {PUBLISHED_GUARD: Scalar()} if Scalar().name in scalars_of(backbone) else {}
    )


def served(detectors: Mapping[str, Detector], backbone: Backbone) -> dict[str, Detector]:
    """Those that need no token statistics, and the others where the backbone gives these."""
    reads_tokens = gives_tokens(backbone)
    return {name: found for name, found in detectors.items() if reads_tokens or not found.needs().tokens}


def gives_tokens(backbone: Backbone) -> bool:
    """Whether the backbone gives token statistics: a classifier, which has no LM head, does not."""
    source = getattr(backbone, "source", None)
    return not (isinstance(source, BackboneSource) and source.guard == CLASSIFIER)
