"""The client and what servers may answer. tests/peers has it with the gateway itself."""

import asyncio
import json
import logging
import time
from typing import get_args

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.clients import answers
from offmap.clients.answers import Answer, Finding, Score
from offmap.clients.gateway import KEY_VARIABLE, Gateway
from offmap.conversation import Message, ToolCall
from offmap.errors import InputError

ROWS = [{"role": "user", "content": "hello"}]
DECISION = {
    "id": "1",
    "stage": "input",
    "action": "allow",
    "would": "allow",
    "status": "enforced",
    "rule": "input.none",
}
BUSY = {"error": {"type": "unavailable", "message": "not now"}}
URL = "http://gateway.example"


def client(*responses, **options):
    """A client, and the requests it made; what is an exception is raised, and the last response is given again."""
    asked, left = [], list(responses)

    def answer(request):
        asked.append(request)
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return Gateway(URL, transport=httpx2.MockTransport(answer), **options), asked


def said(body, status=200, **headers):
    return httpx2.Response(status, json=body, headers=headers)


@given(
    st.lists(st.builds(ToolCall, st.sampled_from("ab"), st.sampled_from(["{}", "[]"]), st.sampled_from(["", "1"]))),
    st.lists(st.builds(ToolCall, st.sampled_from("ab"), st.sampled_from(["{}", "[]"]), st.sampled_from(["", "1"]))),
)
def test_each_call_that_is_left_is_made_once_and_no_other(calls, left):
    answer = Answer("modify", "modify", "enforced", "response", "r", message=Message("assistant", "", tuple(left)))
    rest, wanted = list(left), []
    for call in calls:
        wanted.append(call in rest)
        if call in rest:
            rest.remove(call)
    assert answer.keeps(calls) == wanted
    assert Answer("allow", "allow", "enforced", "response", "r").keeps(calls) == [True] * len(calls)
    blocked = msgspec.structs.replace(answer, action="block")
    assert blocked.keeps(calls) == [False] * len(calls)


def test_the_words_are_the_gateways():
    from offmap.gateway import config, decision
    from offmap.gateway.wire.native import DecisionAnswer
    from offmap.gateway.wire.native import Score as Told

    assert get_args(answers.Action) == get_args(decision.Action)
    assert get_args(answers.Stage) == decision.STAGES
    assert get_args(answers.Status) == get_args(decision.Status)
    assert answers.REFUSAL == config.DEFAULT_REFUSAL
    assert set(Answer.__struct_fields__) <= set(DecisionAnswer.__struct_fields__)
    assert set(Score.__struct_fields__) <= set(Told.__struct_fields__)
    assert set(Finding.__struct_fields__) <= set(decision.Finding.__struct_fields__)


def test_what_is_sent_and_what_is_heard():
    gateway, asked = client(said(DECISION), api_key="secret")
    tools = [{"type": "function", "function": {"name": "look"}}]
    answer = gateway.decide("input", iter(ROWS), tools=tools, conversation_id="c")
    (request,) = asked
    assert (request.method, request.url) == ("POST", f"{URL}/v1/decisions")
    assert request.headers["authorization"] == "Bearer secret"
    conversation = {"messages": ROWS, "tools": tools}
    assert json.loads(request.content) == {"stage": "input", "conversation": conversation, "conversation_id": "c"}
    assert (answer.passes, answer.id, answer.rule) == (True, "1", "input.none")
    assert "secret" not in repr(gateway)


def test_the_key_may_be_in_the_environment(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "hidden")
    gateway, asked = client(said(DECISION))
    gateway.decide("input", ROWS)
    assert asked[0].headers["authorization"] == "Bearer hidden"
    gateway, asked = client(said(DECISION), api_key="")
    gateway.decide("input", ROWS)
    assert "authorization" not in asked[0].headers


NO_DECISIONS = {
    "not JSON": httpx2.Response(200, content=b"<html>"),
    "not UTF-8": httpx2.Response(200, content=b"\xff"),
    "another shape": said({"action": "allow"}),
    "another action": said(DECISION | {"action": "pass"}),
    "another stage": said(DECISION | {"stage": "response"}),
    "no id": said(DECISION | {"id": ""}),
    "allowed with 503": said(DECISION, 503),
    "allowed with 201": said(DECISION, 201),
    "an error with 200": said(DECISION | {"action": "error"}),
    "a redirect": httpx2.Response(307, headers={"location": "http://elsewhere.example"}),
    "500": httpx2.Response(500),
    "unreachable": httpx2.ConnectError("no"),
    "broken off": httpx2.RemoteProtocolError("no"),
    "too slow": httpx2.ReadTimeout("no"),
}


@pytest.mark.parametrize("name", NO_DECISIONS)
def test_what_is_no_decision_is_an_error(name, caplog):
    gateway, asked = client(NO_DECISIONS[name])
    answer = gateway.decide("input", ROWS)
    assert (answer.action, answer.passes, answer.status, answer.id) == ("error", False, "enforced", "")
    assert (answer.text, answer.message) == (answers.REFUSAL, None)
    assert answer.rule == f"client.{answer.error.type}"
    assert len(asked) == 1
    assert "hello" not in caplog.text
    gateway, _ = client(NO_DECISIONS[name])
    assert asyncio.run(gateway.adecide("input", ROWS)) == answer


