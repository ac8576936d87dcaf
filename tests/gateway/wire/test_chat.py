import asyncio
import json
import socket
import threading
import time
from unittest.mock import ANY

import openai
import pytest
import uvicorn
from tests.gateway.wire.chatting import (
    HANG,
    HEAD,
    HELLO,
    LONG,
    RESET,
    USAGE,
    ask,
    call,
    choice,
    frame,
    piece,
    reason_of,
    recorded,
    replies,
    said,
    text_of,
    text_pieces,
    with_stage,
)

from offmap.chat_template import tools_json
from offmap.gateway.app import create_app
from offmap.gateway.config import DEFAULT_REFUSAL, Actions, Limits, Upstream
from offmap.gateway.consistency import contradictions
from offmap.gateway.decision import STAGES, Finding
from offmap.gateway.keys import Keys
from offmap.gateway.service import Service
from offmap.gateway.store.chain import entries

TEXT, CALL = {"type": "text", "text": "a"}, call("look", "{}")
TOOL = {"type": "function", "function": {"name": "look"}}


def tool(**more):
    """A request that offers a tool with more in it."""
    return {"tools": [TOOL | more]}


def calls(**more):
    """A request in which a call was made with more in it."""
    return {"messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL | more]}]}


# One answer at once.


def test_an_answer_is_passed_on_with_its_usage_and_without_what_nobody_looked_at(proxy, behind):
    client = proxy()
    behind.says({**choice("hi there", reasoning_content="secret"), "extra": "secret"}, prompt_text="secret")
    answer = ask(client, temperature=0.5, x_own=10**30, user="u")
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "hi there", "refusal": None}
    assert (body["usage"], body["choices"][0]["finish_reason"]) == (USAGE, "stop")
    assert "secret" not in answer.text
    assert answer.headers["x-offmap-decision"]
    sent = behind.got[0]
    assert sent == {"model": "m", "messages": HELLO, "temperature": 0.5, "x_own": 10**30, "user": "u"}


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_numbers_under_openais_names(proxy, behind, stream):
    client = proxy()
    known = {**USAGE, "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {}}
    deep = {"a secret": 1}
    for _ in range(50):
        deep = {"cached_tokens": deep}
    nested = {"cached_tokens": 2, "a secret": 1, "audio_tokens": True, "text_tokens": "a secret"}
    told = {**known, "a secret": 1, "other_details": {"a secret": 1}}
    told |= {"prompt_tokens_details": nested, "completion_tokens_details": deep}
    behind.says(choice("hi"), usage=told)
    if stream:
        behind.streams(piece({"content": "hi"}), piece(reason="stop"), {**HEAD, "choices": [], "usage": told})
        found = said(client, stream_options={"include_usage": True})[-1]["usage"]
    else:
        found = ask(client).json()["usage"]
    assert found == known
    assert all(each is not True for each in found["prompt_tokens_details"].values())
    openai.types.CompletionUsage.model_validate(found)


@pytest.mark.parametrize("word", ["bomb", "<failed>", "<timeout>", "<unscored>", "quux"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("role", ["developer", "user", "tool"])
def test_a_request_that_is_stopped_never_goes_upstream(proxy, behind, word, stream, role):
    messages = [*HELLO, {"role": role, "content": [{"type": "text", "text": word}], "tool_call_id": "c"}]
    answer = ask(proxy(), messages=messages, stream=stream, n=2)
    assert answer.status_code == 200
    assert answer.headers["x-offmap-decision"]
    assert behind.got == []
    if stream:
        *pieces, error, done, end = answer.text.split("\n\n")
        assert [piece.count('"content_filter"') for piece in pieces].count(1) == 2
        assert sum(piece.count(DEFAULT_REFUSAL) for piece in pieces) == 2
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "content_filter"
        assert (done, end) == ("data: [DONE]", "")
    else:
        message = {"role": "assistant", "content": None, "refusal": DEFAULT_REFUSAL}
        assert [each["message"] for each in answer.json()["choices"]] == [message] * 2
        assert {each["finish_reason"] for each in answer.json()["choices"]} == {"content_filter"}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [TEXT, {"type": "text", "text": "zebra"}]},
        {"role": "assistant", "content": "a", "refusal": "zebra"},
        {"role": "assistant", "content": [TEXT, {"type": "refusal", "refusal": "zebra"}]},
        {"role": "assistant", "content": None, "refusal": "zebra"},
        {"role": "assistant", "content": "a", "tool_calls": [call("zebra", "{}")]},
        {"role": "assistant", "content": "a", "tool_calls": [call("look", '{"a": "zebra"}')]},
        {"role": "tool", "content": "zebra", "tool_call_id": "c1", "name": "look"},
        {"role": "tool", "content": "a", "tool_call_id": "c1", "name": "zebra"},
        {"role": "user", "content": "a", "name": "Zoë, the zebra"},
        {"role": "user", "content": "a", "name": "zebra"},
        {
            "role": "user",
            "content": [{**TEXT, "id": "lc_1", "cache_control": {"type": "ephemeral"}}, TEXT],
            "name": "zebra x",
        },
    ],
)
def test_whatever_text_goes_upstream_was_looked_at(proxy, behind, monitor, message):
    behind.says(choice("fine"))
    assert ask(proxy(), messages=[*HELLO, message]).status_code == 200
    assert "zebra" in json.dumps(behind.got[0]["messages"][1])
    assert any("zebra" in each.text for row in monitor.asked for each in row.messages)


