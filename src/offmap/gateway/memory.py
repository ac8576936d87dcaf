"""What was said before in a conversation, so that an attack that is split over requests is scored as one.

Kept in this process only, bounded in everything, forgotten after a time. The key holds the caller, so that nobody can
read or fill the memory of another's conversation by guessing its id. What was stopped is remembered too, as far as it
was said: the next part of an attack is looked at together with the part that was refused. Knows nothing of monitors.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from offmap.conversation import Message
from offmap.gateway.config import Limits

Key = tuple[str, str]
"""The caller and the conversation's id."""
MOST_BYTES = 1 << 27
"""What is remembered of all conversations together, as bytes of their JSON: each may be small and all of them many."""


@dataclass(frozen=True)
class Remembered:
    """A conversation so far.

    Attributes:
        messages: all that is remembered and all that is new, oldest first.
        forgotten: messages that were let go before.
        seen: when, on the memory's clock.
        size: bytes of its JSON, where it is kept.
    """

    messages: tuple[Message, ...]
    forgotten: int = 0
    seen: float = 0.0
    size: int = 0


class Memory:
    """Conversations by key, the least recently seen let go first. Not safe for several threads.

    Args:
        limits: ``turns`` and ``conversation_bytes`` of each, ``conversations`` in all, ``expiry_s`` after the last.
        clock: seconds, never going back.
        most_bytes: of all of them together.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._limits, self._clock, self._most_bytes = limits, clock, most_bytes
        self._known: OrderedDict[Key, Remembered] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def merge(self, key: Key, messages: Sequence[Message]) -> Remembered:
        """The conversation with these messages in it.

        A caller may send the whole history each time, or only what is new: messages known at the same place are not
        counted twice. What a caller leaves out or changes in a history that it sends again stays remembered as it was
        first seen. What is returned has all new messages, even where what is kept of them is cut to the limits.
        """
        merged = self.beside(key, messages)
        known = self._known.pop(key, Remembered(()))
        kept, size = self._within_limits(merged.messages)
        forgotten = known.forgotten + len(merged.messages) - len(kept)
        self._known[key] = Remembered(kept, forgotten, merged.seen, size)
        self._bytes += size - known.size
        while len(self._known) > self._limits.conversations or self._bytes > self._most_bytes:
            self._forget_oldest()
        return merged

    def beside(self, key: Key, messages: Sequence[Message]) -> Remembered:
        """What ``merge`` would return, and nothing of it kept."""
        now = self._clock()
        self._expire(now)
        known = self._known.get(key, Remembered(()))
        return Remembered(_joined(known.messages, tuple(messages)), known.forgotten, now)

    def _expire(self, now: float) -> None:
        # In the order in which they were last seen, so the first that is young enough ends it.
        while self._known:
            if now - next(iter(self._known.values())).seen <= self._limits.expiry_s:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, oldest = self._known.popitem(last=False)
        self._bytes -= oldest.size

    def _within_limits(self, messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], int]:
        """The most recent messages that are few and small enough, and their bytes."""
        size, first = 0, len(messages)
        for message in reversed(messages[-self._limits.turns :]):
            length = len(msgspec.json.encode(message))
            if size + length > self._limits.conversation_bytes:
                break
            size, first = size + length, first - 1
        return messages[first:], size


def _joined(known: tuple[Message, ...], new: tuple[Message, ...]) -> tuple[Message, ...]:
    """What is known, then what of the new is not known yet."""
    for at in range(len(new) - len(known) + 1):  # a history whose beginning was let go here
        if known and new[at : at + len(known)] == known:
            return new
    same = 0
    while same < min(len(known), len(new)) and known[same] == new[same]:
        same += 1
    rest = new[same:]
    overlap = next((n for n in range(min(len(known), len(rest)), 0, -1) if known[-n:] == rest[:n]), 0)
    return known + rest[overlap:]
