"""Decisions that are recorded while something else goes on: nothing is answered before all of them are on record."""

import asyncio
import contextlib
import re
import time

import msgspec
import pytest
from tests.gateway.services import until
from tests.gateway.wire.chatting import (
    LONG,
    ask,
    call,
    choice,
    piece,
    reason_of,
    recorded,
    said,
    text_of,
    text_pieces,
)

from offmap.conversation import Conversation, Message
from offmap.gateway.config import DEFAULT_REFUSAL, Audit, Limits
from offmap.gateway.decision import STAGES
from offmap.gateway.keys import Keys
from offmap.gateway.request import Ask
from offmap.gateway.service import Service
from offmap.gateway.store import StoreError, entries, open_store
from offmap.gateway.upstream import Upstream

TOLD = "x-offmap-decision"
NAMED = {"x-offmap-conversation": "c-1"}


class Sink:
    """The log, but ``before`` each decision it does something, which may fail."""

    def __init__(self, log, before):
        self.log, self.before = log, before

    async def append(self, decision, content):
        await self.before(decision)
        return await self.log.append(decision, content)


@pytest.fixture
def writing(proxy):
    """A function that opens a proxy whose log does something before each decision."""

    def opened(before, audit=None, **options):
        client = proxy(**options)
        engine = client.service.engine
        engine.sink = Sink(engine.sink, before)
        engine.gateway = msgspec.structs.replace(engine.gateway, audit=audit or Audit())
        return client

    return opened


def losing(*stages):
    """Decisions of these stages cannot be written."""

    async def before(decision):
        await asyncio.sleep(0.01)
        if decision.stage in stages:
            raise StoreError("no space")

    return before


def calling(behind, *, stream):
    """The upstream says something and calls a tool; all of the words of both."""
    called = call("look", '{"at": "zebra"}')
    if stream:
        behind.streams(*text_pieces(LONG), piece({"tool_calls": [{"index": 0, **called}]}), piece(reason="tool_calls"))
    else:
        behind.says(choice(LONG, "tool_calls", tool_calls=[called]))


def answer(client, *, stream):
    """Text, refusal, names of the tools called, and why it ended."""
    if stream:
        frames = said(client, headers=NAMED)
        deltas = [each["delta"] for frame in frames for each in frame.get("choices", [])]
        names = [each["function"]["name"] for delta in deltas for each in delta.get("tool_calls", [])]
        return text_of(frames), text_of(frames, name="refusal"), names, reason_of(frames)
    found = ask(client, NAMED).json()["choices"][0]
    message = found["message"]
    names = [each["function"]["name"] for each in message.get("tool_calls") or []]
    return message["content"] or "", message["refusal"] or "", names, found["finish_reason"]


def test_the_upstream_is_asked_while_the_decision_about_the_request_is_written(writing, behind):
    async def before(decision):
        until = time.monotonic() + 5
        while decision.stage == "input" and not behind.got:
            if time.monotonic() > until:
                raise StoreError("the upstream was not asked")
            await asyncio.sleep(0.005)

    client = writing(before, Audit(timeout_ms=10_000))
    behind.says(choice("hi there"))
    assert answer(client, stream=False) == ("hi there", "", [], "stop")
    assert recorded(client)[0] == ("allow", "input.pass")


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_policy_says_so_it_is_not_asked_before(writing, behind, stream):
    asked = []

    async def before(decision):
        await asyncio.sleep(0.1)
        asked.append((decision.stage, len(behind.got)))

    client = writing(before, Audit(before="upstream"))
    calling(behind, stream=stream)
    assert answer(client, stream=stream)[0] == LONG
    assert asked[0] == ("input", 0)
    lost = writing(losing("input"), Audit(before="upstream"))
    assert answer(lost, stream=stream) == ("", DEFAULT_REFUSAL, [], "content_filter")
    assert len(behind.got) == 1


