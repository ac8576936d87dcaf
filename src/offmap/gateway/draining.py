"""What is under way while the service goes down: answers that take longer than one decision finish, or are ended.

What has begun goes on for as long as it is given, and is then told that its time is over, so that its caller hears that
the answer is not whole. Knows nothing of HTTP, chats or signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LATE = "the service is going down: this answer was ended before it was whole"
POLL = 0.05
"""Seconds between two looks at whether all has ended."""


class EndedError(Exception):
    """The service goes down and has no more time for this answer."""

    def __init__(self) -> None:
        super().__init__(LATE)


class Exchange:
    """One answer that is under way. One task waits in it at a time."""

    def __init__(self) -> None:
        self._over = False
        self._waiting: asyncio.Timeout | None = None

    async def wait(self, answer: Awaitable[T]) -> T:
        """What is awaited, while there is time.

        Raises:
            EndedError: the time is over; what was awaited is cancelled.
        """
        if self._over:  # what is there already would be given without waiting, for as long as more comes
            if isinstance(answer, Coroutine):
                answer.close()
            raise EndedError
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await answer
        except TimeoutError:
            if self._over:
                raise EndedError from None
            raise
        finally:
            self._waiting = None

    def end(self) -> None:
        """Its time is over: now where it waits, else as soon as it waits again."""
        self._over = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())


class Exchanges:
    """All that is under way. Each holds what it was asked, so there should be no more than ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Exchange] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._open) >= self._most

    @contextmanager
    def begin(self) -> Iterator[Exchange]:
        """One more, until the context is left."""
        exchange = Exchange()
        self._open.add(exchange)
        try:
            yield exchange
        finally:
            self._open.discard(exchange)

    async def empty(self, timeout: float, hurried: Callable[[], bool] = lambda: False) -> bool:
        """Whether all ended by themselves within ``timeout`` seconds, or until hurried; the others are ended."""
        loop = asyncio.get_running_loop()
        last = loop.time() + timeout
        while self._open and loop.time() < last and not hurried():
            await asyncio.sleep(POLL)
        late = tuple(self._open)
        for exchange in late:
            exchange.end()
        return not late
