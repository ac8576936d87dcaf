"""Every registered detector keeps the exported contract, at its defaults and in its other modes."""

import pytest

from offmap.detectors import DETECTORS, GuardProbe, Mahalanobis, Neighbours, Perplexity, Scalar
from offmap.features import Pool
from offmap.testing import check_detector

OTHER_MODES = [
    Mahalanobis(reference=True),
    Mahalanobis(layers=(0,), pools=(Pool.USER,)),
    Perplexity("conversation"),
    Scalar("uncertainty", question="unknown"),
    Neighbours(k=1, layers=(-1, 2), pools=(Pool.LAST,)),
    GuardProbe(layers=(-1,), heads=1, strengths=(1e-3,)),
    GuardProbe(layers=(-1,), pools=(Pool.LAST,), heads=3, beta=0.0, seed=7),
]


@pytest.mark.parametrize("name", sorted(DETECTORS.builtin))
def test_defaults_keep_the_contract(name):
    check_detector(DETECTORS.from_spec(name), seed=1)


@pytest.mark.parametrize("detector", OTHER_MODES, ids=str)
def test_other_modes_keep_the_contract(detector):
    check_detector(detector)