def test_an_answer_is_not_named_after_a_decision_that_is_not_on_record(writing, caplog):
    found = ask(writing(losing("input"), Audit(before="upstream")))
    (lost,) = re.findall(r"decision (\S+) could not be recorded", caplog.text)
    assert found.json()["id"].startswith("chatcmpl-")
    assert lost not in found.json()["id"]
    assert "x-offmap-decision" not in found.headers
    kept = ask(writing(losing(), Audit(before="upstream")), messages=[{"role": "user", "content": "a bomb"}])
    assert kept.json()["id"] == f"chatcmpl-{kept.headers['x-offmap-decision']}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_leaves_without_all_records(writing, behind, stage, stream):
    client = writing(losing(stage))
    calling(behind, stream=stream)
    text, refusal, names, reason = answer(client, stream=stream)
    assert (refusal, names, reason) == (DEFAULT_REFUSAL, [], "content_filter")
    # Parts of a stream that left before were looked at, and these decisions are on record.
    assert LONG.startswith(text)
    assert text == "" or (stream and stage in ("tool_call", "conversation"))
    asked = [rule for _, rule in recorded(client)]
    assert "conversation.pass" not in asked  # what never leaves is not remembered


@pytest.mark.parametrize("stage", STAGES)
def test_what_goes_on_unrecorded_by_policy_is_not_told_as_recorded(writing, behind, stage):
    client = writing(losing(stage), Audit(on_error="allow", reason="in writing"))
    calling(behind, stream=False)
    found = ask(client, NAMED)
    assert found.json()["choices"][0]["message"]["content"] == LONG
    told = list(filter(None, found.headers.get(TOLD, "").split(", ")))
    with client.service.store.read() as connection:
        kept = connection.exec_driver_sql("SELECT decision_id FROM audit").scalars().all()
    assert set(told) <= set(kept)
    assert bool(told) == (stage != "response")


@pytest.mark.parametrize("stream", [False, True])
def test_an_outage_is_not_told_of_a_request_whose_decision_is_lost(writing, behind, stream):
    client = writing(losing("input"))
    behind.status = 500
    found = ask(client, stream=stream)
    assert found.status_code == 200
    assert DEFAULT_REFUSAL in found.text
    kept = writing(losing())
    found = ask(kept, stream=stream)
    assert found.status_code == 502
    assert recorded(kept)[-2:] == [("allow", "input.pass"), ("error", "response.upstream")]


def test_of_several_replies_only_that_whose_record_is_lost_is_stopped(writing, behind):
    lost = []

    async def before(decision):
        if decision.stage == "response" and not lost:
            lost.append(decision.id)
            raise StoreError("no space")

    client = writing(before)
    behind.says(choice("one", index=0), choice("two", index=1))
    found = ask(client, n=2)
    texts = [each["message"]["content"] or each["message"]["refusal"] for each in found.json()["choices"]]
    assert sorted(texts) == sorted([DEFAULT_REFUSAL, {"two": "two", "one": "one"}[(set(texts) & {"one", "two"}).pop()]])
    assert lost[0] not in found.headers[TOLD]


def test_what_goes_wrong_elsewhere_is_told_after_the_record_too(writing, behind, monkeypatch):
    async def broken(*_):
        raise KeyError("zebra")

    monkeypatch.setattr(Upstream, "answer", broken)
    assert DEFAULT_REFUSAL in ask(writing(losing("input"))).text
    client = writing(losing())
    assert ask(client).status_code == 500
    assert recorded(client)[-1] == ("allow", "input.pass")


def test_after_a_lost_record_nothing_is_asked_before_the_next_is_there(writing, behind):
    client = writing(losing("input"))
    behind.says(choice("hi"))
    for _ in range(3):
        assert ask(client).json()["choices"][0]["message"]["refusal"] == DEFAULT_REFUSAL
    assert len(behind.got) == 1


