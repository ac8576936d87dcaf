"""Micro-batching: requests that arrive together share one call. asyncio only; knows nothing of monitors.

What waits is bounded and answered in the order of arrival. A request that is given up leaves the queue at once. Where
a call for several fails, each is asked again alone: one request that breaks a model does not break its neighbours'.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Overloaded(Exception):  # noqa: N818 - a state that is told, and no fault of the request
    """No room in the queue, or the service is going down: ask again later."""


class Batcher(Generic[T, R]):
    """Collects items and answers each.

    Args:
        run: answers a batch, one answer an item, in order; it is never called twice at once.
        max_batch: items of one call, at most.
        max_wait: seconds that the first item of a batch waits for others.
        queue: items that may wait, those of the running call not counted.
    """

    def __init__(
        self, run: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, max_batch: int, max_wait: float, queue: int
    ) -> None:
        self._run, self._max_batch, self._max_wait, self._queue = run, max_batch, max_wait, queue
        self._waiting: dict[asyncio.Future[R], tuple[T, float]] = {}
        self._changed = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

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
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = (item, time.monotonic())
        self._changed.set()
        try:
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            self._waiting.pop(answer, None)
            answer.cancel()

    async def drain(self, timeout: float | None = None) -> bool:
        """Take nothing new and answer what waits; whether all was answered within ``timeout`` seconds.

        What was not is told ``Overloaded``.
        """
        self._closing = True
        self._changed.set()
        if self._task is None:
            return True
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})
        return bool(done)

    async def _serve(self) -> None:
        batch: dict[asyncio.Future[R], T] = {}
        try:
            while await self._fill():
                first = list(self._waiting)[: self._max_batch]
                batch = {answer: self._waiting.pop(answer)[0] for answer in first}
                await self._answer(batch)
        finally:
            for answer in (*batch, *self._waiting):
                _fail(answer, Overloaded())

    async def _fill(self) -> bool:
        """Wait until a batch is due; False where all is answered."""
        while self._waiting and not self._closing and len(self._waiting) < self._max_batch:
            arrived = next(at for _, at in self._waiting.values())
            left = arrived + self._max_wait - time.monotonic()
            if left <= 0:
                break
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        return bool(self._waiting)

    async def _answer(self, batch: dict[asyncio.Future[R], T]) -> None:
        try:
            answers = await self._ask(list(batch.values()))
        except Exception as error:
            if len(batch) == 1:
                _fail(next(iter(batch)), error)
                return
            for answer, item in batch.items():
                if not answer.done():
                    await self._answer({answer: item})
            return
        for answer, found in zip(batch, answers, strict=True):
            if not answer.done():
                answer.set_result(found)

    async def _ask(self, items: list[T]) -> Sequence[R]:
        try:
            answers = await self._run(items)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the call was cancelled") from None
        if len(answers) != len(items):
            raise ValueError(f"{len(answers)} answers to {len(items)} items")
        return answers


def _fail(answer: asyncio.Future[R], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
