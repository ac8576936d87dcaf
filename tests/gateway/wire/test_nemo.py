import pytest
from tests.gateway.wire.chatting import with_stage

PATH = "/v1/guardrail/checks"
ASKED = {"role": "user", "content": "how do tides work?"}


def check(client, *messages, **more):
    answer = client.post(PATH, json={"model": "any", "messages": list(messages), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_question_and_reply_are_rails(client):
    found = check(client, ASKED, {"role": "assistant", "content": "By the moon."})
    assert found["status"] == "success"
    assert found["rails_status"] == {"input": {"status": "success"}, "response": {"status": "success"}}
    assert [each["action"] for each in found["guardrails_data"]["decisions"]] == ["allow", "allow"]
    found = check(client, ASKED, {"role": "assistant", "content": "A bomb."})
    assert found["status"] == "blocked"
    assert found["rails_status"] == {"input": {"status": "success"}, "response": {"status": "blocked"}}


@pytest.mark.parametrize(
    ("text", "action"),
    [("<failed>", "error"), ("<timeout>", "error"), ("<unscored>", "block"), ("quux", "escalate"), ("bomb", "block")],
)
def test_what_does_not_go_on_is_blocked(client, text, action):
    found = check(client, {"role": "user", "content": text})
    assert found["status"] == "blocked"
    assert found["guardrails_data"]["decisions"][0]["action"] == action
    assert "zebra" not in str(found)


def test_a_question_and_its_reply_are_on_one_side_of_a_percentage(client, monkeypatch):
    for stage in ("input", "response", "conversation"):
        with_stage(client, monkeypatch, stage, percent=50)
    sides = []
    for number in range(16):
        asked = {"role": "user", "content": f"question {number}"}
        both = [check(client, asked), check(client, asked, {"role": "assistant", "content": f"answer {number}"})]
        sides.append({each["status"] for found in both for each in found["guardrails_data"]["decisions"]})
    assert all(len(each) == 1 for each in sides)
    assert set.union(*sides) == {"enforced", "shadow"}


def test_a_speakers_name_is_looked_at(client):
    assert check(client, {**ASKED, "name": "a_bomb"})["status"] == "blocked"


def test_a_conversation_stage_of_its_own_is_a_rail(client, monkeypatch):
    with_stage(client, monkeypatch, "conversation", tier="strict")
    found = check(client, ASKED, {"role": "assistant", "content": "By the moon."})
    assert list(found["rails_status"]) == ["input", "response", "conversation"]
    assert list(check(client, ASKED)["rails_status"]) == ["input"]


def test_tool_calls_are_a_rail(client):
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": '{"what": "bomb"}'}}
    found = check(client, ASKED, {"role": "assistant", "content": None, "tool_calls": [call]})
    assert found["rails_status"]["tool_call"] == {"status": "blocked"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "alien", "content": "x"}]},
        {"messages": [ASKED], "stream": True},
        {"messages": [ASKED], "guardrails": {"config": {"models": []}}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)
def test_other_bodies_are_refused(client, body):
    assert client.post(PATH, json=body).status_code == 400


def test_a_policy_that_does_not_look_at_replies_is_no_yes(serve):
    client = serve(stages=("input",))
    body = {"messages": [ASKED, {"role": "assistant", "content": "A bomb."}]}
    assert client.post(PATH, json=body).status_code == 400