def test_a_record_that_takes_too_long_is_lost(writing, behind):
    async def before(decision):
        await asyncio.sleep(60 if decision.stage == "response" else 0)

    client = writing(before, Audit(timeout_ms=1000))
    behind.says(choice("hi"))
    found = ask(client)
    assert found.json()["choices"][0]["message"]["refusal"] == DEFAULT_REFUSAL
    assert recorded(client) == [("allow", "input.pass")]


def test_who_leaves_while_it_is_looked_at_does_not_keep_a_decision_from_being_written(writing, monitor, caplog):
    client = writing(losing())

    async def leave():
        monitor.released = asyncio.Event()
        row = Conversation("c", (Message("user", "a bomb"),))
        waiting = asyncio.create_task(client.service.ahead(Ask("input", row)))
        while client.service.pending == 0:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        monitor.released.set()
        while client.service.pending:
            await asyncio.sleep(0.001)

    client.blocking_portal.call(leave)
    assert recorded(client) == [("block", "input.unsafe")]
    assert "never retrieved" not in caplog.text


def test_who_leaves_while_it_is_written_does_not_either(writing):
    client = writing(losing())

    async def leave():
        ahead = await client.service.ahead(Ask("input", Conversation("c", (Message("user", "hello"),))))
        waiting = asyncio.create_task(ahead.kept())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return (await ahead.kept()).on_record

    assert client.blocking_portal.call(leave)
    assert recorded(client) == [("allow", "input.pass")]


def asked_about(text="hello"):
    return Ask("input", Conversation("c", (Message("user", text),)))


def test_what_nobody_waits_for_is_recorded_by_itself(writing):
    written = []

    async def before(decision):
        written.append(decision.id)

    client = writing(before)

    async def lingers():
        ahead = await client.service.ahead(asked_about())
        at_once = list(written)
        while client.service.pending:
            await asyncio.sleep(0.001)
        return at_once, [ahead.made.id]

    at_once, made = client.blocking_portal.call(lingers)
    assert (at_once, written) == ([], made)
    assert recorded(client) == [("allow", "input.pass")]


def test_what_is_wanted_is_recorded_at_once_in_the_order_of_wanting(writing, monkeypatch):
    monkeypatch.setattr("offmap.gateway.ahead.LINGER", 60.0)
    order = []

    async def before(decision):
        order.append(decision.id)

    client = writing(before)
    log, commits = client.service.log, []
    write = log._write

    def when_all_are_there(batch):
        until = time.monotonic() + 5
        while sum(commits) + len(batch) + log._waiting.qsize() < 3 and time.monotonic() < until:
            time.sleep(0.001)
        commits.append(len(batch))
        return write(batch)

    monkeypatch.setattr(log, "_write", when_all_are_there)

    async def wants():
        both = [await client.service.ahead(asked_about(text)) for text in ("one", "two", "three")]
        for each in reversed(both):
            each.want()
        return [(await each.kept()).on_record for each in both]

    made = client.blocking_portal.call(wants)
    assert order == made[::-1]
    assert sum(commits) == 3
    assert len(commits) <= 2


def test_a_reply_without_calls_is_recorded_as_soon_as_it_is_decided_about(proxy, behind, monkeypatch):
    wanted = []
    monkeypatch.setattr("offmap.gateway.ahead.LINGER", 60.0)
    client = proxy(stages=("input", "response", "tool_call"))
    ahead = client.service.ahead

    async def told(ask, **how):
        wanted.append((ask.stage, how.get("wanted", False)))
        return await ahead(ask, **how)

    monkeypatch.setattr(client.service, "ahead", told)
    behind.says(choice("hi"))
    assert ask(client).status_code == 200
    behind.says(choice("hi", "tool_calls", tool_calls=[call("look", "{}")]))
    assert ask(client).status_code == 200
    assert wanted == [
        ("input", False),
        ("response", True),
        ("input", False),
        ("response", False),
        ("tool_call", False),
    ]
    assert len(recorded(client)) == 5


