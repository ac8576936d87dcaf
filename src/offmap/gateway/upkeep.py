"""What goes on beside the traffic: each second drift is looked at and overdue reviews are settled; hourly purges.

Each has a task and a thread of its own and waits for no other; what a thread once needed the allocator keeps for it, so
the same work always done by the same one keeps that small. A failure is logged, once for as long as it lasts, and tried
again; it never stops traffic. Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from offmap.gateway.config import Gateway
from offmap.gateway.drift import Alarm, Watch
from offmap.gateway.store import Purge, Store
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.chain import Row, append
from offmap.gateway.store.queue import settle_overdue
from offmap.gateway.store.retention import purges
from offmap.gateway.store.state import remembered, replace
from offmap.gateway.telemetry import Telemetry

LOOK_SECONDS = 1.0
TIDY_SECONDS = 3600.0
_BETWEEN_PURGES = 0.05
_DAY = 86_400.0
_log = logging.getLogger(__name__)


def state_name(gateway: Gateway) -> str:
    """Under which name one process keeps its watch: the machine's name, and where it listens.

    It is the same after a restart, and another for each of the processes that share a store.
    """
    return f"drift {socket.gethostname()} {gateway.server.host}:{gateway.server.port}"


class Upkeep:
    """The tasks of one service.

    Args:
        store: where alarms and the watch are kept, reviews are settled, and content is purged.
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
        self._name = state_name(gateway)
        self._said: set[Alarm] = set()
        self._written: set[Alarm] = set()
        self._remembered = ""
        self._windows = 0
        self._resumed = False
        self._keeping = threading.Lock()
        self._failing: set[str] = set()
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def start(self) -> None:
        """Begin, within an event loop."""
        jobs = [
            (LOOK_SECONDS, "drift", self.look),
            (LOOK_SECONDS, "settling overdue reviews", self.settle),
            (TIDY_SECONDS, "remembering the drift watch", self.save),
        ]
        if self._keep_days:
            jobs.append((TIDY_SECONDS, "purging content", self.purge))
        self._threads = {what: ThreadPoolExecutor(1, f"offmap-{what}") for _, what, _ in jobs}
        self._tasks = [asyncio.create_task(self._every(*job)) for job in jobs]

    async def stop(self) -> None:
        """End, after a last look; the watch is remembered."""
        self._ended.set()
        if self._tasks:
            await asyncio.gather(*self._tasks)
            await self._tried("drift", self.look)
            await self._tried("remembering the drift watch", self.save)
        for thread in self._threads.values():
            thread.shutdown(wait=False)

    def look(self) -> None:
        """Look at the decisions that wait, and tell what was found: in the log, as metrics, and in the chain.

        An alarm and a window that is full are kept together with the watch: what was told stays told, and no part of
        the level is spent twice. Before the watch goes on from what was kept, nothing is looked at.

        Raises:
            StoreError: the watch cannot be read, or an alarm cannot be written; the next look tries again.
        """
        with self._keeping:
            self._resume()
            self._watch.work()
            report = self._watch.report()
            for alarm in report.alarms:
                if alarm not in self._said:
                    _log.warning("%s", alarm.words)
                    self._said.add(alarm)
            new = [alarm for alarm in report.alarms if alarm not in self._written]
            if new or self._watch.windows() != self._windows:
                self._keep(new)
        self._telemetry.drift(report)

    def save(self) -> None:
        """Keep what the watch goes on from, where that changed; nothing before it went on from what was kept last.

        Raises:
            StoreError: see ``Store.write``.
        """
        with self._keeping:
            if self._resumed and self._watch.state() != self._remembered:
                self._keep([])

    def settle(self) -> None:
        """Settle the reviews that nobody did in time.

        Raises:
            StoreError: see ``review.expire``.
        """
        settle_overdue(self._store, self._clock())

    def purge(self) -> None:
        """Purge what is too old, in steps that let traffic in between.

        Raises:
            StoreError: see ``retention.purge``.
        """
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

    def _resume(self) -> None:
        """Go on from what was kept last, once."""
        if self._resumed:
            return
        self._watch.resume(remembered(self._store, self._name))
        self._said = set(self._watch.report().alarms)
        self._written = set(self._said)
        self._remembered, self._windows = self._watch.state(), self._watch.windows()
        self._resumed = True

    def _keep(self, new: list[Alarm]) -> None:
        """Alarms into the chain, and the watch, both or none."""
        state, windows, now = self._watch.state(), self._watch.windows(), self._clock()
        rows = [Row("drift", alarm.decision_id, canonical(alarm), "none") for alarm in new]
        with self._store.write() as connection:
            if rows:
                append(connection, rows, now)
            replace(connection, self._name, state, now)
        self._written |= set(new)
        self._remembered, self._windows = state, windows

    async def _every(self, seconds: float, what: str, call: Callable[[], None]) -> None:
        while not self._ended.is_set():
            await self._tried(what, call)
            try:
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
            except TimeoutError:
                continue

    async def _tried(self, what: str, call: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads[what], call)
        except Exception as error:
            if what not in self._failing:
                _log.error("%s failed (%s)", what, type(error).__name__)
            self._failing.add(what)
        else:
            self._failing.discard(what)
