"""What a backbone is: conversations in, features out, by one forward pass. It never touches a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from offmap.conversation import Conversation
from offmap.features import Features, FeatureSpec


@runtime_checkable
class Backbone(Protocol):
    """Turns conversations into features.

    ``fingerprint`` names everything that can change a feature: model, revision or weights' hash, adapter, template,
    dtype, length limit. Equal fingerprints must give equal features. One that gives scalars names them in an attribute
    ``scalars: frozenset[str]``.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of the function that this backbone computes."""
        ...

    def __call__(self, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
        """Features of each conversation, in the order given, with exactly the columns that ``spec`` asks for."""
        ...
