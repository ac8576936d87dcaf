"""What detectors share: keys, states of their own, and parts that the contract holds to its rules."""

from dataclasses import dataclass

import numpy as np
import pytest

from offmap.detectors import Explained, Mahalanobis, Perplexity
from offmap.detectors.base import FittedStates, hidden_keys
from offmap.features import Pool
from offmap.testing import check_detector, make_features


def test_every_layer_goes_with_every_pool_once():
    assert hidden_keys((-1, 2), ("last", "mean")) == ((-1, "last"), (-1, "mean"), (2, "last"), (2, "mean"))
    with pytest.raises(ValueError, match="named twice"):
        hidden_keys((-1, -1), (Pool.LAST,))
    with pytest.raises(ValueError, match="named twice"):
        hidden_keys((-1,), (Pool.LAST, Pool.LAST))


def test_only_what_has_parts_is_explained():
    for detector, explained in ((Mahalanobis(), True), (Perplexity(), False)):
        safe = make_features(detector.needs(), 40, 0)
        assert isinstance(detector.fit(safe), Explained) is explained


@dataclass(frozen=True, eq=False)
class FittedBroken(FittedStates):
    fault: str = ""
    restored: bool = False

    def parts(self, x):
        found = super().parts(x)
        first = next(iter(found))
        z = found[first]
        match self.fault:
            case "none":
                return {} if len(x) > 2 else found
            case "names":
                return found if len(x) > 1 else {f"{first} alone": z}
            case "shape":
                return {**found, first: z[:, None]}
            case "finite":
                return {**found, first: z * np.nan}
            case "batch":
                return {**found, first: z + len(x)}
            case "restore":
                return {**found, first: z + self.restored}
        return found

    def score(self, x):
        return np.mean(list(super().parts(x).values()), axis=0)


@dataclass(frozen=True)
class Broken(Mahalanobis):
    fault: str = ""

    def fit(self, safe, unsafe=None):
        return FittedBroken(super().fit(safe).states, self.fault)

    def restore(self, arrays):
        return FittedBroken(super().restore(arrays).states, self.fault, restored=True)


@pytest.mark.parametrize(
    ("fault", "clause"),
    [
        ("none", "parts must name at least one part"),
        ("names", "parts must have the same names always"),
        ("shape", "part 'layer -1 last' must be one finite float64 a row"),
        ("finite", "part 'layer -1 last' must be one finite float64 a row"),
        ("batch", "part 'layer -1 last' must not depend on the other rows"),
        ("restore", "part 'layer -1 last' must be the same to the last bit after restore"),
    ],
)
def test_the_contract_holds_parts_to_its_rules(fault, clause):
    with pytest.raises(AssertionError, match=clause):
        check_detector(Broken(fault=fault))
    check_detector(Broken())
