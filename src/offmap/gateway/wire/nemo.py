"""NeMo Guardrails' checks endpoint: the last question, the reply to it and both together, each at its stage.

Clients let pass what is not "blocked", so an outage is "blocked" here, and ``guardrails_data`` says which it is.
What the gateway's own policy says is applied, whatever configuration a client names; one that it sends is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Router, post
from litestar.params import JSONBody
from msgspec import Meta

from offmap.gateway.decision import Action, Decision, Stage, Status
from offmap.gateway.policy import sees_more
from offmap.gateway.request import Ask, unit_of
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.wire.base import ERRORS, Refused, conversation, stages_of
from offmap.gateway.wire.unread import with_unread

RailStatus = Literal["success", "blocked"]


class CheckRequest(msgspec.Struct, frozen=True):
    """Messages as OpenAI's. ``model`` and what is for sampling are not read."""

    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    model: str | None = None
    guardrails: dict[str, Any] | None = None
    stream: bool | None = None


class Rail(msgspec.Struct, frozen=True):
    """What became of one stage."""

    status: RailStatus


class Checked(msgspec.Struct, frozen=True):
    """The decision behind a rail."""

    decision: str
    stage: Stage
    action: Action
    status: Status
    rule: str


class CheckData(msgspec.Struct, frozen=True):
    """The policy, and every decision in order."""

    config_ids: list[str]
    decisions: list[Checked]


class CheckAnswer(msgspec.Struct, frozen=True):
    """The status is "blocked" if that of any rail is. Rails are named by their stages."""

    status: RailStatus
    rails_status: dict[str, Rail]
    guardrails_data: CheckData


def router(service: Service) -> Router:
    """``POST /v1/guardrail/checks``."""

    @post("/checks", status_code=200, responses=ERRORS, summary="NeMo Guardrails checks")
    async def check(data: JSONBody[CheckRequest], request: Request[Caller, Any, Any]) -> CheckAnswer:
        if data.stream:
            raise Refused(400, "field stream: wanted false: checks are not streamed")
        if data.guardrails and data.guardrails.get("config") is not None:
            raise Refused(400, "field guardrails.config: wanted none: the policy is the gateway's")
        decisions = await service.decide_all(_asks(service, data), caller=request.user.name)
        return _answer(service, decisions)

    return Router("/v1/guardrail", route_handlers=[check], opt=roles("caller"), tags=["nemo"])


def _asks(service: Service, data: CheckRequest) -> list[Ask]:
    row = conversation(data.messages)
    row = msgspec.structs.replace(row, messages=with_unread(row.messages, data.messages))
    found = stages_of(row.messages)
    service.require_stages(found[-1][0] if found[-1][0] != "tool_call" else "response")
    if found[-1][0] != "input" and sees_more(service.engine.gateway, ""):
        found.append(("conversation", row.messages))
    asked = found[0][1]  # the same when the question comes alone, and when its reply comes with it
    unit = unit_of(service.engine.gateway, "", msgspec.structs.replace(row, messages=asked))
    return [
        Ask(stage, msgspec.structs.replace(row, messages=messages), unit=unit)
        for stage, messages in found
        if service.engine.watches(stage)
    ]


def _answer(service: Service, decisions: list[Decision]) -> CheckAnswer:
    rails: dict[str, Rail] = {
        each.stage: Rail("success" if each.action == "allow" else "blocked") for each in decisions
    }
    status: RailStatus = "blocked" if any(rail.status == "blocked" for rail in rails.values()) else "success"
    told = [Checked(each.id, each.stage, each.action, each.status, each.rule) for each in decisions]
    return CheckAnswer(status, rails, CheckData([service.engine.policy], told))
