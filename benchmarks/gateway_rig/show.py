"""A run's figures as a table, as goals that are reached or missed, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scipy.stats import spearmanr

from gateway_rig.host import MOST_TAKEN
from gateway_rig.interpreter import TURNS
from gateway_rig.setting import DIRECT, GATEWAY, IN_MEMORY
from offmap.bench.drawing import Row, Rows, Spec, chart_of, heading, side_by_side, spec_of

Told = Mapping[str, Any]
GOALS_MS = {"p50": 5.0, "p99": 15.0}
"""The most that the gateway may add to a request without a model."""
_COLOURS = ("var(--monitor-0)", "var(--monitor-1)", "var(--monitor-2)", "var(--ink)")


def table(found: Told) -> str:
    """Everything that was measured, in Markdown."""
    parts = [_about(found)]
    for name, title in (("overhead", "Whole answers"), ("stream", "Streams")):
        if name in found:
            told = found[name]
            parts.append(f"## {title}, {told['rate']:g} a second\n\n{_arms(told)}\n\n{_audit(told['audit'])}")
    others = (("parts", _parts), ("pocket", _pocket), ("soak", _soak))
    parts += [write(found[name]) for name, write in others if name in found]
    return "\n\n".join(parts) + "\n"


def goals(found: Told) -> dict[str, bool | None]:
    """Each goal, in words, and whether it was reached; None where it was not measured, since the host took too much."""
    told: dict[str, bool | None] = {}
    if "overhead" in found:
        quiet = found["overhead"]["host_taken_at_most"] <= MOST_TAKEN
        for arm in (GATEWAY, IN_MEMORY):
            added = found["overhead"]["arms"][arm]["added_ms"]
            for name, most in GOALS_MS.items():
                value = added[name]["value"]
                reached = value <= most if quiet else None
                told[f"{arm}: added latency {name} {value:.2f} ms, at most {most:g} wanted"] = reached
    for name in ("overhead", "stream", "parts", "soak"):
        if name in found:
            audit = found[name]["audit"]
            kept = audit["holds"] and not audit["missing"]
            told[f"{name}: no decision that was told is lost, and the chain holds"] = kept
            arms = found[name].get("arms", {GATEWAY: found[name]})
            counted = [arms[arm]["outcomes"] for arm in (GATEWAY, IN_MEMORY) if arm in arms]
            answered = all(set(each) == {"answered"} for each in counted)
            told[f"{name}: every request was answered as the upstream answers"] = answered
    if "soak" in found:
        for name, series in found["soak"]["series"].items():
            told[f"soak: {name.replace('_', ' ')} flat in the second half"] = series["flat"]
    return told


def picture(found: Told) -> str:
    """What the hop adds, by arm, and where the gateway's time goes."""
    charts, widths = [_added(found["overhead"])], [300]
    if "parts" in found:
        charts.append(_where(found["parts"]))
        widths.append(300)
    note = "Bars: 95 % intervals over rounds; open loop, time from the moment a request was due"
    return side_by_side(charts, widths, heading(f"Added latency at {found['rate']:g} requests a second", note), [])


def _about(found: Told) -> str:
    return (
        f"{found['rate']:g} requests a second, {found['rounds']} rounds of {found['seconds']:g} s for each arm; the "
        f"upstream takes {1e3 * found['think']:g} ms. {found['machine']}; {TURNS:,} turns of a plain loop in "
        f"{found['interpreter_ms']:.0f} ms."
    )


