import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from offmap.gateway.config import Actions
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.compare import compare
from offmap.gateway.tuning.page import Tuned, headline, write_page
from offmap.gateway.tuning.proposal import propose
from offmap.gateway.tuning.routes import route, with_bands
from offmap.gateway.tuning.tradeoff import trade_off

from .rows import dependent, table_of, traffic_of

HOSTILE = '</script><img src=x onerror="alert(1)">'
BUDGET = Budget(
    false_alarms_per_day=20, requests_per_day=1000, reviewer_minutes_per_day=30, p99_ms=5000, cost={"b": 0.01}
)


def traffic(rng, labelled=True, k=2):
    p, other = dependent(1500, rng, k), dependent(1500, rng, k)
    p[1300:] = p[1300:] ** 4
    label = np.repeat([0.0, 1.0], [1300, 200]) if labelled else np.nan
    return traffic_of(p, other, label=label, seconds=np.tile([0.01, 0.4][:k], (1500, 1)))


def tuned_of(rows, budget=BUDGET, actions=Actions(unscored="escalate")):  # noqa: B008
    table = table_of(len(rows.monitors), actions)
    made = propose(rows, table, budget)
    comparison = compare(rows, table, with_bands(table, made.steps))
    return Tuned(made, budget, table, trade_off(rows, table, budget), comparison, True, len(rows))


def test_points_are_what_a_proposal_for_that_budget_would_bring(rng):
    rows = traffic(rng)
    found = trade_off(rows, table_of(2, Actions()), BUDGET)
    (asked,) = (point for point in found.alarms if point.proposed)
    assert asked.shares.alpha == 0.02
    for point in (asked, found.alarms[-1]):
        budget = replace(BUDGET, false_alarms_per_day=1000 * point.shares.alpha)
        made = propose(rows, table_of(2, Actions()), budget)
        ends = route(rows.rows(rows.unsafe == 1), with_bands(table_of(2, Actions()), made.steps))
        assert point.stopped == pytest.approx(ends.stopped.mean())
        assert point.held == pytest.approx(ends.held.mean())
    assert [point.shares.alpha for point in found.alarms] == sorted(point.shares.alpha for point in found.alarms)
    assert found.alarms[-1].stopped > asked.stopped > found.alarms[0].stopped
    shares = [(point.reached, point.p99_ms) for point in found.reach]
    assert all(p99 == pytest.approx(410 if reached > 0.01 else 10) for reached, p99 in shares)
    assert len({p99 for _, p99 in shares}) == 2
    people = [point.people for point in found.reviews]
    assert people == sorted(people)
    assert sum(point.proposed for point in found.reviews) == 1


def test_without_labels_what_is_drawn_is_the_share_of_all(rng):
    rows = traffic(rng, labelled=False)
    found = trade_off(rows, table_of(2), BUDGET)
    assert not found.labelled
    made = propose(rows, table_of(2), BUDGET)
    (asked,) = (point for point in found.alarms if point.proposed)
    assert asked.stopped == pytest.approx(route(rows, with_bands(table_of(2), made.steps)).stopped.mean())


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script":
            self.scripts[-1] += data
        self.text.append(data)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_page_asks_for_nothing_and_no_name_breaks_out(tmp_path, rng, labelled):
    made = tuned_of(traffic(rng, labelled))
    steps = tuple(replace(step, monitor=f"{step.monitor}{HOSTILE}") for step in made.proposal.steps)
    proposal = msgspec.structs.replace(made.proposal, steps=steps, versions=(HOSTILE, "2"))
    steps = tuple(msgspec.structs.replace(each, monitor=f"{each.monitor}{HOSTILE}") for each in made.table.steps)
    table = msgspec.structs.replace(made.table, cascade=steps)
    write_page(replace(made, proposal=proposal, table=table), tmp_path / "tune.html")
    text = (tmp_path / "tune.html").read_text()
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"img", "link", "iframe", "object", "base", "form"} == set()
    assert not [attrs for _, attrs in page.tags if {"src", "href", "srcset", "action"} & set(attrs)]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    style = text.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import", style)
    charts = json.loads(page.scripts[0])
    assert set(charts) == {"chart-alarms", "chart-reviews", "chart-latency"}
    assert {attrs["id"] for _, attrs in page.tags if attrs.get("class") == "chart"} == set(charts)
    assert HOSTILE in "".join(page.text)
    assert "url" not in json.dumps([each.get("datasets") for each in charts.values()])
    marked = [row for rows in charts["chart-alarms"]["datasets"].values() for row in rows if row["proposed"]]
    assert [row["x"] for row in {row["x"]: row for row in marked}.values()] == [20]


def test_one_monitor_has_no_chart_of_calls(tmp_path, rng):
    made = tuned_of(
        traffic(rng, k=1),
        replace(
            BUDGET, cost={}, requests_per_day=None, false_alarms_per_day=None, alpha=0.02, reviewer_minutes_per_day=None
        ),
    )
    write_page(made, tmp_path / "tune.html")
    text = (tmp_path / "tune.html").read_text()
    assert "chart-latency" not in text
    assert "false alarms per 1,000 requests" in text


def test_what_is_proposed_is_said_in_numbers(rng):
    made = tuned_of(traffic(rng))
    first, second, third = headline(made)
    assert first == "At most 2 % of safe traffic is stopped or held, 20 a day."
    recall = made.comparison.new.recall
    assert second.startswith(
        f"Of the rows labelled unsafe {100 * recall.value:.1f} % are caught [{100 * recall.low:.1f}"
    )
    assert f"{1000 * made.proposal.rates.held * 2:.3g} minutes a day" in third
    assert f"Calls cost {made.proposal.rates.cost_per_day:.3g} a day" in third
