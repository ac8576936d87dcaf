"""Whether a training run may begin in a directory: that it is nobody else's, and what decides the run's result."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from offmap.atomic import write_whole
from offmap.backbones.adapters import CONFIG
from offmap.backbones.guard_heads import UNDER_WAY
from offmap.backbones.loading import Loaded
from offmap.backbones.source import BackboneSource, model_path
from offmap.backbones.trained_on import content_hashes
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.train.options import TrainOptions

WORK, INPUTS, FEATURES = UNDER_WAY.parent.name, UNDER_WAY.name, "features"


def require_ours(out: Path) -> None:
    """Nothing is there, or a run of ours, or what one leaves that was killed before its first step.

    Raises:
        InputError: something else is.
    """
    _require_no_file(out)
    if not out.is_dir() or (out / WORK / INPUTS).is_file():
        return
    names = [path.name for path in (*out.iterdir(), *(out / WORK).glob("*"))]
    if any(name not in (WORK, FEATURES) and not name.startswith(f".{INPUTS}.") for name in names):
        raise InputError(f"{out}: exists and holds no training run; choose another place or remove it yourself")


def require_only(out: Path, names: Collection[str]) -> None:
    """Nothing but these is there, for runs that have their own directories in this one.

    Raises:
        InputError: something else is.
    """
    _require_no_file(out)
    other = sorted(path.name for path in out.glob("*") if path.name not in names)
    if other:
        raise InputError(f"{out}: holds {other[0]!r}; choose another place or remove it yourself")


def _require_no_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: found a file, wanted a directory or a new name")


def require_plain(base: BackboneSource) -> None:
    """What is trained is a causal LM, and no adapter goes on an adapter.

    Raises:
        InputError: it is something else.
    """
    if base.guard is not None or base.lm is not None:
        raise InputError(f"base {base.model!r}: found guard={base.guard!r} or lm; wanted a plain causal LM to train")
    if (Path(model_path(base.model)) / CONFIG).is_file():
        raise InputError(f"base {base.model!r}: is an adapter; wanted the model that it is for")


def inputs(
    rows: Sequence[Conversation], base: Loaded | str, options: TrainOptions, split_seed: int | None
) -> dict[str, Any]:
    """What decides the result of a run; ``base`` is what is trained, or what names its weights."""
    identity = base if isinstance(base, str) else base.identity
    told = hashlib.sha256()
    for key, row in zip(content_hashes(rows).tolist(), rows, strict=True):
        told.update(f"{key} {row.unsafe} {row.domain}\n".encode())
    named = f"{len(rows)} rows, {told.hexdigest()[:16]}"
    return as_read(rows=named, base=identity, split_seed=split_seed, **all_of(options))


def require_same(out: Path, inputs: dict[str, Any]) -> None:
    """The directory is not another run's.

    Raises:
        InputError: it is; the message says in what they differ.
    """
    path = out / WORK / INPUTS
    if not path.is_file():
        return
    try:
        there = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: {error}; remove {out} yourself and train anew") from None
    names = sorted({*there, *inputs})
    other = [f"{name}: {there.get(name)!r} there, {inputs.get(name)!r} now" for name in names
             if there.get(name) != inputs.get(name)]  # fmt: skip
    if other:
        raise InputError(f"{out}: holds another run ({'; '.join(other)}); choose another place or remove it yourself")


def write_inputs(out: Path, told: dict[str, Any]) -> None:
    """The directory is this run's from now on."""
    write_whole(out / WORK / INPUTS, msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")


def all_of(options: TrainOptions) -> dict[str, Any]:
    """Those left at their defaults too: another version's may differ."""
    return {name: getattr(options, name) for name in options.__struct_fields__}


def as_read(**facts: Any) -> dict[str, Any]:
    """As they are read back from a file."""
    return dict(msgspec.json.decode(msgspec.json.encode(facts)))
