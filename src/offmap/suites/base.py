"""What a suite is: labelled conversations to train on, and conversations of failures that training never saw.

A suite is data. ``train`` holds only in-distribution domains; ``test`` holds those and the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from offmap.conversation import Conversation


@dataclass(frozen=True)
class Suite:
    """Rows and where they come from.

    Attributes:
        name: how it is called on the command line and in reports.
        train: labelled rows of the in-distribution domains; split into fit, calibrate and threshold by the bench.
        test: labelled rows of every domain. Nothing is ever fitted or chosen on them.
        source: revision, seed or path: what makes the same rows again.
        licence: of the rows.
        citation: a reference, or "".
    """

    name: str
    train: tuple[Conversation, ...]
    test: tuple[Conversation, ...]
    source: str
    licence: str
    citation: str = ""

    @cached_property
    def in_distribution(self) -> tuple[str, ...]:
        """The domains of the training rows, sorted."""
        return tuple(sorted({row.domain for row in self.train}))

    @cached_property
    def failures(self) -> tuple[str, ...]:
        """The test domains outside the training set that hold unsafe rows, sorted."""
        return tuple(sorted({row.domain for row in self.test if row.unsafe} - set(self.in_distribution)))
