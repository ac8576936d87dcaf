"""Decisions that are recorded while something else goes on: nothing is answered before all of them are on record."""

import asyncio
import time

import msgspec
import pytest
from tests.gateway.wire.chatting import (
    HELLO,
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

from offmap.gateway.config import DEFAULT_REFUSAL, Audit
from offmap.gateway.decision import STAGES
from offmap.gateway.store import StoreError

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
    assert stage not in [rule.partition(".")[0] for _, rule in recorded(client)]


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


def test_who_leaves_does_not_keep_a_decision_from_being_written(writing, behind):
    client = writing(losing())
    service = client.service
    ended = []

    async def leave():
        from offmap.conversation import Conversation, Message
        from offmap.gateway.service import Ask

        row = Conversation("c", (Message("user", HELLO[0]["content"]),))
        ahead = await service.ahead(Ask("input", row))
        waiting = asyncio.create_task(ahead.kept())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ended.append((await ahead.kept()).on_record)

    client.blocking_portal.call(leave)
    assert recorded(client) == [("allow", "input.pass")]
    assert ended[0]
