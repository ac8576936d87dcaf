"""The main numbers in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from offmap.bench.results import MonitorResult, Report
from offmap.bench.scores import GUARD
from offmap.bench.wording import area, bounds, headline, percent, points, rate

if TYPE_CHECKING:
    from rich.console import Console

NAME_WIDTH = (14, 32)
"""The least and the most that the column of names takes."""


class _Column(NamedTuple):
    """A column; on a narrow console those with the highest ``expendable`` go first, those with 0 never."""

    title: str
    cell: Callable[[MonitorResult], str]
    expendable: int = 0


def print_table(report: Report, console: Console) -> None:
    """Print the headline, the main table and what its columns mean. Narrow consoles get fewer columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for sentence in headline(report):
        console.print(Text(sentence))
    columns = _fitting(report, console.width)
    room = console.width - sum(_width(column, report) + 2 for column in columns) - 3
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\nmonitor", overflow="ellipsis", no_wrap=True, max_width=max(1, min(room, NAME_WIDTH[1])))
    for column in columns:
        table.add_column(Text(column.title), justify="right", no_wrap=True, min_width=_width(column, report))
    for monitor in report.monitors:
        table.add_row(Text(monitor.name), *(Text(column.cell(monitor)) for column in columns))
    console.print(table)
    console.print(Text(_legend(report), style="dim"))


def _columns() -> list[_Column]:
    return [
        _Column("OOD\nrecall", lambda m: percent(m.recall_ood.value)),
        _Column("\n95 %", lambda m: bounds(m.recall_ood), 5),
        _Column(
            "gain on\nguard", lambda m: points(m.gain_over_guard.value) if _gains(m) and m.gain_over_guard else "–"
        ),
        _Column("\n95 %", lambda m: bounds(m.gain_over_guard, signed=True) if _gains(m) else "", 6),
        _Column("over-\nall", lambda m: percent(m.overall), 4),
        _Column("ID\nrecall", lambda m: percent(m.id_recall), 1),
        _Column("real\nFPR", lambda m: percent(m.achieved_fpr, 2), 2),
        _Column("benign\nOOD", lambda m: percent(m.benign_ood_false_alarms)),
        _Column("\nlift", lambda m: points(m.lift.value)),
        _Column("twin\nAUROC", lambda m: area(m.twin_auroc), 3),
    ]


def _fitting(report: Report, width: int) -> list[_Column]:
    columns = _columns()
    while NAME_WIDTH[0] + 3 + sum(_width(column, report) + 2 for column in columns) > width:
        first = max(columns, key=lambda column: column.expendable)
        if not first.expendable:
            break
        columns = [column for column in columns if column is not first]
    return columns


def _width(column: _Column, report: Report) -> int:
    return max(len(line) for line in [*column.title.split("\n"), *map(column.cell, report.monitors)])


def _gains(monitor: MonitorResult) -> bool:
    return monitor.gain_over_guard is not None and monitor.name != GUARD


def _legend(report: Report) -> str:
    return (
        f"Percent, at {rate(report.alpha)} false alarms on in-distribution safe test rows (published convention)."
        " overall: published mean, in-distribution group included. real FPR: false alarms at the deployed threshold,"
        " chosen without test rows. benign OOD: false alarms on unfamiliar safe rows. lift: recall minus false alarms"
        " on the benign twins. 95 %: bootstrap of the test rows, not of training."
    )
