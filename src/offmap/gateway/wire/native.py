"""offmap's own face: scores of conversations, and decisions. What a monitor found in a text is for reviewers only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from msgspec import Meta

from offmap.conversation import Conversation, Message
from offmap.conversation.fields import Object
from offmap.gateway.actions import apply
from offmap.gateway.decision import Action, Decision, Finding, Stage, Status
from offmap.gateway.policy import ERRORS as FAILURES
from offmap.gateway.request import Ask
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.wire.base import ERRORS, ErrorBody, ErrorDetail, Refused, identifier, read_row

_FOR_REVIEWERS = {"fired": (), "shift": "", "spans": ()}
_REPLIES = ("response", "tool_call", "conversation")


class ScoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conversations, each as a row of a file: offmap's form or OpenAI's chat messages.

    ``stage``: whose monitors are asked; left out, "response" for one that ends with a reply, else "input".
    """

    conversations: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    stage: Stage | None = None


class Score(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the monitors of a stage found in one conversation.

    ``error`` is there where a monitor failed: such a conversation was not judged, and is not to be taken for safe.
    """

    id: str
    decision: str
    stage: Stage
    action: Action
    status: Status
    rule: str
    findings: tuple[Finding, ...]
    error: ErrorDetail | None = None


class ScoreAnswer(msgspec.Struct, frozen=True):
    """One score for each conversation, in order."""

    policy: str
    scores: list[Score]


class DecisionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One conversation, and the stage at which it is.

    ``conversation_id`` lets the stage "conversation" remember what came before.
    """

    stage: Stage
    conversation: dict[str, Any]
    conversation_id: str = ""


class DecisionAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision; the fields are ``offmap.gateway.decision.Decision``'s.

    ``message`` is what may be passed on in place of the last message, where that is a reply and is not passed on as it
    is. ``tools``: the only ones that may be called, where the fallback is "read_only_tools". ``error`` is there, with
    the HTTP status 503, where the action is "error".
    """

    id: str
    at: float
    stage: Stage
    action: Action
    would: Action
    status: Status
    rule: str
    policy: str
    conversation: str
    replacement: str = ""
    fallback: str = ""
    tools: tuple[str, ...] = ()
    message: Message | None = None
    findings: tuple[Finding, ...] = ()
    forgotten: int = 0
    seconds: float = 0.0
    error: ErrorDetail | None = None


def router(service: Service) -> Router:
    """``POST /v1/score`` and ``POST /v1/decisions``."""

    @post("/score", status_code=200, responses=ERRORS, summary="Score conversations")
    async def score(data: JSONBody[ScoreRequest], request: Request[Caller, Any, Any]) -> ScoreAnswer:
        rows = [row for n, each in enumerate(data.conversations) for row in read_row(each, f"conversations[{n}]")]
        asks = [Ask(data.stage or _stage(row), row) for row in rows]
        if len(asks) > service.gateway.server.queue:
            raise Refused(413, f"at most {service.gateway.server.queue} conversations at once")
        decisions = await service.decide_all(asks, caller=request.user.name)
        pairs = zip(asks, decisions, strict=True)
        return ScoreAnswer(service.engine.policy, [_score(ask, decision, request.user) for ask, decision in pairs])

    @post("/decisions", status_code=200, responses=_decision_errors(), summary="Decide about a conversation")
    async def decide(data: JSONBody[DecisionRequest], request: Request[Caller, Any, Any]) -> Response[DecisionAnswer]:
        rows = read_row(data.conversation, "conversation")
        if len(rows) != 1:
            raise Refused(400, "field conversation: wanted one conversation")
        row, name = rows[0], identifier(data.conversation_id, "field conversation_id")
        decision = await service.decide(data.stage, row, conversation_id=name, caller=request.user.name)
        failed = decision.action == "error"
        headers = {"Retry-After": "1"} if failed else None
        answer = _answer(service, decision, row, request.user)
        return Response(answer, status_code=503 if failed else 200, headers=headers)

    return Router("/v1", route_handlers=[score, decide], opt=roles("caller", "reviewer"), tags=["native"])


def _decision_errors() -> dict[int, ResponseSpec]:
    told = "not judged: a monitor failed (a decision), or not now (an error)"
    either: Any = DecisionAnswer | ErrorBody
    return ERRORS | {503: ResponseSpec(either, generate_examples=False, description=told)}


def _stage(row: Conversation) -> Stage:
    return "response" if row.messages[-1].role == "assistant" else "input"


def _score(ask: Ask, decision: Decision, caller: Caller) -> Score:
    return Score(
        ask.conversation.id,
        decision.id,
        decision.stage,
        decision.action,
        decision.status,
        decision.rule,
        _findings(decision, caller),
        _error(decision),
    )


def _answer(service: Service, decision: Decision, row: Conversation, caller: Caller) -> DecisionAnswer:
    fields: Object = {
        name: getattr(decision, name)
        for name in DecisionAnswer.__struct_fields__
        if name not in ("message", "tools", "findings", "error")
    }
    told = _findings(decision, caller) if caller.may("reviewer", "admin") else ()
    passed = _passed(service, decision, row.messages[-1])
    listed = service.engine.gateway.stages[decision.stage].read_only_tools
    tools = listed if decision.fallback == "read_only_tools" else ()
    return DecisionAnswer(**fields, tools=tools, message=passed, findings=told, error=_error(decision))  # type: ignore[arg-type]


def _passed(service: Service, decision: Decision, last: Message) -> Message | None:
    if decision.stage not in _REPLIES or last.role != "assistant":
        return None
    applied = apply(decision, last, service.gateway.stages[decision.stage])
    return applied.message if applied.changed else None


def _findings(decision: Decision, caller: Caller) -> tuple[Finding, ...]:
    if caller.may("reviewer", "admin"):
        return decision.findings
    return tuple(msgspec.structs.replace(finding, **_FOR_REVIEWERS) for finding in decision.findings)


def _error(decision: Decision) -> ErrorDetail | None:
    failed = any(finding.outcome in FAILURES for finding in decision.findings)
    if decision.action != "error" and not failed:
        return None
    return ErrorDetail("not_judged", "this could not be judged: not to be taken for safe")
