"""Micro-batching: requests that arrive together share one call. asyncio only; knows nothing of monitors.

What waits is bounded. Those come first who have least left, and of equals who came first: what takes several calls
holds up the others for no longer than one, and several such do not keep each other from ending. A request that is given
up leaves the queue at once. Where a call for several fails, each is asked again alone: one request that breaks a model
does not break its neighbours'.
Callbacks, and no task of its own: every answer waits for what lies between a request and its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Overloaded(Exception):  # noqa: N818 - a state that is told, and no fault of the request
    """No room in the queue, or the service is going down: ask again later."""


@dataclass(frozen=True)
class Again(Generic[T]):
    """In place of an answer: the item has to be asked about once more, as it is now."""

    item: T


class Batcher(Generic[T, R]):
    """Collects items and answers each. One event loop.

    Args:
        run: answers a batch, one answer or ``Again`` an item, in order; it is never called twice at once.
        max_batch: items of one call, at most.
        max_wait: seconds that the first item of a batch waits for others.
        queue: items that may wait, those of the running call not counted.
        left: how much there is left to do about an item.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R | Again[T]]]],
        *,
        max_batch: int,
        max_wait: float,
        queue: int,
        left: Callable[[T], float] = lambda _: 0.0,
    ) -> None:
        self._run, self._left = run, left
        self._max_batch, self._max_wait, self._queue = max_batch, max_wait, queue
        self._waiting: dict[asyncio.Future[R], tuple[T, float]] = {}
        self._running: dict[asyncio.Future[R], tuple[T, float]] = {}
        self._alone: dict[asyncio.Future[R], tuple[T, float]] = {}
        self._call: asyncio.Future[Sequence[R | Again[T]]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._closing = False
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, item: T, timeout: float | None = None) -> R:
        """The answer to one item.

        Raises:
            Overloaded: the queue is full, or ``drain`` was called; at once.
            TimeoutError: no answer within ``timeout`` seconds.
            Exception: what ``run`` raised for this very item.
        """
        if self._closing or len(self._waiting) >= self._queue:
            raise Overloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        late = None if timeout is None else loop.call_later(timeout, _fail, answer, TimeoutError())
        self._waiting[answer] = (item, loop.time())
        self._schedule()
        try:
            return await answer
        finally:
            if late is not None:
                late.cancel()
            self._waiting.pop(answer, None)
            answer.cancel()

    async def drain(self, timeout: float | None = None) -> bool:
        """Take nothing new and answer what waits; whether all was answered within ``timeout`` seconds.

        What was not is told ``Overloaded``.
        """
        self._closing = True
        self._schedule()
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            for answer in (*self._running, *self._alone, *self._waiting):
                _fail(answer, Overloaded())
            self._waiting.clear()
            if self._call is not None:
                self._call.cancel()
            return False
        return True

    def _schedule(self) -> None:
        """See that the next call begins when it is due, and not in this turn of the loop: who comes in it shares it."""
        if self._running:
            return
        if not self._waiting:
            if self._closing:
                self._ended.set()
            return
        at_once = self._closing or len(self._waiting) >= self._max_batch
        if self._soon or (self._timer and not at_once):
            return
        loop = asyncio.get_running_loop()
        left = min(arrived for _, arrived in self._waiting.values()) + self._max_wait - loop.time()
        if left > 0 and not at_once:
            self._timer = loop.call_later(left, self._begin)
        else:
            self._stop_timer()
            self._soon = True
            loop.call_soon(self._begin)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        """A call for those who came first; for nobody where all have given up."""
        self._stop_timer()
        self._soon = False
        for answer in [each for each in self._waiting if each.done()]:
            del self._waiting[answer]  # given up in this very turn of the loop
        try:
            first = self._first()
        except Exception as error:  # nobody's turn would ever come
            for answer in self._waiting:
                _fail(answer, error)
            self._waiting.clear()
            first = []
        if first:
            self._ask({answer: self._waiting.pop(answer) for answer in first})
        else:
            self._schedule()

    def _first(self) -> list[asyncio.Future[R]]:
        """Whose turn it is."""
        first = list(self._waiting)
        if len(first) > 1:
            turns = {answer: (self._left(item), at) for answer, (item, at) in self._waiting.items()}
            first = sorted(first, key=turns.__getitem__)[: self._max_batch]
        return first

    def _ask(self, batch: dict[asyncio.Future[R], tuple[T, float]]) -> None:
        try:
            items = [item for item, _ in batch.values()]
            call: asyncio.Future[Sequence[R | Again[T]]] = asyncio.ensure_future(self._run(items))
        except BaseException as error:  # it did not even begin
            call = asyncio.get_running_loop().create_future()
            call.set_exception(raisable(error))
        self._running, self._call = batch, call
        call.add_done_callback(self._answered)

    def _answered(self, call: asyncio.Future[Sequence[R | Again[T]]]) -> None:
        batch, self._running, self._call = self._running, {}, None
        try:
            answers = _answers(call, len(batch))
        except BaseException as error:
            if len(batch) > 1:
                self._alone.update(batch)
            else:
                _fail(next(iter(batch)), error)
        else:
            for (answer, (_, arrived)), found in zip(batch.items(), answers, strict=True):
                if answer.done():
                    continue
                if isinstance(found, Again):
                    self._waiting[answer] = (found.item, arrived)
                else:
                    answer.set_result(found)
        self._next()

    def _next(self) -> None:
        """After a call: those whose call failed, each alone, and then who waits."""
        while self._alone:
            answer, waited = next(iter(self._alone.items()))
            del self._alone[answer]
            if not answer.done():
                return self._ask({answer: waited})
        return self._schedule()


def _answers(call: asyncio.Future[Sequence[R]], wanted: int) -> list[R]:
    """What a call gave.

    Raises:
        RuntimeError: it was cancelled.
        ValueError: another number of answers than items.
        Exception: what it raised.
    """
    if call.cancelled():
        raise RuntimeError("the call was cancelled")
    answers = list(call.result())
    if len(answers) != wanted:
        raise ValueError(f"{len(answers)} answers to {wanted} items")
    return answers


def _fail(answer: asyncio.Future[R], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(raisable(error))


def raisable(error: BaseException) -> Exception:
    """The same, or, where a future does not take it or who waits should not, another that names it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(type(error).__name__)
