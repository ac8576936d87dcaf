"""What a detector is: a frozen dataclass that, fitted on safe rows, scores features.

Its fields are its configuration and its serialised form; fitting returns a new immutable object, so there is no
"not fitted" state. A detector never touches a model, a file or a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from offmap.features import Features, FeatureSpec, FloatArray

Question = Literal["unsafe", "unknown"]
"""What a score answers: does this look like known harm (a guard), or like nothing seen (an OOD detector)?"""

Arrays = Mapping[str, NDArray[Any]]


@runtime_checkable
class Fitted(Protocol):
    """A detector that has learned. Immutable."""

    def score(self, x: Features) -> FloatArray:
        """One float64 for each row, (n,); higher is more suspicious; NaN only where the row could not be scored."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state, from which ``Detector.restore`` makes an equal object."""
        ...


@runtime_checkable
class Detector(Protocol):
    """The configuration of a detector: a frozen dataclass of plain fields."""

    question: ClassVar[Question]

    def needs(self) -> FeatureSpec:
        """The features that fitting and scoring read."""
        ...

    def fit(self, safe: Features, unsafe: Features | None = None) -> Fitted:
        """Learn from safe rows, and from unsafe ones where the detector uses labels.

        Raises:
            ValueError: too few rows, or unsafe rows missing where they are needed.
        """
        ...

    def restore(self, arrays: Arrays) -> Fitted:
        """The fitted detector whose ``arrays()`` these are."""
        ...


def token_sum(values: NDArray[Any], offsets: NDArray[np.int64]) -> FloatArray:
    """Sum of a ragged column over each row, (n,) float64; 0 for an empty row."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return np.asarray(total[offsets[1:]] - total[offsets[:-1]])