@pytest.mark.parametrize("name", NO_DECISIONS)
def test_it_fails_open_only_in_writing_and_says_so(name, caplog):
    gateway, _ = client(NO_DECISIONS[name], on_error="allow", reason="a pilot")
    answer = gateway.decide("input", ROWS)
    assert (answer.action, answer.would, answer.status) == ("allow", "error", "fail_open")
    assert [(record.levelno, "a pilot" in record.message) for record in caplog.records] == [(logging.WARNING, True)]


@pytest.mark.parametrize("status", [400, 401, 403, 413, 429])
def test_what_is_refused_is_stopped_all_the_same(status):
    body = {"error": {"type": "invalid_request", "message": "images are not read"}}
    gateway, _ = client(said(body, status), on_error="allow", reason="a pilot")
    answer = gateway.decide("input", ROWS)
    assert (answer.action, answer.error.message) == ("error", "images are not read")


def test_a_decision_that_is_an_error_is_neither_asked_again_nor_overruled():
    failed = said(DECISION | {"action": "error", "replacement": "no"}, 503, **{"retry-after": "0"})
    gateway, asked = client(failed, on_error="allow", reason="a pilot")
    answer = gateway.decide("input", ROWS)
    assert (answer.action, answer.text, answer.id, len(asked)) == ("error", "no", "1", 1)


def test_who_is_busy_is_asked_again_when_it_says_and_not_past_the_time():
    gateway, asked = client(*[said(BUSY, 503, **{"retry-after": "0"})] * 2, said(DECISION))
    assert gateway.decide("input", ROWS).passes
    assert len(asked) == 3
    gateway, asked = client(said(BUSY, 503, **{"retry-after": "9"}), timeout=1)
    before = time.monotonic()
    answer = gateway.decide("input", ROWS)
    assert (answer.action, answer.error.type, len(asked)) == ("error", "unavailable", 1)
    assert time.monotonic() - before < 1
    gateway, asked = client(said(BUSY, 503))
    assert gateway.decide("input", ROWS).action == "error"
    assert len(asked) == 1, "it did not say when"
    gateway, asked = client(said(BUSY, 503, **{"retry-after": "0"}), timeout=0.05)
    assert gateway.decide("input", ROWS).action == "error"


@pytest.mark.parametrize("content", ["\ud800", float("nan"), object(), {1, 2}])
def test_what_cannot_be_sent_is_stopped(content):
    gateway, asked = client(said(DECISION), on_error="allow", reason="a pilot")
    answer = gateway.decide("input", [{"role": "user", "content": content}])
    assert (answer.action, answer.error.type, asked) == ("error", "unsendable", [])


def changed(**fields):
    return Answer("modify", "modify", "enforced", fields.pop("stage", "tool_call"), "r", **fields)


def test_a_changed_reply_passes_only_where_all_of_it_may():
    assert changed(fallback="read_only_tools").passes
    assert not changed(fallback="read_only_tools", stage="input").passes
    assert not changed(fallback="refusal").passes
    calls = [{"name": "look", "arguments": "{}", "id": "1"}]
    row = said(DECISION | {"action": "modify", "message": {"role": "assistant", "content": "a", "tool_calls": calls}})
    gateway, _ = client(row)
    answer = gateway.decide("input", ROWS)
    assert (answer.passes, answer.text) == (False, "a")
    look = ToolCall("look", "{}", "1")
    others = [ToolCall("look", '{"a": 1}', "1"), ToolCall("change", "{}", "1"), ToolCall("look", "{}", "2")]
    assert answer.keeps([*others, look, look]) == [False, False, False, True, False]


def test_a_stopped_call_is_kept_by_no_message():
    reply = Message("assistant", "", (ToolCall("look"),))
    assert Answer("block", "block", "enforced", "tool_call", "r", message=reply).keeps(reply.tool_calls) == [False]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 2))
def test_the_p_value_is_the_union_bound(values, skipped):
    found = [Finding("m", "scored", value) for value in values] + [Finding("m", "skipped")] * skipped
    score = Score("allow", "enforced", "input", findings=tuple(found))
    assert score.p_value == min(1, min(values) * (len(values) + skipped))


def test_a_score_without_an_answer_is_no_score():
    gateway, asked = client(said({"policy": "p", "scores": [DECISION | {"findings": []}]}))
    assert gateway.score(ROWS).p_value is None
    assert json.loads(asked[0].content) == {"conversations": [{"messages": ROWS, "tools": []}], "stage": None}
    failed = Score(
        "allow", "fail_open", "input", findings=(Finding("m", "scored", 0.5),), error=answers.Failure("a", "b")
    )
    assert failed.p_value is None
    for response in NO_DECISIONS.values():
        score = client(response)[0].score(ROWS)
        assert (score.action, score.p_value, score.error is None) == ("error", None, False)
    assert asyncio.run(client(httpx2.Response(500))[0].ascore(ROWS)).action == "error"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"base_url": "gateway"}, "base_url"),
        ({"base_url": "http://a:b@gateway"}, "base_url"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"on_error": "allow"}, "reason"),
        ({"on_error": "allow", "reason": " "}, "reason"),
        ({"on_error": "pass", "reason": "a"}, "on_error"),
        ({"api_key": "a\nb"}, "api_key"),
    ],
)
def test_what_is_not_meant_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        Gateway(**{"base_url": URL, **options})
