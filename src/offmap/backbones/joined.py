"""Several backbones as one: a model that reads and judges that grade. Knows nothing of what either does.

Where answers cost money or time, cache each backbone on its own, ``Joined((Cached(model, a), Cached(judge, b)))``: a
judge that fails then costs no forward pass, and a new model no answer of the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.backbones.base import Backbone
from offmap.backbones.source import BackboneSource
from offmap.backbones.trained_on import trained_on
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, TokenStat


def scalars_of(backbone: Backbone) -> frozenset[str]:
    """The names in the attribute ``scalars`` of a backbone that gives any; none where it has no such attribute."""
    return frozenset(getattr(backbone, "scalars", ()))


def gives_tokens(backbone: Backbone) -> bool:
    """Whether it gives token statistics: what its attribute ``gives_tokens`` says, else that of its ``source``.

    True where neither says: only a backbone that gives none has to. A classifier, without an LM head, is one.
    """
    said = getattr(backbone, "gives_tokens", None)
    return bool(getattr(getattr(backbone, "source", None), "gives_tokens", True) if said is None else said)


@dataclass(frozen=True)
class Joined:
    """Several backbones as one.

    Hidden states and the counts of tokens are those of the first; token columns those of the first that gives any,
    which must have read as many tokens, so that what is said of a token holds of both; each scalar comes from the one
    that names it in its attribute ``scalars``. A backbone of which nothing is wanted is not called. Rows are joined by
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
        """That of the first, with that of another which gives the token columns as its ``lm``; particles as a whole.

        A monitor is saved with it. To load one again that hears more than these, all must be given.
        """
        first, speaker = (getattr(each, "source", None) for each in (self.backbones[0], self._speaker))
        if len(self.backbones) > 1 and _particle(self.backbones[1]) is not None:
            first = msgspec.structs.replace(first, particle=None) if isinstance(first, BackboneSource) else first
        if self._speaker is self.backbones[0] or not isinstance(speaker, BackboneSource):
            return first
        return msgspec.structs.replace(first, lm=speaker) if isinstance(first, BackboneSource) else first

    @property
    def trained_on(self) -> NDArray[np.uint64]:
        """Hashes of what any of them was trained on."""
        return np.unique(np.concatenate([trained_on(backbone) for backbone in self.backbones]))

    @property
    def gives_tokens(self) -> bool:
        """Whether any of them gives token statistics."""
        return any(map(gives_tokens, self.backbones))

    @property
    def _speaker(self) -> Backbone:
        """The one that gives token columns; the first, which refuses, where none does."""
        return next(filter(gives_tokens, self.backbones), self.backbones[0])

    @property
    def scalars(self) -> frozenset[str]:
        """All that any of them gives."""
        return frozenset().union(*map(scalars_of, self.backbones))

    def __call__(self, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
        """Features of each conversation, in the order given.

        Raises:
            InputError: a scalar that none of them gives, or token columns of a backbone that read another number of
                tokens than the first.
            ValueError: a backbone returned other rows than it was given.
        """
        unknown = sorted(spec.scalars - self.scalars)
        if unknown:
            raise InputError(f"scalars {unknown}: no backbone gives them; there are {sorted(self.scalars) or 'none'}")
        first, *others = self.backbones
        whole = first(batch, replace(self._part(first, spec), hidden=spec.hidden))
        for other in others:
            wanted = self._part(other, spec)
            if wanted != FeatureSpec():
                whole = _beside(whole, other(batch, wanted), other.fingerprint)
        return whole

    def _part(self, backbone: Backbone, spec: FeatureSpec) -> FeatureSpec:
        """What of a spec's tokens and scalars one backbone is to give."""
        tokens = spec.tokens if backbone is self._speaker else frozenset[TokenStat]()
        return FeatureSpec(tokens=tokens, scalars=spec.scalars & scalars_of(backbone))


def _particle(backbone: Backbone) -> int | None:
    source = getattr(backbone, "source", None)
    return source.particle if isinstance(source, BackboneSource) else None


def _beside(whole: Features, part: Features, name: str) -> Features:
    """``whole`` with the token columns and the scalars of ``part``."""
    if part.ids != whole.ids:
        raise ValueError(f"{name}: gave rows {part.ids[:3]}..., wanted {whole.ids[:3]}...")
    joined = replace(whole, scalars={**whole.scalars, **part.scalars})
    if part.tokens is None:
        return joined
    other = np.flatnonzero((part.n_tokens != whole.n_tokens) | (part.n_dropped != whole.n_dropped))
    if len(other):
        at = int(other[0])
        read = ", ".join(f"{rows.n_tokens[at]} tokens and left out {rows.n_dropped[at]}" for rows in (whole, part))
        raise InputError(
            f"conversation {whole.ids[at]!r}: two backbones read it differently ({read}); wanted one tokenizer, one "
            "template and one limit for hidden states and token statistics"
        )
    return replace(joined, tokens=part.tokens)
