"""What a detector is: a frozen dataclass that, fitted on safe rows, scores features.

Its fields are its configuration and its serialised form; fitting returns a new immutable object, so there is no
"not fitted" state. A detector never touches a model, a file or a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from offmap.features import Features, FeatureSpec, FloatArray, HiddenKey, Pool

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
class Explained(Fitted, Protocol):
    """A fitted detector of several parts that tells what each of them found."""

    def parts(self, x: Features) -> dict[str, FloatArray]:
        """Name of a part -> its standardised score of each row, (n,), higher more suspicious.

        ``score`` is computed from these alone, in a way that the detector states. The names are the same for all rows:
        "layer -1 assistant", "window 16".
        """
        ...


@runtime_checkable
class Detector(Protocol):
    """The configuration of a detector: a frozen dataclass of plain fields."""

    @property
    def question(self) -> Question:
        """What its score answers; a class attribute, or a field where it depends on the configuration."""
        ...

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


def hidden_keys(layers: Sequence[int], pools: Sequence[Pool]) -> tuple[HiddenKey, ...]:
    """Every layer with every pool.

    Raises:
        ValueError: no layer, no pool, or one named twice.
    """
    if not layers or not pools:
        raise ValueError(f"layers={tuple(layers)}, pools={tuple(pools)}: wanted at least one of each")
    if len(set(layers)) < len(layers) or len(set(pools)) < len(pools):
        raise ValueError(f"layers={tuple(layers)}, pools={tuple(map(str, pools))}: one is named twice")
    return tuple((layer, Pool(pool)) for layer in layers for pool in pools)


def part_name(key: HiddenKey) -> str:
    """What ``Explained.parts`` calls a pooled state: "layer -1 assistant"."""
    return f"layer {key[0]} {key[1]}"


def hidden_rows(x: Features, key: HiddenKey) -> NDArray[np.float32]:
    """The pooled states of one layer, (n, d).

    Raises:
        ValueError: features without that column.
    """
    if key not in x.hidden:
        found = ", ".join(f"{layer}:{pool}" for layer, pool in sorted(x.hidden)) or "none"
        raise ValueError(f"features lack the hidden state {key[0]}:{key[1]}; they hold {found}")
    return x.hidden[key]


def require_rows(x: Features | None, wanted: int, kind: str) -> Features:
    """``x``, if it can be learned from.

    Args:
        x: the rows to fit on.
        wanted: the fewest rows that make sense.
        kind: what the rows are called in the message: "safe" or "unsafe".

    Raises:
        ValueError: fewer rows than wanted, or a hidden state that is not finite.
    """
    if x is None or len(x) < wanted:
        raise ValueError(f"{0 if x is None else len(x)} {kind} rows to fit on: wanted at least {wanted}")
    for (layer, pool), rows in x.hidden.items():
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            raise ValueError(
                f"{kind} row {x.ids[first]!r}: hidden state {layer}:{pool} is not finite; leave the row out"
            )
    return x


class State(Protocol):
    """What a detector learned of one pooled state."""

    def score(self, rows: NDArray[Any]) -> FloatArray:
        """The standardised score of each pooled vector, (n, d) to (n,)."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it holds."""
        ...


@dataclass(frozen=True, eq=False)
class FittedStates:
    """A fitted detector that judges every pooled state by itself; its score is the mean of theirs."""

    states: Mapping[HiddenKey, State]

    def score(self, x: Features) -> FloatArray:
        """Mean of ``parts``."""
        return np.asarray(np.mean(list(self.parts(x).values()), axis=0))

    def parts(self, x: Features) -> dict[str, FloatArray]:
        """The standardised score of every pooled state."""
        return {part_name(key): state.score(hidden_rows(x, key)) for key, state in self.states.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What every state holds, under names that begin with layer and pool."""
        return {
            f"{layer}.{pool}.{name}": array
            for (layer, pool), state in self.states.items()
            for name, array in state.arrays().items()
        }


def state_arrays(arrays: Arrays, key: HiddenKey, names: Sequence[str]) -> tuple[NDArray[Any], ...]:
    """Copies of the named arrays of one pooled state, as ``FittedStates.arrays`` wrote them."""
    return tuple(np.array(arrays[f"{key[0]}.{key[1]}.{name}"]) for name in names)
