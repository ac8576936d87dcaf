"""LangChain v1: middleware that asks the gateway before each call of the model, after it, and before each tool call.

It wraps the model's call, where the system prompt and the offered tools are seen, too: list it last, so that it sees
what the model is really given. Replies are looked at whole: what an agent streams token by token is out before.

Read from langchain 1.4.7.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import compress
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage, convert_to_openai_messages
from langchain_core.messages import ToolCall as LangChainCall
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config
from langgraph.types import Command

from offmap.clients.answers import REFUSAL, UNREADABLE, Answer, Stage
from offmap.clients.gateway import Gateway
from offmap.conversation import ToolCall

Row = dict[str, Any]
_UNSEEN = {"thinking", "redacted_thinking", "reasoning", "function_call"}
"""Parts that are not sent: a model's reasoning, and calls that stand among the message's calls as well."""


class GatewayMiddleware(AgentMiddleware[Any, Any, Any]):
    """Stops what the gateway stops. The id of the thread, where there is one, is the conversation's.

    Args:
        gateway: who decides.
        stages: what is looked at: "input" (all that the model is given, results of tools too), "response" and
            "tool_call". The policy must have these stages: what it does not have is stopped as an error.
    """

    def __init__(self, gateway: Gateway, stages: Iterable[Stage] = ("input", "response", "tool_call")) -> None:
        super().__init__()
        self.gateway, self.stages = gateway, frozenset(stages)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | AIMessage:
        """Ask about what the model is to be given, then about what it said."""
        asked, tools, thread = _asked(request), offered(request.tools), _thread()
        if "input" in self.stages:
            answer = self.gateway.decide("input", asked, tools=tools, conversation_id=thread)
            if not answer.passes:
                return _refused(answer)
        response = handler(request)
        if "response" not in self.stages:
            return response
        rows = [*asked, *_replies(response)]
        answer = self.gateway.decide("response", rows, tools=tools, conversation_id=thread)
        return _left(response, answer)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | AIMessage:
        """``wrap_model_call``, awaited."""
        asked, tools, thread = _asked(request), offered(request.tools), _thread()
        if "input" in self.stages:
            answer = await self.gateway.adecide("input", asked, tools=tools, conversation_id=thread)
            if not answer.passes:
                return _refused(answer)
        response = await handler(request)
        if "response" not in self.stages:
            return response
        rows = [*asked, *_replies(response)]
        answer = await self.gateway.adecide("response", rows, tools=tools, conversation_id=thread)
        return _left(response, answer)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Ask about one tool call with all its arguments; one that is stopped is answered with the policy's text."""
        if "tool_call" not in self.stages:
            return handler(request)
        answer = self.gateway.decide("tool_call", _calling(request), conversation_id=_thread())
        return handler(request) if _kept(request, answer) else _not_made(request, answer)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """``wrap_tool_call``, awaited."""
        if "tool_call" not in self.stages:
            return await handler(request)
        answer = await self.gateway.adecide("tool_call", _calling(request), conversation_id=_thread())
        return await handler(request) if _kept(request, answer) else _not_made(request, answer)


def messages(rows: Sequence[BaseMessage]) -> list[Row]:
    """LangChain's messages as OpenAI's, with calls whose arguments could not be parsed as the model wrote them."""
    return [each for row in rows for each in _message(row)]


def offered(tools: Sequence[BaseTool | Row]) -> list[Row]:
    """LangChain's tools as OpenAI's; tools of a provider are named only."""
    return [convert_to_openai_tool(tool) if isinstance(tool, BaseTool) else _named(tool) for tool in tools]


def _named(tool: Row) -> Row:
    return tool if tool.keys() & {"type", "name", "function"} else {"type": next(iter(tool), "tool")}


def _message(row: BaseMessage) -> list[Row]:
    try:
        found: list[Row] = convert_to_openai_messages([row])
    except (ValueError, KeyError, TypeError):
        return [{"role": "user", "content": [UNREADABLE]}]
    for each in found:
        if isinstance(each["content"], list):
            each["content"] = [part for part in each["content"] if part.get("type") not in _UNSEEN]
    if isinstance(row, AIMessage) and row.invalid_tool_calls:
        broken = [_function(call["name"], call["args"] or "", call["id"]) for call in row.invalid_tool_calls]
        found[0]["tool_calls"] = [*found[0].get("tool_calls", ()), *broken]
    return found


def _function(name: str | None, arguments: str, identity: str | None) -> Row:
    return {"id": identity or "", "type": "function", "function": {"name": name or "", "arguments": arguments}}


def _asked(request: ModelRequest[Any]) -> list[Row]:
    return messages([*([request.system_message] if request.system_message else []), *request.messages])


def _replies(response: ModelResponse[Any]) -> list[Row]:
    """All that the model's call gave: what it said, and with structured output answers to its calls.

    Raises:
        ValueError: the model said nothing.
    """
    if not any(isinstance(row, AIMessage) for row in response.result):
        raise ValueError("the model's call gave no AIMessage: there is nothing that could be looked at as a reply")
    return messages(response.result)


def _calling(request: ToolCallRequest) -> list[Row]:
    """What was said, up to this one call."""
    rows: list[AnyMessage] = list(request.state["messages"])
    made = [index for index, row in enumerate(rows) if isinstance(row, AIMessage) and _makes(row, request)]
    before, content = (rows[: made[-1]], rows[made[-1]].text) if made else (rows, "")
    call = _call(request.tool_call)
    made_now = _function(call.name, call.arguments, call.id)
    return [*messages(before), {"role": "assistant", "content": content, "tool_calls": [made_now]}]


def _makes(row: AIMessage, request: ToolCallRequest) -> bool:
    return any(call["id"] == request.tool_call["id"] for call in row.tool_calls)


def _call(made: LangChainCall) -> ToolCall:
    """A call with its arguments written as ``convert_to_openai_messages`` writes them."""
    return ToolCall(made["name"], json.dumps(made["args"], ensure_ascii=False, default=str), made["id"] or "")


def _kept(request: ToolCallRequest, answer: Answer) -> bool:
    return all(answer.keeps([_call(request.tool_call)]))


def _not_made(request: ToolCallRequest, answer: Answer) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(answer.text, tool_call_id=call["id"], name=call["name"], status="error", artifact=answer.record)


def _refused(answer: Answer, text: str = "") -> AIMessage:
    return AIMessage(text or answer.text, response_metadata={"offmap": answer.record})


def _left(response: ModelResponse[Any], answer: Answer) -> ModelResponse[Any] | AIMessage:
    """What the policy leaves of a reply: its text and those calls that may be made.

    A policy changes the last message only, so that several of them go on as they are or not at all.
    """
    said = response.result[-1]
    if len(response.result) > 1 or not isinstance(said, AIMessage):
        return response if answer.action == "allow" else _refused(answer, answer.replacement or REFUSAL)
    if answer.passes:
        return response
    kept = list(compress(said.tool_calls, answer.keeps([_call(call) for call in said.tool_calls])))
    return AIMessage(answer.text, id=said.id, tool_calls=kept, response_metadata={"offmap": answer.record})


def _thread() -> str:
    """The id of the thread that the graph runs in; "" without one."""
    try:
        return str(get_config().get("configurable", {}).get("thread_id", ""))
    except RuntimeError:
        return ""
