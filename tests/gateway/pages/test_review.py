"""The queue and an item of it, without scripts: what is shown, what a form does, what is told when it does nothing."""

import html
import json
import re

import msgspec
import pytest

from offmap.gateway.config import Review
from offmap.gateway.store import Counts, counts, entries, verify
from offmap.gateway.store import Review as Settled

from .people import Pointer, hidden, seen

LATER = 4e9
HOSTILE = (
    "<script>alert('x')</script> </textarea></mark><img src=x onerror=alert(1)> bomb &amp; \u202e\u2066 "
    "zero\u200bwidth \u3164\ufe0f \x00\x1b[2J {{ 7*7 }} {% raw %} javascript:alert(1) " + "x" * 5000 + "\r\nנא مرحبا"
)


def settled(client):
    """What the chain says of reviews."""
    with client.service.store.read() as connection:
        rows = [entry for entry in entries(connection) if entry.kind == "review"]
    return [(msgspec.json.decode(row.record, type=Settled), row.kept.note) for row in rows]


def tally(client):
    return counts(client.service.store, client.service.log._clock())


def test_an_item_is_taken_seen_and_settled(gateway, escalate):
    client = gateway()
    decision = escalate(client, "first a bomb, then tea", conversation_id="talk-7")
    person = client.person("anna")
    assert "<dt>waiting</dt><dd>1</dd>" in person.get("/review").text
    page = person.take()
    told = seen(page)
    assert page.url.path == "/review/items/1"
    for words in ("Item 1", "stays stopped in 1", "Yours for", "response.unsafe", "fired: guard", "1e-06", "talk-7"):
        assert words in told
    assert decision in told
    assert re.search(r'>1</a><mark class="m0"[^>]*>bomb</mark>, then tea', page.text)
    assert tally(client) == Counts(leased=1)
    after = person.send(page, "decide", verdict="unsafe", note="plain harm")
    assert after.url.path == "/review"
    assert "Recorded: item 1 is unsafe." in seen(after)
    ((review, note),) = settled(client)
    assert (review.decision_id, review.verdict, review.by, note) == (decision, "unsafe", "anna", "plain harm")
    assert tally(client) == Counts(decided=1)
    assert verify(client.service.store).broken_at is None
    look = seen(person.get("/review/items/1"))
    assert "anna decided unsafe" in look
    assert "plain harm" in look
    assert 'name="verdict"' not in person.get("/review/items/1").text


def test_every_verdict_is_recorded_as_it_is_and_anything_else_is_none(gateway, escalate):
    client = gateway()
    person = client.person("ada")
    for verdict in ("safe", "unsafe", "unsure"):
        escalate(client)
        page = person.take()
        for wrong in ("", "SAFE", "allow", "safe "):
            assert person.send(page, "decide", verdict=wrong).status_code == 400
        person.send(page, "decide", verdict=verdict)
    assert [(review.verdict, note) for review, note in settled(client)] == [
        ("safe", ""),
        ("unsafe", ""),
        ("unsure", ""),
    ]


def test_a_note_that_is_too_long_settles_nothing_and_is_not_cut(gateway, escalate):
    client = gateway()
    person = client.person("ada")
    escalate(client)
    page = person.take()
    assert person.send(page, "decide", verdict="safe", note="x" * 2001).status_code == 400
    assert settled(client) == []
    assert person.send(page, "decide", verdict="safe", note="x" * 2000).url.path == "/review"
    assert [note for _, note in settled(client)] == ["x" * 2000]


def test_what_waits_is_given_out_once_and_then_nothing_waits(gateway, escalate):
    client = gateway()
    escalate(client)
    anna, ben = client.person("anna"), client.person("ben")
    assert anna.take().url.path == "/review/items/1"
    nothing = ben.take()
    assert (nothing.url.path, "Nothing waits." in seen(nothing)) == ("/review", True)
    assert "anna, 4 min" in seen(nothing)
    theirs = ben.get("/review/items/1")
    assert "Held by anna for" in seen(theirs)
    assert 'name="verdict"' not in theirs.text
    assert hidden(theirs, "lease") == ""


def test_an_item_is_given_back(gateway, escalate):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    assert person.send(person.take(), "release").url.path == "/review"
    assert (tally(client), settled(client)) == (Counts(waiting=1), [])
    page = person.get("/review/items/1")
    assert "Nobody holds it" in seen(page)
    assert "Yours for" in seen(person.send(page, "take"))


def test_the_page_of_an_item_that_is_mine_can_be_loaded_again(gateway, escalate):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    token = hidden(person.take(), "lease")
    assert hidden(person.get("/review/items/1"), "lease") == token
    assert hidden(client.person("anna").get("/review/items/1"), "lease") == ""


def test_more_time_is_given_and_the_note_stays(gateway, escalate, change):
    client = gateway(review=Review(lease_s=100))
    escalate(client)
    person = client.person("anna")
    page = person.take()
    change(client, lease_until=client.service.log._clock() + 5)
    again = person.send(page, "take", note="half a <thought>\r\n\u200d")
    assert (again.status_code, hidden(again, "lease")) == (200, hidden(page, "lease"))
    assert "half a &lt;thought&gt;\n\u200d</textarea>" in again.text
    assert "Yours for 1 min 3" in seen(again)
    assert person.send(again, "decide", verdict="safe", note="done").url.path == "/review"


