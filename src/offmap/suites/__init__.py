"""Suites by name: where labelled conversations come from. A suite's module is imported only when it is asked for.

Those of other packages are found through the entry-point group ``offmap.suites``.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from offmap.errors import InputError
from offmap.registry import Registry
from offmap.suites.base import Suite

__all__ = ["SUITES", "Suite", "load"]

SUITES: Registry[Any] = Registry(
    "suite",
    "offmap.suites",
    {
        "mood": "offmap.suites.mood:load",
        "procedural": "offmap.suites.procedural:load",
    },
)
"""Every suite that has a name: a function of keyword arguments among those of ``load`` that returns a ``Suite``."""


def load(
    name_or_path: str | Path, *, seed: int = 0, revision: str | None = None, data: str | Path | None = None
) -> Suite:
    """A suite by its name, or the one in a directory.

    Args:
        name_or_path: a name of ``SUITES``, or a directory with ``train-*`` and ``test-*`` files. A name wins over a
            directory of that name: write "./mood" for the directory.
        seed: of suites that are generated; those that are read do not depend on it.
        revision: the commit of suites that are fetched.
        data: a local copy of suites that are fetched.

    Raises:
        InputError: neither a suite nor a directory, or an option that this suite does not have.
    """
    function = _function(name_or_path)
    options: dict[str, object] = {"revision": revision, "data": data}
    given = {option: value for option, value in options.items() if value is not None}
    takes = inspect.signature(function).parameters
    if strange := [option for option in given if option not in takes]:
        raise InputError(f"suite {name_or_path}: found the option {strange[0]}, which this suite does not have")
    everything = {"path": name_or_path, "seed": seed, **given}
    suite: Suite = function(**{option: value for option, value in everything.items() if option in takes})
    return suite


def _function(name_or_path: str | Path) -> Any:
    if str(name_or_path) not in SUITES.names() and Path(name_or_path).is_dir():
        from offmap.suites import directory

        return directory.load
    try:
        return SUITES.get(str(name_or_path))
    except InputError as error:
        raise InputError(f"{error}; a directory with train-* and test-* files is a suite too") from None
