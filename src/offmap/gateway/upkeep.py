"""What goes on beside the traffic: drift is looked at each second; each hour content is purged, the watch remembered.

A failure is logged, once for as long as it lasts, and tried again; it never stops traffic. Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from offmap.gateway.config import Gateway
from offmap.gateway.drift import Alarm, Watch
from offmap.gateway.store import Purge, Store
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.chain import Row, append
from offmap.gateway.store.retention import purges
from offmap.gateway.store.state import remember, remembered
from offmap.gateway.telemetry import Telemetry

LOOK_SECONDS = 1.0
TIDY_SECONDS = 3600.0
_BETWEEN_PURGES = 0.05
_DAY = 86_400.0
_STATE = "drift"
_log = logging.getLogger(__name__)


class Upkeep:
    """One task of one service.

    Args:
        store: where alarms and the watch are kept, and content is purged.
        gateway: the configuration.
        watch: drift.
        telemetry: where drift is told.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        watch: Watch,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._watch, self._telemetry, self._clock = store, watch, telemetry, clock
        self._keep_days = gateway.audit.keep_days
        self._unwritten: list[Alarm] = []
        self._remembered = ""
        self._failing: set[str] = set()
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, within an event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, after a last look; the watch is remembered."""
        self._ended.set()
        if self._task is not None:
            await self._task
            await self._tried("drift", self.look)
            await self._tried("remembering the drift watch", self.save)

    def look(self) -> None:
        """Look at the decisions that wait, and tell what was found: in the log, as metrics, and in the chain.

        Raises:
            StoreError: an alarm cannot be written; the next look tries again.
        """
        found = self._watch.work()
        for alarm in found:
            _log.warning("%s", alarm.words)
        self._telemetry.drift(self._watch.report())
        self._unwritten += found
        if self._unwritten:
            rows = [Row("drift", alarm.decision_id, canonical(alarm), "none") for alarm in self._unwritten]
            with self._store.write() as connection:
                append(connection, rows, self._clock())
            self._unwritten = []

    def save(self) -> None:
        """Keep what the watch goes on from, where that changed.

        Raises:
            StoreError: see ``Store.write``.
        """
        state = self._watch.state()
        if state != self._remembered:
            remember(self._store, _STATE, state, self._clock())
            self._remembered = state

    def resume(self) -> None:
        """Go on from what was kept last.

        Raises:
            StoreError: see ``Store.read``.
        """
        self._watch.resume(remembered(self._store, _STATE))
        self._remembered = self._watch.state()

    async def tidy(self) -> None:
        """Purge what is too old, in steps that let traffic in between, and keep the watch."""
        if self._keep_days:
            await self._tried("purging content", self._purge_all)
        await self._tried("remembering the drift watch", self.save)

    async def _run(self) -> None:
        await self._tried("remembering the drift watch", self.resume)
        tidied = -TIDY_SECONDS
        while not self._ended.is_set():
            await self._tried("drift", self.look)
            if time.monotonic() - tidied >= TIDY_SECONDS:
                tidied = time.monotonic()
                await self.tidy()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                continue

    def _purge_all(self) -> None:
        now = self._clock()
        steps: Iterator[Purge] = purges(self._store, now - self._keep_days * _DAY, now)
        rows = notes = 0
        for done in steps:
            rows, notes = rows + done.rows, notes + done.notes
            if self._ended.is_set():
                break
            time.sleep(_BETWEEN_PURGES)
        if rows or notes:
            _log.info("purged the content of %d rows and %d notes", rows, notes)

    async def _tried(self, what: str, call: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(call)
        except Exception as error:
            if what not in self._failing:
                _log.error("%s failed (%s)", what, type(error).__name__)
            self._failing.add(what)
        else:
            self._failing.discard(what)
