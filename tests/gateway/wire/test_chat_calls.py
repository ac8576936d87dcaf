"""Calls are looked at while the text is; what is found of them counts where the text leaves the reply as it was."""

import asyncio
from dataclasses import dataclass

import msgspec
import pytest
from tests.gateway.conftest import Monitor
from tests.gateway.wire.chatting import ask, call, choice, recorded, replies

from offmap.conversation import Conversation, Message, ToolCall
from offmap.gateway.config import Actions, Limits, Server, StageTable
from offmap.gateway.request import Ask

CALLS = [call("look", f'{{"at": {n}}}', f"c{n}") for n in range(7)]
BOMB = call("send", '{"what": "bomb"}', "c9")


@dataclass
class Counting(Monitor):
    """Tells how many it was asked about at once, and fails where it is asked about more than one, if told to."""

    now: int = 0
    most: int = 0
    alone: bool = False
    calls: float = 0.02

    async def ask(self, conversation, timeout=None):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.calls if len(conversation.messages[-1].tool_calls) == 1 else 0.02)
            found = msgspec.structs.replace(await super().ask(conversation, timeout), seconds=0.02)
            crowded = self.alone and self.now > 1
            return msgspec.structs.replace(found, outcome="timeout", p_value=None) if crowded else found
        finally:
            self.now -= 1


@pytest.fixture
def monitor():
    return Counting()


@pytest.fixture
def policies(proxy):
    """A function that opens a proxy whose stages have policies of their own."""

    def opened(**stages):
        client = proxy(stages=tuple(stages))
        engine = client.service.engine
        tables = {name: StageTable(**{"cascade": ("fake",), **fields}) for name, fields in stages.items()}
        engine.gateway = msgspec.structs.replace(engine.gateway, stages=tables)
        return client

    return opened


def test_text_and_calls_are_looked_at_at_once_as_many_as_share_a_pass(proxy, behind, monitor):
    client = proxy(limits=Limits(max_batch=4))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS))
    found = ask(client).json()["choices"][0]["message"]
    assert found["content"] == "Looking."
    assert found["tool_calls"] == CALLS
    assert monitor.most == 4
    looks = [[each.id for each in reply.tool_calls] for reply in replies(monitor)]
    assert sorted(looks) == sorted([[each["id"] for each in CALLS], *([each["id"]] for each in CALLS)])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (choice(None, "tool_calls", tool_calls=[call("look", "{}", f"c{n}") for n in range(129)]), "tool_calls"),
        (choice([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}], "stop"), "content"),
    ],
)
def test_what_is_not_looked_at_is_told_by_its_field(proxy, behind, message, field):
    behind.says(message)
    answer = ask(proxy())
    assert answer.status_code == 502
    assert f"the upstream's answer cannot be read: field choices.message.{field}" in answer.json()["error"]["message"]


def test_the_same_call_twice_is_asked_about_once_and_decided_about_twice(proxy, behind, monitor):
    client = proxy(stages=("tool_call",))
    behind.says(choice(None, "tool_calls", tool_calls=[CALLS[0], CALLS[0], CALLS[1]]))
    assert len(ask(client).json()["choices"][0]["message"]["tool_calls"]) == 3
    assert sorted(reply.tool_calls[0].id for reply in replies(monitor)) == ["c0", "c1"]
    assert recorded(client) == [("allow", "tool_call.pass")] * 3


def test_a_call_that_stops_the_reply_ends_the_looking(proxy, behind):
    client = proxy(stages=("tool_call",))
    behind.says(choice(None, "tool_calls", tool_calls=[CALLS[0], BOMB, *CALLS[1:]]))
    assert ask(client).json()["choices"][0]["finish_reason"] == "content_filter"
    assert recorded(client) == [("allow", "tool_call.pass"), ("block", "tool_call.unsafe")]


@pytest.mark.parametrize("action", ["block", "escalate"])
def test_where_the_text_stops_the_reply_nothing_is_decided_about_its_calls(policies, behind, monitor, action):
    client = policies(response={"actions": Actions(unsafe=action)}, tool_call={"actions": Actions(unsafe="escalate")})
    behind.says(choice("A bomb.", "tool_calls", tool_calls=CALLS))
    answer = ask(client)
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
    assert monitor.most == 8
    assert recorded(client) == [(action, "response.unsafe")]


def test_where_the_text_is_cut_what_was_found_of_its_calls_is_not_used(policies, behind):
    client = policies(response={"actions": Actions(unsafe="modify"), "fallback": "partial"}, tool_call={})
    behind.says(choice("First. A bomb here.", "tool_calls", tool_calls=CALLS[:2]))
    found = ask(client).json()["choices"][0]
    assert found["message"]["content"] == "First."
    assert found["message"].get("tool_calls") is None
    assert recorded(client) == [("modify", "response.unsafe")]


