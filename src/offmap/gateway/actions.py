"""What a decision does to a reply: refusal, its part before what was found, or only tools that merely read.

The allow-list of tools is hard: a call whose name is not on it, letter by letter, or whose arguments are no JSON
object, is not passed on, whatever else was decided. Nothing that a monitor says is put
into a reply. Knows nothing of how it was decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from offmap.conversation import Message, ToolCall
from offmap.conversation.fields import json_object
from offmap.evidence import Span
from offmap.gateway.config import StageTable
from offmap.gateway.decision import Decision
from offmap.gateway.streaming import SENTENCE_END


@dataclass(frozen=True)
class Applied:
    """What may be passed on.

    Attributes:
        message: the reply, or what takes its place.
        changed: whether it is another than the one that was decided about.
        refused: the calls that were taken out.
    """

    message: Message
    changed: bool
    refused: tuple[ToolCall, ...] = ()


def apply(decision: Decision, message: Message, stage: StageTable) -> Applied:
    """A reply as the decision leaves it.

    Args:
        decision: about a conversation that ends with it.
        message: the reply.
        stage: the policy of the stage.
    """
    if decision.action == "allow":
        return Applied(message, changed=False)
    if decision.action == "modify" and decision.fallback == "partial":
        spans = (span for finding in decision.findings for span in finding.spans)
        return _partial(message, safe_part(message, decision.messages - 1, spans), stage.refusal)
    if decision.action == "modify" and decision.fallback == "read_only_tools":
        return _read_only(message, stage)
    return Applied(_refusal(message, decision.replacement or stage.refusal), True, message.tool_calls)


def safe_part(message: Message, turn: int, spans: Iterable[Span]) -> str:
    """The content up to the end of its last sentence before the first span in it; "" where no span is in the message.

    A span shows where a monitor was surprised. Where none lies in the reply nothing says which part of it is safe.
    """
    starts = [span.start for span in spans if span.message == turn]
    before = message.content[: max(0, min(starts, default=0))]
    ends = [match.end() for match in SENTENCE_END.finditer(message.content) if match.end() <= len(before)]
    return before[: ends[-1]].rstrip() if ends else ""


def readable(arguments: str) -> bool:
    """Whether a call's arguments are a JSON object, or left out."""
    return not arguments.strip() or json_object(arguments) is not None


def allowed_calls(
    calls: Iterable[ToolCall], allowed: Collection[str]
) -> tuple[tuple[ToolCall, ...], tuple[ToolCall, ...]]:
    """The calls that an allow-list lets through, and the others."""
    names = frozenset(allowed)
    passed: list[ToolCall] = []
    refused: list[ToolCall] = []
    for call in calls:
        (passed if call.name in names and readable(call.arguments) else refused).append(call)
    return tuple(passed), tuple(refused)


def _partial(message: Message, part: str, refusal: str) -> Applied:
    if not part:
        return Applied(_refusal(message, refusal), True, message.tool_calls)
    kept = msgspec.structs.replace(message, content=part, tool_calls=(), images=())
    return Applied(kept, True, message.tool_calls)


def _read_only(message: Message, stage: StageTable) -> Applied:
    passed, refused = allowed_calls(message.tool_calls, stage.read_only_tools)
    if not passed and not message.content:
        return Applied(_refusal(message, stage.refusal), True, refused)
    return Applied(msgspec.structs.replace(message, tool_calls=passed), bool(refused), refused)


def _refusal(message: Message, text: str) -> Message:
    return msgspec.structs.replace(message, content=text, tool_calls=(), images=())
