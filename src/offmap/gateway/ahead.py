"""A decision that is told while it is being recorded, so that what it allows may begin. asyncio only."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from offmap.gateway.decision import Decision

_log = logging.getLogger(__name__)


class Telling:
    """The two moments at which others hear of a decision. Nobody need wait for either; who waits may leave."""

    def __init__(self) -> None:
        self._made: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._kept: Decision | None = None
        self._error: BaseException | None = None

    async def ahead(self) -> Ahead:
        """The decision as soon as it is made. Raises what kept it from being made."""
        return Ahead(await self._made, self)

    async def record(self) -> Decision:
        """See ``Ahead.kept``."""
        await self._over.wait()  # an event wakes who waits in the next turn of the loop, a shielded task in the third
        if self._kept is None:
            raise self._error or RuntimeError("the decision was not recorded")
        return self._kept

    def tell_made(self, decision: Decision) -> None:
        """It is made, and not recorded yet."""
        if not self._made.done():
            self._made.set_result(decision)

    def tell_kept(self, decision: Decision) -> None:
        """It is on record, or could not be recorded."""
        self._kept = decision
        self._over.set()

    def ended(self, recording: asyncio.Task[Decision]) -> None:
        """What made and recorded it has ended: what was not told by now never will be."""
        self._error = None if recording.cancelled() else recording.exception()
        if self._kept and self._error:  # the decision stands; metrics, or the watch over drift, do not know of it
            _log.error("beside decision %s: %s", self._kept.id, type(self._error).__name__)
        self._over.set()
        if not self._made.done():
            self._made.set_exception(self._error or RuntimeError("no decision was made"))


@dataclass(frozen=True)
class Ahead:
    """A decision that is told before it is on record: what it allows may begin, and nothing is answered yet.

    Attributes:
        made: the decision, as it stands once it is on record.
    """

    made: Decision
    _telling: Telling

    async def kept(self) -> Decision:
        """The decision, on record; another one where it could not be recorded."""
        return await self._telling.record()