def test_a_call_that_the_text_s_policy_takes_out_does_not_stop_the_reply(policies, behind):
    reading = {"actions": Actions(unsafe="modify"), "fallback": "read_only_tools", "read_only_tools": ("look",)}
    client = policies(response=reading, tool_call={})
    behind.says(choice("Sending.", "tool_calls", tool_calls=[CALLS[0], BOMB]))
    found = ask(client).json()["choices"][0]["message"]
    assert found["content"] == "Sending."
    assert [each["id"] for each in found["tool_calls"]] == ["c0"]
    assert recorded(client) == [("modify", "response.unsafe"), ("allow", "tool_call.pass")]


def test_a_call_that_its_own_look_cuts_is_found_anew_for_those_behind_it(policies, behind, monitor):
    cutting = {"actions": Actions(unsafe="modify"), "fallback": "read_only_tools", "read_only_tools": ("look",)}
    client = policies(tool_call=cutting)
    behind.says(choice("Sending.", "tool_calls", tool_calls=[BOMB, CALLS[0]]))
    found = ask(client).json()["choices"][0]["message"]
    assert [each["id"] for each in found["tool_calls"]] == ["c0"]
    assert recorded(client) == [("modify", "tool_call.unsafe"), ("allow", "tool_call.pass")]


def test_what_failed_beside_others_is_asked_again_in_its_turn(proxy, behind, monitor):
    monitor.alone = True
    client = proxy(stages=("tool_call",))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS[:3]))
    assert ask(client).json()["choices"][0]["message"]["tool_calls"] == CALLS[:3]
    assert recorded(client) == [("allow", "tool_call.pass")] * 3
    assert len(replies(monitor)) > 3


def test_a_small_queue_is_not_filled_by_one_reply(proxy, behind, monitor):
    client = proxy(stages=("tool_call",), server=Server(queue=1))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS))
    for _ in range(3):
        assert ask(client).json()["choices"][0]["message"]["tool_calls"] == CALLS


def test_the_time_of_a_look_ahead_is_the_decision_s(proxy, behind):
    client = proxy(stages=("tool_call",))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS[:1]))
    ask(client)
    told = client.get("/metrics").text
    line = next(
        each
        for each in told.splitlines()
        if each.startswith("offmap_guardrail_latency_seconds_sum") and 'kind="stage"' in each
    )
    assert float(line.rpartition(" ")[2]) >= 0.02


def looks(*calls):
    about = (Message("user", "look"),)
    return [Ask("tool_call", Conversation("c", (*about, Message("assistant", tool_calls=(each,))))) for each in calls]


def test_looks_ahead_of_all_replies_together_leave_room_for_decisions(proxy, monitor):
    client = proxy(stages=("tool_call",), server=Server(queue=8))
    asks = looks(*(ToolCall(f"c{n}", "look", "{}") for n in range(7)))

    async def several():
        return await asyncio.gather(*map(client.service.foresee, asks))

    for _ in range(2):
        found = client.blocking_portal.call(several)
        assert sum(each is not None for each in found) == 4 == monitor.most


def test_a_look_ahead_that_raises_found_nothing(proxy, monkeypatch):
    client = proxy(stages=("tool_call",))

    async def broken(stage, conversation):
        raise LookupError(stage)

    monkeypatch.setattr(client.service.engine, "foresee", broken)
    assert client.blocking_portal.call(client.service.foresee, *looks(ToolCall("c", "look", "{}"))) is None


def test_where_the_text_stops_the_reply_its_looks_ahead_are_given_up(policies, behind, monitor):
    monitor.calls = 30.0
    client = policies(response={}, tool_call={})
    behind.says(choice("A bomb.", "tool_calls", tool_calls=CALLS[:3]))
    assert ask(client).json()["choices"][0]["finish_reason"] == "content_filter"
    client.blocking_portal.call(asyncio.sleep, 0.01)
    assert (monitor.most, monitor.now) == (4, 0)


@pytest.mark.parametrize(("deadline", "passes"), [(70, False), (5000, True)])
def test_all_decisions_about_a_reply_have_the_time_of_one(proxy, behind, deadline, passes):
    """Each of its looks takes 20 ms, one after the other."""
    client = proxy(limits=Limits(max_batch=1, deadline_ms=deadline))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS))
    reply = ask(client).json()["choices"][0]
    assert (reply["finish_reason"] == "tool_calls") is passes
    rules = recorded(client)[2:]  # behind those about the request and the text
    assert (("error", "tool_call.timeout") in rules) is not passes
    assert len(rules) == len(CALLS) if passes else len(rules) < len(CALLS)
