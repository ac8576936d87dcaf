"""The review pages as they are shipped: `offmap key`, `offmap serve`, a real browser with keys, on both data bases."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import msgspec
import pytest

from offmap.conversation import Conversation
from offmap.gateway.store import Review, entries, expire, open_store, verify

from ..gateway.store.conftest import postgres  # noqa: F401 - a fixture
from .test_gateway_clients import Gateway

CONFIG = """
[server]
keys = "keys.toml"
[stages.response]
cascade = [{{ monitor = "pocket", unsafe = [1e-30, 1.0], unknown = [1e-30, 1.0] }}]
[audit]
capture = "full"
[store]
url = {url}
"""
ROLES = {"anna": "reviewer", "robot": "caller"}
HOSTILE = "</div><script>document.title='x'</script><img src=x onerror=alert(1)> \u202e \u200b " + "x" * 2000
UNLABELLED = """
[...document.querySelectorAll("input:not([type=hidden]), textarea, button, a")].filter((e) => e.checkVisibility() &&
  !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length))).map((e) => e.outerHTML)
"""
FAINT = """
(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, under) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => a * top[i] + (1 - a) * under[i]); };
  const behind = (e) => e ? over(parse(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [255, 255, 255];
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const faint = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest("kbd, .skip, .unseen, dialog")) continue;
    const under = behind(e), [a, b] = [light(over(parse(getComputedStyle(e).color), under)), light(under)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push([walk.currentNode.data.trim().slice(0, 40), ratio]);
  }
  return faint;
})()
"""


class Desk:
    """A gateway whose every reply waits for a person, and who may talk to it."""

    def __init__(self, directory, url):
        self.url = url
        self.keys = {name: made_key(directory, name, role) for name, role in ROLES.items()}
        (directory / "gateway.toml").write_text(CONFIG.format(url=json.dumps(url)))
        self.gateway = Gateway(directory, "--config", "gateway.toml")
        self.address = self.gateway.address

    def call(self, path, body=None):
        headers = {"x-api-key": self.keys["robot"], "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from None

    def escalate(self, text):
        messages = [{"role": "user", "content": "How do I descale a kettle?"}, {"role": "assistant", "content": text}]
        decision = self.call("/v1/decisions", {"stage": "response", "conversation": {"messages": messages}})
        assert decision["action"] == "escalate"
        return decision["id"]

    def clear(self):
        """Settle what is open, as its deadline would."""
        with contextlib.closing(open_store(self.url)) as store:
            expire(store, time.time() + 10_000)

    def reviews(self, decision):
        """What the chain says of a decision's review, once all of the chain was verified."""
        with contextlib.closing(open_store(self.url)) as store:
            assert verify(store).broken_at is None
            with store.read() as connection:
                rows = [e for e in entries(connection) if e.kind == "review" and e.decision_id == decision]
        return [(msgspec.json.decode(row.record, type=Review), row.kept.note) for row in rows]