@pytest.mark.parametrize("mark", [{}, {"cache_control": {"type": "ephemeral", "ttl": "5m"}}])
def test_parts_go_upstream_as_the_text_that_was_read(proxy, behind, monitor, mark):
    """However a server joins parts: a sentence cut into letters is no sentence there either."""
    parts = [{"type": "text", "text": letter} for letter in "a bo"]
    parts[1] |= mark
    behind.says(choice("fine"))
    assert ask(proxy(), messages=[{"role": "user", "content": parts}]).status_code == 200
    sent = behind.got[0]["messages"][0]["content"]
    assert isinstance(sent, list) == bool(mark)
    texts = [each["text"] for each in sent] if mark else [sent]
    assert "".join(texts) == "a\n \nb\no"
    assert any(row.messages[0].content == "a\n \nb\no" for row in monitor.asked)
    assert not mark or mark.items() <= sent[1].items()


def test_of_a_name_that_stands_twice_nothing_is_hidden(proxy, behind, monitor):
    twice = '{"x": "zebra", "x": 1}'
    offered = [
        {"type": "function", "function": {"name": name, "parameters": each}}
        for name, each in (("a", twice), ("b", '{"y": 1}'))
    ]
    behind.says(choice(None, "tool_calls", tool_calls=[call("a", twice)]))
    answer = ask(proxy(), tools=offered)
    assert [each["function"]["parameters"] for each in behind.got[0]["tools"]] == [twice, {"y": 1}]
    assert all("zebra" in tools_json(row.tools) for row in monitor.asked if row.tools)
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"


