import pytest

from offmap.gateway.config import Actions
from offmap.gateway.keys import Keys, new_key


def row(*texts, **more):
    roles = ("user", "assistant") * len(texts)
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)], **more}


def score(client, *rows, headers=None, **more):
    return client.post("/v1/score", json={"conversations": list(rows), **more}, headers=headers)


def decide(client, stage, *texts, headers=None, **more):
    body = {"stage": stage, "conversation": row(*texts), **more}
    return client.post("/v1/decisions", json=body, headers=headers)


def test_scores_in_order_at_the_stage_that_fits(client):
    answer = score(client, row("hi", "hello", id="a"), row("hi"), row("a", "bomb"), row("<failed>"))
    assert answer.status_code == 200
    found = answer.json()["scores"]
    assert found[0]["id"] == "a"
    assert [each["stage"] for each in found] == ["response", "input", "response", "input"]
    assert [each["action"] for each in found] == ["allow", "allow", "block", "error"]
    assert [each["findings"][0].get("p_unsafe") for each in found] == [0.5, 0.5, 1e-6, None]
    assert ["error" in each for each in found] == [False, False, False, True]


def test_every_shape_of_a_row_is_read(client):
    parts = {"messages": [{"role": "developer", "content": [{"type": "text", "text": "bomb"}]}]}
    ours = {"messages": [{"role": "assistant", "tool_calls": [{"name": "run", "arguments": "bomb"}]}]}
    for each in (parts, ours, {"conversation": "\n\nHuman: bomb"}):
        assert score(client, each).json()["scores"][0]["action"] == "block"


def test_a_failure_is_told_in_shadow_mode_too(serve):
    client = serve(mode="shadow")
    found = score(client, row("<failed>"), row("bomb")).json()["scores"]
    assert [each["status"] for each in found] == ["shadow", "shadow"]
    assert "error" in found[0]


def test_a_decision_and_what_may_be_passed_on(client):
    answer = decide(client, "response", "hi", "hello", conversation_id="c")
    assert answer.status_code == 200
    assert (answer.json()["action"], answer.json()["conversation"]) == ("allow", "c")
    assert "message" not in answer.json()
    found = decide(client, "response", "hi", "a bomb").json()
    assert found["action"] == "block"
    assert found["message"] == {"role": "assistant", "content": found["replacement"]}
    assert "message" not in decide(client, "input", "a bomb").json()


def test_the_tools_that_are_left_are_told(serve):
    client = serve(actions=Actions(unknown="modify"), fallback="read_only_tools", read_only_tools=("look", "list"))
    for text, tools in (("quux", ["look", "list"]), ("hello", None)):
        conversation = {"messages": [{"role": "user", "content": text}]}
        found = client.post("/v1/decisions", json={"stage": "input", "conversation": conversation}).json()
        assert found.get("tools") == tools


def test_a_cut_reply(serve, cutting):
    found = decide(serve(**cutting), "response", "hi", "Fine. Then a bomb.").json()
    assert (found["action"], found["message"]["content"]) == ("modify", "Fine.")


@pytest.mark.parametrize("text", ["<failed>", "<timeout>"])
def test_an_error_is_no_success(client, text):
    answer = decide(client, "input", text)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["action"] == "error"
    assert answer.json()["error"]["type"] == "not_judged"


def test_conversations_are_remembered(client):
    for number, (text, action) in enumerate([("hello", "allow"), ("bomb", "block"), ("fine", "block")]):
        found = decide(client, "conversation", text, conversation_id="c").json()
        assert found["action"] == action, number
    assert decide(client, "conversation", "fine", conversation_id="d").json()["action"] == "allow"


def test_what_a_monitor_found_in_the_text_is_for_reviewers(serve):
    made = {role: new_key(role, role) for role in ("caller", "reviewer", "admin")}
    client = serve(keys=Keys(tuple(record for _, record in made.values())))
    for role, (key, _) in made.items():
        headers = {"authorization": f"Bearer {key}"}
        told = decide(client, "response", "hi", "a bomb", headers=headers).json()
        scored = score(client, row("hi", "a bomb"), headers=headers).json()["scores"][0]
        assert ("findings" in told) == (role != "caller")
        for field in ("fired", "shift", "spans"):
            assert (field in scored["findings"][0]) == (role != "caller")
        assert ("zebra" in str((told, scored))) == (role != "caller")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stage": "input"},
        {"stage": "elsewhere", "conversation": row("x")},
        {"stage": "input", "conversation": {"messages": []}},
        {"stage": "input", "conversation": {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"}},
        {"stage": "input", "conversation": row("x"), "conversation_id": "x" * 257},
        {"stage": "input", "conversation": row("x"), "conversation_id": "a\nb"},
        {"stage": "input", "conversation": row("x"), "conversation_id": 7},
    ],
)
def test_other_bodies_are_refused(client, body):
    assert client.post("/v1/decisions", json=body).status_code == 400


def test_an_error_repeats_nothing_that_was_sent(client):
    for bad in ({"role": "zebra"}, {"role": "user", "content": {"zebra": 1}}, {"role": "user", "zebra": 1}):
        answer = score(client, {"messages": [bad]})
        assert answer.status_code == 400
        assert "messages[0]" in answer.json()["error"]["message"]
        assert "zebra" not in answer.text
    tricky = score(client, {"messages": [{"role": "x, wanted zebra"}]})
    assert "zebra" not in tricky.text
    assert "zebra" not in client.post("/v1/decisions", json={"stage": "zebra", "conversation": {}}).text
