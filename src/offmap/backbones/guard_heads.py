"""A trained guard as a directory: a model or an adapter, guard heads on its states, and what they were trained on.

``guard.json`` says what it is and is written last: a directory without it holds no guard. ``guard.safetensors`` holds
the heads and a hash of every conversation that any weight was fitted to, so that nobody calibrates or tests on one of
them unknowingly. Knows nothing of how it was trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.artifacts import nested, pack_arrays, sha256, unpack_arrays
from offmap.atomic import write_whole
from offmap.backbones.base import Backbone
from offmap.backbones.source import BackboneSource
from offmap.conversation import Conversation, content_key
from offmap.detectors.guard_probe import FittedGuardProbe, GuardProbe
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec

RECORD, HEADS = "guard.json", "guard.safetensors"
UNDER_WAY = Path("training") / "run.json"
"""In a directory without a record: of a training run that has not ended."""
TRAINED_ON = "trained_on.safetensors"
"""Beside an adapter that comes without heads: what it was trained on."""
FORMAT = 1
GUARD = "guard"
"""The scalar of a lone head; several are called "guard 1", "guard 2", ..., those of particles all through."""


class GuardRecord(msgspec.Struct, frozen=True):
    """What a trained guard's directory says of itself.

    Attributes:
        base: the model that was trained.
        method: full, where the directory is a model itself; lora, where it holds an adapter for ``base``.
        heads: what the guard heads read.
        max_tokens: the limit that rows were cut at, or None.
        split_seed: of the deal whose fit rows it was trained on, or None where all given rows were.
        run: how it was trained and how that went, for people.
        format: of this file.
    """

    base: BackboneSource
    method: Literal["full", "lora"]
    heads: GuardProbe
    max_tokens: int | None = None
    split_seed: int | None = None
    run: dict[str, Any] = {}
    format: int = FORMAT


@dataclass(frozen=True)
class TrainedGuard:
    """Guard heads for a model, and what is known of them.

    Attributes:
        record: what the directory says.
        heads: the fitted heads.
        trained_on: hashes of the conversations that weights were fitted to, sorted.
        identity: a hash of the record and the arrays.
        directory: where it was read from.
        particle: its number among particles, or None.
    """

    record: GuardRecord
    heads: FittedGuardProbe
    trained_on: NDArray[np.uint64]
    identity: str
    directory: Path
    particle: int | None = None

    def reads(self, source: BackboneSource) -> BackboneSource:
        """What opens the trained model itself, read as ``source`` says: the directory, or its base with the adapter.

        Raises:
            InputError: an adapter for what is an adapter itself, or a base of which the same holds.
        """
        base = self.record.base
        if self.record.method == "full":
            return msgspec.structs.replace(source, model=str(self.directory), revision=None)
        if source.adapter or base.adapter:
            raise InputError(f"{self.directory}: a trained adapter and {source.adapter or base.adapter!r}; wanted one")
        return msgspec.structs.replace(
            source, model=base.model, revision=base.revision, adapter=str(self.directory), adapter_revision=None
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the scalars that the heads give."""
        return guard_names(self.heads.heads.shape[1], self.particle)

    def needs(self) -> FeatureSpec:
        """What the heads read."""
        return self.record.heads.needs()

    def require_width(self, width: int) -> None:
        """Check that the heads read the states of a model.

        Args:
            width: of a hidden state of the model.

        Raises:
            InputError: they read another's.
        """
        reads = len(self.record.heads.layers) * len(self.record.heads.pools)
        if len(self.heads.mean) != reads * width:
            raise InputError(
                f"{self.directory / HEADS}: heads for {len(self.heads.mean)} numbers a row, the model gives {reads} x "
                f"{width}; wanted the model that they were trained with"
            )

    def scalars(self, features: Features, wanted: Iterable[str]) -> Features:
        """The features with those of the heads' logits that are wanted among their scalars."""
        logits = dict(zip(self.names, self.heads.logits(features).T, strict=True))
        return replace(features, scalars={**features.scalars, **{name: logits[name] for name in wanted}})


def guard_names(heads: int, particle: int | None = None) -> tuple[str, ...]:
    """Of the scalars that so many heads give: of a guard alone, or of the particle of that number.

    >>> guard_names(1), guard_names(2), guard_names(2, particle=3)
    (('guard',), ('guard 1', 'guard 2'), ('guard 5', 'guard 6'))
    """
    if heads == 1 and particle is None:
        return (GUARD,)
    first = 1 + heads * ((particle or 1) - 1)
    return tuple(f"{GUARD} {number}" for number in range(first, first + heads))


