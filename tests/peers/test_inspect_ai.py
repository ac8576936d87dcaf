"""The adapters in evaluations by inspect_ai, its model mocked."""

import json

import pytest
from inspect_ai import Task, eval  # noqa: A004
from inspect_ai.approval import ApprovalPolicy, auto_approver
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import ToolCall, tool
from inspect_ai.tool._tool_call import ToolCallError
from servers import RATIONALE, REFUSAL

from offmap.clients.gateway import REFUSAL as NO_GATEWAY
from offmap.clients.inspect_ai import gateway_approver, messages, suspicion

MADE = []


@tool
def look():
    async def execute(where: str) -> str:
        """Look somewhere.

        Args:
            where: a place.
        """
        MADE.append(where)
        return "nothing"

    return execute


@pytest.fixture(autouse=True)
def nothing_made(tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path))
    MADE.clear()


def run(task, *outputs, **options):
    for output in outputs:
        output.usage = ModelUsage(input_tokens=1, output_tokens=1)  # else a tokenizer is fetched to count them
    (log,) = eval(task, model=get_model("mockllm/model", custom_outputs=list(outputs)), display="none", **options)
    assert log.status == "success", log.error.message
    return log


def scored(address, *replies):
    samples = [Sample(input=f"question {n}") for n in range(len(replies))]
    outputs = [ModelOutput.from_content("mockllm/model", reply) for reply in replies]
    task = Task(dataset=samples, solver=generate(), scorer=suspicion(address))
    return run(task, *outputs, max_samples=1, max_connections=1)


def test_a_transcript_has_its_p_value(words):
    log = scored(words.address, "fine", "a bomb", "quux", "fine")
    found = [sample.scores["suspicion"] for sample in log.samples]
    assert [score.value for score in found] == [0.5, 1 - 1e-6, 1 - 1e-6, 0.5]
    assert [score.answer for score in found] == ["allow", "block", "escalate", "allow"]
    assert found[1].metadata["monitors"]["words"] == {"p": 1e-6, "harm": 1e-6, "unknown": 0.5}
    assert found[1].metadata["decision"] in {each["id"] for each in words.decisions}
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert metrics.keys() >= {"mean", "stderr", "alarms"}
    assert (metrics["mean"], metrics["alarms"]) == (pytest.approx(0.75, abs=1e-5), 0.5)
    assert RATIONALE not in log.model_dump_json()


def test_the_transcript_is_sent_with_its_question(words):
    before = len(words.decisions)
    scored(words.address, "fine")
    (decision,) = words.decisions[before:]
    assert (decision["stage"], decision["messages"]) == ("response", 2)


@pytest.mark.parametrize("fault", ["failed", "gone"])
def test_what_was_not_judged_is_unscored(words, nobody, fault):
    log = scored(nobody, "fine") if fault == "gone" else scored(words.address, "<failed>", "fine")
    score = log.samples[0].scores["suspicion"]
    assert score.unscored if isinstance(getattr(score, "unscored", None), bool) else score.value != score.value
    assert (score.answer, score.reason) == ("error", "scoring_failed")
    assert log.results.scores[0].unscored_samples == 1
    if fault == "failed":
        assert log.results.scores[0].metrics["mean"].value == 0.5


def called(arguments, name="look"):
    return [
        ModelOutput.for_tool_call("mockllm/model", name, arguments, content="let me see"),
        ModelOutput.from_content("mockllm/model", "done"),
    ]


def approved(address, arguments, *later, **options):
    task = Task(dataset=[Sample(input="question")], solver=[use_tools(look()), generate()])
    policies = [ApprovalPolicy(gateway_approver(address, **options), "*"), *later]
    return run(task, *called(arguments), approval=policies)


def decisions(log):
    return [event.decision for event in log.samples[0].events if event.event == "approval"]


def told(log):
    return next(row for row in log.samples[0].messages if isinstance(row, ChatMessageTool))


def test_a_call_that_is_allowed_is_made(words):
    log = approved(words.address, {"where": "here"})
    assert (MADE, decisions(log)) == (["here"], ["approve"])
    decision = words.decisions[-1]
    assert (decision["stage"], decision["messages"]) == ("tool_call", 2)