def test_what_goes_upstream_is_written_anew(proxy, behind):
    """Names of fields that nobody reads, and what the client adds to a reply, stay here."""
    made = {"id": "c1", "name": "look", "arguments": {"a": 1}, "bomb": 1}
    rows = [
        {**HELLO[0], "bomb": 1, "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "parsed": {"bomb": "bomb"}}
        | {"tool_calls": [made], "reasoning_content": "bomb", "parsed_arguments": {"URL": "x", "Name": "y"}},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": [{**TEXT, "bomb": 1, "id": "a bomb"}]},
    ]
    offered = {"name": "look", "parameters": {"bomb": "looked at"}, "strict": True, "bomb": 1}
    behind.says(choice("fine"))
    answer = ask(proxy(), messages=rows, tools=[offered], stream_options={"include_usage": True})
    assert answer.status_code == 200, answer.text
    sent = {"type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    assert behind.got[0]["messages"] == [
        {**HELLO[0], "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": None, "tool_calls": [{"id": ANY, **sent}]},
        {"role": "tool", "tool_call_id": ANY, "name": "look", "content": "a"},
    ]
    function = {"name": "look", "parameters": {"bomb": "looked at"}, "strict": True}
    assert behind.got[0]["tools"] == [{"type": "function", "function": function}]


def test_what_an_answer_says_of_itself_is_words(proxy, behind):
    client = proxy()
    behind.says(choice("hi", "zebra " * 100), model="a zebra", id="zebra zebra", system_fingerprint="z" * 300)
    answer = ask(client)
    assert "z" not in answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    behind.streams(piece({"content": "hi"}), piece(reason="a zebra"))
    assert reason_of(said(client)) == "stop"


def piece_of(arguments, id=None, name=None):  # noqa: A002
    """A piece of a call at index 0."""
    return {"index": 0, **({"id": id} if id else {}), "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("pieces", "made"),
    [
        ([("{}", "a", "f"), ('{"b"', "b", "g"), (": 1}",)], [("a", "f", "{}"), ("b", "g", '{"b": 1}')]),
        ([("{}", None, "f"), ("{}", None, "g")], [("", "f", "{}"), ("", "g", "{}")]),
        ([("", "a1", "f"), ('{"b":', "a2"), ("1}", "a2")], [("a1", "f", '{"b":1}')]),
        ([("", "a", "f"), ('{"b":',), ("1}",)], [("a", "f", '{"b":1}')]),
        ([("", "a", "f"), ("", "a", "g"), ("{}", "a")], [("a", "fg", "{}")]),
    ],
)
def test_pieces_of_calls_that_a_server_numbers_alike(proxy, behind, pieces, made):
    behind.streams(*(piece({"tool_calls": [piece_of(*each)]}) for each in pieces), piece(reason="tool_calls"))
    deltas = [each for frame in said(proxy()) for each in frame["choices"][0]["delta"].get("tool_calls", [])]
    assert [(each["id"], each["function"]["name"], each["function"]["arguments"]) for each in deltas] == made
    assert [each["index"] for each in deltas] == list(range(len(made)))


def test_more_calls_than_can_be_are_no_answer(proxy, behind):
    behind.streams(*(piece({"tool_calls": [piece_of("{}", f"c{n}", "f")]}) for n in range(129)))
    assert said(proxy())[-1]["error"]["type"] == "upstream_error"


@pytest.mark.parametrize(
    "name", ["call_1|fc_2", "call_1__thought__" + "aGk=" * 40, "make a bomb", "make-a-bomb", "9charsMis"]
)
def test_ids_go_upstream_as_hashes_and_still_belong_together(proxy, behind, name):
    behind.says(choice("fine"))
    rows = [
        {"role": "assistant", "content": None, "tool_calls": [call("look", "{}", name), call("look", "{}", "c2")]},
        {"role": "tool", "content": "b", "tool_call_id": name},
        {"role": "tool", "content": "c", "tool_call_id": "c2"},
    ]
    assert ask(proxy(), messages=[*HELLO, *rows]).status_code == 200
    _, made, first, second = behind.got[0]["messages"]
    assert name not in json.dumps(behind.got[0])
    assert [each["id"] for each in made["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert first["tool_call_id"] != second["tool_call_id"]
    assert len(first["tool_call_id"]) == (9 if len(name) == 9 else 29)


def test_percent_is_of_exchanges_and_not_of_looks(proxy, behind, monkeypatch):
    """Every stage, look and call of an exchange is on the same side, with an id or without."""
    client = proxy()
    for stage in STAGES:
        with_stage(client, monkeypatch, stage, percent=50)
    behind.says(
        choice("fine", tool_calls=[call("look", "{}"), call("look", '{"a": 1}', "c2")]), choice("good", index=1)
    )
    with client.service.store.read() as connection:
        before = len(list(entries(connection)))
    for number in range(16):
        ask(client, messages=[{"role": "user", "content": str(number)}], n=2)
    with client.service.store.read() as connection:
        decided = [each.decision for each in entries(connection)][before:]
    sides = [{each.status for each in decided[at : at + 5]} for at in range(0, len(decided), 5)]
    assert len(decided) == 16 * 5
    assert all(len(each) == 1 for each in sides)
    assert set.union(*sides) == {"enforced", "shadow"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["input", "response"])
def test_what_was_stopped_is_remembered_as_far_as_it_was_said(proxy, behind, monitor, where, stream):
    client, named = proxy(), {"x-offmap-conversation": "t"}
    said_before = LONG + ("bomb" if where == "response" else "")
    behind.streams(*text_pieces(said_before), piece(reason="stop")) if stream else behind.says(choice(said_before))
    first = [{"role": "user", "content": "quux bomb" if where == "input" else "the first part"}]
    answer = ask(client, named, messages=first, stream=stream)
    left = where == "response" and stream
    assert ("sentence number 3 " in answer.text) == left
    behind.says(choice("fine"))
    ask(client, named, messages=[{"role": "user", "content": "the next part"}])
    whole = monitor.asked[-1].messages
    assert [each.content for each in (whole[0], *whole[-2:])] == [first[0]["content"], "the next part", "fine"]
    kept = [each.content for each in whole[1:-2]]
    assert len(kept) == left
    assert not left or (LONG.startswith(kept[0]) and kept[0])


def test_what_left_before_the_upstream_broke_off_is_remembered(proxy, behind, monitor):
    client, named = proxy(), {"x-offmap-conversation": "t"}
    behind.streams(*text_pieces(LONG), RESET, done=False)
    ask(client, named, messages=[{"role": "user", "content": "the first part"}], stream=True)
    behind.says(choice("fine"))
    ask(client, named, messages=[{"role": "user", "content": "the next part"}])
    whole = [each.content for each in monitor.asked[-1].messages]
    assert whole[::2] == ["the first part", "the next part"]
    assert LONG.startswith(whole[1])
    assert whole[1]


def test_a_reply_that_the_conversation_stage_stops_is_not_remembered(proxy, behind, monitor):
    """Nobody has seen it, so that what comes next is no part of it."""
    client, named = proxy(stages=("conversation",)), {"x-offmap-conversation": "t"}
    for number, reply in enumerate(("a bomb", "fine")):
        behind.says(choice(reply))
        answer = ask(client, named, messages=[{"role": "user", "content": f"question {number}"}])
    assert answer.json()["choices"][0]["message"]["content"] == "fine"
    assert [each.content for each in monitor.asked[-1].messages] == ["question 0", "question 1", "fine"]


def test_a_server_that_gives_fewer_choices_makes_nothing_come_twice(proxy, behind, monitor):
    client, named = proxy(), {"x-offmap-conversation": "t"}
    for number in range(2):
        behind.streams(piece({"content": f"answer {number}"}), piece(reason="stop"))
        ask(client, named, messages=[{"role": "user", "content": f"question {number}"}], stream=True, n=2)
    said_so_far = [each.content for each in monitor.asked[-1].messages]
    assert said_so_far == ["question 0", "answer 0", "question 1", "answer 1"]


def test_ids_that_number_the_calls_of_a_tool_stay(proxy, behind):
    behind.says(choice("fine"))
    rows = [
        {"role": "assistant", "content": None, "tool_calls": [call("look", "{}", f"functions.{name}:0")]}
        for name in ("look", "make a bomb")
    ]
    assert ask(proxy(), messages=[*HELLO, *rows]).status_code == 200
    made = [each["tool_calls"][0]["id"] for each in behind.got[0]["messages"][1:]]
    assert made[0] == "functions.look:0"
    assert made[1].startswith("call_")


def test_tools_are_looked_at_too(proxy, behind, monitor):
    tool = {"type": "function", "function": {"name": "run", "description": "makes it"}}
    ask(proxy(), tools=[tool])
    assert [[tool.description for tool in each.tools] for each in monitor.asked if each.id == "chat"] == [["makes it"]]


@pytest.mark.parametrize("word", ["bomb", "<failed>", "<timeout>", "<unscored>"])
def test_each_choice_is_decided_about(proxy, behind, word):
    client = proxy()
    behind.says(choice("fine", index=0), choice(f"a {word}", index=1))
    answer = ask(client, n=2)
    first, second = answer.json()["choices"]
    assert first["message"]["content"] == "fine"
    assert second["message"] == {"role": "assistant", "content": None, "refusal": DEFAULT_REFUSAL}
    assert second["finish_reason"] == "content_filter"
    assert word not in answer.text
    assert len(answer.headers["x-offmap-decision"].split(", ")) == 2


def test_the_models_own_refusal_is_looked_at(proxy, behind):
    client = proxy()
    behind.says(choice(None, refusal="I cannot"))
    assert ask(client).json()["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "I cannot",
    }
    behind.says(choice("fine", refusal="no bomb"))
    assert "bomb" not in ask(client).text


@pytest.mark.parametrize("arguments", ['{"what": "bomb"}', '{"what": "tide"', "null", "[1]", '{"a": NaN}'])
def test_arguments_are_looked_at_whole_and_what_cannot_be_parsed_is_stopped(proxy, behind, arguments):
    client = proxy()
    behind.says(choice(None, "tool_calls", tool_calls=[call("safe", "{}"), call("run", arguments)]))
    answer = ask(client)
    assert answer.json()["choices"][0]["message"].get("tool_calls") is None
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
    assert recorded(client)[-1][0] == "block"


def test_calls_are_passed_on_as_they_were_written(proxy, behind, monitor):
    client = proxy()
    calls = [call("run", '{"a":  "é\\u00e9"}'), call("stop", "", "c2")]
    behind.says(choice(None, "tool_calls", tool_calls=calls))
    found = ask(client).json()["choices"][0]
    assert found["message"]["tool_calls"] == calls
    assert found["finish_reason"] == "tool_calls"
    assert sorted(len(each.tool_calls) for each in replies(monitor)) == [1, 1, 2]


def test_read_only_tools_are_a_hard_list_at_dispatch(proxy, behind):
    client = proxy(
        stages=("response",),
        actions=Actions(unknown="modify"),
        fallback="read_only_tools",
        read_only_tools=("look",),
    )
    behind.says(choice("quux", "tool_calls", tool_calls=[call("look", "{}"), call("delete", "{}")]))
    found = ask(client).json()["choices"][0]
    assert [each["function"]["name"] for each in found["message"]["tool_calls"]] == ["look"]
    behind.says(choice("quux", "tool_calls", tool_calls=[call("Look", "{}")]))
    found = ask(client).json()["choices"][0]
    assert (found["message"].get("tool_calls"), found["finish_reason"]) == (None, "content_filter")


def test_a_request_in_read_only_mode_offers_only_those_tools(proxy, behind):
    actions = Actions(unknown="modify")
    client = proxy(stages=("input",), actions=actions, fallback="read_only_tools", read_only_tools=("look",))
    assert not list(contradictions(client.service.gateway))
    strange = [{"role": "user", "content": "quux"}]
    tools = [{"type": "function", "function": {"name": name}} for name in ("look", "delete")]
    behind.says(choice(None, "tool_calls", tool_calls=[call("delete", "{}"), call("look", "{}")]))
    answer = ask(client, messages=strange, tools=tools, tool_choice="required", parallel_tool_calls=True)
    assert behind.got[0]["tools"] == tools[:1]
    assert "tool_choice" not in behind.got[0]
    assert [each["function"]["name"] for each in answer.json()["choices"][0]["message"]["tool_calls"]] == ["look"]
    ask(client, messages=strange, tools=tools[1:], tool_choice="required", parallel_tool_calls=True)
    assert behind.got[1] == {"model": "m", "messages": strange}
    assert recorded(client) == [("modify", "input.unknown")] * 2
    for path, body in (("moderations", {"input": "quux"}), ("guardrail/checks", {"messages": strange})):
        answer = client.post(f"/v1/{path}", json=body).json()
        assert "blocked" in str(answer) or answer["results"][0]["flagged"], "a face that offers no tools stops"


def test_a_cut_answer(proxy, behind, cutting):
    client = proxy(**cutting)
    behind.says(choice("Fine. Then a bomb.", logprobs=None))
    found = ask(client).json()["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == ("Fine.", "content_filter")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [{}, {"x-offmap-conversation": "t"}])
@pytest.mark.parametrize("response", [None, {"mode": "shadow"}, {"tier": "observe"}, {"percent": 0.001}])
def test_nothing_leaves_before_the_only_stage_that_could_stop_it(proxy, behind, monkeypatch, stream, name, response):
    """Whoever leaves the conversation's id out gets past no stage, and of a stream not a word leaves before."""
    client = proxy(stages=("conversation", *["response"] * bool(response)))
    if response:
        with_stage(client, monkeypatch, "response", **response)
    text = LONG + "Then a bomb."
    behind.streams(*text_pieces(text), piece(reason="stop")) if stream else behind.says(choice(text))
    answer = ask(client, name, stream=stream)
    assert "sentence" not in answer.text
    assert "content_filter" in answer.text
    assert recorded(client) == [("allow", "response.unsafe")] * bool(response) + [("block", "conversation.unsafe")]


def test_a_conversation_stage_of_its_own_is_asked_without_an_id(serve, behind, monkeypatch):
    client = serve(upstream=Upstream(behind.url), stages=("response", "conversation"))
    behind.says(choice("fine"))
    ask(client)
    assert recorded(client) == [("allow", "response.pass")], "the same policy on the same messages says the same"
    with_stage(client, monkeypatch, "conversation", refusal="Another text decides nothing.")
    ask(client)
    assert len(recorded(client)) == 2
    with_stage(client, monkeypatch, "conversation", tier="strict")
    ask(client)
    assert recorded(client)[2:] == [("allow", "response.pass"), ("allow", "conversation.pass")]


def test_parts_of_an_attack_are_scored_together(proxy, behind):
    client = proxy()
    behind.says(choice("the bo"))
    assert ask(client, {"x-offmap-conversation": "t"}).json()["choices"][0]["message"]["content"] == "the bo"
    behind.says(choice("ok"))
    assert recorded(client)[-1] == ("allow", "conversation.pass")
    ask(client, {"x-offmap-conversation": "t"}, messages=[{"role": "user", "content": "b"}])
    assert ask(client, {"x-offmap-conversation": "x" * 300}).status_code == 400


@pytest.mark.parametrize(
    "more",
    [
        {"messages": []},
        {"messages": "bomb"},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "image_url": {"url": "bomb"}}]}]},
        {"messages": [{"role": "user", "content": [TEXT, {**TEXT, "content": "bomb"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "a", "text": "bomb"}]}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "cache_control": {"type": "a bomb"}}]}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "cache_control": {"type": "a", "x": "bomb"}}]}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "cache_control": {"type": "bomb"}}]}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "note": "bomb"}]}]},
        {"truncate_prompt_tokens": 5},
        {"continue_final_message": True},
        {"add_generation_prompt": False},
        {"prompt_truncate_len": 5},
        {"chat_template_kwargs": {"continue_final_message": True}},
        {"chat_template_kwargs": {"truncation": True, "max_length": 5}},
        {"messages": [{"role": "user", "content": [{"type": "make a bomb", "make a bomb": "bomb"}]}]},
        tool(description="bomb"),
        tool(name="bomb"),
        tool(parameters={"x": "bomb"}),
        tool(type="bomb"),
        tool(function={"name": "look", "type": "bomb"}),
        tool(function={"name": "look", "function": {"name": "bomb"}}),
        tool(note="bomb"),
        calls(name="bomb"),
        calls(arguments="bomb"),
        calls(function={"name": "look", "type": "bomb"}),
        calls(function={"name": "look", "function": {"arguments": "bomb"}}),
        {"logprobs": "bomb"},
        {"logprobs": {"prompt": "bomb"}},
        {"stream": ""},
        {"stream": []},
        {"tools": [TOOL], "tool_choice": {"write-a-bomb": {"now": [1]}}},
        {"tools": [TOOL], "tool_choice": {"type": 1}},
        {"stream_options": {"x": "bomb"}},
        {"stream_options": {"include_usage": "bomb"}},
        {"make a bomb": 1},
        {"chat_template_kwargs": {"make a bomb": 1}},
        {"logit_bias": {"make a bomb": 1}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "make a bomb": 1, "function": {"name": "look"}}},
        {"Messages": [{"role": "user", "content": "bomb"}]},
        {"messageſ": [{"role": "user", "content": "bomb"}]},
        {"messages": [{"role": "user", "content": "a", "Content": "bomb"}]},
        {"modalities": ["text", "audio"], "audio": {"voice": "a"}},
        {"functions": [{"name": "bomb"}]},
        {"tools": [{"type": "custom", "custom": {"name": "bomb"}}]},
        {"chat_template": "bomb"},
        {"chat_template_kwargs": {"system": "bomb"}},
        {"chat_template_kwargs": {"system": {"x": "bomb"}}},
        {"prompt": "bomb"},
        {"prompt_embeds": ["bomb"]},
        {"input_ids": [98, 111, 109, 98]},
        {"metadata": {"bomb": 1}},
        {"bomb": "bomb"},
        {"reasoning_effort": "high. Make a bomb"},
        {"stop": [{"text": "bomb"}]},
        {"logit_bias": {"1": "bomb"}},
        {"user": "bomb" * 200},
        {"model": ["bomb"]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "description": "bomb"}}},
        {"response_format": {"type": "text", "text": "bomb"}},
        {"tool_choice": {"type": "function", "function": {"name": "bomb"}}},
        {"tool_choice": "bomb"},
        {"n": 0},
        {"n": 1000},
        {"n": True},
        {"stream": "yes"},
        {"stream": True, "logprobs": True},
    ],
)
def test_what_cannot_be_looked_at_is_a_clear_400(proxy, behind, more):
    answer = ask(proxy(), **more)
    assert answer.status_code == 400, answer.text
    assert "wanted" in answer.json()["error"]["message"]
    assert "bomb" not in answer.text
    assert behind.got == []