def content_hashes(conversations: Sequence[Conversation]) -> NDArray[np.uint64]:
    """(n,) what each conversation says, neither its id nor its label, as 64 bits."""
    return np.array([int(content_key(c)[:16], 16) for c in conversations], np.uint64)


def trained_on(backbone: Backbone) -> NDArray[np.uint64]:
    """Hashes of the conversations that a backbone says its weights were fitted to; none where it does not say."""
    return np.asarray(getattr(backbone, "trained_on", ()), np.uint64)


def require_unseen(backbone: Backbone, splits: Mapping[str, Sequence[Conversation]]) -> None:
    """Refuse rows for calibration, thresholds or tests that the backbone was trained on.

    Args:
        backbone: the backbone.
        splits: the rows by the name of their split.

    Raises:
        InputError: it was trained on some.
    """
    known = trained_on(backbone)
    if not len(known):
        return
    for name, rows in splits.items():
        seen = np.flatnonzero(np.isin(content_hashes(rows), known))
        if len(seen):
            raise InputError(
                f"{len(seen)} of {len(rows)} {name} rows, such as {rows[seen[0]].id!r}, were trained on by the "
                "backbone; wanted rows that it has not seen: those of the suite and the seed that it was trained with"
            )


def write_guard(directory: Path, record: GuardRecord, heads: FittedGuardProbe, trained_on: NDArray[np.uint64]) -> None:
    """Write what makes a model's or an adapter's directory a guard's; the record last."""
    arrays: Mapping[str, NDArray[Any]] = {f"heads/{name}": array for name, array in heads.arrays().items()}
    write_whole(directory / HEADS, pack_arrays({**arrays, "trained_on": np.unique(trained_on)}))
    body = msgspec.json.encode(record)
    write_whole(directory / RECORD, msgspec.json.format(body, indent=2) + b"\n")


def write_trained_on(directory: Path, hashes: NDArray[np.uint64]) -> None:
    """Write beside an adapter which conversations it was trained on (``content_hashes``)."""
    write_whole(directory / TRAINED_ON, pack_arrays({"trained_on": np.unique(hashes)}))


def read_trained_on(directory: Path) -> NDArray[np.uint64]:
    """What ``write_trained_on`` wrote; nothing where there is no such file.

    Raises:
        InputError: it cannot be read.
    """
    if not (directory / TRAINED_ON).is_file():
        return np.zeros(0, np.uint64)
    arrays = unpack_arrays(directory / TRAINED_ON)
    if "trained_on" not in arrays:
        raise InputError(f"{directory / TRAINED_ON}: lacks the array 'trained_on'")
    return arrays["trained_on"].astype(np.uint64)


def read_guard(directory: str | Path, particle: int | None = None) -> TrainedGuard | None:
    """The guard in a directory, or None where there is no ``guard.json``.

    Args:
        directory: the directory.
        particle: its number, where it is one of several.

    Raises:
        InputError: a training run that has not ended is there, or the record or the arrays cannot be read, are another
            version's, or do not fit each other.
    """
    path = Path(directory)
    if not (path / RECORD).is_file():
        _require_ended(path)
        return None
    try:
        record = msgspec.json.decode((path / RECORD).read_bytes(), type=GuardRecord)
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(f"{path / RECORD}: {error}") from None
    if record.format != FORMAT:
        raise InputError(f"{path / RECORD}: format {record.format}, this version reads format {FORMAT}")
    arrays = unpack_arrays(path / HEADS)
    try:
        heads = record.heads.restore(nested(arrays, "heads"))
        trained_on = arrays["trained_on"].astype(np.uint64)
    except (KeyError, IndexError) as error:
        raise InputError(f"{path / HEADS}: lacks the array {error}") from None
    wanted = (heads.mean.size, record.heads.heads)
    if (heads.heads.shape, heads.mean.shape, heads.intercepts.shape) != (wanted, wanted[:1], wanted[1:]):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in heads.arrays().items())
        raise InputError(f"{path / HEADS}: found {shapes}; wanted {wanted[1]} heads on one mean, as {RECORD} says")
    identity = f"{sha256(path / RECORD)[:8]}{sha256(path / HEADS)[:8]}"
    return TrainedGuard(record, heads, trained_on, identity, path, particle)


def _require_ended(path: Path) -> None:
    if (path / UNDER_WAY).is_file():
        raise InputError(
            f"{path}: holds a training run that has not ended (no {RECORD}); wanted is that the same `offmap train` "
            "runs again: it goes on where it was"
        )
