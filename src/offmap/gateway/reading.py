"""How a monitor reads conversations: all windows of a short one in one call, those of a long one over several.

Every conversation of a batch gets a window in a call before any gets two, and a call is about as much text as is read
in a set time, as far as the calls before it tell. So a long conversation holds up nobody for longer than one call; who
goes on first the batcher says. Knows nothing of threads and queues.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, islice
from typing import Protocol

from offmap.conversation import Conversation
from offmap.gateway.config import Limits
from offmap.gateway.windows import Render, Window, combine, windows
from offmap.monitor import Verdict

_KEPT = 0.75
"""What an earlier call counts beside the next one, where it is told how fast a monitor reads."""


class Scorer(Protocol):
    """What is asked of a monitor."""

    def score(self, conversations: Sequence[Conversation], /) -> Sequence[Verdict]:
        """A verdict for each conversation, in order."""
        ...


@dataclass
class Reading:
    """One conversation, and what has been read of it. It belongs to one thread at a time.

    Attributes:
        conversation: what is read.
        windows: what it is cut into; None before it is. Empty where there were too many, or it cannot be cut.
        verdicts: on the first of them.
        error: why it cannot be cut.
    """

    conversation: Conversation
    windows: Sequence[Window] | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    error: Exception | None = None

    @property
    def left(self) -> Sequence[Window]:
        """Windows that are cut and not read."""
        return (self.windows or ())[len(self.verdicts) :]

    @cached_property
    def size(self) -> int:
        """Characters of the whole."""
        return _size(self.conversation)

    @property
    def verdict(self) -> Verdict | None:
        """Of all windows together; None where there are none."""
        return combine(self.verdicts, self.windows) if self.windows else None


class Reader:
    """Reads for one monitor.

    Args:
        scorer: the monitor.
        render: conversations to tokens as it reads them; None for one that gets no windows, and takes no longer for
            more text: a judge behind an endpoint.
        limits: of a call (``max_batch``, in windows) and of a conversation (``max_windows``).
        window_tokens: of a window, at most; 0: what the model reads at once.
        seconds: that a call should take at most, where it is about more than one window.
    """

    def __init__(
        self,
        scorer: Scorer,
        render: Render | None,
        limits: Limits,
        window_tokens: int = 0,
        *,
        seconds: float = math.inf,
    ) -> None:
        self._scorer, self._render, self._tokens, self._seconds = scorer, render, window_tokens, seconds
        self._call, self._most = limits.max_batch, limits.max_windows
        self._characters, self._spent, self._full = 0.0, 0.0, 0

    def left(self, reading: Reading) -> int:
        """Characters that are not read yet, as a part of the whole; 0 where that takes no time."""
        if self._render is None:
            return 0
        return reading.size * len(reading.left) // len(reading.windows) if reading.windows else reading.size

    def share(self, first: Sequence[Reading]) -> int:
        """How many of them, in order, one call is about."""
        totals = accumulate(self._next(reading) for reading in first)
        return sum(total <= self._room for total in totals)

    def read(self, batch: Sequence[Reading]) -> None:
        """Go on with each, in one call; where that fails, nothing has been read.

        Raises:
            TypeError: what the monitor answers are no verdicts, or not one for each window.
            Exception: what the monitor raised.
        """
        for reading in batch:
            if reading.windows is None:
                self._cut(reading)
        turns = self._turns(batch)
        verdicts = iter(self._verdicts([window.conversation for turn in turns for window in turn]))
        for reading, turn in zip(batch, turns, strict=True):
            reading.verdicts.extend(islice(verdicts, len(turn)))

    @property
    def _room(self) -> float:
        """Characters of a call."""
        known = self._render is not None and self._spent
        return self._seconds * self._characters / self._spent if known else math.inf

    def _next(self, reading: Reading) -> int:
        """Characters of its next window; of one that is not cut yet, at most."""
        if reading.windows is None:
            return min(reading.size, self._full) if self._full else reading.size
        return _size(reading.left[0].conversation)

    def _cut(self, reading: Reading) -> None:
        conversation = reading.conversation
        if self._render is None:
            reading.windows = (Window.whole(conversation),)
            return
        try:
            found = tuple(islice(windows(conversation, self._render, self._tokens), self._most + 1))
        except Exception as error:  # it alone cannot be read: its neighbours are
            reading.windows, reading.error = (), error
            return
        reading.windows = found if len(found) <= self._most else ()
        if len(found) > 1:
            self._full = max(self._full, _size(found[0].conversation))

    def _turns(self, batch: Sequence[Reading]) -> list[list[Window]]:
        """The windows of each that are read now: one, and more in the order of arrival as far as there is room."""
        turns = [list(reading.left[:1]) for reading in batch]
        count = sum(map(len, turns))
        size = sum(_size(window.conversation) for turn in turns for window in turn)
        for reading, turn in zip(batch, turns, strict=True):
            for window in reading.left[1:]:
                count, size = count + 1, size + _size(window.conversation)
                if count > self._call or size > self._room:
                    return turns
                turn.append(window)
        return turns

    def _verdicts(self, asked: Sequence[Conversation]) -> Sequence[Verdict]:
        began = time.perf_counter()
        found = list(self._scorer.score(asked)) if asked else []
        if len(found) != len(asked) or not all(isinstance(each, Verdict) for each in found):
            raise TypeError(f"{len(found)} answers to {len(asked)} conversations, or some that are no Verdict")
        self._characters = _KEPT * self._characters + sum(map(_size, asked))
        self._spent = _KEPT * self._spent + time.perf_counter() - began
        return found


def _size(conversation: Conversation) -> int:
    return sum(len(message.text) for message in conversation.messages)
