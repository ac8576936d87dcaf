"""Long conversations in overlapping windows, so that nothing is cut silently, and their verdicts as one.

A window is a stretch of the conversation that a monitor reads whole. Every character of every message is in at least
one, and windows overlap by a quarter, so that what straddles an edge is whole in one of them. Each opens with the
system prompt and the offered tools where these take at most a quarter of it; else they are read as a part of the text.

The verdict of the whole is that of its most suspicious window, p = min(1, W min p_w): whatever the dependence among W
windows, P(p <= t) <= t holds where it holds for each of them (Bonferroni). A window is another kind of text than the
whole conversations that a monitor was calibrated on: there the p-values are nominal.
"""

from __future__ import annotations

import math
import numbers
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import msgspec

from offmap.chat_template import tools_json
from offmap.conversation import Conversation, Message, Tool
from offmap.errors import InputError
from offmap.evidence import Span
from offmap.monitor import Verdict

OVERLAP = 0.25
"""The share of a window that the next one reads again; and the most that its opening may take."""
_FULL = 0.75
_SPARE = 0.97
_BY_RULE_OF_THREE = 4
_WORD = 32
_BEGINNING = 1 << 16
_FRAME = 8


class Row(Protocol):
    """What is asked of a rendered conversation; see ``rendering.Rendered``."""

    @property
    def n_dropped(self) -> int:
        """Tokens that were cut."""
        ...

    def __len__(self) -> int: ...


Render = Callable[[Sequence[Conversation]], Sequence[Row]]
"""Conversations to tokens, cut to what the model reads."""


class Piece(msgspec.Struct, frozen=True):
    """A part of a message, beginning at character ``start`` of the text of message ``turn``; -1: no message says it."""

    turn: int
    start: int
    message: Message


class Window(msgspec.Struct, frozen=True):
    """A stretch of a conversation, where its messages come from, and how many tokens it has; 0: not known."""

    conversation: Conversation
    pieces: tuple[Piece, ...]
    tokens: int = 0

    @classmethod
    def whole(cls, conversation: Conversation, tokens: int = 0) -> Window:
        """All of it in one."""
        return cls(conversation, _pieces(conversation.messages), tokens)


def windows(conversation: Conversation, render: Render, size: int = 0) -> Iterator[Window]:
    """The windows of a conversation, in order; one, as it is, where it fits.

    Args:
        conversation: what is to be read.
        render: of the monitor's backbone.
        size: tokens of a window, at most; 0: as many as ``render`` leaves.

    Raises:
        InputError: a window has no room for a single character.
    """
    row, tokens = _measured(conversation, render, size)
    limit = min(count for count in (size, len(row)) if count) if size or row.n_dropped else len(row)
    if tokens <= limit:
        yield Window.whole(conversation, tokens)
        return
    yield from _Stream.of(conversation, render, limit).cover(tokens)


def combine(verdicts: Sequence[Verdict], read: Sequence[Window]) -> Verdict:
    """The verdict of the whole: that of its most suspicious window, corrected for how many there are.

    Where a window has no p-value that others have, the whole has NaN; what windows dropped is summed.

    Raises:
        ValueError: not one verdict a window, or none.
    """
    if len(verdicts) != len(read) or not read:
        raise ValueError(f"{len(verdicts)} verdicts on {len(read)} windows")
    if len(read) == 1 and not verdicts[0].spans and verdicts[0].n_dropped == 0:
        return verdicts[0]  # nothing to correct, to move or to add up
    worst = min(range(len(read)), key=lambda at: _ranked(verdicts[at].p_value))
    return msgspec.structs.replace(
        verdicts[worst],
        flagged=any(each.flagged for each in verdicts),
        p_value=_corrected([each.p_value for each in verdicts]),
        p_unsafe=_corrected([each.p_unsafe for each in verdicts]),
        p_unknown=_corrected([each.p_unknown for each in verdicts]),
        spans=_moved(verdicts[worst].spans, read[worst].pieces),
        n_dropped=sum(each.n_dropped for each in verdicts),
    )


def as_text(conversation: Conversation) -> tuple[Piece, ...]:
    """All that is read of it: the offered tools as text that no message says, where there are any, and the messages."""
    tools = conversation.tools
    offered = (Piece(-1, 0, Message("system", tools_json(tools))),) if tools else ()
    return offered + _pieces(conversation.messages)


def p_number(stated: object) -> float | None:
    """A p-value as a number; None for whatever is none."""
    if not isinstance(stated, numbers.Real) or isinstance(stated, bool):
        return None
    value = float(stated)
    return value if 0 <= value <= 1 else None


