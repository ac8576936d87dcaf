"""What was looked at, as turns of a conversation cut into pieces, with the stretches that monitors marked in them.

A mark's place counts characters of the text that was decided about. Where that text was kept redacted, the place is
looked up by the mark's own words, and may be another one with the same words: such a mark is not ``sure``; one whose
words are gone has no place. Knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from offmap.conversation import Conversation
from offmap.evidence import Span
from offmap.gateway.decision import Decision

HUES = 4
"""Colours of monitors; a fifth one has the first's again."""


@dataclass(frozen=True)
class Mark:
    """A stretch that a monitor pointed at.

    Attributes:
        number: from 1, in the order in which they stand in the conversation; those without a place come last.
        monitor, hue: whose it is; each monitor of a decision has a colour.
        detectors: what fired at that monitor; which of them a stretch is owed to is not told by a finding.
        span: as the monitor gave it.
        start, end: characters of the turn's text; None where the text is not there.
        sure: whether they are those of the text that was decided about.
    """

    number: int
    monitor: str
    hue: int
    detectors: tuple[str, ...]
    span: Span
    start: int | None = None
    end: int | None = None
    sure: bool = False

    @property
    def turn(self) -> int:
        """Which message it is in, from 1."""
        return self.span.message + 1


@dataclass(frozen=True)
class Piece:
    """A part of a turn's text within the same marks all along; ``begins``: those of them that begin with it."""

    text: str
    marks: tuple[Mark, ...] = ()
    begins: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Turn:
    """A message. ``number`` is from 1; ``last``: the one that an action changes."""

    number: int
    role: str
    name: str
    pieces: tuple[Piece, ...]
    last: bool


@dataclass(frozen=True)
class Evidence:
    """What a reviewer is shown of the content.

    Attributes:
        turns: of the conversation; () where none was kept.
        marks: of all monitors, in the order of their numbers.
        tools: names of the tools that were offered.
        raw: what was kept, where it is no conversation; "" otherwise.
    """

    turns: tuple[Turn, ...]
    marks: tuple[Mark, ...]
    tools: tuple[str, ...] = ()
    raw: str = ""


def evidence(decision: Decision, content: str | None) -> Evidence:
    """What there is to be seen of a decision.

    Args:
        decision: as it was recorded; its spans hold text only where content was kept.
        content: canonical JSON, as it was kept; None for none.
    """
    try:
        row = None if content is None else msgspec.json.decode(content, type=Conversation)
    except msgspec.DecodeError:
        return Evidence((), _marks(decision, ()), raw=content or "")
    texts = [] if row is None else [message.text for message in row.messages]
    marks = _marks(decision, texts)
    if row is None:
        return Evidence((), marks)
    turns = []
    for at, message in enumerate(row.messages):
        mine = [mark for mark in marks if mark.span.message == at and mark.start is not None]
        pieces = tuple(_pieces(texts[at], mine))
        turns.append(Turn(at + 1, message.role, message.name, pieces, at + 1 == len(texts)))
    return Evidence(tuple(turns), marks, tuple(tool.name for tool in row.tools))


def _marks(decision: Decision, texts: Sequence[str]) -> tuple[Mark, ...]:
    """Every monitor's spans, numbered in the order of reading."""
    found = []
    for hue, finding in enumerate(decision.findings):
        for span in finding.spans:
            place = _place(span, texts)
            bounds = (None, None, False) if place is None else place
            found.append(Mark(0, finding.monitor, hue % HUES, finding.fired, span, *bounds))
    found.sort(key=lambda mark: (mark.start is None, mark.span.message, mark.start or 0, mark.end or 0))
    return tuple(_numbered(mark, number) for number, mark in enumerate(found, 1))


def _numbered(mark: Mark, number: int) -> Mark:
    return Mark(number, mark.monitor, mark.hue, mark.detectors, mark.span, mark.start, mark.end, mark.sure)


def _place(span: Span, texts: Sequence[str]) -> tuple[int, int, bool] | None:
    """Where a span is in the text that was kept, and whether that is sure."""
    if not 0 <= span.message < len(texts) or not span.text:
        return None
    text = texts[span.message]
    if span.start >= 0 and text[span.start : span.end] == span.text:
        return span.start, span.end, True
    start = max(0, min(span.start, len(text)))
    after, before = text.find(span.text, start), text.rfind(span.text, 0, start + len(span.text))
    places = [at for at in (after, before) if at >= 0]
    if not places:
        return None
    at = min(places, key=lambda each: abs(each - start))
    return at, at + len(span.text), False


def _pieces(text: str, marks: Sequence[Mark]) -> list[Piece]:
    """The text cut wherever a mark begins or ends; marks may overlap."""
    edges = sorted({0, len(text), *(edge for mark in marks for edge in (mark.start, mark.end) if edge is not None)})
    found = []
    for low, high in pairwise(edges):
        inside = tuple(m for m in marks if m.start is not None and m.end is not None and m.start <= low < m.end)
        found.append(Piece(text[low:high], inside, tuple(mark for mark in inside if mark.start == low)))
    return found
