"""Proposed thresholds: what is in force, what is proposed, what it would have changed; an admin promotes or rejects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from litestar import Response, get, post

from offmap.errors import InputError
from offmap.gateway.config import Band, StageTable
from offmap.gateway.decision import Stage
from offmap.gateway.live import Live, proposed_bands, read_proposal
from offmap.gateway.pages.desk import Connection, Desk, Page
from offmap.gateway.pages.forms import Form
from offmap.gateway.policy import Bands, bands, heard
from offmap.gateway.store import StoreError
from offmap.gateway.store.promotions import StoredProposal, proposals, standing
from offmap.gateway.tuning.compare import Comparison
from offmap.gateway.tuning.proposal import Proposal
from offmap.gateway.tuning.recalibration import RATES, recalibrate
from offmap.gateway.wire.base import Refused
from offmap.rates import Rate

ADDRESS = "/review/thresholds"
LISTED = 20
"""Proposals shown at most, the newest."""
WIDTH = 240
"""Of a drawing, in its own units."""
_LONGEST_NUMBER = 9


@dataclass(frozen=True)
class Cut:
    """One band, in force and proposed."""

    monitor: str
    question: str
    old: Band
    new: Band


@dataclass(frozen=True)
class Drawn:
    """A rate, and where its interval and itself stand in a drawing ``WIDTH`` wide; no places where it is not known."""

    rate: Rate
    places: tuple[float, float, float] | None


@dataclass(frozen=True)
class Pair:
    """One rate under both bands; ``most``: what the drawing's right end stands for."""

    what: str
    old: Drawn
    new: Drawn
    most: float


@dataclass(frozen=True)
class Shown:
    """A proposal as the page shows it.

    Attributes:
        stored: the row.
        in_force: whether it was promoted last; ``fits`` says whether it decides, see ``live``.
        cuts: its bands beside those in force.
        proposal, comparison: None for the policy's own bands, or where they cannot be read.
        pairs: the comparison's rates, drawn.
        amiss: why it cannot be read, "" where it can.
    """

    stored: StoredProposal
    in_force: bool
    cuts: tuple[Cut, ...] = ()
    proposal: Proposal | None = None
    comparison: Comparison | None = None
    pairs: tuple[Pair, ...] = ()
    amiss: str = ""

    @property
    def fits(self) -> bool:
        """Whether its bands are those that decide now."""
        return all(cut.old == cut.new for cut in self.cuts)


def handlers(desk: Desk) -> list[Any]:
    """``/review/thresholds``: the list, and its three forms."""

    @get("/thresholds")
    async def look(request: Connection) -> Page:
        desk.signed_in(request)
        return await _page(desk, request)

    @post("/thresholds/propose", status_code=303)
    async def propose(request: Connection) -> Response[Any]:
        form = await desk.posted(request, "admin")
        live = desk.service.live
        return await _done(desk, request, desk.in_thread(recalibrate, live, cast("Stage", form.text("stage", 16))))

    @post("/thresholds/promote", status_code=303)
    async def promote(request: Connection) -> Response[Any]:
        form = await desk.posted(request, "admin")
        return await _done(desk, request, _promoted(desk, form))

    @post("/thresholds/reject", status_code=303)
    async def reject(request: Connection) -> Response[Any]:
        form = await desk.posted(request, "admin")
        live, number = desk.service.live, _number(form.text("proposal"))
        return await _done(desk, request, asyncio.to_thread(live.reject, number, form.session.name))

    return [look, propose, promote, reject]


async def _promoted(desk: Desk, form: Form) -> None:
    """Only what the admin saw in force is replaced."""
    proposal, seen = _number(form.text("proposal")), _number(form.text("seen"))
    await desk.service.promote(proposal, form.session.name, seen)


def shown(live: Live) -> tuple[int, list[Shown]]:
    """``Standing.seq``, and the policy's proposals, the newest first.

    The policy's own bands and what was promoted stay in any number.

    Raises:
        StoreError: see ``Store.read``.
    """
    now = standing(live.store, live.policy)  # first: what changes in between is refused then
    found = proposals(live.store, live.policy)
    first = len(found) - LISTED
    kept = [each for place, each in enumerate(found) if place >= first or each.state == "promoted"]
    return now.seq, [_shown(live, each, now.holds(each)) for each in reversed(kept)]


async def _page(desk: Desk, request: Connection, note: str = "", status: int = 200) -> Page:
    session, service = desk.signed_in(request), desk.service
    record = desk.sessions.record(session)
    seen, listed = await desk.in_thread(shown, service.live)
    values = {
        "proposals": listed,
        "seen": seen,
        "told": service.live.now.told,
        "policy": service.live.now.policy,
        "stages": tuple(service.live.file.stages),
        "admin": record is not None and record.may("admin"),
        "width": WIDTH,
    }
    return desk.page(request, "thresholds.html.j2", values, status=status, note=note)


async def _done(desk: Desk, request: Connection, doing: Any) -> Response[Any]:
    """Back to the list; with a sentence where it could not be done."""
    try:
        await doing
    except InputError as error:
        return await _page(desk, request, f"Not done: {error}.", 409)
    except StoreError:
        raise Refused(503, "the data base does not answer", retry_after=1) from None
    return desk.go(request, ADDRESS, desk.signed_in(request))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise Refused(400, "this form names no proposal")
    return int(text)


def _shown(live: Live, stored: StoredProposal, in_force: bool) -> Shown:
    try:
        cuts = tuple(_cuts(live.now.gateway.stages[stored.stage], proposed_bands(live.file, stored)))
        if stored.proposal is None:
            return Shown(stored, in_force, cuts)
        comparison = msgspec.json.decode(stored.comparison or "null", type=Comparison)
        return Shown(stored, in_force, cuts, read_proposal(stored), comparison, tuple(_pairs(comparison)))
    except (InputError, msgspec.DecodeError) as error:
        return Shown(stored, in_force, amiss=str(error))


def _cuts(table: StageTable, new: tuple[Bands, ...]) -> Iterator[Cut]:
    for before, after in zip(bands(table), new, strict=True):
        for question, band in heard(table, before).items():
            yield Cut(after.monitor, question, band, getattr(after, question))


def _pairs(comparison: Comparison) -> Iterator[Pair]:
    for name, what in RATES.items():
        old, new = getattr(comparison.old, name), getattr(comparison.new, name)
        most = max((each.high for each in (old, new) if each.high is not None), default=0.0) or 1.0
        yield Pair(what, _drawn(old, most), _drawn(new, most), most)


def _drawn(rate: Rate, most: float) -> Drawn:
    if rate.value is None or rate.low is None or rate.high is None:
        return Drawn(rate, None)
    low, value, high = (round(WIDTH * each / most, 1) for each in (rate.low, rate.value, rate.high))
    return Drawn(rate, (low, value, high))