def _arms(told: Told) -> str:
    rows = [
        "| | answered, all tries | p50, ms | p99, ms | added p50, ms | added p90, ms | added p99, ms |",
        "|---" * 7 + "|",
    ]
    for name, arm in told["arms"].items():
        seconds, added, outcomes = arm["seconds_ms"], arm["added_ms"], arm["outcomes"]
        counted = f"{outcomes.get('answered', 0)} of {sum(outcomes.values())}"
        cells = [_ms(seconds, "p50"), _ms(seconds, "p99")]
        cells += ["–"] * 3 if name == DIRECT else [_ms(added, each) for each in ("p50", "p90", "p99")]
        rows.append(f"| {name} | {counted} | {' | '.join(cells)} |")
    for name, arm in told["arms"].items():
        if "first_ms" in arm and name != DIRECT:
            rows += ["", f"{name}, first piece: added {_ms(arm['first_added_ms'], 'p50')} (p50), "]
            rows[-1] += f"{_ms(arm['first_added_ms'], 'p99')} (p99) ms"
            if name == GATEWAY:
                rows[-1] += (
                    f"; beyond the {_ms(arm['held_back_ms'], 'p50')} ms (p50) until the upstream has said what must be "
                    f"looked at first, {_ms(arm['first_added_beyond_hold_ms'], 'p50')} (p50), "
                    f"{_ms(arm['first_added_beyond_hold_ms'], 'p99')} (p99) ms"
                )
            rows[-1] += "."
    rows += ["", *_host(told)]
    late, alone = max(arm["sent_late_p99_ms"] for arm in told["arms"].values()), told["disk_ms"]
    rows += ["", f"The sender itself was late by at most {late:.2f} ms (p99, every arm)."]
    rows.append(f"The disk alone, two pages and their flush: p50 {alone['p50']:.2f}, p99 {alone['p99']:.2f} ms.")
    return "\n".join(rows)


