"""What `offmap score` shows a person on a terminal."""

from io import StringIO

from rich.console import Console

from offmap.cli.score import _table
from offmap.evidence import Span
from offmap.monitor import Evidence, Verdict
from offmap.shift import Shift

EVIDENCE = (
    Evidence("guard", "unsafe", 0.1, 0.6),
    Evidence("mahalanobis", "unknown", 9.0, 0.001, "layer -1 [tool]"),
    Evidence("perplexity", "unknown", 4.0, 0.002),
)
SPAN = Span(3, "tool", 0, 14, "[bold]no\nwhere", 5.0)


def verdict(**found):
    fields = {"id": "a", "flagged": True, "p_value": 0.001, "p_unsafe": 0.6, "p_unknown": 0.0005, "threshold": 0.01}
    return Verdict(**fields | {"fired": (), "evidence": EVIDENCE} | found)


def shown(*verdicts):
    out = StringIO()
    Console(file=out, width=200).print(_table(verdicts))
    return out.getvalue()


def test_a_flagged_row_shows_parts_kind_and_place():
    shift = Shift("workflow", {"prompt": 0.4, "workflow": 0.0021})
    text = shown(verdict(fired=("mahalanobis", "perplexity"), shift=shift, spans=(SPAN,)))
    assert "1 of 1 flagged" in text
    assert "mahalanobis (layer -1 [tool])" in text
    assert "perplexity (" not in text
    assert "workflow (0.0021)" in text
    assert "3 tool: [bold]no where" in text


def test_nothing_is_claimed_where_nothing_was_found():
    unclaimed = shown(verdict(fired=("guard",), shift=Shift("", {"prompt": 0.4})))
    assert "│ -     │" in unclaimed
    assert "prompt" not in unclaimed
    calm = shown(verdict(flagged=False, spans=(SPAN,)))
    assert "0 of 1 flagged" in calm
    assert "│       │ 3 tool:" in calm


def test_a_row_without_a_score_is_shown():
    missing = verdict(id="[b]", p_value=None, p_unsafe=None, p_unknown=None, evidence=())
    assert "[b]" in shown(missing)
