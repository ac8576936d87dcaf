"""The log of a training run as a picture: what was learned, and when it stopped being true of other rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from offmap.atomic import write_whole

PICTURE = "curves.svg"
_PANELS = (
    ("guard loss, the heads' mean", "guard", "eval_guard_plain"),
    ("language-model loss", "lm", "eval_lm"),
    ("guard loss after the best scale and shift", "", "eval_guard"),
    ("AUROC on held-out rows", "", "eval_auroc"),
)
"""Title, and what the log calls it on training rows and on held-out rows: one quantity on an axis."""
_COLOURS = {"training": "#9aa5b1", "held out": "#0b6e99"}


def draw(log: Sequence[Mapping[str, float]], best: int, path: Path) -> bool:
    """Write the curves as SVG, a rule at the best step; False where altair is not installed (extra ``bench``).

    Args:
        log: entries of the trainer's log.
        best: the step whose weights were kept.
        path: the file.
    """
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        return False
    import vl_convert

    write_whole(path, vl_convert.vegalite_to_svg(_chart(log, best).to_json()).encode())
    return True


def points(log: Sequence[Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """The curves' points: panel, rows, step, value."""
    for panel, seen, held_out in _PANELS:
        for name, rows in ((seen, "training"), (held_out, "held out")):
            for entry in log:
                if name in entry:
                    yield {"panel": panel, "rows": rows, "step": entry["step"], "value": entry[name]}


def _chart(log: Sequence[Mapping[str, float]], best: int) -> Any:
    from importlib import import_module

    alt: Any = import_module("altair")
    drawn = list(points(log))
    colour = alt.Color("rows:N", title=None, scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())))
    panels = []
    for panel, *_ in _PANELS:
        values = [point for point in drawn if point["panel"] == panel]
        if not values:
            continue  # of what was not learned
        data = alt.Data(values=values)
        base = alt.Chart(data, title=panel, width=240, height=160)
        lines = base.mark_line(point=True).encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=colour,
            strokeDash=alt.StrokeDash("rows:N", title=None, legend=None),
        )
        rule = alt.Chart(alt.Data(values=[{"step": best}])).mark_rule(strokeDash=[2, 3]).encode(x="step:Q")
        panels.append(lines + rule)
    return alt.concat(*panels, columns=2).configure_view(stroke=None)
