"""Monitors at run time: each in a thread of its own, asked in batches, and whatever it does becomes a ``Finding``.

A model is not re-entrant, so one thread calls one model. A thread that hangs cannot be ended: its monitor times out
from then on, ``stuck`` says so, and the policy decides what that means. Of what is raised only the class is logged: a
message may hold what a user wrote. Knows nothing of policies.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from offmap.conversation import Conversation
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.gateway.batcher import Again, Batcher, Overloaded, raisable
from offmap.gateway.config import Limits
from offmap.gateway.decision import Finding, Outcome
from offmap.gateway.reading import Reader, Reading, Scorer
from offmap.gateway.windows import Render, p_number

R = TypeVar("R")
_log = logging.getLogger(__name__)
CALL, CALL_SECONDS = 1 / 8, 0.25
"""That one call is to take at most: of the time for an answer, and in any case."""


@dataclass(frozen=True)
class Opened:
    """A monitor and what is known of it.

    Attributes:
        scorer: the monitor.
        version: a hash of what it is.
        smallest: the smallest p-value that it can give for each question that it answers; empty: not known.
        render: conversations to tokens as it reads them; None for one that tells nothing of tokens, which gets no
            windows: it reads all, or says in ``Verdict.n_dropped`` that it did not.
    """

    scorer: Scorer
    version: str = ""
    smallest: Mapping[Question, float] | None = None
    render: Render | None = None


class Running:
    """A monitor that answers while the event loop goes on.

    Args:
        name: as the policy calls it.
        opened: the monitor.
        timeout: seconds for one answer, waiting included.
        limits: of batches and windows.
        queue: conversations that may wait.
        window_tokens: of a window, at most; 0: what the model reads at once.
    """

    def __init__(
        self,
        name: str,
        opened: Opened,
        *,
        timeout: float = 2.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        queue: int = 256,
        window_tokens: int = 0,
    ) -> None:
        self.name, self.version, self.opened, self.timeout = name, opened.version, opened, timeout
        self._reader = Reader(
            opened.scorer, opened.render, limits, window_tokens, seconds=min(timeout * CALL, CALL_SECONDS)
        )
        self._worker = _Worker(f"offmap-{name}")
        self._batcher: Batcher[Reading, Reading] = Batcher(
            self._run,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait_ms / 1000,
            queue=queue,
            left=self._reader.left,
        )

    @property
    def stuck(self) -> bool:
        """Whether one call has taken longer than a whole answer may."""
        since = self._worker.busy_since
        return since is not None and time.monotonic() - since > self.timeout

    @property
    def waiting(self) -> int:
        """Conversations in the queue."""
        return len(self._batcher)

    async def ask(self, conversation: Conversation, timeout: float | None = None) -> Finding:
        """What the monitor finds, within its own time and ``timeout`` seconds. Nothing that it does is raised."""
        started, reading = time.monotonic(), Reading(conversation)
        budget = self.timeout if timeout is None else min(timeout, self.timeout)
        try:
            if budget <= 0 or self.stuck:
                raise TimeoutError
            await self._batcher.submit(reading, budget)
            if reading.error:
                raise reading.error
            return self._finding(reading, time.monotonic() - started)
        except Exception as error:
            outcome = _outcome(error)
            far = f" after {len(reading.verdicts)} of {len(reading.windows)} windows" if reading.windows else ""
            _log.warning("monitor %s: %s (%s)%s", self.name, outcome, type(error).__name__, far)
            return Finding(self.name, self.version, outcome, seconds=time.monotonic() - started)

    async def drain(self, timeout: float | None = None) -> bool:
        """Take nothing new, answer what waits, end the thread; whether all was answered within ``timeout`` seconds."""
        done = await self._batcher.drain(timeout)
        self._worker.close()
        return done

    def _run(self, batch: Sequence[Reading]) -> asyncio.Future[list[Reading | Again[Reading]]]:
        return self._worker.run(lambda: self._read(batch))

    def _read(self, batch: Sequence[Reading]) -> list[Reading | Again[Reading]]:
        """In the thread."""
        self._reader.read(batch)
        return [each if each.read else Again(each) for each in batch]

    def _finding(self, reading: Reading, seconds: float) -> Finding:
        verdict = reading.verdict
        if verdict is None:
            return Finding(self.name, self.version, "unscored", seconds=seconds)
        stated = (verdict.p_value, verdict.p_unsafe, verdict.p_unknown)
        p_value, unsafe, unknown = (p_number(each) for each in stated)
        scored = (
            p_value is not None
            and not any(each is not None and p_number(each) is None for each in stated)
            and verdict.n_dropped == 0
        )
        return Finding(
            self.name,
            self.version,
            "scored" if scored else "unscored",
            p_value=p_value,
            p_unsafe=unsafe,
            p_unknown=unknown,
            fired=verdict.fired,
            shift=verdict.shift.kind if verdict.shift else "",
            spans=verdict.spans,
            dropped=verdict.n_dropped,
            windows=len(reading.verdicts),
            seconds=seconds,
            least_unsafe=self._least("unsafe", len(reading.verdicts)),
            least_unknown=self._least("unknown", len(reading.verdicts)),
        )

    def _least(self, question: Question, windows: int) -> float:
        return min(1.0, windows * (self.opened.smallest or {}).get(question, 0.0)) if windows > 1 else 0.0


class _Worker:
    """One thread that does one thing after the other. It never keeps the process from ending."""

    def __init__(self, name: str) -> None:
        self.busy_since: float | None = None
        self._name = name
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run(self, call: Callable[[], R]) -> asyncio.Future[R]:
        """What ``call`` returns or raises, in the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def done() -> None:
            tell = _outcome_of(call, answer)
            self.busy_since = None
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        self._queue.put(done)
        return answer

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._queue.put(None)

    def _work(self) -> None:
        while (each := self._queue.get()) is not None:
            self.busy_since = time.monotonic()
            each()


def _outcome_of(call: Callable[[], R], answer: asyncio.Future[R]) -> Callable[[], None]:
    """Do it, and how to tell the one who waits, if anybody still does."""
    try:
        found = call()
    except BaseException as error:  # a thread that ends would leave everybody waiting
        raised = raisable(error)
        return lambda: None if answer.done() else answer.set_exception(raised)
    return lambda: None if answer.done() else answer.set_result(found)


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, Overloaded):
        return "overloaded"
    if isinstance(error, TimeoutError):
        return "timeout"
    # The text itself is at fault, and who writes it could choose that: never the same as an outage.
    return "unscored" if isinstance(error, InputError) else "failed"
