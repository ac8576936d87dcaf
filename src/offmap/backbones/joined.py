"""Several backbones as one: a model that reads and judges that grade. Knows nothing of what either does.

Where answers cost money or time, cache each backbone on its own, ``Joined((Cached(model, a), Cached(judge, b)))``: a
judge that fails then costs no forward pass, and a new model no answer of the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from offmap.backbones.base import Backbone
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec


def scalars_of(backbone: Backbone) -> frozenset[str]:
    """The names in the attribute ``scalars`` of a backbone that gives any; none where it has no such attribute."""
    return frozenset(getattr(backbone, "scalars", ()))


@dataclass(frozen=True)
class Joined:
    """Several backbones as one.

    Hidden states, token columns and the counts of tokens are those of the first; each scalar comes from the one that
    names it in its attribute ``scalars``, and a backbone of which nothing is wanted is not called. Rows are joined by
    their place in the batch.

    Attributes:
        backbones: the first is the one that reads.

    Raises:
        InputError: no backbones, or a scalar that two of them give.
    """

    backbones: tuple[Backbone, ...]

    def __post_init__(self) -> None:
        if not self.backbones:
            raise InputError("no backbones to join: wanted at least one")
        names = [name for backbone in self.backbones for name in scalars_of(backbone)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"scalars {twice}: given by two backbones; wanted from one, rename the other's")

    @property
    def fingerprint(self) -> str:
        """Those of all, in order."""
        return " + ".join(backbone.fingerprint for backbone in self.backbones)

    @property
    def source(self) -> object:
        """That of the first. A monitor is saved with it, and to load it again all of the backbones must be given."""
        return getattr(self.backbones[0], "source", None)

    @property
    def scalars(self) -> frozenset[str]:
        """All that any of them gives."""
        return frozenset().union(*map(scalars_of, self.backbones))

    def __call__(self, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
        """Features of each conversation, in the order given.

        Raises:
            InputError: a scalar that none of them gives.
            ValueError: a backbone returned other rows than it was given.
        """
        unknown = sorted(spec.scalars - self.scalars)
        if unknown:
            raise InputError(f"scalars {unknown}: no backbone gives them; there are {sorted(self.scalars) or 'none'}")
        first, *others = self.backbones
        whole = first(batch, replace(spec, scalars=spec.scalars & scalars_of(first)))
        scalars = dict(whole.scalars)
        for other in others:
            wanted = spec.scalars & scalars_of(other)
            if wanted:
                part = other(batch, FeatureSpec(scalars=wanted))
                if part.ids != whole.ids:
                    raise ValueError(f"{other.fingerprint}: gave rows {part.ids[:3]}..., wanted {whole.ids[:3]}...")
                scalars |= part.scalars
        return replace(whole, scalars=scalars)
