"""The report's charts as Vega-Lite specifications, and the script bundle that draws them without a network.

Colours are CSS variables of the page, so that charts follow it into dark mode and print; a picture that stands alone
has them resolved to the page's light colours.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offmap.bench.metrics import number, recall, threshold_at
from offmap.bench.results import MonitorResult, Report
from offmap.bench.scores import DEFAULT, GUARD, REFERENCE, BoolArray, MonitorScores, Scores
from offmap.bench.wording import rate
from offmap.features import FloatArray

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]
"""A Vega-Lite specification: JSON of a foreign schema."""

Row = dict[str, Any]
Rows = list[Row]

TEMPLATES = Path(__file__).parent / "templates"
ROLES = (GUARD, REFERENCE, DEFAULT)
SHAPES = {GUARD: "circle", REFERENCE: "square", DEFAULT: "diamond"}
DASHES = {GUARD: [6, 3], REFERENCE: [2, 2], DEFAULT: [1, 0]}
POPULATIONS = ("familiar, safe", "familiar, unsafe", "unfamiliar, safe", "unfamiliar, unsafe")
BINS = 48
CLIP = (0.005, 0.995)
"""Quantiles of all scores between which a distribution is drawn; the rest is gathered at the edges."""


def main_monitors(report: Report) -> tuple[str, ...]:
    """The monitors drawn in colour: guard, reference and default where the run has them, else the first three."""
    named = tuple(name for name in ROLES if report.monitor(name))
    return named or tuple(monitor.name for monitor in report.monitors[:3])


def colours(report: Report) -> dict[str, str]:
    """The page's colour for each main monitor, as a CSS value."""
    return {name: f"var(--monitor-{ROLES.index(_role(report, name))})" for name in main_monitors(report)}


def all_charts(report: Report, scores: Scores) -> dict[str, Spec]:
    """Every chart of the report by the id of the element that shows it."""
    charts = {"chart-recall": recall_by_domain(report), "chart-roc": roc(report, scores)}
    for name in _shown(report):
        monitor = scores.monitor(name)
        result = report.monitor(name)
        if monitor is not None and result is not None:
            charts[f"chart-scores-{main_monitors(report).index(name)}"] = distributions(scores, monitor, result)
    return charts


def recall_by_domain(report: Report, legend: alt.Legend | None = None) -> Spec:
    """Recall of the main monitors with intervals, domain by domain; every other monitor as a grey tick.

    The page writes the legend itself; ``legend`` is for a chart that stands alone.
    """
    import altair as alt

    rows = [_recall_row(m, name) for m in report.monitors for name, d in m.domains.items() if d.recall is not None]
    mine, others = _part(rows, report)
    names = list(main_monitors(report))
    x = alt.X("recall:Q", title="recall", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("domain:N", title=None, axis=_label_axis())
    apart = alt.YOffset("monitor:N", sort=names, scale=alt.Scale(domain=["", *names], paddingOuter=0.5))
    tips = [alt.Tooltip("monitor:N"), alt.Tooltip("domain:N"), alt.Tooltip("recall:Q", format=".1%")]
    shapes = alt.Scale(domain=names, range=[SHAPES[_role(report, name)] for name in names])
    shape, colour = alt.Shape("monitor:N", legend=legend, scale=shapes), _colour(report, legend)
    ticks = (
        _chart(others).mark_tick(color="var(--other)", thickness=1.5, height=16, yOffset=5).encode(x, y, tooltip=tips)
    )
    bars = _chart(mine).mark_rule(strokeWidth=1.5).encode(alt.X("low:Q"), alt.X2("high:Q"), y, apart, colour)
    dots = _chart(mine).mark_point(filled=True, size=70, opacity=1)
    layers = alt.layer(ticks, bars, dots.encode(x, y, apart, colour, shape, tooltip=tips))
    return _spec(layers, height=52 * len({row["domain"] for row in rows}))


def roc(report: Report, scores: Scores) -> Spec:
    """Mean recall out of distribution against the false-positive rate on in-distribution safe rows, on a log axis."""
    import altair as alt

    rates = _rates(scores, report.alpha)
    mine, others = _part([row for monitor in scores.monitors for row in _roc_rows(scores, monitor, rates)], report)
    names = list(main_monitors(report))
    domain = alt.Scale(type="log", domain=[float(rates[0]), float(rates[-1])], nice=False)
    ticks = alt.Axis(
        values=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
        format="~%",
        labelOverlap="greedy",
        labelSeparation=6,
    )
    x = alt.X("fpr:Q", title="false-positive rate on familiar safe rows", scale=domain, axis=ticks)
    y = alt.Y("recall:Q", title="mean recall", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1]))
    tips = [alt.Tooltip("monitor:N"), alt.Tooltip("fpr:Q", format=".2%"), alt.Tooltip("recall:Q", format=".1%")]
    dashes = alt.Scale(domain=names, range=[DASHES[_role(report, name)] for name in names])
    dash = alt.StrokeDash("monitor:N", legend=None, scale=dashes)
    grey = _chart(others).mark_line(color="var(--other)", strokeWidth=1, opacity=0.7)
    lines = _chart(mine).mark_line(strokeWidth=2.5).encode(x, y, _colour(report), dash, tooltip=tips)
    rule = _chart([{"fpr": report.alpha}]).mark_rule(color="var(--muted)", strokeDash=[4, 4]).encode(x)
    return _spec(alt.layer(rule, grey.encode(x, y, detail="monitor:N", tooltip=tips), lines), height=320)


