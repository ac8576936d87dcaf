"""Suites by name: where labelled conversations come from. A suite's module is imported only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from pathlib import Path

from offmap.errors import InputError
from offmap.suites.base import Suite

__all__ = ["SUITES", "Suite", "load"]

SUITES = {
    "mood": "offmap.suites.mood:load",
    "procedural": "offmap.suites.procedural:load",
}
"""Name -> "module:function". A function takes keyword arguments among those of ``load`` and returns a ``Suite``."""


def load(
    name_or_path: str | Path, *, seed: int = 0, revision: str | None = None, data: str | Path | None = None
) -> Suite:
    """A suite by its name, or the one in a directory.

    Args:
        name_or_path: a key of ``SUITES``, or a directory with ``train-*`` and ``test-*`` files. A name wins over a
            directory of that name: write "./mood" for the directory.
        seed: of suites that are generated; those that are read do not depend on it.
        revision: the commit of suites that are fetched.
        data: a local copy of suites that are fetched.

    Raises:
        InputError: neither a suite nor a directory, or an option that this suite does not have.
    """
    options: dict[str, object] = {"revision": revision, "data": data}
    given = {option: value for option, value in options.items() if value is not None}
    target = SUITES.get(str(name_or_path)) or _directory(name_or_path)
    module, _, attribute = target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    takes = inspect.signature(function).parameters
    if strange := [option for option in given if option not in takes]:
        raise InputError(f"suite {name_or_path}: found the option {strange[0]}, which this suite does not have")
    everything = {"path": name_or_path, "seed": seed, **given}
    suite: Suite = function(**{option: value for option, value in everything.items() if option in takes})
    return suite


def _directory(path: str | Path) -> str:
    if Path(path).is_dir():
        return "offmap.suites.directory:load"
    close = difflib.get_close_matches(str(path), SUITES, n=1)
    hint = f"did you mean {close[0]}? Wanted" if close else "wanted"
    raise InputError(f"suite: found {str(path)!r}, {hint} one of {', '.join(sorted(SUITES))}, or a directory")
