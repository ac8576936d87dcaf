"""Several guards heard together: by the most suspicious, by their mean, or by how much they disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Arrays, Question, require_rows
from offmap.detectors.guard_probe import FittedGuardProbe, GuardProbe
from offmap.features import Features, FeatureSpec, FloatArray

Combine = Literal["disagreement", "pessimistic", "mean", "min"]
"""How the guards' suspicions become one."""
_COMBINE: dict[Combine, Callable[[FloatArray], FloatArray]] = {
    "disagreement": lambda guards: guards.std(axis=1),
    "pessimistic": lambda guards: guards.max(axis=1),
    "mean": lambda guards: guards.mean(axis=1),
    "min": lambda guards: guards.min(axis=1),
}


@dataclass(frozen=True)
class GuardEnsemble:
    """A guard ensemble (arXiv 2605.21602): bootstrapped heads on one forward pass, or several guards' own scores.

    ``"pessimistic"``: the most suspicious guard, a union of suspicions. ``"mean"``: their mean. ``"disagreement"``:
    their standard deviation, which asks whether a row is unknown; of logits, not of probabilities, for far from all
    rows seen the heads' probabilities are all 0 or all 1 and agree, however far their logits lie apart. ``"min"``: as
    published, the minimum after safety has become suspicion by a change of sign; that keeps the most optimistic guard
    and loses what the others saw, so it is there only to compare with, over ``scalars``.

    The state is that of ``probe``: ``ensemble.restore(fitted_probe.arrays())`` hears the heads of an equal probe
    without fitting them again.

    Attributes:
        combine: how the guards become one score.
        scalars: names of several guards' scores, raw, each higher for more suspicious and all on one scale; NaN where
            any is. Empty: the heads of ``probe``.
        probe: the heads; unused with ``scalars``.
    """

    combine: Combine = "disagreement"
    scalars: tuple[str, ...] = ()
    probe: GuardProbe = field(default_factory=GuardProbe)

    def __post_init__(self) -> None:
        if self.combine not in get_args(Combine):
            raise ValueError(f"combine={self.combine!r}: wanted {', '.join(map(repr, get_args(Combine)))}")
        if self.scalars:
            if len(set(self.scalars)) < max(2, len(self.scalars)) or "" in self.scalars:
                raise ValueError(f"scalars={self.scalars}: wanted at least two different names")
        elif self.combine == "min":
            raise ValueError(
                "combine='min' repeats a published fault, over scalars only: 'pessimistic' is what it means"
            )
        elif self.probe.heads < 2:
            raise ValueError(f"probe.heads={self.probe.heads}: wanted at least 2 to combine")

    @property
    def question(self) -> Question:
        """Disagreement says that a row is unknown, the others that it is unsafe."""
        return "unknown" if self.combine == "disagreement" else "unsafe"

    def needs(self) -> FeatureSpec:
        """The scalars, or what the heads read."""
        return FeatureSpec(scalars=frozenset(self.scalars)) if self.scalars else self.probe.needs()

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedGuardEnsemble:
        """Learn the heads; of scalars nothing, the safe rows are only checked to be there.

        Raises:
            ValueError: too few rows of a class.
        """
        if self.scalars:
            require_rows(safe, 1, "safe")
            return FittedGuardEnsemble(self, None)
        return FittedGuardEnsemble(self, self.probe.fit(safe, unsafe))

    def restore(self, arrays: Arrays) -> FittedGuardEnsemble:
        """From ``arrays()`` of an equal detector, or of an equal probe."""
        return FittedGuardEnsemble(self, None if self.scalars else self.probe.restore(arrays))


@dataclass(frozen=True, eq=False)
class FittedGuardEnsemble:
    """Scores rows by what several guards say.

    Attributes:
        config: its configuration.
        heads: the fitted heads; None where scalars are heard.
    """

    config: GuardEnsemble
    heads: FittedGuardProbe | None

    def score(self, x: Features) -> FloatArray:
        """Standard deviation, maximum, mean or minimum of the guards.

        Raises:
            ValueError: features without a scalar or a hidden state that is needed.
        """
        return _COMBINE[self.config.combine](self.guards(x))

    def guards(self, x: Features) -> FloatArray:
        """What each guard says, (n, guards): the heads' logits, or the scalars as they are.

        Raises:
            ValueError: see ``score``.
        """
        if self.heads is not None:
            return self.heads.logits(x)
        missing = [name for name in self.config.scalars if name not in x.scalars]
        if missing:
            raise ValueError(f"features lack the scalar {missing[0]!r}; they hold {sorted(x.scalars) or 'none'}")
        return np.stack([x.scalars[name] for name in self.config.scalars], axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Those of the heads; nothing for scalars."""
        return {} if self.heads is None else self.heads.arrays()