def distributions(scores: Scores, monitor: MonitorScores, result: MonitorResult) -> Spec:
    """The scores of four populations, a ridge each scaled to its own peak, with published and deployed threshold."""
    import altair as alt

    edges = _edges(monitor, result)
    rows = [row for at, mask in enumerate(_populations(scores)) for row in _ridge(monitor.scores[mask], edges, at)]
    labels = [{"score": float(edges[0]), "top": 3.97 - at, "text": name} for at, name in enumerate(POPULATIONS)]
    limits = alt.Scale(domain=[float(edges[0]), float(edges[-1])], nice=False)
    x = alt.X("score:Q", title=f"score of {monitor.name}", scale=limits)
    y = alt.Y("top:Q", axis=None, scale=alt.Scale(domain=[0, 4]))
    fills = alt.Scale(domain=list(POPULATIONS), range=[f"var(--population-{i})" for i in range(4)])
    colour, tips = alt.Color("rows:N", legend=None, scale=fills), [alt.Tooltip("rows:N")]
    ridges = _chart(rows).mark_area(interpolate="step-after").encode(x, y, alt.Y2("base:Q"), colour, tooltip=tips)
    texts = _chart(labels).mark_text(align="left", baseline="top", dx=2, color="var(--ink)", fontSize=11)
    return _spec(alt.layer(ridges, *_thresholds(result), texts.encode(x, y, alt.Text("text:N"))), height=280)


def recall_picture(report: Report, width: int = 760) -> str:
    """``recall_by_domain`` as an SVG that stands alone: legend, title, light colours, ``width`` pixels."""
    import altair as alt
    import vl_convert

    spec = recall_by_domain(report, alt.Legend(title=None, orient="top", labelFontSize=12, symbolSize=80))
    title = f"Recall by unfamiliar domain at {rate(report.alpha)} false alarms on familiar safe conversations"
    others = len(report.monitors) > len(main_monitors(report))
    notes = "Lines are 95 % intervals" + "; grey ticks are the other monitors" * others
    head = {"text": title, "subtitle": notes, "anchor": "start", "color": "var(--ink)", "subtitleColor": "var(--muted)"}
    spec |= {"width": width, "background": "var(--paper)", "padding": 12, "title": head}
    return str(vl_convert.vegalite_to_svg(_resolved(spec, _light()), vl_version=_version()))


@cache
def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets ``window.vegaEmbed`` and asks for nothing else."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _version()))


def _version() -> str:
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _light() -> dict[str, str]:
    """What the page's light colours resolve to: "var(--ink)" -> "#1b1f24"."""
    first = (TEMPLATES / "report.css").read_text(encoding="utf-8").partition("}")[0]
    return {f"var({name})": value for name, value in re.findall(r"(--[\w-]+): ([^;]+);", first)}