def _host(told: Told) -> list[str]:
    """What the host took, which rounds do not count, and what would be said if none had been taken again."""
    tries, most = told["tries"], 1e3 * MOST_TAKEN
    rows = [
        f"{len(tries)} tries of {sum(each['counts'] for each in tries)} rounds: one in which the host took more than "
        f"{most:g} ms of a second of the processors in any turn was taken again. In those that count it took at most "
        f"{1e3 * told['host_taken_at_most']:.0f}. By arm, in all tries:",
        "",
        "| | host took, ms of a second: p50, most | with p99, Spearman | first tries: added p50, ms | added p99, ms |",
        "|---" * 5 + "|",
    ]
    for name, arm in told["arms"].items():
        taken, added = [1e3 * each["host_taken"][name] for each in tries], arm["first_tries"]["added_ms"]
        cells = [f"{median(taken):.0f}, {max(taken):.0f}", _alike(tries, name)]
        cells += ["–"] * 2 if name == DIRECT else [_ms(added, each) for each in ("p50", "p99")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _alike(tries: Sequence[Told], arm: str) -> str:
    """How far an arm's p99 goes with what the host took in its turns: Spearman's rank correlation over all tries."""
    pairs = [(each["host_taken"][arm], each["seconds_ms"][arm]["p99"]) for each in tries if each["seconds_ms"][arm]]
    taken, slowest = zip(*pairs, strict=True) if pairs else ((), ())
    if min(len(set(taken)), len(set(slowest))) < 3:
        return "–"
    return f"{float(spearmanr(taken, slowest).statistic):.2f}"


def _audit(told: Told) -> str:
    held = "holds" if told["holds"] else "DOES NOT HOLD"
    return f"{told['told']} decisions told, {told['missing']} of them missing; the chain of {told['rows']} {held}."


def _parts(told: Told) -> str:
    rows = ["## Where the time goes", "", "| ms for a request | mean | p50 | p99 |", "|---|---|---|---|"]
    for name, spread in told["parts_ms"].items():
        rows.append(f"| {name} | {spread['mean']:.2f} | {spread['p50']:.2f} | {spread['p99']:.2f} |")
    rows += [
        "",
        f"Outside of the application (sockets, HTTP, the event loop; of medians): {told['outside_ms']:.2f} ms.",
    ]
    rows += [f"{name.capitalize()}: {_calls(told[name])}." for name in ("batches", "commits")]
    pauses = told["full_collections_ms"]
    rows.append(f"Full garbage collections: {len(pauses)}, the longest {max(pauses, default=0.0):.1f} ms.")
    return "\n".join(rows)


def _pocket(told: Told) -> str:
    rows = [f"## With the embedded monitor\n\n{told['exchanges']} exchanges, each alone: {told['outcomes']}.", ""]
    rows += ["| ms for a request | mean | p50 | p99 |", "|---|---|---|---|"]
    named = {
        "bare_pass_ms": "bare forward pass of all its stages",
        "monitor_ms": "the monitor on them, in process",
        "added_ms": "what the gateway added to the upstream",
        "added_over_bare_pass_ms": "of that, beyond the bare pass",
        "added_over_monitor_ms": "of that, beyond the monitor",
    }
    for name, words in named.items():
        rows.append(f"| {words} | {told[name]['mean']:.2f} | {told[name]['p50']:.2f} | {told[name]['p99']:.2f} |")
    load = told["load"]
    rows += [
        "",
        f"{told['ratio_to_bare_pass']:.2f} times the bare pass. "
        f"Highest rate borne: {load['highest_borne_rate']:.1f} a second.",
    ]
    for each in load["tried"]:
        rows.append(
            f"- {each['rate']:.1f} a second ({each['of_capacity']:.0%} of capacity): "
            f"p50 {each['seconds_ms']['p50']:.0f}, p99 {each['seconds_ms']['p99']:.0f} ms, {each['outcomes']}; "
            f"{_calls(each['batches'])}"
        )
    return "\n".join(rows)


def _soak(told: Told) -> str:
    rows = [
        f"## Soak: {told['seconds']:g} s, {told['outcomes']}",
        "",
        "| | first | second half, median | most | growth a day, 95 % | flat |",
        "|---" * 6 + "|",
    ]
    for name, series in told["series"].items():
        growth = "{value:+.1f} ({low:+.1f} to {high:+.1f})".format(**series["growth_per_day"])
        flat = "yes" if series["flat"] else "NO"
        label = name.replace("_", " ")
        rows.append(
            f"| {label} | {series['first']:.1f} | {series['median']:.1f} | {series['most']:.1f} | {growth} | {flat} |"
        )
    rows += [
        "",
        f"The store grew by {told['store_mib_per_1000_requests']:.2f} MiB for 1,000 requests. {_audit(told['audit'])}",
    ]
    return "\n".join(rows)


def _ms(quantiles: Told, name: str) -> str:
    if name not in quantiles:
        return "–"
    each = quantiles[name]
    return f"{each['value']:.2f}" + (
        "" if each["low"] != each["low"] else f" ({each['low']:.2f} to {each['high']:.2f})"
    )


def _calls(told: Told) -> str:
    sizes = ", ".join(f"{n} of {size}" for size, n in told["sizes"].items())
    return f"{sizes} (p50 {told['calls_ms']['p50']:.2f}, p99 {told['calls_ms']['p99']:.2f} ms)"


def _added(told: Told) -> Spec:
    import altair as alt

    rows: Rows = []
    for name, arm in told["arms"].items():
        for which, each in arm["added_ms"].items() if name != DIRECT else ():
            row: Row = {"arm": name, "quantile": which, "value": each["value"]}
            rows.append(row | {"low": _drawn(each["low"], each["value"]), "high": _drawn(each["high"], each["value"])})
    names = list(dict.fromkeys(row["arm"] for row in rows))
    ticks = alt.Axis(values=[0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000])
    x = alt.X("value:Q", title="added latency, ms", scale=alt.Scale(type="symlog", constant=1), axis=ticks)
    y = alt.Y("quantile:N", title=None, sort=["p50", "p90", "p99"])
    shift = alt.YOffset("arm:N", sort=names)
    colour = alt.Color("arm:N", sort=names, scale=alt.Scale(domain=names, range=list(_COLOURS[: len(names)])))
    marks = chart_of(rows).mark_point(filled=True, size=60, opacity=1).encode(x, y, shift, colour)
    bars = chart_of(rows).mark_rule(strokeWidth=1.5).encode(alt.X("low:Q"), y, shift, colour, alt.X2("high:Q"))
    return spec_of(alt.layer(bars, marks), height=220)


def _where(told: Told) -> Spec:
    import altair as alt

    left_out = ("whole", "upstream", "monitor", "audit")
    rows: Rows = [{"part": n, "ms": s["p50"]} for n, s in told["parts_ms"].items() if n not in left_out]
    rows.append({"part": "outside", "ms": told["outside_ms"]})
    x, y = alt.X("ms:Q", title="ms for a request, p50"), alt.Y("part:N", title=None, sort="-x")
    return spec_of(alt.layer(chart_of(rows).mark_bar(color=_COLOURS[0], height={"band": 0.6}).encode(x, y)), height=220)


def _drawn(end: float, value: float) -> float:
    """The end of an interval, the value itself where there is none."""
    return value if end != end else end
