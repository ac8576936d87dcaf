"""A proposal as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from offmap.bench.wording import p_value, percent
from offmap.errors import printable
from offmap.gateway.tuning.page import SIDES, Tuned, bands_of, between, headline
from offmap.rates import Rate


def print_tuned(tuned: Tuned, console: Console) -> None:
    """What is proposed, what it changes, and what holds."""
    for sentence in headline(tuned):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    bands = Table("monitor", "question", "stop", "pass", "asked, % of safe")
    for row in bands_of(tuned):
        cuts = (p_value(row.stop), p_value(row.passing), percent(row.reached))
        bands.add_row(escape(printable(row.monitor)), row.question, *cuts)
    console.print(bands)
    on = "the half that chose nothing" if tuned.halved else "the rows that the bands were set on"
    compared = Table(f"% on {on}", "now", "proposed", "rows")
    for field, name in SIDES.items():
        old, new = (getattr(side, field) for side in (tuned.comparison.old, tuned.comparison.new))
        compared.add_row(name, _shown(old), _shown(new), str(new.n))
    console.print(compared)
    for note in tuned.proposal.notes:
        console.print(printable(f"- {note}."), highlight=False, markup=False, soft_wrap=True)


def _shown(rate: Rate) -> str:
    return f"{percent(rate.value)} {between(rate)}".replace("[", r"\[").strip()
