"""The text of a reply and its calls are looked at beside each other; what leaves is what all looks let through."""

import asyncio
from dataclasses import dataclass

import pytest
from tests.gateway.conftest import Monitor
from tests.gateway.wire.chatting import ask, call, choice, recorded, replies

from offmap.gateway.config import Actions, Limits
from offmap.gateway.store import entries

CALLS = [call("look", f'{{"at": {n}}}', f"c{n}") for n in range(7)]


@dataclass
class Counting(Monitor):
    """Tells how many it was asked about at once."""

    now: int = 0
    most: int = 0

    async def ask(self, conversation, timeout=None):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.02)
            return await super().ask(conversation, timeout)
        finally:
            self.now -= 1


@pytest.fixture
def monitor():
    return Counting()


def test_text_and_calls_are_looked_at_at_once_as_many_as_share_a_pass(proxy, behind, monitor):
    client = proxy(limits=Limits(max_batch=4))
    behind.says(choice("Looking.", "tool_calls", tool_calls=CALLS))
    found = ask(client).json()["choices"][0]["message"]
    assert found["content"] == "Looking."
    assert found["tool_calls"] == CALLS
    assert monitor.most == 4
    looks = [[each.id for each in reply.tool_calls] for reply in replies(monitor)]
    assert sorted(looks) == sorted([[each["id"] for each in CALLS], *([each["id"]] for each in CALLS)])


def test_what_stops_the_reply_ends_the_looking(proxy, behind, monitor):
    client = proxy(limits=Limits(max_batch=2), stages=("tool_call",))
    behind.says(choice(None, "tool_calls", tool_calls=[*CALLS[:2], call("look", '{"at": "bomb"}'), *CALLS[3:]]))
    assert ask(client).json()["choices"][0]["finish_reason"] == "content_filter"
    assert len(replies(monitor)) == 3  # the calls that share a pass: the text has no stage
    assert [action for action, _ in recorded(client)].count("block") == 1


def test_the_answer_names_the_decision_about_the_text_where_both_stop(proxy, behind):
    client = proxy()
    behind.says(choice("A bomb.", "tool_calls", tool_calls=CALLS[:2]))
    named = ask(client).headers["x-offmap-decision"]
    with client.service.store.read() as connection:
        stopped = {
            each.decision.id: each.decision.rule for each in entries(connection) if each.decision.action == "block"
        }
    assert stopped[named] == "response.unsafe"
    assert sorted(stopped.values()) == ["response.unsafe", "tool_call.unsafe", "tool_call.unsafe"]


def test_a_call_that_the_look_at_the_text_takes_out_does_not_leave_for_having_passed_its_own(proxy, behind, monitor):
    fallback = {"actions": Actions(unsafe="modify", unknown="modify"), "fallback": "read_only_tools"}
    client = proxy(stages=("response", "tool_call"), read_only_tools=("look",), **fallback)
    calls = [call("look", "{}", "c1"), call("send", '{"to": "quux"}', "c2"), call("send", "{}", "c3")]
    behind.says(choice("Sending.", "tool_calls", tool_calls=calls))
    found = ask(client).json()["choices"][0]["message"]
    assert [each["id"] for each in found["tool_calls"]] == ["c1"]
    assert ("allow", "tool_call.pass") in recorded(client)


def test_the_shortest_of_what_the_looks_leave_of_the_text_leaves(proxy, behind, cutting):
    client = proxy(**cutting)
    behind.says(choice("First. A bomb here.", "tool_calls", tool_calls=CALLS[:2]))
    found = ask(client).json()["choices"][0]
    assert found["message"]["content"] == "First."
    assert found["message"].get("tool_calls") is None
    assert found["finish_reason"] == "content_filter"
