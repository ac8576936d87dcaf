"""``offmap detectors`` and ``offmap suites``: what there is to choose from."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text


def detectors(*, json: bool = False) -> None:
    """List the detectors, built in and installed by other packages.

    Parameters
    ----------
    json
        Print a JSON object instead of a table.
    """
    from offmap.detectors import DETECTORS

    _show("detector", DETECTORS.describe(), json)


def suites(*, json: bool = False) -> None:
    """List the suites. A directory with train-* and test-* files is one too.

    Parameters
    ----------
    json
        Print a JSON object instead of a table.
    """
    from offmap.suites import SUITES

    _show("suite", SUITES.describe(), json)


def _show(what: str, rows: dict[str, str], json: bool) -> None:
    if json:
        print(msgspec.json.encode(rows).decode())  # noqa: T201
        return
    table = Table(what, "what it is")
    for name, meaning in rows.items():
        table.add_row(Text(name), Text(meaning))
    Console().print(table)