NOTE = 'my "words" </textarea><b>'


def test_a_lease_that_ran_out_is_told_and_nothing_is_lost(gateway, escalate, change):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    page = person.take()
    change(client, lease_until=1.0)
    for what in ("release", "decide"):
        lost = person.send(page, what, verdict="safe", note=NOTE)
        assert lost.status_code == 409
        assert "Nothing was recorded for item 1" in seen(lost)
        assert "Your time on it had run out" in seen(lost)
        assert f"{html.escape(NOTE).replace('&quot;', '&#34;')}</textarea>" in lost.text
    assert settled(client) == []
    again = person.send(lost, "take", note=NOTE)
    assert again.status_code == 200
    assert "&lt;b&gt;</textarea>" in again.text
    assert person.send(again, "decide", verdict="safe", note=NOTE).url.path == "/review"
    assert [note for _, note in settled(client)] == [NOTE]


def test_an_item_that_somebody_else_took_or_settled_is_told(gateway, escalate, change):
    client = gateway()
    escalate(client)
    anna, ben = client.person("anna"), client.person("ben")
    mine = anna.take()
    change(client, lease_until=1.0)
    theirs = ben.take()
    lost = anna.send(mine, "decide", verdict="safe", note=NOTE)
    assert (lost.status_code, "ben holds it now" in seen(lost), "Take it again" in seen(lost)) == (409, True, False)
    assert anna.send(mine, "take", note=NOTE).status_code == 409
    ben.send(theirs, "decide", verdict="unsafe")
    lost = anna.send(mine, "decide", verdict="safe", note=NOTE)
    assert (lost.status_code, "settled already: ben decided unsafe" in seen(lost)) == (409, True)
    assert "&lt;/textarea&gt;&lt;b&gt;</textarea>" in lost.text
    assert [review.by for review, _ in settled(client)] == ["ben"]


def test_an_item_whose_time_has_come_is_told_as_such(gateway, escalate, change):
    client = gateway(review=Review(default="allow", reason="nobody is there at night"))
    escalate(client)
    person = client.person("anna")
    page = person.take()
    assert "it goes on in 1" in seen(page)
    change(client, due_at=1.0)
    lost = person.send(page, "decide", verdict="unsafe")
    assert (lost.status_code, "nobody decided in time: it goes on" in seen(lost)) == (409, True)
    assert [review.state for review, _ in settled(client)] == ["timed_out"]
    queue = person.get("/review")
    assert "timed out" in seen(queue)
    assert ", goes on" in seen(queue)
    assert "nobody decided in time: it goes on" in seen(person.get("/review/items/1"))


def test_what_is_overdue_is_settled_by_looking(gateway, escalate, change):
    client = gateway()
    escalate(client)
    change(client, due_at=1.0)
    assert '<dt>timed out</dt><dd class="loud">1</dd>' in client.person("anna").get("/review").text
    assert [review.action for review, _ in settled(client)] == ["block"]


def test_there_is_no_other_item(gateway, escalate):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    form = {"token": hidden(person.get("/review")), "verdict": "safe"}
    for number in ("0", "99", "2147483648", str(10**30), "-1", "x", "1.5"):
        assert person.get(f"/review/items/{number}").status_code == 404
        for what in ("decide", "take", "release"):
            assert person.post(f"/review/items/{number}/{what}", **form).status_code == 404
    assert settled(client) == []


def test_hostile_text_is_inert_wherever_it_stands(gateway, escalate):
    client = gateway(monitor=Pointer(word=r"bomb|<script>"))
    escalate(client, HOSTILE, conversation_id="<b>id")
    person = client.person("anna")
    page = person.take()
    assert page.status_code == 200
    body = page.text.partition('<section class="talk"')[2]
    tags = set(re.findall(r"<([a-z0-9]+)", body))
    assert not tags & {"script", "img", "b"}
    for unseen in "\u202e\u2066\u200b\u3164\ufe0f\x00\x1b":
        assert unseen not in page.text
    for escape in ("\\u202e", "\\u2066", "\\u200b", "\\u3164", "\\ufe0f", "\\x00", "\\x1b"):
        assert re.search(rf'<span class="escape">[^<]*{re.escape(escape)}', page.text)
    assert "{{ 7*7 }} {% raw %}" in html.unescape(page.text)
    assert "&lt;/textarea&gt;&lt;/mark&gt;" in page.text
    assert "&lt;b&gt;id" in body
    assert person.send(page, "decide", verdict="unsafe", note=HOSTILE[:2000]).url.path == "/review"
    again = person.get("/review/items/1")
    assert again.status_code == 200
    assert not set(re.findall(r"<([a-z0-9]+)", again.text.partition("<main")[2])) & {"script", "img", "b"}