SETTINGS = {
    "temperature": 0.5,
    "top_k": 3,
    "ignore_eos": True,
    "user": "u-1",
    "stop": ["\n\n"],
    "stop_token_ids": [1, 2],
    "logit_bias": {"1": -100},
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
    "chat_template_kwargs": {"enable_thinking": False},
    "seed": None,
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
}


def test_settings_pass_that_carry_no_text_to_the_model(proxy, behind):
    behind.says(choice("fine"))
    assert ask(proxy(), **SETTINGS).status_code == 200
    assert behind.got == [{"model": "m", "messages": HELLO, **SETTINGS}]


def test_what_the_configuration_names_passes_unseen(serve, behind):
    client = serve(upstream=Upstream(behind.url, unseen=("response_format", "metadata")))
    more = {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}, "metadata": {"a": "b"}}
    behind.says(choice("fine"))
    assert ask(client, **more).status_code == 200
    assert behind.got == [{"model": "m", "messages": HELLO, **more}]
    assert ask(client, prompt="bomb").status_code == 400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "timeout", "status"),
    [
        ([RESET], 5, 502),
        ([b'{"choi', RESET], 5, 502),
        ([b"garbage"], 5, 502),
        ([HANG], 0.3, 504),
        ([b"x" * (9 << 20)], 5, 502),
    ],
)
def test_an_upstream_that_fails_is_an_error_on_record(proxy, behind, stream, script, timeout, status):
    client = proxy(timeout=timeout)
    behind.script = script
    answer = ask(client, stream=stream)
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
        assert '"error"' in answer.text
        assert "delta" not in answer.text
    else:
        assert answer.status_code == status
        assert answer.headers["x-offmap-decision"]
    assert recorded(client)[-1] == ("error", "response.upstream")


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses_or_is_not_there(proxy, behind, stream):
    client = proxy()
    behind.status, behind.script = 429, [b'{"error": {"message": "slow down", "type": "requests", "code": "rate"}}']
    answer = ask(client, stream=stream)
    assert answer.status_code == 429
    assert answer.json()["error"] == {"message": "slow down", "type": "requests", "param": None, "code": "rate"}
    behind.server_close()
    behind.socket = socket.socket()
    assert ask(client, stream=stream).status_code == 502


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [choice("a", index=1)],
        [choice("a"), choice("b")],
        [{}],
        [choice(None, function_call={"name": "f", "arguments": "{}"})],
        [choice([{"type": "audio"}])],
    ],
)
def test_an_answer_that_cannot_be_looked_at_is_no_answer(proxy, behind, answer):
    client = proxy()
    behind.says(*answer)
    assert ask(client, n=1).status_code == 502


