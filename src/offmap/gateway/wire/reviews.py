"""What came of a decision that a person looks at: for whoever holds a request until then.

A caller is told of its own requests alone, and of nothing but what is done about them: whether traffic was drawn into
the sample, who looked at it and what was said are for reviewers.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import msgspec
from litestar import Request, Router, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from offmap.gateway.decision import Action
from offmap.gateway.security import Caller, roles
from offmap.gateway.service import Service
from offmap.gateway.store import Store, StoreError, find, result
from offmap.gateway.store.tickets import Item, State, Verdict
from offmap.gateway.wire.base import ERRORS, ErrorBody, Refused

_ID = re.compile(r"[0-9a-f-]{36}")
NONE = "there is no review of such a decision"


class ReviewAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the review of a decision stands.

    Attributes:
        decision: its id.
        state: "open" while nobody has decided, "decided" by a person, "timed_out" by the default.
        action: what is done then, "allow" or "block"; left out while it is open. A verdict "safe" is "allow", "unsafe"
            is "block", and "unsure" is the default.
        due_at: when the default applies, seconds since the epoch, UTC. For reviewers, as what follows.
        verdict, by, note: of the person.
        decided_at: when.
    """

    decision: str
    state: State
    action: Action | None = None
    due_at: float | None = None
    verdict: Verdict | None = None
    by: str | None = None
    note: str | None = None
    decided_at: float | None = None


def router(service: Service) -> Router:
    """``GET /v1/reviews/{decision_id}``."""

    @get("/{decision_id:str}", responses=_errors(), summary="How the review of a decision stands")
    async def review(decision_id: FromPath[str], request: Request[Caller, Any, Any]) -> ReviewAnswer:
        item = await _found(service.store, decision_id, request.user)
        if not request.user.may("reviewer", "admin"):
            return ReviewAnswer(item.decision_id, item.state, item.action)
        person = item.verdict, item.decided_by, item.note, item.decided_at
        return ReviewAnswer(item.decision_id, item.state, item.action, item.due_at, *person)

    return Router("/v1/reviews", route_handlers=[review], opt=roles("caller", "reviewer"), tags=["native"])


async def _found(store: Store, decision_id: str, caller: Caller) -> Item:
    """The item of a decision, if it is one that this caller may know of.

    Raises:
        Refused: it is not (404), or the store does not answer (503).
    """
    if not _ID.fullmatch(decision_id):
        raise Refused(404, NONE)
    try:
        item = await asyncio.to_thread(result, store, decision_id, time.time())
        mine = caller.may("reviewer", "admin") or await asyncio.to_thread(_is_of, store, item, caller.name)
    except StoreError:
        raise Refused(503, "the data base does not answer", retry_after=1) from None
    if item is None or not mine:
        raise Refused(404, NONE)
    return item


def _is_of(store: Store, item: Item | None, name: str) -> bool:
    """Whether something of that caller's waits, or waited, for the item."""
    entry = None if item is None or item.due_at is None else find(store, item.decision_id)
    return entry is not None and entry.decision.caller == name


def _errors() -> dict[int, ResponseSpec]:
    absent = ResponseSpec(ErrorBody, generate_examples=False, description=NONE)
    return {status: ERRORS[status] for status in (401, 403, 429, 503)} | {404: absent}