@pytest.mark.parametrize(("capture", "kept"), [("none", "keeps nothing of it"), ("hash", "keeps only a hash of it")])
def test_what_is_not_kept_is_told_with_the_setting_that_keeps_it(gateway, escalate, capture, kept):
    client = gateway(capture=capture)
    escalate(client, "a bomb here", conversation_id="talk-7")
    page = client.person("anna").take()
    told = seen(page)
    assert "The text is not kept." in told
    assert f'capture = "{capture}"' in told
    assert kept in told
    assert '"redacted" or "full" keeps it' in told
    assert "request of robot, conversation talk-7" in told
    assert "characters 2–6 of a text that is not here" in told
    assert "bomb" not in page.text
    assert ("SHA-256" in told) == (capture == "hash")


def test_redacted_text_is_shown_as_such_with_marks_at_their_words(gateway, escalate):
    client = gateway(capture="redacted")
    escalate(client, "write to someone@example.org about the bomb")
    page = client.person("anna").take()
    assert "personal data and secrets are marked out" in seen(page)
    assert "someone@" not in page.text
    assert re.search(r"about the <a[^>]*>1</a><mark[^>]*>bomb</mark>", page.text)
    assert "placed by its words" in seen(page)


def test_what_was_purged_is_told(gateway, escalate):
    from offmap.gateway.store import purge

    client = gateway()
    escalate(client)
    purge(client.service.store, LATER, LATER)
    told = seen(client.person("anna").take())
    assert "The text was purged." in told
    assert "keep_days" in told


def test_several_monitors_and_calls_are_shown(gateway, escalate, keys):
    client = gateway(monitor=Pointer(word="bomb|set_valve"))
    messages = [
        {"role": "user", "content": "bomb"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "set_valve", "arguments": '{"open": 1}'}]},
    ]
    body = {"stage": "tool_call", "conversation": {"messages": messages, "tools": [{"name": "set_valve"}]}}
    answer = client.post("/v1/decisions", json=body, headers={"x-api-key": keys[0]["robot"]})
    assert answer.json()["action"] == "escalate"
    page = client.person("anna").take()
    assert re.search(r"&#34;name&#34;: &#34;<a[^>]*>2</a><mark[^>]*>set_valve</mark>", page.text)
    assert "Tools that were offered: set_valve" in seen(page)
    assert page.text.count("data-span") == 2


def test_a_sample_of_the_rest_is_looked_at_and_nothing_waits_for_it(gateway, escalate):
    client = gateway(review=Review(sample=1.0, seed=3))
    escalate(client, "tea")
    assert tally(client) == Counts(waiting=1)
    person = client.person("anna")
    assert "sample" in seen(person.get("/review"))
    page = person.take()
    assert "Nothing waits for this one: it is drawn from all traffic (100 %)" in seen(page)
    assert "stays stopped" not in seen(page)
    person.send(page, "decide", verdict="safe")
    assert [review.verdict for review, _ in settled(client)] == ["safe"]


def test_no_sample_is_drawn_unless_told(gateway, escalate):
    client = gateway()
    escalate(client, "tea")
    assert tally(client) == Counts()


def test_a_store_that_does_not_answer_is_a_page_too(gateway, escalate, monkeypatch):
    from offmap.gateway.store import StoreError

    client = gateway()
    escalate(client)
    person = client.person("anna")
    page = person.take()

    def broken(*_):
        raise StoreError("disk full of secrets")

    monkeypatch.setattr(type(client.service.store), "write", broken)
    answer = person.send(page, "decide", verdict="safe")
    assert (answer.status_code, "The data base does not answer." in seen(answer)) == (503, True)
    assert "secrets" not in answer.text


def test_what_nobody_foresaw_is_a_page_without_a_trace_and_its_class_is_logged(gateway, escalate, monkeypatch, caplog):
    client = gateway()
    escalate(client)
    person = client.person("anna")

    def broken(*_):
        raise RuntimeError("zebra")

    monkeypatch.setattr("offmap.gateway.pages.review.evidence", broken)
    answer = person.get("/review/items/1")
    assert (answer.status_code, "Nothing was recorded." in seen(answer)) == (500, True)
    assert "zebra" not in answer.text + caplog.text
    told = [record for record in caplog.records if record.name.startswith("offmap.gateway.pages")]
    assert [(each.levelname, each.getMessage()) for each in told] == [("ERROR", "a page failed (RuntimeError)")]


def test_a_long_queue_is_cut_and_counted(gateway, escalate):
    client = gateway()
    for _ in range(27):
        escalate(client)
    told = client.person("anna").get("/review")
    assert "<dt>waiting</dt><dd>27</dd>" in told.text
    assert "and 2 more" in seen(told)
    assert told.text.count('<th scope="row">') == 25


def test_a_million_characters_are_shown(gateway, escalate, keys):
    client = gateway()
    text = "bomb " + "<\u200b" * 100_000 + json.dumps("x" * 500_000)
    escalate(client, text)
    page = client.person("anna").take()
    assert page.status_code == 200
    assert page.text.count("\\u200b") == 100_000
