"""The detectors that a monitor is made of unless it is told otherwise, by what its backbone gives.

Knows nothing of how a detector works.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from offmap.backbones.base import Backbone
from offmap.backbones.guard_heads import GUARD
from offmap.backbones.joined import gives_tokens, scalars_of
from offmap.backbones.trained_on import trained_on
from offmap.detectors import Detector, GuardEnsemble, Scalar
from offmap.monitor import DEFAULT_DETECTORS

PUBLISHED_GUARD = "published guard"
"""What the detector is called that hears the backbone's own verdict."""


def default_detectors(backbone: Backbone) -> dict[str, Detector]:
    """``DEFAULT_DETECTORS``, as far as the backbone gives what they read.

    The heads of a guard that offmap trained take the place of the guard probe: they have learned from the same rows,
    and the most suspicious of several is heard. A published guard's own score stands beside the probe and does not
    replace it: one knows what its makers called unsafe, the other what these training rows do. Their p-values fuse
    into one answer.
    """
    usual, given = served(DEFAULT_DETECTORS, backbone), scalars_of(backbone)
    if len(trained_on(backbone)) and any(f"{name} ".startswith(f"{GUARD} ") for name in given):
        return usual | {GUARD: guard_of(given)}
    return usual | ({PUBLISHED_GUARD: Scalar()} if GUARD in given else {})


def guard_of(scalars: Collection[str]) -> Detector:
    """The detector that hears a trained guard: its one head, or the most suspicious of several."""
    several = tuple(sorted(name for name in scalars if name.startswith(f"{GUARD} ")))
    return GuardEnsemble("pessimistic", several) if len(several) > 1 else Scalar(next(iter(several), GUARD))


def served(detectors: Mapping[str, Detector], backbone: Backbone) -> dict[str, Detector]:
    """Those that need no token statistics, and the others where the backbone gives these."""
    reads_tokens = gives_tokens(backbone)
    return {name: found for name, found in detectors.items() if reads_tokens or not found.needs().tokens}
