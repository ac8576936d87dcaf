"""What weights were fitted to: hashes of conversations, kept beside the weights, and the refusal to test on them.

Knows nothing of models and of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offmap.artifacts import pack_arrays, unpack_arrays
from offmap.atomic import write_whole
from offmap.backbones.base import Backbone
from offmap.conversation import Conversation, content_key
from offmap.errors import InputError

Hashes = NDArray[np.uint64]
"""(n,) of conversations, sorted, each once."""
ARRAY = "trained_on"
HEADS = "guard.safetensors"
"""Of a trained guard: its heads, and the array."""
TRAINED_ON = "trained_on.safetensors"
"""Beside an adapter that comes without heads: the array alone."""


def content_hashes(conversations: Sequence[Conversation]) -> NDArray[np.uint64]:
    """(n,) what each conversation says, neither its id nor its label, as 64 bits."""
    return np.array([int(content_key(c)[:16], 16) for c in conversations], np.uint64)


def union(*hashes: NDArray[np.uint64]) -> Hashes:
    """All of them."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]))


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


def write_trained_on(directory: Path, *hashes: NDArray[np.uint64]) -> None:
    """Write beside an adapter which conversations it and its base were trained on (``content_hashes``)."""
    write_whole(directory / TRAINED_ON, pack_arrays({ARRAY: union(*hashes)}))


def read_trained_on(*directories: Path) -> Hashes:
    """What the weights in directories were fitted to, as far as anything there says so.

    Raises:
        InputError: a file that should say cannot be read, or lacks the array.
    """
    files = [place / name for place in directories for name in (HEADS, TRAINED_ON) if (place / name).is_file()]
    return union(*map(_read, files))


def _read(file: Path) -> NDArray[np.uint64]:
    arrays = unpack_arrays(file)
    if ARRAY not in arrays:
        raise InputError(f"{file}: lacks the array {ARRAY!r}")
    return arrays[ARRAY].astype(np.uint64)
