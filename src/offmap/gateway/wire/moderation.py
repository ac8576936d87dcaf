"""OpenAI's moderation endpoint. Each element of the input is decided about alone, as a user's message at stage "input".

This gateway has no categories: the thirteen that clients expect are there, false and 0, and all that was found is under
one key of our own, "offmap", in each of the four tables. ``flagged`` is true for whatever does not simply go on, an
outage too. Images are refused.

Field by field: platform.openai.com/docs/api-reference/moderations.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Router, post
from litestar.params import JSONBody
from msgspec import Meta

from offmap.conversation import Conversation, Message
from offmap.conversation.fields import as_object, required_text
from offmap.gateway.decision import Action, Decision, Status
from offmap.gateway.request import Ask
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.wire.base import ERRORS, NO_IMAGES, Refused, smallest_p

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
OURS = "offmap"


class ModerationRequest(msgspec.Struct, frozen=True):
    """A text, texts, or parts of type "text". ``model`` is not read: the policy says which monitors are asked."""

    input: str | Annotated[list[str | dict[str, Any]], Meta(min_length=1)]
    model: str | None = None


class Signals(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided. ``p_value`` is None where nothing was scored; ``action`` "error" where nobody could look."""

    decision: str
    action: Action
    status: Status
    rule: str
    p_value: float | None = None


class Moderation(msgspec.Struct, frozen=True):
    """The result for one element. The score under "offmap" is 1 minus the p-value, 1 where there is none."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]
    offmap: Signals


class ModerationAnswer(msgspec.Struct, frozen=True):
    """One result for each element of the input, in order."""

    id: str
    model: str
    results: list[Moderation]


def router(service: Service) -> Router:
    """``POST /v1/moderations``."""

    @post("/moderations", status_code=200, responses=ERRORS, summary="OpenAI moderation")
    async def moderate(data: JSONBody[ModerationRequest], request: Request[Caller, Any, Any]) -> ModerationAnswer:
        texts = _texts(data.input)
        if len(texts) > service.gateway.server.queue:
            raise Refused(413, f"at most {service.gateway.server.queue} elements at once")
        asks = [Ask("input", Conversation("moderation", (Message("user", text),))) for text in texts]
        decisions = await service.decide_all(asks, caller=request.user.name)
        return ModerationAnswer(f"modr-{decisions[0].id}", service.engine.policy, [_result(each) for each in decisions])

    return Router("/v1", route_handlers=[moderate], opt=roles("caller"), tags=["moderation"])


def _texts(given: str | list[Any]) -> list[str]:
    return [given] if isinstance(given, str) else [_text(each, f"input[{n}]") for n, each in enumerate(given)]


def _text(element: object, at: str) -> str:
    if isinstance(element, str):
        return element
    part = as_object(element, at)
    if part.get("type") == "image_url":
        raise Refused(400, NO_IMAGES)
    if part.get("type") != "text":
        raise Refused(400, f"field {at}.type: wanted text")
    return required_text(part.get("text"), f"{at}.text")


def _result(decision: Decision) -> Moderation:
    flagged, p_value = decision.action != "allow", smallest_p(decision)
    return Moderation(
        flagged,
        dict.fromkeys(CATEGORIES, False) | {OURS: flagged},
        dict.fromkeys(CATEGORIES, 0.0) | {OURS: 1.0 if p_value is None else 1.0 - p_value},
        {category: ["text"] for category in (*CATEGORIES, OURS)},
        Signals(decision.id, decision.action, decision.status, decision.rule, p_value),
    )
