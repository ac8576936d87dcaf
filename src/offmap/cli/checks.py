"""What can be refused before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from os import F_OK, W_OK, X_OK, access
from pathlib import Path

from offmap.errors import InputError
from offmap.errors import printable as printable


def require_share(option: str, value: float | None) -> None:
    """An option that is a share of all rows lies strictly between 0 and 1.

    Raises:
        InputError: it does not.
    """
    if value is not None and not 0.0 < value < 1.0:
        raise InputError(f"{option} is {value:g}; wanted a number between 0 and 1, both excluded")


def require_least(option: str, value: int, least: int) -> None:
    """A whole number is not below the least that makes sense.

    Raises:
        InputError: it is.
    """
    if value < least:
        raise InputError(f"{option} is {value}; at least {least} is wanted")


def require_directory(out: Path, *files: str) -> None:
    """Files of these names can be written into ``out``, which is a directory or can become one.

    Raises:
        InputError: it is a file or lies within one, nobody may write there, or one of the files is a directory.
    """
    place = next(place for place in (out, *out.absolute().parents) if access(place, F_OK))
    if not place.is_dir():
        raise InputError(f"{place}: found a file, wanted a directory or a new name")
    if not access(place, W_OK | X_OK):
        raise InputError(f"{out}: found a place that may not be written to, wanted another directory")
    for name in files:
        if (out / name).is_dir():
            raise InputError(f"{out / name}: found a directory, wanted the name of a file")


def make_directory(out: Path) -> None:
    """The directory and those above it, made where they are not there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made: {error.strerror}; wanted another directory") from None


def require_file(path: Path) -> None:
    """A file can be written at ``path``.

    Raises:
        InputError: it is a directory, or see ``require_directory``, of the directory that it is in.
    """
    require_directory(path.parent, path.name)


def require_packages(extra: str, names: Iterable[str]) -> None:
    """The packages of an extra are installed.

    Raises:
        InputError: one is missing; the message says what to install.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; wanted: pip install 'offmap[{extra}]'")