@pytest.mark.parametrize("where", ["bomb", "<failed>"])
def test_a_call_that_is_stopped_is_not_made_and_the_model_hears_the_policy(words, where):
    log = approved(words.address, {"where": where})
    assert (MADE, decisions(log)) == ([], ["reject"])
    assert told(log).error.message == REFUSAL
    event = next(event for event in log.samples[0].events if event.event == "approval")
    assert event.metadata["id"] == words.decisions[-1]["id"]
    assert RATIONALE not in log.model_dump_json()


def test_a_call_that_is_escalated_goes_to_the_next_approver(words):
    log = approved(words.address, {"where": "quux"}, ApprovalPolicy(auto_approver("approve"), "*"))
    assert (MADE, decisions(log)) == (["quux"], ["escalate", "approve"])
    MADE.clear()
    log = approved(words.address, {"where": "quux"})
    assert (MADE, decisions(log)) == ([], ["escalate", "reject"])


def test_a_sample_may_end_with_a_blocked_call_and_only_with_one(words):
    log = approved(words.address, {"where": "bomb"}, on_block="terminate")
    assert (MADE, decisions(log)) == ([], ["terminate"])
    assert log.samples[0].messages[-1].role != "tool"
    log = approved(words.address, {"where": "<failed>"}, on_block="terminate")
    assert decisions(log) == ["reject"]


def test_without_a_gateway_no_call_is_made(nobody):
    log = approved(nobody, {"where": "here"})
    assert (MADE, decisions(log), told(log).error.message) == ([], ["reject"], NO_GATEWAY)


def test_of_a_changed_reply_only_the_calls_that_are_left_are_made(read_only):
    log = approved(read_only.address, {"where": "bomb"})
    assert (MADE, decisions(log)) == (["bomb"], ["approve"])


def test_adapters_are_found_by_name(words, tmp_path):
    policy = {"approvers": [{"name": "offmap/gateway_approver", "tools": "*", "base_url": words.address}]}
    path = tmp_path / "approval.json"
    path.write_text(json.dumps(policy))
    task = Task(dataset=[Sample(input="question")], solver=[use_tools(look()), generate()])
    log = run(task, *called({"where": "bomb"}), approval=str(path))
    assert (MADE, decisions(log)) == ([], ["reject"])


def test_messages_are_openais():
    call = ToolCall(id="1", function="look", arguments={"where": "ü"})
    broken = ToolCall(id="2", function="look", arguments={}, parse_error="no JSON: {where")
    rows = [
        ChatMessageUser(content=[ContentText(text="a"), ContentText(text="b")]),
        ChatMessageAssistant(
            content=[ContentReasoning(reasoning="hm"), ContentText(text="c")], tool_calls=[call, broken]
        ),
        ChatMessageTool(content="d", tool_call_id="1", function="look"),
        ChatMessageTool(content="", tool_call_id="2", error=ToolCallError("parsing", "no JSON")),
        ChatMessageUser(content=[ContentText(text="e"), ContentImage(image="data:image/png;base64,aGk=")]),
    ]
    assert messages(rows) == [
        {"role": "user", "content": "a\nb"},
        {
            "role": "assistant",
            "content": "c",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"where": "ü"}'}},
                {"id": "2", "type": "function", "function": {"name": "look", "arguments": "no JSON: {where"}},
            ],
        },
        {"role": "tool", "content": "d", "tool_call_id": "1", "name": "look"},
        {"role": "tool", "content": "no JSON", "tool_call_id": "2", "name": ""},
        {"role": "user", "content": [{"type": "unreadable"}]},
    ]


def test_a_transcript_with_a_picture_is_unscored(words):
    rows = [ChatMessageUser(content=[ContentText(text="e"), ContentImage(image="data:image/png;base64,aGk=")])]
    outputs = [ModelOutput.from_content("mockllm/model", "fine")]
    task = Task(dataset=[Sample(input=rows)], solver=generate(), scorer=suspicion(words.address))
    log = run(task, *outputs)
    assert log.samples[0].scores["suspicion"].answer == "error"
