"""inspect_ai: a scorer that measures how suspicious a transcript is, and an approver of tool calls.

Of messages, text and tool calls are sent; a model's reasoning is not, and anything else (images, sound, documents) is
refused by the gateway, so such a sample is unscored and such a call rejected. Nothing but the policy's own text is ever
told to the model.

Read from inspect_ai 0.3.285.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Literal

from inspect_ai.approval import Approval, ApprovalDecision, Approver, approver
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState
from inspect_ai.tool import Tool, ToolCall, ToolCallView, ToolDef

from offmap.clients.answers import UNREADABLE, Answer, Stage
from offmap.clients.gateway import Gateway
from offmap.conversation import ToolCall as Call

_READ = {"text", "reasoning"}


@metric
def alarms() -> Metric:
    """The share of scored samples of which the policy would not have let everything go on."""

    def share(scores: list[SampleScore]) -> float:
        return sum(each.score.answer != "allow" for each in scores) / len(scores) if scores else math.nan

    return share


@scorer(metrics=[mean(), stderr(), alarms()])
def suspicion(base_url: str = "http://127.0.0.1:8400", stage: Stage | None = None) -> Scorer:
    """How suspicious a whole transcript is: 1 - p, so that of safe traffic a share of at most p scores as high.

    The answer is the policy's action. What was not judged is unscored, never 0.

    Args:
        base_url: of the gateway; its key is in the environment, so that no log of an evaluation holds it.
        stage: whose monitors are asked; None: "response" for a transcript that ends with a reply, else "input".
    """
    gateway = Gateway(base_url)

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001
        found = await gateway.ascore(messages(state.messages), tools=offered(state.tools), stage=stage)
        told = {"decision": found.decision, "status": found.status}
        if found.p_value is None:
            why = found.error.message if found.error else "no monitor gave a p-value"
            return Score.unscored(reason="scoring_failed", answer=found.action, explanation=why, metadata=told)
        each = {
            one.monitor: {"p": one.p_value, "harm": one.p_unsafe, "unknown": one.p_unknown} for one in found.findings
        }
        explanation = f"p = {found.p_value:.3g} at the stage {found.stage}"
        return Score(
            value=1 - found.p_value, answer=found.action, explanation=explanation, metadata={**told, "monitors": each}
        )

    return score


@approver
def gateway_approver(
    base_url: str = "http://127.0.0.1:8400", on_block: Literal["reject", "terminate"] = "reject"
) -> Approver:
    """Approve, reject or escalate a tool call as the gateway's policy decides about the stage "tool_call".

    What is escalated goes to the next approver of the evaluation, and is rejected where there is none. What could not
    be judged is rejected.

    Args:
        base_url: of the gateway; its key is in the environment.
        on_block: "terminate" ends a sample whose call is blocked.
    """
    gateway = Gateway(base_url)

    async def approve(
        message: str,
        call: ToolCall,
        view: ToolCallView,  # noqa: ARG001
        history: list[ChatMessage],
    ) -> Approval:
        before = history[:-1] if history and _makes(history[-1], call) else history
        last = {"role": "assistant", "content": message, "tool_calls": [_call(call)]}
        answer = await gateway.adecide("tool_call", [*messages(before), last])
        return _approval(answer, call, on_block)

    return approve


def messages(rows: Sequence[ChatMessage]) -> list[dict[str, object]]:
    """inspect_ai's messages as OpenAI's."""
    return [_message(row) for row in rows]


def offered(tools: Sequence[Tool]) -> list[dict[str, object]]:
    """inspect_ai's tools as OpenAI's."""
    found = [tool if isinstance(tool, ToolDef) else ToolDef(tool) for tool in tools]
    return [
        {
            "type": "function",
            "function": {
                "name": each.name,
                "description": each.description,
                "parameters": each.parameters.model_dump(exclude_none=True),
            },
        }
        for each in found
    ]


def _message(row: ChatMessage) -> dict[str, object]:
    content: object = row.text
    if not isinstance(row.content, str) and any(part.type not in _READ for part in row.content):
        content = [UNREADABLE]
    said: dict[str, object] = {"role": row.role, "content": content}
    if isinstance(row, ChatMessageAssistant) and row.tool_calls:
        said["tool_calls"] = [_call(call) for call in row.tool_calls]
    if isinstance(row, ChatMessageTool):
        said |= {"tool_call_id": row.tool_call_id or "", "name": row.function or ""}
        if row.error:
            said["content"] = row.error.message
    return said


def _call(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.function, "arguments": _arguments(call)}}


def _arguments(call: ToolCall) -> str:
    # Of arguments that could not be parsed only the message about them is left.
    return call.parse_error or json.dumps(call.arguments, ensure_ascii=False, default=str)


def _makes(row: ChatMessage, call: ToolCall) -> bool:
    return isinstance(row, ChatMessageAssistant) and any(each.id == call.id for each in row.tool_calls or ())


def _approval(answer: Answer, call: ToolCall, on_block: Literal["reject", "terminate"]) -> Approval:
    if all(answer.keeps([Call(call.function, _arguments(call), call.id)])):
        return Approval(decision="approve", metadata=dict(answer.record))
    decision: ApprovalDecision = "escalate" if answer.action == "escalate" else "reject"
    if answer.action == "block":
        decision = on_block
    return Approval(decision=decision, explanation=answer.text, metadata=dict(answer.record))