def test_models_are_passed_through(proxy, behind):
    client = proxy()
    behind.script = [b'{"object": "list", "data": [{"id": "m"}]}']
    assert client.get("/v1/models").json() == {"object": "list", "data": [{"id": "m"}]}


# Streams.


def test_a_stream_is_passed_on_in_order_with_its_usage(proxy, behind, monitor):
    client = proxy()
    usage = {**HEAD, "choices": [], "usage": USAGE}
    first = piece({"role": "assistant", "content": ""})
    behind.streams(b": hi\r\n\r\n", first, *text_pieces(LONG), piece(reason="stop"), usage)
    frames = said(client, stream_options={"include_usage": True})
    assert text_of(frames) == LONG
    assert reason_of(frames) == "stop"
    assert frames[-1]["usage"] == USAGE
    speakers = [each["choices"][0]["delta"].get("role") for each in frames[:-1]]
    assert speakers == ["assistant"] + [None] * (len(frames) - 2)
    assert "secret" not in str(frames)
    checks = [each.content for each in replies(monitor)]
    assert len(checks) > 4
    assert sum(map(len, checks)) <= 4 * len(LONG)
    assert len(frames) > 4, "it leaves in parts"
    with client.service.store.read() as connection:
        looks = [each.decision for each in entries(connection) if each.kind == "decision"]
    partial = [each.partial for each in looks if each.stage == "response"]
    assert partial == [True] * (len(partial) - 1) + [False]
    assert {each.partial for each in looks if each.stage != "response"} == {False}


