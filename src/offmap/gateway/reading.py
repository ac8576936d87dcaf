"""How a monitor reads conversations: all windows of a short one in one call, those of a long one over several.

Every conversation of a batch gets a window in a call before any gets two, and the windows of a call are as many as are
read in a set time, as far as the calls before it tell; one at least. So a long conversation holds up nobody for much
longer than that; who goes on first the batcher says. Knows nothing of threads and queues.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Protocol, TypeVar

import msgspec

from offmap.conversation import Conversation, Message, Tool, ToolCall
from offmap.conversation.fields import json_object
from offmap.gateway.config import Limits
from offmap.gateway.pace import Pace
from offmap.gateway.windows import Render, Window, as_text, combine, windows
from offmap.monitor import Verdict

_Said = TypeVar("_Said", Message, Tool, ToolCall)
_TAG = re.compile(r"<(/?think>)")
_BYTES = 3
"""Of a token, as a guess at how many a text has before that is known."""


def laid_open(conversation: Conversation) -> Conversation:
    """The same, with tags of reasoning that no template takes for such; every character stands where it stood.

    Some chat templates leave out what stands between them, or before the last. Who reads the text, the upstream or the
    client, may not. Calls and tools count too: they are text where a template has no place for them, and in windows.
    """
    messages, tools = tuple(map(_open, conversation.messages)), tuple(map(_open_tool, conversation.tools))
    if (messages, tools) == (conversation.messages, conversation.tools):
        return conversation
    return msgspec.structs.replace(conversation, messages=messages, tools=tools)


def _open(message: Message) -> Message:
    calls = tuple(map(_without_tags, message.tool_calls))
    opened = _without_tags(message)
    return opened if calls == message.tool_calls else msgspec.structs.replace(opened, tool_calls=calls)


def _open_tool(tool: Tool) -> Tool:
    """Its parameters are shown as they parse, so a tag may be spelled there in other ways."""
    parsed = json_object(tool.parameters) if "think" in tool.parameters else None
    shown = tool if parsed is None else msgspec.structs.replace(tool, parameters=json.dumps(parsed, ensure_ascii=False))
    opened = _without_tags(shown)
    return tool if opened is shown else opened


def _without_tags(given: _Said) -> _Said:
    """The same with no tag in any text of its own."""
    found = {
        name: _TAG.sub("(\\1", text)
        for name in given.__struct_fields__
        if isinstance(text := getattr(given, name), str) and "think>" in text
    }
    return msgspec.structs.replace(given, **found) if found else given


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

    @property
    def read(self) -> bool:
        """Whether it is cut, and all of it is read."""
        return self.windows is not None and not self.left

    @cached_property
    def guess(self) -> int:
        """Tokens that it may have, of messages and tools."""
        texts = (piece.message.text for piece in as_text(self.conversation))
        return math.ceil(sum(len(text.encode(errors="surrogatepass")) for text in texts) / _BYTES)

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
        seconds: that a call about more than one window is to take at most for what it reads.
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
        self._scorer, self._render, self._window_tokens, self._seconds = scorer, render, window_tokens, seconds
        self._call, self._most = limits.max_batch, limits.max_windows
        self._pace = Pace()

    def left(self, reading: Reading) -> int:
        """Tokens of it that are not read yet, as far as that is known; 0 where they take no time."""
        if reading.windows is None:
            return reading.guess if self._render else 0
        return sum(window.tokens for window in reading.left)

    def read(self, batch: Sequence[Reading]) -> None:
        """Go on with what one call has time for, the first at least; where that fails, nothing has been read.

        Raises:
            TypeError: what the monitor answers are no verdicts, or not one for each window.
            Exception: what the monitor raised.
        """
        for reading in batch:
            if reading.windows is None and self._cut(reading) > 1:
                break  # to cut one that is long takes time enough
        turns = self._turns(batch)
        verdicts = iter(self._verdicts([window for turn in turns for window in turn]))
        for reading, turn in zip(batch, turns, strict=True):
            reading.verdicts.extend(islice(verdicts, len(turn)))

    def _cut(self, reading: Reading) -> int:
        """Cut it; into how many windows."""
        try:
            found = self._windows(reading.conversation)
        except Exception as error:  # it alone cannot be read: its neighbours are
            found, reading.error = (), error
        reading.windows = found if len(found) <= self._most else ()
        return len(found)

    def _windows(self, conversation: Conversation) -> tuple[Window, ...]:
        conversation = laid_open(conversation)
        if self._render is None:
            return (Window.whole(conversation),)
        return tuple(islice(windows(conversation, self._render, self._window_tokens), self._most + 1))

    def _turns(self, batch: Sequence[Reading]) -> list[list[Window]]:
        """The windows of each that are read now: one, then more, in the order of the batch while there is room."""
        turns: list[list[Window]] = [[] for _ in batch]
        room, count, tokens = self._pace.room(self._seconds), 0, 0
        firsts = [(turn, window) for turn, reading in zip(turns, batch, strict=True) for window in reading.left[:1]]
        more = [(turn, window) for turn, reading in zip(turns, batch, strict=True) for window in reading.left[1:]]
        for turn, window in firsts + more:
            count, tokens = count + 1, tokens + window.tokens
            if count > self._call or (count > 1 and tokens > room):
                break
            turn.append(window)
        return turns

    def _verdicts(self, asked: Sequence[Window]) -> Sequence[Verdict]:
        if not asked:
            return ()
        began = time.perf_counter()
        found = list(self._scorer.score([window.conversation for window in asked]))
        if len(found) != len(asked) or not all(isinstance(each, Verdict) for each in found):
            raise TypeError(f"{len(found)} answers to {len(asked)} conversations, or some that are no Verdict")
        self._pace.saw(sum(window.tokens for window in asked), time.perf_counter() - began)
        return found
