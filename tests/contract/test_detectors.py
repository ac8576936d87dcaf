"""Every registered detector keeps the exported contract, at its defaults and in its other modes."""

import pytest

from offmap.detectors import (
    DETECTORS,
    Banded,
    ClassConditional,
    ContrastiveNeighbours,
    Excess,
    GuardEnsemble,
    GuardProbe,
    Mahalanobis,
    MinK,
    Neighbours,
    Perplexity,
    PyOD,
    Relative,
    RoleContrast,
    Scalar,
    SurpriseWindow,
    TurnSurprise,
    UnigramRatio,
)
from offmap.features import Pool
from offmap.testing import check_detector

OTHER_MODES = [
    Banded(layers=(-1,), edges=(2, 7), fuse="max"),
    Banded(edges=()),
    ClassConditional(layers=(0,), pools=(Pool.USER,)),
    ContrastiveNeighbours(k=1, layers=(-1, 2), pools=(Pool.LAST,)),
    PyOD("LODA", layers=(-1, -2), components=8),
    Relative("unsafe", layers=(-1,)),
    Relative(per_domain=False, layers=(-1, 2), pools=(Pool.LAST,)),
    Mahalanobis(reference=True),
    Mahalanobis(layers=(0,), pools=(Pool.USER,)),
    Perplexity("conversation"),
    Scalar("uncertainty", question="unknown"),
    Neighbours(k=1, layers=(-1, 2), pools=(Pool.LAST,)),
    GuardProbe(layers=(-1,), heads=1, strengths=(1e-3,)),
    GuardProbe(layers=(-1,), pools=(Pool.LAST,), heads=3, beta=0.0, seed=7),
    Excess("prompt"),
    MinK("conversation", share=0.05),
    TurnSurprise("conversation", level="token"),
    UnigramRatio("user", smoothing=0.1),
    RoleContrast("assistant", "user"),
    SurpriseWindow("reply", windows=(), cusum=True),
    SurpriseWindow("tool", windows=(1, 5, 33), cusum=True),
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
