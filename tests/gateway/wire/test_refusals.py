"""What a body of the wrong type is answered with: where it is wrong, and nothing of what was sent."""

import json

import pytest

from offmap.gateway.config import Upstream

MODERATIONS, NEMO, LITELLM = "/v1/moderations", "/v1/guardrail/checks", "/beta/litellm_basic_guardrail_api"
DECISIONS, SCORE, CHAT = "/v1/decisions", "/v1/score", "/v1/chat/completions"
SAID = {"role": "user", "content": "zebra"}
ODD = {"role": "user", "content": {"zebra": 1}}
TOO_LONG = "zebra" * 60


def asked(conversation, **more):
    return {"stage": "input", "conversation": conversation, **more}


def guarded(**fields):
    return {"input_type": "request", **fields}


def chat(**fields):
    return {"model": "m", "messages": [SAID], **fields}


CASES = [
    (DECISIONS, asked({"messages": [SAID, ODD]}), "conversation.messages[1].content: wanted text"),
    (DECISIONS, asked({"messages": {"zebra": 1}}), "conversation.messages: wanted a list"),
    (DECISIONS, asked({"messages": ["zebra"]}), "conversation.messages[0]: wanted an object"),
    (DECISIONS, asked({"messages": [{"role": "zebra"}]}), "conversation.messages[0].role: wanted developer"),
    (DECISIONS, asked({"messages": [SAID], "tools": [{"zebra": 2}]}), "conversation.tools[0].name: wanted text"),
    (DECISIONS, asked({"conversation": {"zebra": 1}}), "conversation.conversation: wanted text"),
    (DECISIONS, asked({"zebra, wanted zebra": 1}), "conversation: wanted exactly one of: messages"),
    (DECISIONS, asked("zebra"), "conversation: wanted object, found str"),
    (DECISIONS, {"stage": "input"}, "conversation: wanted a value"),
    (DECISIONS, asked({"messages": [SAID]}, conversation_id=["zebra"]), "conversation_id: wanted str, found array"),
    (DECISIONS, asked({"messages": [SAID]}, conversation_id=TOO_LONG), "conversation_id: wanted at most 256"),
    (DECISIONS, asked({}) | {"stage": "zebra"}, "stage: wanted one of input, response"),
    (
        DECISIONS,
        asked({}) | {"stage": "a - at `$.zebra"},
        "stage: wanted one of input, response",
    ),
    (
        DECISIONS,
        asked({}) | {"stage": "a - at `$.zebra`"},
        "stage: wanted one of input, response",
    ),
    (DECISIONS, asked({}, zebra=1), "the body: wanted only the fields"),
    (DECISIONS, asked({}, **{"a` - at `$.zebra": 1}), "the body: wanted only the fields"),
    (DECISIONS, ["zebra"], "the body: wanted object, found array"),
    (SCORE, {"conversations": [{"messages": [SAID]}, {"messages": [ODD]}]}, "conversations[1].messages[0].content: "),
    (SCORE, {"conversations": [{"messages": [SAID]}, "zebra"]}, "conversations[1]: wanted object, found str"),
    (SCORE, {"conversations": []}, "conversations: wanted array of length >= 1"),
    (MODERATIONS, {"input": ["zebra", 3]}, "input[1]: wanted str | object, found int"),
    (MODERATIONS, {"input": ["zebra", {"type": "zebra"}]}, "input[1].type: wanted text"),
    (MODERATIONS, {}, "input: wanted a value"),
    (NEMO, {"messages": [SAID, ODD]}, "messages[1].content: wanted text"),
    (NEMO, {"messages": [SAID], "stream": "zebra"}, "stream: wanted bool | null, found str"),
    (LITELLM, guarded(input_type="zebra"), "input_type: wanted one of the values"),
    (LITELLM, guarded(texts=["zebra", 3]), "texts[1]: wanted str, found int"),
    (LITELLM, guarded(structured_messages=[ODD]), "structured_messages[0].content: wanted text"),
    (LITELLM, guarded(tool_calls=[{"function": "zebra"}]), "tool_calls[0].function: wanted an object"),
    (LITELLM, guarded(litellm_call_id=TOO_LONG), "litellm_call_id: wanted at most 256"),
    (CHAT, chat(messages=[SAID, ODD]), "messages[1].content: wanted text"),
    (CHAT, chat(stream="zebra"), "stream: wanted true or false"),
    (CHAT, ["zebra"], "the body: wanted object, found array"),
]


@pytest.mark.parametrize(("path", "body", "told"), CASES)
def test_the_field_is_named_and_its_value_is_not(serve, path, body, told):
    client = serve(upstream=Upstream("http://127.0.0.1:1/v1"))
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith(told if told.startswith("the body") else f"field {told}"), message
    assert "zebra" not in answer.text


CUT = "no JSON: it ends too soon, or within a character, such as half of a pair of \\u"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "empty, wanted JSON"),
        (b'"zebra', CUT),
        (b'{"input": "zebra \\ud83d"}', CUT),
        (b"\xef\xbb\xbf{}", "no JSON: invalid character (byte 0)"),
        (b'{"zebra": NaN}', "no JSON: invalid character (byte 10)"),
        (b"[1,]", "no JSON: trailing comma in array (byte 3)"),
    ],
)
def test_where_a_body_stops_being_json_is_told(client, body, told):
    answer = client.post(DECISIONS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"the body is {told}"
