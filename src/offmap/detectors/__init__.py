"""Detectors: features in, one suspicion score a row out.

Those of other packages are found through the entry-point group ``offmap.detectors``.
"""

from offmap.detectors.banded import Banded
from offmap.detectors.base import Arrays, Detector, Explained, Fitted, Question
from offmap.detectors.class_conditional import ClassConditional
from offmap.detectors.contrastive_neighbours import ContrastiveNeighbours
from offmap.detectors.excess import Excess
from offmap.detectors.guard_ensemble import GuardEnsemble
from offmap.detectors.guard_probe import GuardProbe
from offmap.detectors.lexical_guard import LexicalGuard
from offmap.detectors.mahalanobis import Mahalanobis
from offmap.detectors.min_k import MinK
from offmap.detectors.neighbours import Neighbours
from offmap.detectors.perplexity import Perplexity
from offmap.detectors.pyod_adapter import PyOD
from offmap.detectors.relative import Relative
from offmap.detectors.role_contrast import RoleContrast
from offmap.detectors.scalar import Scalar
from offmap.detectors.surprise_window import SurpriseWindow
from offmap.detectors.turn_surprise import TurnSurprise
from offmap.detectors.unigram_ratio import UnigramRatio
from offmap.registry import Registry

DETECTORS: Registry[Detector] = Registry(
    "detector",
    "offmap.detectors",
    {
        "banded": "offmap.detectors.banded:Banded",
        "class_conditional": "offmap.detectors.class_conditional:ClassConditional",
        "contrastive_neighbours": "offmap.detectors.contrastive_neighbours:ContrastiveNeighbours",
        "excess": "offmap.detectors.excess:Excess",
        "guard_ensemble": "offmap.detectors.guard_ensemble:GuardEnsemble",
        "guard_probe": "offmap.detectors.guard_probe:GuardProbe",
        "lexical_guard": "offmap.detectors.lexical_guard:LexicalGuard",
        "mahalanobis": "offmap.detectors.mahalanobis:Mahalanobis",
        "min_k": "offmap.detectors.min_k:MinK",
        "neighbours": "offmap.detectors.neighbours:Neighbours",
        "perplexity": "offmap.detectors.perplexity:Perplexity",
        "pyod": "offmap.detectors.pyod_adapter:PyOD",
        "relative": "offmap.detectors.relative:Relative",
        "role_contrast": "offmap.detectors.role_contrast:RoleContrast",
        "scalar": "offmap.detectors.scalar:Scalar",
        "surprise_window": "offmap.detectors.surprise_window:SurpriseWindow",
        "turn_surprise": "offmap.detectors.turn_surprise:TurnSurprise",
        "unigram_ratio": "offmap.detectors.unigram_ratio:UnigramRatio",
    },
)
"""Every detector that has a name."""

__all__ = [
    "DETECTORS",
    "Arrays",
    "Banded",
    "ClassConditional",
    "ContrastiveNeighbours",
    "Detector",
    "Excess",
    "Explained",
    "Fitted",
    "GuardEnsemble",
    "GuardProbe",
    "LexicalGuard",
    "Mahalanobis",
    "MinK",
    "Neighbours",
    "Perplexity",
    "PyOD",
    "Question",
    "Relative",
    "RoleContrast",
    "Scalar",
    "SurpriseWindow",
    "TurnSurprise",
    "UnigramRatio",
]