def test_a_stream_that_ends_where_a_look_ended_is_looked_at_as_a_whole_too(proxy, behind, monitor):
    """What a look at a part found says nothing of whether that was all."""
    client, text = proxy(stages=("response",)), "x" * 3000
    behind.streams(piece({"content": text}), piece(reason="stop"))
    assert text_of(said(client)) == text
    with client.service.store.read() as connection:
        looks = [each.decision for each in entries(connection) if each.kind == "decision"]
    assert [each.content for each in replies(monitor)] == [text, text]
    assert [each.partial for each in looks] == [True, False]


@pytest.mark.parametrize("word", ["bomb", "<failed>", "<timeout>", "<unscored>", "quux"])
@pytest.mark.parametrize("at", [0, 100, 900, 2000, len(LONG)])
def test_nothing_of_a_stream_leaves_that_was_not_allowed(proxy, behind, monitor, word, at):
    client = proxy()
    text = LONG[:at] + f" {word}. " + LONG[at:]
    behind.streams(*text_pieces(text), piece(reason="stop"))
    frames = said(client)
    checks = [each.content for each in replies(monitor)]
    allowed = max((each for each in checks if word not in each), key=len, default="")
    assert text_of(frames) == allowed
    assert text_of(frames, name="refusal") == DEFAULT_REFUSAL
    assert reason_of(frames) == "content_filter"
    assert len([each for each in checks if word in each]) == 1, "nothing is looked at after a stop"