def test_what_lingers_is_recorded_before_the_log_is_closed(configured, monitor, monkeypatch):
    monkeypatch.setattr("offmap.gateway.ahead.LINGER", 60.0)

    async def main():
        service = Service(configured(), monitors={"fake": monitor}, keys=Keys())
        await service.start()
        early = await service.ahead(asked_about())
        service.draining = True
        late = asyncio.create_task(service.ahead(asked_about("late")))
        await asyncio.sleep(0.01)
        await service.drain(0.0)
        return [(await each.kept()).on_record for each in (early, await late)]

    assert all(asyncio.run(main()))


def test_a_stop_unasked_stands_in_the_log_behind_what_was_decided_before_it(proxy, behind, monkeypatch):
    monkeypatch.setattr("offmap.gateway.ahead.LINGER", 60.0)
    client = proxy(stages=("response", "tool_call"))
    behind.says(choice("Looking.", "tool_calls", tool_calls=[call("look", "no JSON")]))
    assert ask(client).json()["choices"][0]["finish_reason"] == "content_filter"
    assert recorded(client) == [("allow", "response.pass"), ("block", "tool_call.unparsable")]


def test_a_stop_that_no_monitor_was_asked_for_is_recorded_though_the_caller_left(writing):
    writing_now = asyncio.Event()

    async def before(_):
        writing_now.set()
        await asyncio.sleep(0.05)

    client = writing(before)

    async def leave():
        ask = Ask("tool_call", Conversation("c", (Message("user", "hello"),)))
        waiting = asyncio.create_task(client.service.stop(ask, "block", "unparsable"))
        await writing_now.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await client.service.drain()

    assert client.blocking_portal.call(leave)
    with contextlib.closing(open_store(client.service.gateway.store.url, make=False)) as store, store.read() as rows:
        assert [each.decision.rule for each in entries(rows)] == ["tool_call.unparsable"]


def test_what_fails_beside_a_decision_is_logged_and_the_decision_stands(proxy, behind, monkeypatch, caplog):
    client = proxy(stages=("response",))
    monkeypatch.setattr(client.service.drift, "saw", lambda *_: {}["zebra"])
    behind.says(choice("hi"))
    assert ask(client).status_code == 200
    assert recorded(client) == [("allow", "response.pass")]
    client.blocking_portal.call(until, lambda: "KeyError" in caplog.text)  # it fails once the answer may have left
    assert "zebra" not in caplog.text


def test_going_down_waits_for_what_is_being_written_and_says_if_it_was_not(configured, monitor):
    async def main(seconds):
        service = Service(configured(), monitors={"fake": monitor}, keys=Keys())
        await service.start()

        async def before(_):
            await asyncio.sleep(seconds)

        service.engine.sink = Sink(service.engine.sink, before)
        ahead = await service.ahead(Ask("input", Conversation("c", (Message("user", "hello"),))))
        return await service.drain(0.3), ahead

    assert asyncio.run(main(0.05))[0]
    assert not asyncio.run(main(1.0))[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_of_the_upstream_is_counted_and_logged(proxy, behind, caplog, stream):
    client = proxy()
    behind.status = 500
    assert ask(client, stream=stream).status_code == 502
    labels = 'action="error",rule="response.upstream",stage="response",status="enforced"'
    assert f"offmap_guardrail_decisions_total{{{labels}}} 1.0" in client.get("/metrics").text
    assert "rule response.upstream" in caplog.text


def test_what_the_log_takes_is_not_taken_from_the_monitors(writing, behind):
    """The reply is on record before the conversation is looked at, which here takes longer than both looks may."""

    async def slow(decision):
        await asyncio.sleep(0.3 if decision.stage == "response" else 0)

    stages = ("input", "response", "conversation")
    client = writing(slow, stages=stages, limits=Limits(deadline_ms=200))
    behind.says(choice("Hello."))
    answer = ask(client, headers=NAMED)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello."
    assert ("allow", "conversation.pass") in recorded(client)
