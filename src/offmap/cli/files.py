"""Reading conversation files for a command, and telling what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from offmap.conversation import Conversation
from offmap.conversation.files import Reader, read


def read_all(path: Path, on_error: Literal["raise", "skip"]) -> list[Conversation]:
    """Every conversation of a file; rows that were skipped are told on standard error."""
    reader = read(path, on_error=on_error)
    rows = list(reader)
    report_skipped(reader)
    return rows


def report_skipped(reader: Reader, most: int = 5) -> None:
    """Say on standard error how many rows were left out, and why the first of them were."""
    if not reader.skipped:
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"{len(reader.skipped)} rows left out", markup=False)
    for row in reader.skipped[:most]:
        console.print(f"  line {row.line}: {row.reason}", markup=False, soft_wrap=True)
