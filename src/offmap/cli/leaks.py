"""The leakage audit in front of a command that trains: what it finds is told, and done as the user says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

if TYPE_CHECKING:
    from offmap.conversation import Conversation
    from offmap.suites import Suite

Leaks = Literal["refuse", "drop", "allow"]
FILE = "leaks.jsonl"
FIT = "fit"


def fit_rows(suite: Suite, leaks: Leaks, seed: int, out: Path) -> list[Conversation]:
    """The rows of a suite that may be trained on: the fit split, after the audit.

    Args:
        suite: the conversations.
        leaks: what to do with fit rows that show up in another split. Leaks between other splits are told, whatever
            is done with these.
        seed: of the deal into splits.
        out: every leak is named in a file beside it.

    Raises:
        InputError: rows leak, and that was not allowed; or the file cannot be written.
    """
    from offmap.splits import split
    from offmap.train import audit

    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    splits = split(suite.train, seed)
    named = {FIT: splits.fit, "calibrate": splits.calibrate, "threshold": splits.threshold, "test": suite.test}
    with told.status("looking for rows that leak between splits"):
        found = audit(named)
    if not found.leaks:
        return list(splits.fit)
    place = _beside(out)
    found.write(place)
    if leaks == "refuse":
        found.refuse(place)
    told.print(f"{len(found.leaks)} leaks between splits are named in {place}")
    if leaks == "allow":
        return list(splits.fit)
    gone = found.leaking(FIT)
    told.print(f"left out: {len(gone)} of {len(splits.fit)} fit rows; {_others(found.remaining(FIT))}")
    return [row for row in splits.fit if row.id not in gone]


def _beside(out: Path) -> Path:
    """Of a directory that is named by dots too."""
    named = out if out.name.strip(".") else out.resolve()
    return named.parent / f"{named.name}.{FILE}"


def _others(count: int) -> str:
    if not count:
        return "no other splits leak"
    return f"{count} leaks between the other splits remain: the numbers of bench and fit will hold them"
