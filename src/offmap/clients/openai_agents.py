"""OpenAI Agents SDK: guardrails of an agent's input, its output, its tool calls and what its tools return.

The SDK asks input guardrails before the first turn of the first agent, output guardrails after the last turn, and tool
guardrails of function tools only; to none of them it shows the turns in between. A guardrail can stop or pass, not
change: what the policy would modify is stopped too, but for tool calls that it leaves.

Read from openai-agents 0.24.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pydantic
from agents import (
    Agent,
    FunctionTool,
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RunContextWrapper,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    ToolOutputGuardrail,
    ToolOutputGuardrailData,
    TResponseInputItem,
    UserError,
)
from agents.models.chatcmpl_converter import Converter
from agents.tool_context import ToolContext

from offmap.clients.answers import UNREADABLE, Answer
from offmap.clients.gateway import Gateway
from offmap.conversation import ToolCall

Message = dict[str, Any]
OnBlock = Literal["reject_content", "raise_exception"]


def input_guardrail(gateway: Gateway, name: str = "offmap_input") -> InputGuardrail[Any]:
    """Trips unless the gateway lets the input go on, before the model has seen any of it."""

    async def look(
        _: RunContextWrapper[Any], agent: Agent[Any], said: str | list[TResponseInputItem]
    ) -> GuardrailFunctionOutput:
        rows = [*_instructions(agent), *messages(said)]
        return _tripped(await gateway.adecide("input", rows, tools=offered(agent)))

    return InputGuardrail(look, name=name, run_in_parallel=False)


def output_guardrail(gateway: Gateway, name: str = "offmap_output") -> OutputGuardrail[Any]:
    """Trips unless the gateway lets the final output go on."""

    async def look(context: RunContextWrapper[Any], agent: Agent[Any], output: Any) -> GuardrailFunctionOutput:
        rows = [*_asked(context, agent), {"role": "assistant", "content": _text(output)}]
        return _tripped(await gateway.adecide("response", rows, tools=offered(agent)))

    return OutputGuardrail(look, name=name)


def tool_guardrail(
    gateway: Gateway, on_block: OnBlock = "reject_content", name: str = "offmap_tool_call"
) -> ToolInputGuardrail[Any]:
    """Looks at a tool call, its arguments as the model wrote them, before it is made.

    Args:
        gateway: who decides.
        on_block: a call that is stopped is answered to the model with the policy's text, or ends the run.
        name: in traces.
    """

    async def look(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        rows = [*_asked(data.context, data.agent), _call(data.context)]
        answer = await gateway.adecide("tool_call", rows, tools=offered(data.agent))
        context = data.context
        (kept,) = answer.keeps([ToolCall(context.tool_name, context.tool_arguments, context.tool_call_id)])
        return _behaviour(answer, on_block, passes=kept)

    return ToolInputGuardrail(look, name=name)


def tool_output_guardrail(
    gateway: Gateway, on_block: OnBlock = "reject_content", name: str = "offmap_tool_output"
) -> ToolOutputGuardrail[Any]:
    """Looks at what a tool returned, as at any input, before the model reads it. Arguments as of ``tool_guardrail``."""

    async def look(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        result = {"role": "tool", "tool_call_id": data.context.tool_call_id, "content": _text(data.output)}
        rows = [*_asked(data.context, data.agent), _call(data.context), result]
        answer = await gateway.adecide("input", rows, tools=offered(data.agent))
        return _behaviour(answer, on_block, passes=answer.passes)

    return ToolOutputGuardrail(look, name=name)


def messages(items: str | Iterable[TResponseInputItem]) -> list[Message]:
    """The SDK's items as OpenAI's chat messages; items that cannot be told so become a part that is refused."""
    try:
        rows = Converter.items_to_messages(items, preserve_tool_output_all_content=True)
    except UserError:
        return [{"role": "user", "content": [UNREADABLE]}]
    return [dict(row) for row in rows]


def offered(agent: Agent[Any]) -> list[Message]:
    """An agent's tools as OpenAI's; hosted tools are named only."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": getattr(tool, "description", None) or "",
                "parameters": tool.params_json_schema if isinstance(tool, FunctionTool) else {},
            },
        }
        for tool in agent.tools
    ]


def _instructions(agent: Agent[Any]) -> list[Message]:
    told = agent.instructions
    return [{"role": "system", "content": told}] if isinstance(told, str) else []


def _asked(context: RunContextWrapper[Any], agent: Agent[Any]) -> list[Message]:
    return [*_instructions(agent), *messages(context.turn_input)]


def _call(context: ToolContext[Any]) -> Message:
    function = {"name": context.tool_name, "arguments": context.tool_arguments}
    call = {"id": context.tool_call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _text(value: object) -> object:
    """A text, or any other result as JSON."""
    if isinstance(value, str):
        return value
    try:
        return pydantic.TypeAdapter(Any).dump_json(value).decode()
    except (ValueError, TypeError):
        return [UNREADABLE]


def _tripped(answer: Answer) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({**answer.record, "text": answer.text}, tripwire_triggered=not answer.passes)


def _behaviour(answer: Answer, on_block: OnBlock, *, passes: bool) -> ToolGuardrailFunctionOutput:
    if passes:
        return ToolGuardrailFunctionOutput.allow(answer.record)
    if on_block == "raise_exception":
        return ToolGuardrailFunctionOutput.raise_exception({**answer.record, "text": answer.text})
    return ToolGuardrailFunctionOutput.reject_content(answer.text, answer.record)
