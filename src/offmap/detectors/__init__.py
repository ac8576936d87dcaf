"""Detectors: features in, one suspicion score a row out.

Those of other packages are found through the entry-point group ``offmap.detectors``.
"""

from offmap.detectors.base import Arrays, Detector, Explained, Fitted, Question
from offmap.detectors.excess import Excess
from offmap.detectors.guard_ensemble import GuardEnsemble
from offmap.detectors.guard_probe import GuardProbe
from offmap.detectors.lexical_guard import LexicalGuard
from offmap.detectors.mahalanobis import Mahalanobis
from offmap.detectors.neighbours import Neighbours
from offmap.detectors.perplexity import Perplexity
from offmap.detectors.pyod_adapter import PyOD
from offmap.detectors.scalar import Scalar
from offmap.detectors.surprise_window import SurpriseWindow
from offmap.registry import Registry

DETECTORS: Registry[Detector] = Registry(
    "detector",
    "offmap.detectors",
    {
        "excess": "offmap.detectors.excess:Excess",
        "guard_ensemble": "offmap.detectors.guard_ensemble:GuardEnsemble",
        "guard_probe": "offmap.detectors.guard_probe:GuardProbe",
        "lexical_guard": "offmap.detectors.lexical_guard:LexicalGuard",
        "mahalanobis": "offmap.detectors.mahalanobis:Mahalanobis",
        "neighbours": "offmap.detectors.neighbours:Neighbours",
        "perplexity": "offmap.detectors.perplexity:Perplexity",
        "pyod": "offmap.detectors.pyod_adapter:PyOD",
        "scalar": "offmap.detectors.scalar:Scalar",
        "surprise_window": "offmap.detectors.surprise_window:SurpriseWindow",
    },
)
"""Every detector that has a name."""

__all__ = [
    "DETECTORS",
    "Arrays",
    "Detector",
    "Excess",
    "Explained",
    "Fitted",
    "GuardEnsemble",
    "GuardProbe",
    "LexicalGuard",
    "Mahalanobis",
    "Neighbours",
    "Perplexity",
    "PyOD",
    "Question",
    "Scalar",
    "SurpriseWindow",
]