@pytest.mark.parametrize("fault", ["failed", "timeout", "unscored", "nan", "raises", "hangs"])
@pytest.mark.parametrize("broken", range(7))
def test_a_monitor_that_fails_at_any_check_lets_nothing_more_leave(proxy, behind, monitor, fault, broken):
    client = proxy(limits=Limits(deadline_ms=150))
    ask_well, allowed, count = monitor.ask, [], 0

    async def ask_badly(conversation, timeout=None):
        nonlocal count
        if conversation.id == "probe":
            return await ask_well(conversation, timeout)
        count += 1
        if count - 1 != broken:
            allowed.append(conversation.messages[-1])
            return await ask_well(conversation, timeout)
        if fault == "raises":
            raise RuntimeError(LONG)
        if fault == "hangs":
            await asyncio.sleep(5)
        p = float("nan")
        return Finding("fake", "1", "scored", p, p, p) if fault == "nan" else Finding("fake", "1", fault)

    monitor.ask = ask_badly
    behind.streams(*text_pieces(LONG), piece(reason="stop"))
    frames = said(client)
    texts = [each.content for each in allowed if each.role == "assistant"]
    assert text_of(frames) == (texts[-1] if texts else "")
    assert text_of(frames, name="refusal") == DEFAULT_REFUSAL
    assert reason_of(frames) == "content_filter"
    assert recorded(client)[-1][0] in ("error", "block")
    assert count == broken + 1


def test_without_room_nothing_leaves(proxy, behind, monitor):
    client = proxy()
    well = monitor.ask

    async def fills(conversation, timeout=None):
        client.service.pending += client.service.gateway.server.queue * bool(replies(monitor))
        return await well(conversation, timeout)

    monitor.ask = fills
    behind.streams(*text_pieces(LONG), piece(reason="stop"))
    frames = said(client)
    assert text_of(frames) == replies(monitor)[-1].content
    assert (text_of(frames, name="refusal"), reason_of(frames)) == (DEFAULT_REFUSAL, "content_filter")
    assert recorded(client)[-1] == ("error", "response.busy")
    behind.got.clear()
    assert ask(client).status_code == 503
    assert behind.got == []


def test_a_cut_stream_keeps_its_last_safe_sentence(proxy, behind, cutting):
    client = proxy(**cutting)
    text = LONG[:300] + " Fine. Then a bomb. " + LONG
    behind.streams(*text_pieces(text), piece(reason="stop"))
    frames = said(client)
    assert text_of(frames) == text[: text.index(" Then a bomb")]
    assert text_of(frames, name="refusal") == ""
    assert reason_of(frames) == "content_filter"


def deltas(index, name, arguments, size=3, **more):
    yield {"index": index, "id": f"c{index}", "type": "function", "function": {"name": name, "arguments": ""}, **more}
    for at in range(0, len(arguments), size):
        yield {"index": index, "function": {"arguments": arguments[at : at + size]}}


def test_a_call_is_held_until_it_is_whole(proxy, behind):
    client = proxy()
    arguments = json.dumps({"what": "tides", "how": "é" * 30})
    parts = [piece({"tool_calls": [each]}) for n in (0, 1) for each in deltas(n, "run", arguments)]
    behind.streams(piece({"content": "I look."}), *parts, piece(reason="tool_calls"))
    frames = said(client)
    assert text_of(frames) == "I look."
    calls = [each for frame in frames for each in frame["choices"][0]["delta"].get("tool_calls", [])]
    assert calls == [call("run", arguments, f"c{n}", index=n) for n in (0, 1)]
    assert reason_of(frames) == "tool_calls"


@pytest.mark.parametrize("arguments", ['{"what": "bomb"}', '{"what": "<failed>"}', '{"what": "ti'])
def test_a_call_that_is_stopped_never_leaves(proxy, behind, arguments):
    client = proxy()
    parts = [piece({"tool_calls": [each]}) for n, it in enumerate(("{}", arguments)) for each in deltas(n, "run", it)]
    behind.streams(*parts, piece(reason="tool_calls"))
    frames = said(client)
    assert "tool_calls" not in str(frames)
    assert reason_of(frames) == "content_filter"


def test_read_only_mode_lasts_to_the_end_of_a_stream(proxy, behind, monitor):
    client = proxy(
        stages=("response",), actions=Actions(unknown="modify"), fallback="read_only_tools", read_only_tools=("look",)
    )
    well = monitor.ask

    async def once(conversation, timeout=None):
        finding = await well(conversation, timeout)
        return Finding("fake", "1", "scored", 1e-6, 0.5, 1e-6) if len(replies(monitor)) == 1 else finding

    monitor.ask = once
    calls = [each for n, name in enumerate(("look", "delete")) for each in deltas(n, name, "{}")]
    parts = [piece({"tool_calls": [each]}) for each in calls]
    behind.streams(*text_pieces(LONG), *parts, piece(reason="tool_calls"))
    frames = said(client)
    calls = [each for frame in frames for each in frame["choices"][0]["delta"].get("tool_calls", [])]
    assert [each["function"]["name"] for each in calls] == ["look"]
    assert text_of(frames) == LONG