@dataclass(frozen=True)
class _Stream:
    """The texts of messages one after the other, each with a place behind it, so that none has length 0.

    Attributes:
        opening: what every window begins with.
        body: what is covered.
        text: of the body.
        places: in that text, of each piece's first character, and of its end.
        like: the conversation, with the tools that every window offers.
        render, limit: a window has at most ``limit`` tokens.
    """

    opening: tuple[Piece, ...]
    body: tuple[Piece, ...]
    text: str
    places: tuple[int, ...]
    like: Conversation
    render: Render
    limit: int

    @classmethod
    def of(cls, conversation: Conversation, render: Render, limit: int) -> _Stream:
        pieces = _pieces(conversation.messages)
        first = next((at for at, piece in enumerate(pieces) if piece.message.role != "system"), len(pieces))
        opening, body, tools = pieces[:first], pieces[first:], conversation.tools
        alone = _with(conversation, opening, tools)
        if (opening or tools) and not _fits(_measured(alone, render, int(OVERLAP * limit))[0], int(OVERLAP * limit)):
            opening, body, tools = (), as_text(conversation), ()
        texts = [piece.message.text + "\n" for piece in body]
        places = tuple(accumulate(map(len, texts), initial=0))
        return cls(opening, body, "".join(texts), places, _with(conversation, (), tools), render, limit)

    def cover(self, tokens: int) -> Iterator[Window]:
        """Windows from the first character to the last; ``tokens``: how many the whole has."""
        first, guess = 0, max(1, int(len(self.text) * self.limit / tokens))
        while True:
            last, window = self._longest(first, guess)
            yield window
            if last >= len(self.text):
                return
            guess = last - first
            first = max(first + 1, self._word(first, last - int(OVERLAP * guess)))

    def _longest(self, first: int, guess: int) -> tuple[int, Window]:
        """A window from ``first`` that fits and is three quarters full, or as full as can be, and where it ends."""
        best: tuple[int, Window] | None = None
        low, high, wanted, tries = 0, len(self.text) - first + 1, guess, 0
        while high - low > 1:
            tries += 1
            wanted = wanted if low < wanted < high else (low + high) // 2
            last = self._word(first, first + wanted)
            window = self._stretch(first, last)
            row = self.render([window.conversation])[0]
            if _fits(row, self.limit):
                best, low = (last, msgspec.structs.replace(window, tokens=len(row))), wanted
                if last >= len(self.text) or _tokens(row) >= _FULL * self.limit:
                    break
            else:
                high = wanted
            by_tokens = int(wanted * _SPARE * self.limit / max(_tokens(row), 1))
            wanted = by_tokens if tries < _BY_RULE_OF_THREE else (low + high) // 2
        if best is None:
            raise InputError(f"conversation {self.like.id!r}: a window of {self.limit} tokens has no room for its text")
        return best

    def _word(self, first: int, at: int) -> int:
        """``at``, or where a word begins shortly before it."""
        if at >= len(self.text):
            return len(self.text)
        begins = max(self.text.rfind(space, max(at - _WORD, first + 1), at) for space in " \n") + 1
        return begins if begins > first + 1 else at

    def _stretch(self, first: int, last: int) -> Window:
        """The window from place ``first`` to before place ``last``."""
        pieces = list(self.opening)
        for number in range(bisect_right(self.places, first) - 1, bisect_left(self.places, last)):
            piece, at, size = self.body[number], self.places[number], self.places[number + 1] - self.places[number] - 1
            low, high = max(first - at, 0), min(last - at, size)
            if (low, high) == (0, size):
                pieces.append(piece)
            elif low < high:
                pieces.append(_cut(piece, low, high))
        return Window(_with(self.like, pieces, self.like.tools), tuple(pieces))


def _measured(conversation: Conversation, render: Render, size: int) -> tuple[Row, int]:
    """A conversation in tokens, and how many it has. Of one whose beginning is too long already, that, and a guess."""
    pieces = as_text(conversation)
    characters = sum(map(_size, pieces))
    if characters > _BEGINNING:
        row = render([_with(conversation, _beginning(pieces), ())])[0]
        if not _fits(row, size or len(row)):
            return row, _tokens(row) * characters // _BEGINNING
    row = render([conversation])[0]
    return row, _tokens(row)


def _beginning(pieces: Sequence[Piece]) -> list[Piece]:
    kept, room = [], _BEGINNING
    for piece in pieces:
        if room > 0:
            kept.append(_cut(piece, 0, room))
            room -= _size(piece)
    return kept


def _size(piece: Piece) -> int:
    """Characters of a piece, and some for its frame: a template says who speaks in at least as many."""
    return len(piece.message.text) + _FRAME


def _pieces(messages: Sequence[Message]) -> tuple[Piece, ...]:
    return tuple(Piece(turn, 0, message) for turn, message in enumerate(messages))


def _with(like: Conversation, pieces: Sequence[Piece], tools: tuple[Tool, ...]) -> Conversation:
    return msgspec.structs.replace(like, messages=tuple(piece.message for piece in pieces), tools=tools)


def _cut(piece: Piece, low: int, high: int) -> Piece:
    """A part of a message's text. Calls are in it as text: what is cut is no call any more."""
    message = piece.message
    part = msgspec.structs.replace(message, content=message.text[low:high], tool_calls=())
    return Piece(piece.turn, piece.start + low, part)


def _tokens(row: Row) -> int:
    return len(row) + row.n_dropped


def _fits(row: Row, limit: int) -> bool:
    return row.n_dropped == 0 and len(row) <= limit


def _ranked(p_value: float | None) -> float:
    number = p_number(p_value)
    return -1.0 if number is None else number


def _corrected(stated: Sequence[float | None]) -> float | None:
    if all(each is None for each in stated):
        return None
    p_values = [p for each in stated if (p := p_number(each)) is not None]
    return min(1.0, len(stated) * min(p_values)) if len(p_values) == len(stated) else math.nan


def _moved(spans: Sequence[Span], pieces: Sequence[Piece]) -> tuple[Span, ...]:
    """Spans of a window as spans of the whole; those in what no message says are left out."""
    found = ((span, pieces[span.message]) for span in spans if 0 <= span.message < len(pieces))
    return tuple(
        msgspec.structs.replace(span, message=piece.turn, start=span.start + piece.start, end=span.end + piece.start)
        for span, piece in found
        if piece.turn >= 0
    )