def made_key(directory, name, role):
    command = [sys.executable, "-m", "offmap", "key", name, "--role", role, "--file", "keys.toml"]
    told = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout
    return next(line for line in told.splitlines() if line.startswith("offmap_"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def desk(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("desk")
    url = f"sqlite:///{place}/review.db" if request.param == "sqlite" else request.getfixturevalue("postgres").new()
    made = Desk(place, url)
    yield made
    assert made.gateway.stop() == 0


@pytest.fixture
def seat(desk, tab):
    """The browser of who has just signed in, by keys alone."""
    tab.go(f"{desk.address}/review")
    assert tab.path == "/review/sign-in?next=/review"
    tab.type(desk.keys["anna"])
    with tab.loading():
        tab.key("Enter")
    assert tab.path == "/review"
    yield tab
    desk.clear()


def test_an_escalation_is_seen_decided_by_keys_and_on_record(desk, seat):
    decision = desk.escalate("First fill it with vinegar. Then pour the rest into qzx vortle blat.")
    assert desk.call(f"/v1/reviews/{decision}") == {"decision": decision, "state": "open"}
    with seat.loading():
        seat.key("Enter")
    page, number = seat.path, seat.path.rpartition("/")[2]
    assert page == f"/review/items/{number}"
    assert "Then pour the rest" in seat.text
    assert "uncertain" in seat.text
    before = seat.ask("document.querySelector('#due time').textContent")
    marks = seat.ask("document.querySelectorAll('[data-span]').length")
    for _ in range(marks + 1):
        seat.key("j")
    assert marks == 0 or seat.ask("document.activeElement.id") == "span-1"
    seat.key("?")
    assert seat.ask("document.querySelector('dialog').open")
    seat.key("Escape")
    seat.key("c")
    seat.type("s u n r: ")
    for letter in "sunrgt":
        seat.key(letter)
    assert seat.path == page
    seat.key("Escape")
    time.sleep(1.1)
    assert seat.ask("document.querySelector('#due time').textContent") != before
    with seat.loading():
        seat.key("u")
    assert seat.path == f"/review?done={number}"
    assert f"Recorded: item {number} is unsafe." in seat.text
    assert "Nothing waits for anybody." in seat.text
    ((review, note),) = desk.reviews(decision)
    assert (review.decision_id, review.verdict, review.by, note) == (decision, "unsafe", "anna", "s u n r: sunrgt")
    assert desk.call(f"/v1/reviews/{decision}") == {"decision": decision, "state": "decided", "action": "block"}
    assert seat.complaints == []


def test_a_mouse_and_no_script_do_as_well(desk, seat):
    decisions = [desk.escalate(text) for text in ("One cup is enough.", "Two cups are enough.")]
    seat.scripts(on=False)
    seat.go(f"{desk.address}/review")
    for decision, verdict in zip(decisions, ("safe", "unsure"), strict=True):
        with seat.loading():
            seat.click(".next button")
        assert decision in seat.text
        with seat.loading():
            seat.click("button[formaction$=take]")
        with seat.loading():
            seat.click(f"button[value={verdict}]")
        assert f"is {verdict}." in seat.text
    with seat.loading():
        seat.click("header button.quiet:not([hidden])")
    assert seat.path == "/review/sign-in"
    assert [desk.reviews(each)[0][0].verdict for each in decisions] == ["safe", "unsure"]


def test_the_queue_stays_fresh_and_an_item_is_given_back(desk, seat):
    assert "Nothing waits for anybody." in seat.text
    decision = desk.escalate("Rinse it twice.")
    end = time.monotonic() + 15
    while "Nothing waits for anybody." in seat.text:
        assert time.monotonic() < end, "the queue is as it was"
        time.sleep(0.2)
    assert seat.ask("document.title").startswith("(1)")
    with seat.loading():
        seat.key("g")
    with seat.loading():
        seat.key("r")
    assert seat.path == "/review"
    assert seat.ask("document.querySelector('.counts dd').textContent") == "1"
    assert desk.reviews(decision) == []


def test_hostile_text_is_inert_and_every_page_is_readable_on_a_phone(desk, seat):
    decision = desk.escalate(HOSTILE)
    with seat.loading():
        seat.key("Enter")
    assert "<script>document.title='x'</script><img src=x" in seat.text
    assert "\\u202e" in seat.text
    item = seat.path
    assert seat.ask("document.title") == f"Item {item.rpartition('/')[2]} · offmap"
    for path in ("/review", item, "/review/sign-in", "/review/items/99"):
        seat.go(desk.address + path)
        assert seat.ask("document.documentElement.lang") == "en"
        assert seat.ask(UNLABELLED) == []
        for width, dark in ((1280, False), (390, False), (390, True), (1280, True)):
            seat.size(width, dark=dark)
            assert seat.ask("document.documentElement.scrollWidth") <= width, (path, width)
            assert seat.ask(FAINT) == [], (path, width, dark)
        seat.size(1280)
    assert [each for each in seat.complaints if "404" not in each] == []
    with contextlib.closing(open_store(desk.url)) as store, store.read() as connection:
        (row,) = [e for e in entries(connection) if e.kind == "decision" and e.decision_id == decision]
        assert msgspec.json.decode(row.kept.content, type=Conversation).messages[-1].content == HOSTILE
