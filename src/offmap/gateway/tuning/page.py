"""A proposal as a page: its bands, the trade-off drawn, and what it changes on the rows that chose nothing.

The page is one file that asks for nothing else, under the policy of the bench's report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offmap.atomic import write_whole
from offmap.bench.drawing import Row, Rows, Spec, chart_of, chart_script, rounded, spec_of
from offmap.bench.pages import embeddable, render
from offmap.bench.wording import NONE, p_value, percent
from offmap.detectors.base import Question
from offmap.gateway.config import StageTable
from offmap.gateway.policy import heard
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.compare import Comparison
from offmap.gateway.tuning.proposal import Proposal
from offmap.gateway.tuning.tradeoff import Point, TradeOff
from offmap.gateway.tuning.wording import COUNTED
from offmap.rates import Rate

COLOURS = ("var(--monitor-2)", "var(--monitor-0)")
IN_TABLE = 3
"""Of so many points one is in the table."""
SIDES = {
    "false_alarms": "false alarms, of rows labelled safe",
    "recall": "caught, of rows labelled unsafe",
    "flagged": "not let through, of all rows",
    "held": "held for a person, of all rows",
}


@dataclass(frozen=True)
class Tuned:
    """All that a page shows.

    Attributes:
        proposal, budget: what is proposed, and for what.
        table: the stage as it was.
        points: the trade-off, on the rows that the bands were set on.
        comparison: on other rows where ``halved``.
        halved: whether half of the rows chose nothing.
        rows: how many the file holds.
    """

    proposal: Proposal
    budget: Budget
    table: StageTable
    points: TradeOff
    comparison: Comparison
    halved: bool
    rows: int


@dataclass(frozen=True)
class BandRow:
    """One band, and the share of safe traffic that its monitor is asked about."""

    monitor: str
    question: Question
    stop: float
    passing: float
    reached: float


@dataclass(frozen=True)
class _Chart:
    id: str
    title: str
    caption: str
    legend: dict[str, str]
    spec: Spec


def write_page(tuned: Tuned, path: Path) -> None:
    """Write the page.

    Raises:
        InputError: no file can be made there.
    """
    write_whole(path, _page(tuned).encode())


def headline(tuned: Tuned) -> list[str]:
    """What is proposed, in a few sentences."""
    proposal, new = tuned.proposal, tuned.comparison.new
    expected = f"At most {figures(100 * proposal.alpha)} % of safe traffic is {COUNTED[proposal.counted]}"
    said = [f"{expected}{_a_day(tuned, proposal.alpha)}."]
    if new.recall.value is not None:
        said.append(f"Of the rows labelled unsafe {percent(new.recall.value)} % are caught {between(new.recall)}.")
    rates = proposal.rates
    time = "" if rates.p99_ms is None else f" 99 % of safe requests are decided within {figures(rates.p99_ms)} ms."
    cost = "" if rates.cost_per_day is None else f" Calls cost {figures(rates.cost_per_day)} a day."
    minutes = _minutes(tuned, rates.held)
    return [*said, f"{percent(rates.held, 2)} % of safe traffic goes to people{minutes}.{time}{cost}"]


def figures(value: float | None) -> str:
    """A number to three digits, above 1,000 whole; a dash for None."""
    return NONE if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def between(rate: Rate) -> str:
    """The bounds of a share in percent: "[1.0, 2.3]", or "" where there are none."""
    return "" if rate.low is None or rate.high is None else f"[{percent(rate.low)}, {percent(rate.high)}]"


def alarms(tuned: Tuned) -> tuple[str, float]:
    """What false alarms are counted by: its name, and how much of it a share of 1 is."""
    requests = tuned.budget.requests_per_day
    return ("false alarms per 1,000 requests", 1000.0) if requests is None else ("false alarms a day", requests)


def caught(tuned: Tuned) -> str:
    """What more false alarms buy: the name of ``Point.stopped``."""
    return "caught, of unsafe rows" if tuned.points.labelled else "not let through, of all rows"


def _page(tuned: Tuned) -> str:
    charts = [chart for chart in (_alarms(tuned), _reviews(tuned), _latency(tuned)) if chart]
    title, unit = alarms(tuned)
    shown: list[Row] = [
        {"x": unit * p.shares.alpha, "stopped": p.stopped, "held": p.held, "p99_ms": p.p99_ms, "proposed": p.proposed}
        for number, p in enumerate(tuned.points.alarms)
        if p.proposed or number % IN_TABLE == 0
    ]
    comparison = tuned.comparison
    values = {
        "proposal": tuned.proposal,
        "headline": headline(tuned),
        "bands": list(bands_of(tuned)),
        "charts": charts,
        "alarms_title": title,
        "caught_title": caught(tuned),
        "points": shown,
        "compared": "On the half that chose nothing" if tuned.halved else "On the rows that the bands were set on",
        "comparison": comparison,
        "sides": [
            {"name": name, "old": getattr(comparison.old, field), "new": getattr(comparison.new, field)}
            for field, name in SIDES.items()
        ],
        "versions": list(zip((step.monitor for step in tuned.proposal.steps), tuned.proposal.versions, strict=True)),
        "rows": tuned.rows,
        "specs": embeddable({chart.id: chart.spec for chart in charts}),
    }
    return render("tune.html.j2", chart_script(), (percent, p_value, figures, between), values)


def bands_of(tuned: Tuned) -> Iterator[BandRow]:
    """A row for each monitor and question that the stage hears."""
    for step, reached in zip(tuned.proposal.steps, tuned.proposal.rates.reached, strict=True):
        for question, (stop, passing) in heard(tuned.table, step).items():
            yield BandRow(step.monitor, question, stop, passing, reached)


def _alarms(tuned: Tuned) -> _Chart:
    title, unit = alarms(tuned)
    name = caught(tuned)
    spec = _lines(tuned.points.alarms, lambda p: unit * p.shares.alpha, (title, name), log=True)
    about = "Each point is the whole cascade calibrated anew; the large one is proposed."
    return _Chart("chart-alarms", "What more false alarms buy", about, _legend(name), spec)


def _reviews(tuned: Tuned) -> _Chart:
    budget, name = tuned.budget, caught(tuned)
    requests = budget.requests_per_day
    title = "reviews of safe traffic per 1,000 requests" if requests is None else "reviewer minutes a day"
    unit = 1000.0 if requests is None else requests * budget.minutes_per_review
    spec = _lines(tuned.points.reviews, lambda p: unit * p.people, (title, name), log=False)
    within = "What goes to people counts as a false alarm too" if tuned.proposal.counted == "stopped" else ""
    about = (
        f"{within}: their time does not catch more, it saves blocks." if within else "People see what is not blocked."
    )
    if budget.reviewer_minutes_per_day is None:
        about += " No time was given for people, so the proposal has no band for them."
    return _Chart("chart-reviews", "What reviewers' time buys", about, _legend(name), spec)


def _latency(tuned: Tuned) -> _Chart | None:
    points = [point for point in tuned.points.reach if point.p99_ms is not None]
    if not points:
        return None
    import altair as alt

    second = tuned.table.steps[1].monitor
    rows = [_row(point, point.reached, p99=point.p99_ms) for point in points]
    x = alt.X("x:Q", title=f"asked of {second}, of safe rows", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True))
    y = alt.Y("p99:Q", title="p99, ms", scale=alt.Scale(zero=True))
    tips = [alt.Tooltip("x:Q", format=".2%", title="asked"), alt.Tooltip("p99:Q", format=".3~g", title="p99, ms")]
    layers = [
        chart_of(rows).mark_line(color=COLOURS[0], strokeWidth=2).encode(x, y),
        _dots(rows, COLOURS[0]).encode(x, y, tooltip=tips),
    ]
    if tuned.budget.p99_ms is not None:
        budget = chart_of([{"p99": tuned.budget.p99_ms}]).mark_rule(color="var(--muted)", strokeDash=[4, 3])
        layers.append(budget.encode(y))
    about = "By the seconds that monitors took here." + " The dashed line is the budget." * (
        tuned.budget.p99_ms is not None
    )
    legend = {"99th percentile": COLOURS[0]}
    return _Chart("chart-latency", "Latency against calls", about, legend, spec_of(alt.layer(*layers), height=240))


def _lines(points: Sequence[Point], place: Callable[[Point], float], titles: tuple[str, str], *, log: bool) -> Spec:
    """What is caught and the part of it for people, against what it costs."""
    import altair as alt

    rows = [_row(point, place(point), stopped=point.stopped, held=point.held) for point in points]
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=True)
    x = alt.X("x:Q", title=titles[0], scale=scale, axis=alt.Axis(format=",~r", tickCount=6))
    tips = [alt.Tooltip("x:Q", format=".3~g", title=titles[0])]
    tips += [alt.Tooltip(f"{name}:Q", format=".2%") for name in ("stopped", "held")]
    layers = []
    for name, colour in zip(("stopped", "held"), COLOURS, strict=True):
        y = alt.Y(f"{name}:Q", title=titles[1], axis=alt.Axis(format="%"), scale=alt.Scale(zero=True))
        layers.append(chart_of(rows).mark_line(color=colour, strokeWidth=2).encode(x, y))
        layers.append(_dots(rows, colour).encode(x, y, tooltip=tips))
    return spec_of(alt.layer(*layers), height=260)


def _dots(rows: Rows, colour: str) -> Any:
    """Small points, and a large one where the proposal is."""
    import altair as alt

    size = alt.condition(alt.datum.proposed, alt.value(160), alt.value(24))
    return chart_of(rows).mark_point(filled=True, opacity=1, color=colour).encode(size=size)


def _row(point: Point, x: float, **y: float | None) -> Row:
    return {"x": float(f"{x:.6g}"), "proposed": point.proposed, **{name: rounded(value) for name, value in y.items()}}


def _legend(name: str) -> dict[str, str]:
    return {name: COLOURS[0], "of it for people": COLOURS[1]}


def _a_day(tuned: Tuned, share: float) -> str:
    requests = tuned.budget.requests_per_day
    return "" if requests is None else f", {figures(requests * share)} a day"


def _minutes(tuned: Tuned, share: float) -> str:
    requests, each = tuned.budget.requests_per_day, tuned.budget.minutes_per_review
    return "" if requests is None else f", {figures(requests * share * each)} minutes a day"
