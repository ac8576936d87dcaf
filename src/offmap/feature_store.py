"""A resumable cache of features on disk, keyed by content; ``Cached`` makes any backbone use one.

A shard holds some hundred conversations of like length: one safetensors file, written whole, whose metadata lists
their keys and a checksum. What is killed loses at most the shard it was computing. Writers share a directory without
locks: a shard's name follows from its keys, and the same keys mean the same bytes. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offmap.atomic import write_whole
from offmap.backbones.base import Backbone
from offmap.backbones.trained_on import trained_on
from offmap.conversation import Conversation, content_key
from offmap.errors import InputError
from offmap.features import Features, FeatureSpec, HiddenKey, Pool, TokenColumns, TokenStat

FORMAT = 3
SHARD = 512
"""Conversations of a shard: what an interruption can cost."""
DAY = 86400.0
"""After so many seconds a partial file has no writer left."""
_COLUMNS = ("n_tokens", "n_dropped", "n_turns", "has_tools")
_TOKEN_COLUMNS = ("offsets", "ids", "roles", "turns", "starts")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """A backbone that computes each conversation once.

    Attributes:
        backbone: what computes; its fingerprint is this one's.
        root: the directory of the shards, made where it does not exist.
        progress: told how many conversations of a call the store had; what is computed, the backbone tells.

    An interruption (even kill -9) leaves a valid store; the next call goes on from there. A shard that cannot be read
    is computed again.
    """

    backbone: Backbone
    root: Path
    progress: Callable[[int], None] | None = None

    @property
    def fingerprint(self) -> str:
        """That of the backbone."""
        return self.backbone.fingerprint

    @property
    def scalars(self) -> frozenset[str]:
        """Names of the scalars that the backbone gives."""
        return frozenset(getattr(self.backbone, "scalars", ()))

    @property
    def trained_on(self) -> NDArray[np.uint64]:
        """Hashes of what the backbone was trained on."""
        return trained_on(self.backbone)

    @property
    def source(self) -> object:
        """Where the backbone comes from, or None if it does not say."""
        return getattr(self.backbone, "source", None)

    def __call__(self, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
        """As the backbone's, from the store where it has them.

        Raises:
            InputError: the directory cannot be written.
        """
        if not batch:
            return self.backbone(batch, spec)
        place = self.root / _digest(f"{FORMAT}\n{self.fingerprint}\n{spec.canonical()}")
        _prepare(place)
        keys = [content_key(conversation) for conversation in batch]
        parts, found = _read_all(place, set(keys), spec)
        missing = {key: c for key, c in zip(keys, batch, strict=True) if key not in found}
        if self.progress:
            self.progress(sum(key not in missing for key in keys))
        rows = sum(map(len, parts))
        for shard in _shards(missing):
            part = self.backbone([missing[key] for key in shard], spec)
            _write(place, shard, part)
            found |= {key: rows + i for i, key in enumerate(shard)}
            rows += len(shard)
            parts.append(part)
        whole = Features.concat(parts).take([found[key] for key in keys])
        return replace(whole, ids=tuple(c.id for c in batch), groups=tuple(c.domain for c in batch))


def _prepare(place: Path) -> None:
    """Make the directory; remove what killed writers left in it."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: no directory can be made there: {error.strerror}") from None
    for partial in place.glob(".*.safetensors.*"):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > DAY:
                partial.unlink()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shards(missing: dict[str, Conversation]) -> Iterator[list[str]]:
    """Keys in groups of like length, so that a group's batches hold little padding; long ones first."""
    order = sorted(missing, key=lambda key: (-sum(len(m.text) for m in missing[key].messages), key))
    for at in range(0, len(order), SHARD):
        yield order[at : at + SHARD]


def _write(place: Path, keys: list[str], part: Features) -> None:
    from safetensors.numpy import save

    arrays = _arrays(part)
    body = {"keys": json.dumps(keys), "checksum": _checksum(keys, arrays)}
    write_whole(place / f"{_digest(''.join(keys))}.safetensors", save(arrays, metadata=body))


def _read_all(place: Path, wanted: set[str], spec: FeatureSpec) -> tuple[list[Features], dict[str, int]]:
    """The shards that hold any wanted row, and where in their concatenation each row is."""
    parts: list[Features] = []
    found: dict[str, int] = {}
    rows = 0
    for file in sorted(place.glob("*.safetensors")):
        try:
            keys, part = _read(file, wanted - found.keys(), spec)
        except FileNotFoundError:
            continue
        except (ValueError, KeyError) as error:
            _log.warning("%s is damaged (%s): its rows are computed again", file, error)
            file.unlink(missing_ok=True)
            continue
        if part is not None:
            parts.append(part)
            found |= {key: rows + i for i, key in enumerate(keys) if key not in found}
            rows += len(part)
    return parts, found


def _read(file: Path, wanted: set[str], spec: FeatureSpec) -> tuple[list[str], Features | None]:
    """A shard, or None for its features where it holds nothing wanted.

    Raises:
        ValueError: not a whole shard.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            keys = list(json.loads(metadata["keys"]))
            if wanted.isdisjoint(keys):
                return keys, None
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if metadata.get("checksum") != _checksum(keys, arrays):
        raise ValueError("its checksum differs")
    return keys, _features(arrays, len(keys), spec)


def _checksum(keys: list[str], arrays: dict[str, NDArray[Any]]) -> str:
    total = hashlib.sha256("".join(keys).encode())
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _arrays(part: Features) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {name: getattr(part, name) for name in _COLUMNS}
    arrays |= {f"hidden/{layer}/{pool}": rows for (layer, pool), rows in part.hidden.items()}
    arrays |= {f"scalar/{name}": values for name, values in part.scalars.items()}
    if part.tokens is not None:
        columns = part.tokens
        arrays |= {f"tokens/{name}": getattr(columns, name) for name in _TOKEN_COLUMNS}
        arrays |= {f"stat/{stat}": column for stat, column in columns.stats.items()}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _features(arrays: dict[str, NDArray[Any]], rows: int, spec: FeatureSpec) -> Features:
    hidden: dict[HiddenKey, NDArray[np.float32]] = {
        (layer, pool): arrays[f"hidden/{layer}/{Pool(pool)}"] for layer, pool in spec.hidden
    }
    tokens = None
    if spec.tokens:
        offsets, ids, roles, turns, starts = (arrays[f"tokens/{name}"] for name in _TOKEN_COLUMNS)
        stats = {stat: arrays[f"stat/{TokenStat(stat)}"] for stat in spec.tokens}
        tokens = TokenColumns(offsets, ids, roles, turns, starts, stats)
    scalars = {name: arrays[f"scalar/{name}"] for name in spec.scalars}
    unnamed = ("",) * rows
    lengths, cut, messages, tools = (arrays[name] for name in _COLUMNS)
    return Features(unnamed, unnamed, lengths, cut, messages, tools, hidden, tokens, scalars)
