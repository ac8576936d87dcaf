"""The client against the gateway itself."""

import asyncio
import contextlib

import pytest
from servers import RATIONALE, REFUSAL

from offmap.clients.answers import REFUSAL as NO_GATEWAY
from offmap.clients.gateway import Gateway


def said(text):
    return [{"role": "user", "content": "hello"}, {"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("text", "action", "rule"),
    [("fine", "allow", ""), ("bomb", "block", "unsafe"), ("quux", "escalate", "unknown"), ("<failed>", "error", "")],
)
def test_what_the_policy_says_is_heard(gateway, words, text, action, rule):
    answer = gateway.decide("response", said(text))
    assert (answer.action, answer.passes, answer.status) == (action, action == "allow", "enforced")
    assert rule in answer.rule
    assert answer.text == ("" if action == "allow" else REFUSAL)
    assert (answer.error is None) == (action != "error")
    assert words.decisions[-1]["id"] == answer.id
    assert RATIONALE not in str(answer)


def test_one_client_serves_threads_and_several_event_loops(gateway):
    async def ask():
        return await asyncio.gather(*(gateway.adecide("response", said(text)) for text in ("fine", "bomb") * 30))

    for _ in range(2):
        assert [answer.action for answer in asyncio.run(ask())] == ["allow", "block"] * 30
    assert gateway.decide("response", said("fine")).passes


def test_scores_are_p_values(gateway):
    assert gateway.score(said("fine")).p_value == 0.5
    found = gateway.score(said("bomb"))
    assert (found.p_value, found.action, found.stage) == (1e-6, "block", "response")
    assert gateway.score(said("bomb")[:1]).stage == "input"
    failed = gateway.score(said("<failed>"))
    assert (failed.p_value, failed.action) == (None, "error")


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}], [{"type": "unreadable"}]]
)
def test_what_cannot_be_looked_at_is_stopped_even_where_outages_are_not(words, nobody, content):
    rows = [{"role": "user", "content": content}]
    lenient = {"on_error": "allow", "reason": "a pilot"}
    with contextlib.closing(Gateway(words.address, **lenient)) as client:
        answer = client.decide("input", rows)
        assert (answer.action, answer.error.type) == ("error", "invalid_request")
    with contextlib.closing(Gateway(nobody, **lenient)) as client:
        assert client.decide("input", rows).status == "fail_open"


def test_nobody_there_is_an_error(gone):
    answer = gone.decide("response", said("fine"))
    assert (answer.action, answer.error.type, answer.text) == ("error", "unreachable", NO_GATEWAY)
    assert gone.score(said("fine")).p_value is None
    assert asyncio.run(gone.adecide("response", said("fine"))).action == "error"


def test_who_is_too_slow_is_not_waited_for(words):
    with contextlib.closing(Gateway(words.address, timeout=0.3)) as client:
        answer = client.decide("input", [{"role": "user", "content": "<slow>"}])
    assert (answer.action, answer.error.type) == ("error", "timeout")
