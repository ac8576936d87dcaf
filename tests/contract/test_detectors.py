"""Every registered detector keeps the exported contract, at its defaults and in its other modes."""

import pytest

from offmap.detectors import (
    DETECTORS,
    Excess,
    GuardEnsemble,
    GuardProbe,
    LexicalGuard,
    Mahalanobis,
    Neighbours,
    Perplexity,
    PyOD,
    Scalar,
    SurpriseWindow,
)
from offmap.features import Pool
from offmap.testing import check_detector

OTHER_MODES = [
    PyOD("LODA", layers=(-1, -2), components=8),
    Mahalanobis(reference=True),
    Mahalanobis(layers=(0,), pools=(Pool.USER,)),
    Perplexity("conversation"),
    Scalar("uncertainty", question="unknown"),
    Neighbours(k=1, layers=(-1, 2), pools=(Pool.LAST,)),
    GuardProbe(layers=(-1,), heads=1, strengths=(1e-3,)),
    GuardProbe(layers=(-1,), pools=(Pool.LAST,), heads=3, beta=0.0, seed=7),
    Excess("prompt"),
    SurpriseWindow("reply", windows=(), cusum=True),
    SurpriseWindow("tool", windows=(1, 5, 33), cusum=True),
    LexicalGuard("reply", pairs=False),
    LexicalGuard("user", strengths=(1e-4,)),
    GuardEnsemble("pessimistic", probe=GuardProbe(layers=(-1,), heads=3, strengths=(1e-3,))),
    GuardEnsemble("mean", probe=GuardProbe(layers=(-1,), heads=2, strengths=(1e-3,))),
    GuardEnsemble("pessimistic", scalars=("guard-1", "guard-2")),
    GuardEnsemble("min", scalars=("guard-1", "guard-2")),
]


@pytest.mark.parametrize("name", sorted(DETECTORS.builtin))
def test_defaults_keep_the_contract(name):
    check_detector(DETECTORS.from_spec(name), seed=1)


@pytest.mark.parametrize("detector", OTHER_MODES, ids=str)
def test_other_modes_keep_the_contract(detector):
    check_detector(detector)
