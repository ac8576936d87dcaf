"""A decision that is told before it is recorded, so that what it allows may begin. asyncio only."""

from __future__ import annotations

import asyncio
import logging

from offmap.gateway.decision import Decision

_log = logging.getLogger(__name__)
LINGER = 0.005
"""Seconds for which a record waits to be wanted. Written at once it would take the interpreter, and a core, from what
the decision has let begin; written a little later it costs that nothing, and may share its commit with the next."""


class Ahead:
    """A decision that is told before it is on record: what it allows may begin, and nothing is answered yet.

    Nobody need wait for either; who waits may leave.

    Args:
        wanted: whether it is to be recorded as soon as it is made; else see ``want``.

    Attributes:
        made: the decision, as it stands once it is on record; there once ``ready`` has returned.
    """

    made: Decision

    def __init__(self, *, wanted: bool = False) -> None:
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted, self._over = asyncio.Event(), asyncio.Event()
        if wanted:
            self._wanted.set()
        self._kept: Decision | None = None
        self._error: BaseException | None = None

    async def ready(self) -> None:
        """Wait until it is made. Raises what kept it from being made."""
        await self._ready

    def want(self) -> None:
        """Have it recorded now. Of several, that which is wanted first is recorded first, or all of them together."""
        self._wanted.set()

    async def kept(self) -> Decision:
        """The decision, on record; another one where it could not be recorded."""
        self.want()
        await self._over.wait()  # an event wakes who waits in the next turn of the loop, a shielded task in the third
        if self._kept is None:
            raise self._error or RuntimeError("the decision was not recorded")
        return self._kept

    async def tell_made(self, decision: Decision) -> None:
        """It is made; returns when it is to be recorded: when somebody wants it kept, or ``LINGER`` later."""
        self.made = decision
        if not self._ready.done():
            self._ready.set_result(None)
        if not self._wanted.is_set():
            lingering = asyncio.get_running_loop().call_later(LINGER, self._wanted.set)
            try:
                await self._wanted.wait()
            finally:
                lingering.cancel()

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
        if not self._ready.done():
            self._ready.set_exception(self._error or RuntimeError("no decision was made"))
