"""Where the engine's decisions go: the audit log, which answers only when the disk has what it was given.

Decisions that wait at the same time share one transaction (group commit), and an escalation's place in the review queue
is kept in that same transaction. One thread writes; nothing here knows policies or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from offmap.gateway.decision import Decision
from offmap.gateway.store import chain
from offmap.gateway.store.capture import Capture, canonical, captured
from offmap.gateway.store.chain import Checkpoint, Row
from offmap.gateway.store.opening import RefusedError, Store, StoreError
from offmap.gateway.store.review import insert
from offmap.gateway.store.tickets import Ticket

_log = logging.getLogger(__name__)
BATCH = 256
"""Decisions of one transaction at most."""


@dataclass(frozen=True)
class _Waiting:
    decision: Decision
    content: object
    done: Future[Checkpoint] = field(default_factory=Future)


@dataclass(frozen=True)
class _Prepared:
    row: Row
    ticket: Ticket | None
    done: Future[Checkpoint]


class AuditLog:
    """The engine's sink.

    Args:
        store: where it is kept; stays open when the log is closed.
        capture: what is kept of the content.
        review: whether a decision goes to the review queue, see ``review.ReviewRules``; None for no queue.
        most_waiting: decisions that may wait to be written; more are refused at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        capture: Capture = "none",
        review: Callable[[Decision], Ticket | None] | None = None,
        *,
        most_waiting: int = 4096,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.capture = store, capture
        self._writer = store.writer()
        self._review, self._clock = review, clock
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._most_waiting = most_waiting
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="offmap-audit", daemon=True)
        self._thread.start()

    async def append(self, decision: Decision, content: object = None, /) -> Checkpoint:
        """Keep a decision for good, and the content as far as it is kept; where it stands in the chain.

        Raises:
            StoreError: it is not kept, or (PostgreSQL only, where the connection broke during the commit) nobody knows.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Checkpoint] = loop.create_future()
        kept = self.submit(decision, content)
        kept.add_done_callback(partial(_pass_on, loop, answer))
        try:
            return await answer
        finally:
            kept.cancel()

    def submit(self, decision: Decision, content: object = None) -> Future[Checkpoint]:
        """The same for a thread: ``submit(...).result()`` waits. Cancelled before its turn, it is not written.

        Raises:
            StoreError: the log is closed, or too many wait already.
        """
        waiting = _Waiting(decision, content)
        with self._lock:
            if self._closed:
                raise StoreError("the audit log is closed")
            if self._waiting.qsize() >= self._most_waiting:
                raise StoreError(f"{self._most_waiting} decisions wait to be written already")
            self._waiting.put(waiting)
        return waiting.done

    def close(self) -> None:
        """Write what waits, then end."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._take_turns()
        finally:
            self._writer.close()

    def _take_turns(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while len(taken) < BATCH:
                try:
                    taken.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            ended = None in taken
            prepared = [self._prepare(each) for each in taken if each and each.done.set_running_or_notify_cancel()]
            self._keep([each for each in prepared if each])

    def _prepare(self, waiting: _Waiting) -> _Prepared | None:
        """What is to be written, made before the transaction begins; what cannot be made fails alone."""
        try:
            decision, content = captured(waiting.decision, waiting.content, self.capture)
            row = Row("decision", decision.id, canonical(decision), self.capture, content)
            return _Prepared(row, self._review(decision) if self._review else None, waiting.done)
        except Exception as error:
            waiting.done.set_exception(StoreError(f"the decision cannot be written as JSON ({type(error).__name__})"))
            return None

    def _keep(self, batch: Sequence[_Prepared]) -> None:
        """Write a batch; if it is refused for what is in it, each alone, so that one cannot fail the others."""
        if not batch:
            return
        try:
            places = self._write(batch)
        except RefusedError as error:
            if len(batch) == 1:
                batch[0].done.set_exception(error)
            for each in batch if len(batch) > 1 else ():
                self._keep([each])
        except Exception as error:
            told = str(error) if isinstance(error, StoreError) else type(error).__name__
            _log.error("%d decisions are not kept: %s", len(batch), told)
            for each in batch:
                each.done.set_exception(StoreError(told))
        else:
            for each, place in zip(batch, places, strict=True):
                each.done.set_result(place)

    def _write(self, batch: Sequence[_Prepared]) -> list[Checkpoint]:
        with self._writer.write() as connection:
            places = chain.append(connection, [each.row for each in batch], self._clock())
            tickets = [(each.row.decision_id, each.ticket) for each in batch if each.ticket]
            if tickets:
                insert(connection, tickets, self._clock())
        return places


def _pass_on(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Checkpoint], kept: Future[Checkpoint]) -> None:
    """Tell who waits in an event loop what became of it, if anybody still does: half the work of a wrapped future."""

    def tell() -> None:
        if answer.done():
            return
        if error := kept.exception():
            answer.set_exception(error)
        else:
            answer.set_result(kept.result())

    if not kept.cancelled():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell)