def test_choices_of_a_stream_are_decided_about_alone(proxy, behind):
    client = proxy()
    bad = LONG[:700] + "bomb. " + LONG
    mixed = [each for two in zip(text_pieces(LONG), text_pieces(bad, index=1), strict=False) for each in two]
    behind.streams(*mixed, *text_pieces("", index=1), piece(reason="stop"), piece(reason="stop", index=1))
    frames = said(client, n=2)
    assert (text_of(frames), reason_of(frames)) == (LONG, "stop")
    assert bad.startswith(text_of(frames, 1))
    assert 0 < len(text_of(frames, 1)) <= 700
    assert (text_of(frames, 1, "refusal"), reason_of(frames, 1)) == (DEFAULT_REFUSAL, "content_filter")


@pytest.mark.parametrize(
    "end",
    [
        [RESET], [HANG], [b"data: {garbage\n\n"], [b"data: \xff\n\n"], [b"data: " + b"x" * (2 << 20)], [piece(index=1)],
        [frame({"error": "out of memory"})], [piece({"audio": {}})], [piece({"tool_calls": [{"index": 10**9}]})], [],
        [piece({"function_call": {"name": "f"}})], [b"data: [DONE]\n\n"],
    ],
)  # fmt: skip
def test_an_upstream_that_fails_within_a_stream(proxy, behind, monitor, end):
    client = proxy(timeout=0.5)
    behind.streams(*text_pieces(LONG), *end, done=False)
    frames = said(client)
    assert frames[-1]["error"]["type"] in ("upstream_error", "upstream_timeout")
    checks = [each.content for each in replies(monitor)]
    assert text_of(frames) == checks[-1]
    assert len(checks[-1]) < len(LONG)
    assert reason_of(frames) is None
    assert recorded(client)[-1] == ("error", "response.upstream")


def test_a_stream_without_a_last_word_is_whole_once_its_choices_are(proxy, behind):
    client = proxy()
    behind.streams(*text_pieces("Short."), piece(reason="stop"), done=False)
    frames = said(client)
    assert (text_of(frames), reason_of(frames), "error" in frames[-1]) == ("Short.", "stop", False)


def test_text_after_the_end_never_leaves(proxy, behind):
    client = proxy()
    behind.streams(*text_pieces("Short."), piece(reason="stop"), *text_pieces(" And a bomb."), piece(reason="stop"))
    frames = said(client)
    assert (text_of(frames), reason_of(frames)) == ("Short.", "stop")


def test_a_stop_ends_the_upstream(proxy, behind):
    client = proxy(timeout=10)
    behind.streams(*text_pieces("bomb. " + LONG), HANG)
    assert reason_of(said(client)) == "content_filter"
    assert behind.left.wait(30)


# A real server and the real client.


@pytest.fixture
def live(configured, behind, monitor):
    """The address of a gateway on a real socket."""
    gateway = configured(upstream=Upstream(behind.url, "", 10))
    service = Service(gateway, monitors={"fake": monitor}, keys=Keys())
    config = uvicorn.Config(create_app(gateway, service=service), port=0, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(live):
    with openai.OpenAI(base_url=live, api_key="unused", max_retries=0) as client:
        yield client


def test_the_openai_client(client, behind):
    behind.says(choice(None, "tool_calls", tool_calls=[call("run", '{"a": 1}')]))
    found = client.chat.completions.create(model="m", messages=HELLO)
    assert found.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'
    assert found.usage.total_tokens == 8
    behind.says(choice("a bomb"))
    found = client.chat.completions.create(model="m", messages=HELLO)
    assert (found.choices[0].message.refusal, found.choices[0].finish_reason) == (DEFAULT_REFUSAL, "content_filter")
    behind.script = [b'{"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "a"}]}']
    assert [each.id for each in client.models.list()] == ["m"]
    with pytest.raises(openai.BadRequestError, match="wanted"):
        client.chat.completions.create(model="m", messages=HELLO, modalities=["audio"])


def test_the_openai_client_streams(client, behind):
    arguments = json.dumps({"what": "é" * 20})
    parts = [piece({"tool_calls": [each]}) for each in deltas(0, "run", arguments)]
    behind.streams(*text_pieces(LONG), *parts, piece(reason="tool_calls"), {**HEAD, "choices": [], "usage": USAGE})
    wanted = {"include_usage": True}
    with client.chat.completions.stream(model="m", messages=HELLO, stream_options=wanted) as stream:
        found = stream.get_final_completion()
    message = found.choices[0].message
    assert (message.content, message.tool_calls[0].function.arguments) == (LONG, arguments)
    assert found.usage.total_tokens == 8
    behind.streams(*text_pieces(LONG + "bomb. " + LONG), piece(reason="stop"))
    chunks = []
    with pytest.raises(openai.APIError) as stopped:
        chunks.extend(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert stopped.value.code == "content_filter"
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    assert LONG.startswith("".join(each.choices[0].delta.content or "" for each in chunks))
    behind.streams(*text_pieces(LONG), RESET, done=False)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))


def test_a_caller_who_leaves_ends_the_upstream(client, behind):
    behind.streams(*text_pieces(LONG), HANG)
    stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
    assert next(iter(stream)).choices
    stream.close()
    assert behind.left.wait(30)


def test_text_leaves_before_the_stream_ends(client, behind):
    behind.streams(*text_pieces(LONG), HANG)
    with client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream:
        first = next(iter(stream)).choices[0].delta.content
        assert LONG.startswith(first)
        assert not behind.left.is_set()