def _resolved(part: Any, values: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _resolved(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_resolved(value, values) for value in part]
    return values.get(part, part) if isinstance(part, str) else part


def _chart(rows: Rows) -> alt.Chart:
    import altair as alt

    return alt.Chart(alt.InlineData(values=rows))


def _part(rows: Rows, report: Report) -> tuple[Rows, Rows]:
    main = main_monitors(report)
    return [row for row in rows if row["monitor"] in main], [row for row in rows if row["monitor"] not in main]


def _colour(report: Report, legend: alt.Legend | None = None) -> alt.Color:
    import altair as alt

    shades = colours(report)
    return alt.Color("monitor:N", legend=legend, scale=alt.Scale(domain=[*shades], range=[*shades.values()]))


def _spec(chart: alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    sized = chart.properties(width="container", height=height, background="transparent", padding=4)
    axis = {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
    }
    config = {"axis": axis, "view": {"stroke": None}, "font": "system-ui, sans-serif"}
    spec: Spec = sized.to_dict(validate=True)
    return {**spec, "autosize": {"type": "fit-x", "contains": "padding"}, "config": config}


def _role(report: Report, name: str) -> str:
    return name if name in ROLES else ROLES[main_monitors(report).index(name)]


def _shown(report: Report) -> tuple[str, ...]:
    named = tuple(name for name in (GUARD, DEFAULT) if report.monitor(name))
    return named or main_monitors(report)[:1]


def _recall_row(monitor: MonitorResult, domain: str) -> Row:
    interval = monitor.domains[domain].recall_interval
    row = {"monitor": monitor.name, "domain": domain, "recall": _short(interval.value)}
    return {**row, "low": _short(interval.low), "high": _short(interval.high)}


def _roc_rows(scores: Scores, monitor: MonitorScores, rates: FloatArray) -> list[Row]:
    safe = monitor.scores[scores.familiar & ~scores.unsafe]
    bad = [monitor.scores[scores.rows(domain) & scores.unsafe] for domain in scores.shifted_domains]
    bad = [values for values in bad if len(values)]
    rows: list[Row] = []
    for fpr in rates:
        cut = threshold_at(safe, float(fpr))
        shares = [recall(values, cut) for values in bad]
        if shares and not np.isnan(cut):
            rows.append({"monitor": monitor.name, "fpr": float(f"{fpr:.5g}"), "recall": _short(float(np.mean(shares)))})
    return rows


def _rates(scores: Scores, alpha: float) -> FloatArray:
    """Rates to draw: from what the number of safe rows can resolve to a fifth, or beyond a larger alpha."""
    n = int((scores.familiar & ~scores.unsafe).sum())
    return np.geomspace(max(1 / n, alpha / 10), max(0.2, min(1.0, 4 * alpha)), 61)


def _edges(monitor: MonitorScores, result: MonitorResult) -> FloatArray:
    known = monitor.scores[~np.isnan(monitor.scores)]
    low, high = (float(np.quantile(known, q)) for q in CLIP) if len(known) else (0.0, 1.0)
    cuts = [cut for cut in (result.threshold, _deployed(result)) if cut is not None]
    low, high = min([low, *cuts]), max([high, *cuts])
    wide = (high - low) or 1.0
    return np.linspace(low - 0.02 * wide, high + 0.02 * wide, BINS + 1)


def _populations(scores: Scores) -> list[BoolArray]:
    familiar, unsafe = scores.familiar, scores.unsafe
    return [familiar & ~unsafe, familiar & unsafe, ~familiar & ~unsafe, ~familiar & unsafe]


def _ridge(values: FloatArray, edges: FloatArray, at: int) -> list[Row]:
    known = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
    counts = np.histogram(known, edges)[0] / max(1, len(known))
    base, peak = 3 - at, max(float(counts.max()), 1e-12)
    heights = np.append(counts, counts[-1])
    return [
        {
            "score": float(f"{edge:.6g}"),
            "top": round(base + 0.8 * float(share) / peak, 4),
            "base": base,
            "rows": POPULATIONS[at],
        }
        for edge, share in zip(edges, heights, strict=True)
    ]


def _thresholds(result: MonitorResult) -> list[alt.Chart]:
    import altair as alt

    cuts = ((result.threshold, [1, 0]), (_deployed(result), [5, 4]))
    drawn = [(_chart([{"score": cut}]), dash) for cut, dash in cuts if cut is not None]
    return [chart.mark_rule(color="var(--ink)", strokeDash=dash).encode(alt.X("score:Q")) for chart, dash in drawn]


def _deployed(result: MonitorResult) -> float | None:
    return result.deployed.threshold if result.deployed else None


def _short(value: float | None) -> float | None:
    return None if value is None else number(round(value, 4))


def _label_axis() -> alt.Axis:
    import altair as alt

    return alt.Axis(
        labelAlign="left",
        labelBaseline="bottom",
        labelPadding=-2,
        labelOffset=-11,
        labelFontSize=12,
        labelLimit=280,
        labelColor="var(--ink)",
        ticks=False,
        domain=False,
    )
