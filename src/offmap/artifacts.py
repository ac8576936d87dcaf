"""Directories written whole: a manifest with the hash of every file beside it, arrays, tables. Never a pickle.

A directory appears under its name only when it is complete; on reading, every file must still have the hash that the
manifest states, and the manifest its own. That finds damage and slips of the hand, not a forger: no key is involved.
Nothing read here is ever executed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.atomic import write_whole
from offmap.errors import InputError

MANIFEST = "manifest.json"
FORMAT = 3
"""The version of the layout. A reader refuses any other."""

T = TypeVar("T")


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A fresh directory to fill; it takes the place of ``path`` when the block ends well, and vanishes if it does not.

    Raises:
        InputError: ``path`` holds what is not ours to replace, or nothing can be made there.
    """
    require_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{path}: no directory can be made there: {error.strerror}") from None
    try:
        yield fresh
        os.chmod(fresh, 0o777 & ~_umask())
        _swap(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_free(path: Path) -> None:
    """Check that a directory may be written at ``path``: nothing is there, or an artefact and nothing beside it.

    Raises:
        InputError: something else is there.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        body = _manifest_body(path)
        ours = body["format"] <= FORMAT and {*body["files"], MANIFEST} == {file.name for file in path.iterdir()}
    except (InputError, KeyError, TypeError, OSError):
        ours = False
    if not ours:
        raise InputError(f"{path}: exists and is not a bundle of offmap; choose another place or remove it yourself")


def write_manifest(directory: Path, content: msgspec.Struct) -> None:
    """Write ``manifest.json``: ``content``, the hash of every file already in the directory, and its own."""
    files = {file.name: sha256(file) for file in sorted(directory.iterdir())}
    body = {"format": FORMAT, "content": msgspec.to_builtins(content), "files": files}
    body["sha256"] = _own_hash(body)
    write_whole(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n")


def read_manifest(directory: Path, kind: type[T]) -> T:
    """The manifest's content, after its version and the hash of every file have been checked.

    Raises:
        InputError: no manifest, another version, a file missing, added or changed, or a field that does not fit.
    """
    body = _manifest_body(directory)
    if body.get("format") != FORMAT:
        raise InputError(f"{directory / MANIFEST}: format {body.get('format')!r}, this version reads format {FORMAT}")
    if body.get("sha256") != _own_hash(body):
        raise InputError(f"{directory / MANIFEST}: changed since it was written (its hash is not the one it states)")
    _check_files(directory, body.get("files"))
    try:
        return msgspec.convert(body.get("content"), kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{directory / MANIFEST}: {error}") from None


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as safetensors bytes; unpacking gives them back bit-equal."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def unpack_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file.

    Raises:
        InputError: the file is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(path.read_bytes()))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None


def nested(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with ``prefix/``, without it."""
    return {name.removeprefix(f"{prefix}/"): a for name, a in arrays.items() if name.startswith(f"{prefix}/")}


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_body(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory}: no {MANIFEST} there; a bundle that `offmap fit` wrote is wanted")
    try:
        body = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(body, dict):
        raise InputError(f"{path}: found a {type(body).__name__}, a JSON object is wanted")
    return body


def _own_hash(body: Mapping[str, Any]) -> str:
    """Of all that a manifest says but this hash."""
    rest = {key: value for key, value in body.items() if key != "sha256"}
    return hashlib.sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()


def _check_files(directory: Path, stated: Any) -> None:
    if not isinstance(stated, dict):
        raise InputError(f"{directory / MANIFEST}: field files: found {stated!r}, names with hashes are wanted")
    found = {file.name for file in directory.iterdir()} - {MANIFEST}
    if found != set(stated):
        raise InputError(f"{directory}: holds {sorted(found)}, its manifest names {sorted(stated)}")
    for name, wanted in stated.items():
        if sha256(directory / name) != wanted:
            raise InputError(f"{directory / name}: changed since it was written (its hash is not the manifest's)")


def _swap(fresh: Path, path: Path) -> None:
    if not path.exists():
        os.rename(fresh, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.rename(path, old / "was")
    try:
        os.rename(fresh, path)
    except OSError:
        os.rename(old / "was", path)
        raise
    finally:
        shutil.rmtree(old)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
