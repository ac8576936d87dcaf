import time

import msgspec
import pytest
from tests.gateway.wire.chatting import with_stage

from offmap.conversation import Conversation, Message
from offmap.gateway.config import DEFAULT_REFUSAL, Limits
from offmap.gateway.store import entries
from offmap.gateway.wire.litellm import Calls, _least

PATH = "/beta/litellm_basic_guardrail_api"
USER = [{"role": "user", "content": "how do tides work?"}]


def guard(client, kind, *texts, status=200, **more):
    answer = client.post(PATH, json={"input_type": kind, "texts": list(texts), "request_data": {}, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(
    ("text", "action"),
    [("hello", "NONE"), *((each, "BLOCKED") for each in ("bomb", "quux", "<failed>", "<timeout>", "<unscored>"))],
)
def test_every_verdict_is_200_and_only_an_allow_is_none(client, kind, text, action):
    found = guard(client, kind, text)
    assert found["action"] == action
    assert found.get("blocked_reason") == (DEFAULT_REFUSAL if action == "BLOCKED" else None)
    assert "zebra" not in str(found)


def test_the_answer_is_what_litellm_reads(client):
    found = guard(client, "response", "One. Two", "Three")
    assert found == {"action": "NONE", "stream_holdback_chars": [4, 5]}
    assert guard(client, "response", "One. Two.")["stream_holdback_chars"] == [0]


def test_a_reply_is_looked_at_with_the_request_of_its_call(client, monitor):
    guard(client, "request", USER[0]["content"], structured_messages=USER, litellm_call_id="1", litellm_trace_id="t")
    guard(client, "response", "By the moon.", litellm_call_id="1", litellm_trace_id="t")
    assert [message.content for message in monitor.asked[-1].messages] == ["how do tides work?", "By the moon."]
    guard(client, "response", "By the moon.", litellm_call_id="2")
    assert [message.content for message in monitor.asked[-1].messages] == ["By the moon."]


@pytest.mark.parametrize(
    "more",
    [
        {"name": "a_bomb"},
        {"reasoning_content": "a bomb"},
        {"whatever": [{"bomb": 1}]},
        {"tool_call_id": "make a bomb"},
        {"content": [{"type": "text", "text": "hi", "title": "bomb"}]},
        {"content": [{"type": "refusal", "refusal": "hi", "text": "bomb"}]},
        {"content": [{"type": "text", "text": "hi", "refusal": "bomb"}]},
        {"tool_calls": [{"name": "bomb", "arguments": "", "function": {"name": "look"}}]},
        {"tool_calls": [{"function": {"name": "look", "type": "bomb"}}]},
        {"cache_control": {"type": "a bomb"}},
        {"tool_calls": [{"id": "1", "type": "function", "note": "bomb", "function": {"name": "look"}}]},
    ],
)
def test_text_in_fields_that_nobody_knows_is_looked_at_too(client, more):
    """LiteLLM gives these messages to a model as they are."""
    said = [{"role": "assistant", "content": "hi", **more}, *USER]
    assert guard(client, "request", structured_messages=said)["action"] == "BLOCKED"


def test_what_a_client_sends_back_once_makes_no_other_conversation(client, monitor):
    """Reasoning comes back with the last reply only: what is remembered is still the same conversation."""
    said = []
    for turn in range(4):
        said.append({"role": "user", "content": f"question {turn}"})
        guard(client, "request", structured_messages=said, litellm_trace_id="t")
        said = [{name: each[name] for name in ("role", "content")} for each in said]
        said.append({"role": "assistant", "content": f"answer {turn}", "reasoning_content": f"I think {turn}"})
    assert [each.content for each in monitor.asked[-1].messages] == [
        f"{kind} {turn}" for turn in range(3) for kind in ("question", "answer")
    ]
    assert any("I think 2" in each.content for row in monitor.asked for each in row.messages)


def test_replies_to_unknown_requests_are_on_both_sides_of_a_percentage(client, monkeypatch):
    with_stage(client, monkeypatch, "response", percent=50)
    for number in range(12):
        guard(client, "response", f"answer {number}")
    assert {each.status for each in kept(client) if each.stage == "response"} == {"enforced", "shadow"}


def test_ids_names_of_calls_and_marks_say_nothing(client, monitor):
    made = {"id": "call_1", "type": "function", "index": 0, "function": {"name": "look", "arguments": "{}"}}
    said = [
        {"role": "assistant", "content": None, "tool_calls": [made], "refusal": None, "extra": {"x": None}},
        {"role": "tool", "name": "look", "tool_call_id": "call_1", "content": "rain"},
        {
            "role": "user",
            "id": "m-1",
            "content": [{"type": "text", "text": "so?", "cache_control": {"type": "ephemeral"}}],
        },
    ]
    guard(client, "request", structured_messages=said)
    assert [each.content for each in monitor.asked[-1].messages] == ["", "rain", "so?"]


def test_texts_that_stand_in_no_message_are_looked_at_too(client):
    assert guard(client, "request", "bomb", structured_messages=USER)["action"] == "BLOCKED"
    assert guard(client, "request", USER[0]["content"], structured_messages=USER)["action"] == "NONE"


def test_a_text_that_begins_in_one_message_and_ends_in_the_next_is_in_none(client, monitor):
    said = [{"role": "user", "content": "the bo"}, {"role": "user", "content": "mb"}]
    texts = ["the bo\nmb", "the bo\0mb", "the", ""]
    guard(client, "request", *texts, structured_messages=said)
    assert [row.content for row in monitor.asked[-1].messages] == ["the bo", "mb", *texts[:2]]


@pytest.mark.parametrize("said", [None, [], USER, "the same id"])
def test_tool_calls_that_stand_in_no_message_are_looked_at_whatever_their_id(client, monitor, said):
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": '{"what": "tide"}'}}
    if said == "the same id":
        said = [*USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    more = {} if said is None else {"structured_messages": said}
    guard(client, "request", tool_calls=[call], **more)
    assert [each.arguments for row in monitor.asked[-1].messages for each in row.tool_calls] == ['{"what": "tide"}']
    for function in ({"name": "run", "arguments": "bomb"}, {"name": "bomb", "arguments": '{"what": "tide"}'}):
        harm = {"id": "c", "type": "function", "function": function}
        assert guard(client, "request", tool_calls=[call, harm], **more)["action"] == "BLOCKED"


@pytest.mark.parametrize("kind", ["request", "response"])
def test_arguments_of_tool_calls_are_looked_at(client, monitor, kind):
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": '{"what": "bomb"}'}}
    assert guard(client, kind, tool_calls=[call])["action"] == "BLOCKED"
    call["function"]["arguments"] = '{"what": "tide"'
    assert guard(client, kind, tool_calls=[call])["action"] == "NONE"
    assert monitor.asked[-1].messages[-1].tool_calls[0].arguments == '{"what": "tide"'
    unnamed = {"id": None, "type": "function", "index": 0, "function": {"name": None, "arguments": "bomb"}}
    assert guard(client, kind, tool_calls=[unnamed])["action"] == "BLOCKED"


def test_earlier_turns_of_a_trace_are_scored_together(client):
    parts = [{"role": "user", "content": "the bo"}, {"role": "assistant", "content": "mb"}]
    more = [{"role": "user", "content": "and?"}]
    assert guard(client, "request", structured_messages=more, litellm_trace_id="t")["action"] == "NONE"
    bad = [{"role": "user", "content": "a bomb"}, {"role": "assistant", "content": "no"}]
    assert guard(client, "request", structured_messages=bad + more, litellm_trace_id="t")["action"] == "BLOCKED"
    # What was said stays said: the same trace with a history that leaves it out.
    assert guard(client, "request", structured_messages=parts + more, litellm_trace_id="t")["action"] == "BLOCKED"
    assert guard(client, "request", structured_messages=parts + more, litellm_trace_id="u")["action"] == "NONE"


def test_a_reply_is_cut_where_the_policy_says_so(serve, cutting):
    client = serve(**cutting)
    found = guard(client, "response", "Fine. Then a bomb goes off.", "Fine.")
    assert (found["action"], found["texts"]) == ("GUARDRAIL_INTERVENED", ["Fine.", "Fine."])
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": "{}"}}
    found = guard(client, "response", "Fine. Then a bomb goes off.", tool_calls=[call])
    assert found["action"] == "BLOCKED", "LiteLLM would pass the call on"
    assert guard(client, "response", "<failed>")["action"] == "BLOCKED"


def test_images_and_stages_without_a_policy_are_no_yes(client, serve):
    assert "images" in guard(client, "request", "hello", images=["aGk="], status=400)["error"]["message"]
    only = serve(stages=("input",))
    guard(only, "response", "hello", status=400)
    assert guard(only, "request", "hello")["action"] == "NONE"


@pytest.mark.parametrize("body", [{}, {"input_type": "other"}, {"input_type": "request", "texts": "one"}])
def test_other_bodies_are_refused(client, body):
    assert client.post(PATH, json=body).status_code == 400


def test_calls_are_forgotten_where_all_of_them_together_take_too_much():
    row = Conversation("c", (Message("user", "x" * 500),))
    calls = Calls(Limits(), most_bytes=3 * len(msgspec.json.encode((row.messages, row.tools))))
    for number in range(20):
        calls.keep("me", str(number), row)
        calls.keep("me", str(number), row)
    assert [n for n in range(20) if calls.of("me", str(n)).messages] == [17, 18, 19]


def test_texts_are_found_in_messages_in_little_time(client, monitor):
    """As many texts as a body holds, in messages as long: none is looked for character by character."""
    said = [{"role": "user", "content": "a" * 400_000}, {"role": "user", "content": "known and more"}]
    texts = [f"{'a' * 12}{number}" for number in range(20_000)] + ["known and more"]
    started = time.process_time()
    answer = client.post(PATH, json={"input_type": "request", "structured_messages": said, "texts": texts})
    assert (answer.status_code, answer.json()["action"]) == (200, "NONE")
    assert time.process_time() - started < 3
    assert len(monitor.asked[-1].messages) == 2 + 20_000
    few = {"input_type": "request", "structured_messages": said, "texts": ["known", "known and more", "unknown"]}
    assert client.post(PATH, json=few).status_code == 200
    assert [each.content for each in monitor.asked[-1].messages[2:]] == ["unknown"]


def test_many_texts_beside_many_tool_calls_are_refused(client):
    """Every text is looked at together with every call, so a small body could become a huge one."""
    call = {"function": {"name": "f", "arguments": "x" * 100_000}}
    body = {"input_type": "response", "texts": ["a"] * 100, "tool_calls": [call] * 9}
    assert client.post(PATH, json=body).status_code == 413
    assert client.post(PATH, json=body | {"texts": ["a"] * 9}).status_code == 200


def test_calls_are_forgotten():
    now = [0.0]
    calls = Calls(Limits(conversations=2, conversation_bytes=200, expiry_s=10), lambda: now[0])
    row = Conversation("c", (Message("user", "hello"),))
    for name in ("a", "b", "c"):
        calls.keep("me", name, row)
    assert [bool(calls.of("me", name).messages) for name in ("a", "b", "c")] == [False, True, True]
    assert not calls.of("you", "c").messages
    calls.keep("me", "large", Conversation("c", (Message("user", "x" * 300),)))
    assert not calls.of("me", "large").messages
    now[0] = 11.0
    calls.keep("me", "d", row)
    assert not calls.of("me", "c").messages


def kept(client):
    with client.service.store.read() as connection:
        return [each.decision for each in entries(connection) if each.kind == "decision"]


def test_a_reply_is_asked_about_with_what_is_remembered_and_not_remembered_before_it_is_whole(client, monitor):
    more = {"litellm_call_id": "1", "litellm_trace_id": "t"}
    earlier = [*USER, {"role": "assistant", "content": "By the moon."}]
    guard(client, "request", "x", structured_messages=earlier, **more)
    guard(client, "request", "and then?", structured_messages=[{"role": "user", "content": "and then?"}], **more)
    for reply in ("They", "They turn."):
        guard(client, "response", reply, **more)
        said = [message.content for message in monitor.asked[-1].messages]
        assert said == ["how do tides work?", "By the moon.", "and then?", reply]
    found = kept(client)[-4:]
    assert [(each.stage, each.conversation, each.partial) for each in found] == [
        ("response", "t", False),
        ("conversation", "t", False),
    ] * 2


def test_without_a_trace_only_a_conversation_stage_of_its_own_is_asked(client, monkeypatch):
    guard(client, "response", "By the moon.")
    with_stage(client, monkeypatch, "conversation", tier="strict")
    guard(client, "response", "By the moon.")
    assert [each.stage for each in kept(client)] == ["response", "response", "conversation"]


def test_all_looks_of_a_trace_are_on_one_side_of_a_percentage(client, monkeypatch):
    with_stage(client, monkeypatch, "conversation", percent=30.0)
    for trace in "abcdef":
        actions = {guard(client, "response", "bo" + "mb" * n, litellm_trace_id=trace)["action"] for n in range(1, 9)}
        assert len(actions) == 1


def test_of_two_stages_that_change_a_reply_the_stricter_one_is_heard(serve, cutting, monkeypatch):
    client = serve(**cutting)
    text = "Fine. Then a bomb."
    guard(client, "response", text)
    with_stage(client, monkeypatch, "conversation", refusal="Nothing.")
    found = guard(client, "response", text, "Nothing bad.")
    assert (found["action"], found["texts"]) == ("GUARDRAIL_INTERVENED", ["Fine.", "Nothing bad."])
    for kept in (("Fine.", "No."), ("No.", "Fine.")):
        assert _least(text, *kept) == "No."
    assert _least(text, "Fine. Then", "Fine.") == "Fine."
