"""Detectors: features in, one suspicion score a row out.

Those of other packages are found through the entry-point group ``offmap.detectors``.
"""

from offmap.detectors.base import Arrays, Detector, Fitted, Question
from offmap.detectors.guard_probe import GuardProbe
from offmap.detectors.mahalanobis import Mahalanobis
from offmap.detectors.neighbours import Neighbours
from offmap.detectors.perplexity import Perplexity
from offmap.detectors.scalar import Scalar
from offmap.registry import Registry

DETECTORS: Registry[Detector] = Registry(
    "detector",
    "offmap.detectors",
    {
        "guard_probe": "offmap.detectors.guard_probe:GuardProbe",
        "mahalanobis": "offmap.detectors.mahalanobis:Mahalanobis",
        "neighbours": "offmap.detectors.neighbours:Neighbours",
        "perplexity": "offmap.detectors.perplexity:Perplexity",
        "scalar": "offmap.detectors.scalar:Scalar",
    },
)
"""Every detector that has a name."""

__all__ = [
    "DETECTORS",
    "Arrays",
    "Detector",
    "Fitted",
    "GuardProbe",
    "Mahalanobis",
    "Neighbours",
    "Perplexity",
    "Question",
    "Scalar",
]
