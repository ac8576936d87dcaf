"""A decision that is told while it is being recorded, so that what it allows may begin. asyncio only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from offmap.gateway.decision import Decision


@dataclass(frozen=True)
class Ahead:
    """A decision that is told before it is on record: what it allows may begin, and nothing is answered yet.

    Attributes:
        made: the decision, as it stands once it is on record.
    """

    made: Decision
    _kept: asyncio.Future[Decision]

    async def kept(self) -> Decision:
        """The decision, on record; another one where it could not be recorded."""
        return await asyncio.shield(self._kept)


class Telling:
    """The two moments at which others hear of a decision. Nobody need wait for either; who waits may leave."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[Decision] = loop.create_future()
        self._kept: asyncio.Future[Decision] = loop.create_future()

    async def ahead(self) -> Ahead:
        """The decision as soon as it is made. Raises what kept it from being made."""
        return Ahead(await self._made, self._kept)

    def made(self, decision: Decision) -> None:
        """It is made, and not recorded yet."""
        if not self._made.done():
            self._made.set_result(decision)

    def kept(self, decision: Decision) -> None:
        """It is on record, or could not be recorded."""
        if not self._kept.done():
            self._kept.set_result(decision)

    def ended(self, recording: asyncio.Task[Decision]) -> None:
        """What made and recorded it has ended: what was not told by now never will be."""
        error = None if recording.cancelled() else recording.exception()
        for each in (self._made, self._kept):
            if not each.done():
                each.set_exception(error or RuntimeError("no decision was made"))
                each.exception()  # so that asyncio does not warn where nobody waits
