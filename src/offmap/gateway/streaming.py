"""Hold-back for text that arrives in pieces: which part is looked at next, and what may leave. No HTTP, no monitor.

Each check reads the whole text so far, so the ends of checks grow geometrically: the next lies at least ``growth``
times as far in as the last one. For a text of T characters that makes at most 2 + log(T / first) / log(growth) checks,
the last of them of the whole, and at most (1 + growth / (growth - 1)) T characters read: 4 T with the defaults.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from offmap.errors import InputError

SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n")
_CARRY = 16


@dataclass(frozen=True)
class Segments:
    """How text is cut.

    Attributes:
        first: characters before the first check, and how long after an end that is due a sentence may still run on.
        growth: how many times as far in as the last check the next one is; above 1.

    Raises:
        InputError: a value that would check nothing, or every character.
    """

    first: int = 240
    growth: float = 1.5

    def __post_init__(self) -> None:
        if self.first < 1:
            raise InputError(f"first: found {self.first}, wanted at least one character")
        if not 1 < self.growth < math.inf:
            raise InputError(f"growth: found {self.growth}, wanted more than 1")

    def most_scanned(self, total: int) -> float:
        """The most characters that the checks of a text of ``total`` characters read together."""
        return (1 + self.growth / (self.growth - 1)) * total

    def most_checks(self, total: int) -> int:
        """The most checks that a text of ``total`` characters gets, the one of the whole included."""
        grown = math.log(total / self.first) / math.log(self.growth) if total > self.first else 0.0
        return math.floor(2 + grown)


class HoldBack:
    """A text that grows at its end and leaves from its beginning.

    Whoever holds it asks ``due`` after each ``push``, looks at ``part(due)``, and then calls one of ``allow``, ``keep``
    or ``stop``. After the last two nothing leaves any more.

    Attributes:
        checked: the end of what was allowed last.
        closed: whether nothing leaves any more.
    """

    def __init__(self, segments: Segments | None = None) -> None:
        self._segments = segments or Segments()
        self._parts: list[str] = []
        self._length = self._released = self._sentence = 0
        self._carry = ""
        self.checked, self.closed = 0, False

    def __len__(self) -> int:
        return self._length

    @property
    def text(self) -> str:
        """All that came."""
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    @property
    def released(self) -> str:
        """All that left."""
        return self.text[: self._released]

    def push(self, text: str) -> None:
        """Take what came. Only the new text is searched for sentences."""
        recent = self._carry + text
        self._length += len(text)
        self._parts.append(text)
        for match in SENTENCE_END.finditer(recent):
            self._sentence = max(self._sentence, self._length - len(recent) + match.end())
        self._carry = recent[-_CARRY:]

    def due(self) -> int | None:
        """Where a check has to end now: after the last whole sentence, or the last character; None: not yet."""
        target = max(self._segments.first, math.ceil(self.checked * self._segments.growth))
        if self.closed or self._length < target:
            return None
        if self._sentence >= target:
            return self._sentence
        return self._length if self._length >= target + self._segments.first else None

    def part(self, end: int) -> str:
        """The first ``end`` characters."""
        return self.text[:end]

    def allow(self, end: int) -> str:
        """What leaves now that the first ``end`` characters were looked at and may leave."""
        if self.closed:
            return ""
        leaving = self.text[self._released : end]
        self.checked = max(self.checked, end)
        self._released += len(leaving)
        return leaving

    def keep(self, part: str) -> str:
        """What leaves where only ``part`` of the text may, and nothing after it."""
        leaving = part[self._released :] if self.text.startswith(part) else ""
        leaving = "" if self.closed else leaving
        self._released += len(leaving)
        self.closed = True
        return leaving

    def stop(self) -> None:
        """Nothing leaves any more."""
        self.closed = True
