"""``offmap inspect``: what a saved monitor is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from offmap.backbones import BackboneSource
    from offmap.bundle import Card
    from offmap.choosing import Choice


def inspect(bundle: str, *, json: bool = False) -> None:
    """Show what a saved monitor consists of, after checking every file against its hash.

    Parameters
    ----------
    bundle
        A directory that `offmap fit` or `offmap bench` wrote, or pocket, the monitor that the package brings.
    json
        Print a JSON object instead of a table.
    """
    from offmap.bundle import bundle_path, read_card

    place = bundle_path(bundle)
    if json:
        print(msgspec.json.encode(read_card(place)).decode())  # noqa: T201
        return
    show(place, Console(), considered=True)


def show(bundle: Path, console: Console, *, considered: bool = False) -> None:
    """Print the card of the monitor at ``bundle`` as a table and, if asked, every fusion that was considered."""
    from offmap.bundle import read_card

    card = read_card(bundle)
    table = Table(show_header=False, title=Text(f"monitor {bundle}"), title_justify="left")
    for name, value in _lines(card):
        table.add_row(name, Text(value))
    console.print(table)
    if considered and card.choice.considered:
        console.print(_considered(card.choice))


def _lines(card: Card) -> list[tuple[str, str]]:
    threshold, fusion = card.threshold, card.choice.fusion
    held = "on average" if threshold.delta is None else f"with confidence {1 - threshold.delta:g}"
    low, high = threshold.fpr_interval()
    detectors = [f"{name} ({card.questions[name]}?): {_spec(spec)}" for name, spec in card.detectors.items()]
    return [
        ("made by", f"offmap {card.offmap}"),
        ("backbone", f"{card.backbone.model} [{card.fingerprint}]"),
        *_guard(card.backbone),
        ("detectors", "\n".join(detectors)),
        *([("conditional scores", ", ".join(card.conditional))] if card.conditional else []),
        ("fusion", f"{fusion.method}, weight {fusion.guard_weight:g} to the guards; {fusion.within} within a view"),
        ("why this fusion", card.choice.reason),
        (
            "weight within its view",
            "\n".join(f"{n}: caught {share:.1%}" for n, share in fusion.shares.items()) or "equal",
        ),
        ("what played the unknown", "\n".join(f"{name}: {n} rows" for name, n in card.choice.unknown.items()) or "–"),
        ("false positives", f"at most {threshold.alpha:g} {held}; with these rows between {low:.2%} and {high:.2%}"),
        ("threshold", f"flagged where the fused p-value is below {threshold.p_value:.3g}"),
        ("rows", ", ".join(f"{name} {count}" for name, count in card.n_rows.items())),
    ]


def _considered(choice: Choice) -> Table:
    """The candidates in the order that they were tried, and which of them was taken."""
    table = Table(title="fusions considered, on training rows", title_justify="left")
    for heading in ("fusion", "to the guards", "known harm flagged", "less the guard's", "unknown flagged", ""):
        table.add_column(heading)
    for each in choice.considered:
        taken = (each.method, each.guard_weight) == (choice.fusion.method, choice.fusion.guard_weight)
        shares = (f"{each.known:.1%}", f"{each.margin:+.1%}", f"{each.caught:.1%}")
        table.add_row(each.method, f"{each.guard_weight:g}", *shares, "chosen" if taken else "")
    return table


def _guard(source: BackboneSource) -> list[tuple[str, str]]:
    """A published guard's family and what it was told; nothing for a plain model."""
    if source.guard is None:
        return []
    told = {"policy": source.policy, "unsafe label": source.unsafe_label}
    options = [f"{name} {value!r}" for name, value in told.items() if value is not None]
    return [("published guard", ", ".join([source.guard, *options]))]


def _spec(spec: object) -> str:
    return "defaults" if isinstance(spec, str) else msgspec.json.encode(spec).decode()
