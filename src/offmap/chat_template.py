"""A model's own chat template, with the turn of every character it writes.

A conversation is rendered twice: as it is, and with every text replaced by a marker that cannot occur in it. The
second rendering shows where the template puts each text and what it writes in between. Walking the first by the second
must consume it to the last character, else the layout is refused: nothing is ever labelled by guess, and no text can
pass for a turn by containing the template's own marks.

Two forms of a conversation are tried in turn. *Native*: roles, tool calls (arguments parsed to an object where they
parse) and tools as they are. *Folded*, for templates that refuse the native form (no system role, strict alternation)
or would lose a text (tool calls, tools): only user and assistant turns, alternating; system prompts, tools as JSON and
tool results are put into user turns, tool calls are written as in ``Message.text``. Every text keeps its own turn and
role. Reasoning of earlier turns that the template itself leaves out is left out. Knows nothing of tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from offmap.conversation import Conversation, Message, Tool
from offmap.conversation.fields import json_object
from offmap.errors import InputError

TODAY = "01 Jan 2025"
"""What templates that print the date are told: a feature must not change overnight."""
_CLOCK = f"{{% macro strftime_now(form) %}}{TODAY}{{% endmacro %}}{{{{ '' }}}}"
_THINK = re.compile(r"(\s*</?think>\s*)")


class ChatTokenizer(Protocol):
    """What is asked of a Hugging Face tokenizer that has a chat template."""

    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, Any]], /, **options: Any) -> Any:
        """The conversation as the model reads it; text when ``tokenize=False``."""
        ...


@dataclass(frozen=True)
class Span:
    """Characters ``start:end`` of a rendered text that belong to a turn.

    ``origin`` is where they begin in ``Message.text``, or -1 if they do not stand there letter by letter.
    """

    start: int
    end: int
    turn: int
    role: str
    origin: int = -1


@dataclass(frozen=True)
class Layout:
    """A rendered text: the texts of messages in it, and the whole turns (with an assistant's end mark)."""

    text: str
    texts: tuple[Span, ...]
    turns: tuple[Span, ...]


@dataclass(frozen=True)
class _Slot:
    """A text of a message, in the second rendering a marker."""

    turn: int
    role: str
    text: str
    origin: int
    optional: bool = False
    arguments: dict[str, Any] | None = None

    def forms(self) -> Iterator[tuple[str, int]]:
        """How a template may write the text, and where that begins in ``Message.text``."""
        if self.arguments is not None:
            for written in _json_forms(self.arguments):
                yield written, self.origin if written == self.text else -1
            return
        left = len(self.text) - len(self.text.lstrip())
        yield self.text, self.origin
        yield self.text.strip(), self.origin + left
        yield self.text.rstrip(), self.origin
        yield self.text.lstrip(), self.origin + left
        yield json.dumps(self.text, ensure_ascii=False)[1:-1], -1


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The template will not take this form of the conversation, or loses a part of it."""


class ChatTemplate:
    """The template of ``tokenizer``; ``marks`` are the texts of its special tokens.

    Raises:
        InputError: the template cannot write one question and its answer.
    """

    def __init__(self, tokenizer: ChatTokenizer, marks: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        written = tokenizer.chat_template
        self._dated = _CLOCK + written if isinstance(written, str) and "strftime_now" in written else None
        try:
            self._learn(marks)
        except _Refused as error:
            raise InputError(f"the chat template cannot write a question and its answer: {error}") from error

    def _learn(self, marks: Sequence[str]) -> None:
        """What the template writes before a reply and after it, and whether it shows tools."""
        ask, reply = {"role": "user", "content": "a question"}, {"role": "assistant", "content": "areply"}
        plain, prompted = self._write([ask], []), self._write([ask], [], generate=True)
        self._prompt = prompted.removeprefix(plain) if prompted.startswith(plain) else ""
        tail = self._write([ask, reply], []).rpartition("areply")[2]
        present = [mark for mark in marks if mark and mark in tail]
        self._end = min(present, key=tail.index, default="")
        tool = Tool("probe", "a probe", '{"type": "object", "properties": {}}')
        self._tools = self._write([ask], [tool]) != plain

    def __call__(self, conversation: Conversation) -> Layout:
        """The conversation in its native form, else folded.

        Raises:
            InputError: the template takes neither form.
        """
        try:
            if conversation.tools and not self._tools:
                raise _Refused("it does not show tools")
            return self._layout(_native, conversation, conversation.tools)
        except _Refused as native:
            try:
                return self._layout(_folded, conversation, ())
            except _Refused as folded:
                found = f"as it is: {native}; as plain user and assistant turns: {folded}"
                raise InputError(f"conversation {conversation.id!r}: the chat template refuses it ({found})") from None

    def _layout(
        self,
        form: Callable[[Conversation, _Markers], list[dict[str, Any]]],
        conversation: Conversation,
        tools: Sequence[Tool],
    ) -> Layout:
        markers = _Markers(conversation)
        marked = form(conversation, markers)
        text = self._write(markers.fill(marked), tools)
        pieces = markers.split(self._write(marked, tools))
        return Layout(text, *self._walk(text, pieces))

    def _walk(self, text: str, pieces: list[str | _Slot]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """Consume ``text`` by literal pieces and slots, in turn; the spans of texts and of turns."""
        at = len(pieces[0]) if isinstance(pieces[0], str) and text.startswith(pieces[0]) else -1
        texts: list[Span] = []
        for slot, after in zip(pieces[1::2], pieces[2::2], strict=True):
            if not isinstance(slot, _Slot) or not isinstance(after, str) or at < 0:
                raise _Refused("what it writes depends on the words of the messages")
            found = next((form for form in slot.forms() if text.startswith(form[0] + after, at)), None)
            if found is None:
                raise _Refused(f"it rewrites the text of message {slot.turn}")
            texts.append(Span(at, at + len(found[0]), slot.turn, slot.role, found[1]))
            at += len(found[0]) + len(after)
        if at != len(text):
            raise _Refused("what it writes depends on the words of the messages")
        return tuple(texts), tuple(self._turns(text, texts))

    def _turns(self, text: str, texts: list[Span]) -> Iterator[Span]:
        """Neighbouring texts of one turn joined; a reply begins after the generation prompt and ends with its mark."""
        done = 0
        for number, first in enumerate(texts):
            if number and texts[number - 1].turn == first.turn:
                continue
            after = next((n for n in range(number, len(texts)) if texts[n].turn != first.turn), len(texts))
            start, end = first.start, texts[after - 1].end
            if first.role == "assistant":
                prompt = text.rfind(self._prompt, done, start) if self._prompt else -1
                start = prompt + len(self._prompt) if prompt >= 0 else start
                limit = texts[after].start if after < len(texts) else len(text)
                mark = text.find(self._end, end, limit) if self._end else -1
                end = mark + len(self._end) if mark >= 0 else end
            done = end
            yield Span(start, end, first.turn, first.role)

    def _write(self, messages: list[dict[str, Any]], tools: Sequence[Tool], *, generate: bool = False) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=[_tool(tool) for tool in tools] or None,
                    tokenize=False,
                    add_generation_prompt=generate,
                    chat_template=self._dated,
                    date_string=TODAY,
                )
            )
        except Exception as error:
            raise _Refused(f"{type(error).__name__}: {error}") from error


class _Markers:
    """Stands markers in for texts, and finds them again."""

    def __init__(self, conversation: Conversation) -> None:
        texts = "\n".join(message.text for message in conversation.messages)
        key = next(k for k in _keys(texts) if k not in texts)
        self._key, self._slots = key, list[_Slot]()
        self._marker = re.compile(rf"\{{\s*\"{key}(\d+)x\"\s*:\s*0\s*\}}|{key}(\d+)x")

    def text(self, turn: int, message: Message, text: str, origin: int) -> str:
        """A marker for the text; reasoning tags stay, since templates look for them."""
        written, reasoning = "", False
        for piece in _THINK.split(text):
            tag = _THINK.fullmatch(piece) is not None
            written += piece if tag or not piece else self._new(_Slot(turn, message.role, piece, origin, reasoning))
            reasoning = "<think>" in piece if tag else reasoning
            origin += len(piece)
        if "</think>" in text and "<think>" not in text:
            self._slots = [_optional(s) if s.turn == turn and s.origin == 0 else s for s in self._slots]
        return written

    def arguments(self, turn: int, text: str, origin: int) -> dict[str, Any] | str:
        """A marker for the arguments of a call: an object where they parse to one, else a string."""
        parsed = json_object(text)
        if parsed is None:
            return self._new(_Slot(turn, "assistant", text, origin))
        return {self._new(_Slot(turn, "assistant", text, origin, arguments=parsed)): 0}

    def _new(self, slot: _Slot) -> str:
        self._slots.append(slot)
        return f"{self._key}{len(self._slots) - 1}x"

    def fill(self, value: Any) -> Any:
        """The message with its texts again in the place of their markers."""
        if isinstance(value, str):
            return self._marker.sub(lambda found: self._slots[int(found[2])].text, value)
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            slot = self._marker.fullmatch(next(iter(value), ""))
            if slot:
                return self._slots[int(slot[2])].arguments
            return {name: self.fill(item) for name, item in value.items()}
        return value

    def split(self, text: str) -> list[str | _Slot]:
        """Literal, slot, literal, ..., literal.

        Raises:
            _Refused: a text of a message does not appear.
        """
        pieces: list[str | _Slot] = []
        seen, at = set(), 0
        for found in self._marker.finditer(text):
            number = int(found[1] or found[2])
            if (found[1] is None) != (self._slots[number].arguments is None):
                raise _Refused("it takes tool arguments apart")
            pieces += [text[at : found.start()], self._slots[number]]
            seen.add(number)
            at = found.end()
        missing = [s for n, s in enumerate(self._slots) if n not in seen and not s.optional]
        if missing:
            raise _Refused(f"it leaves out a text of message {missing[0].turn} ({missing[0].role})")
        return [*pieces, text[at:]]


def _native(conversation: Conversation, markers: _Markers) -> list[dict[str, Any]]:
    messages = []
    for turn, message in enumerate(conversation.messages):
        written: dict[str, Any] = {"role": message.role, "content": markers.text(turn, message, message.content, 0)}
        cursor = len(message.content)
        for call in message.tool_calls:
            named = message.text.index(json.dumps(call.name), cursor) + 1
            cursor = message.text.index(call.arguments, named + len(json.dumps(call.name)) - 1)
            function = {
                "name": markers.text(turn, message, call.name, named),
                "arguments": markers.arguments(turn, call.arguments, cursor),
            }
            cursor += len(call.arguments)
            identity = {"id": call.id} if call.id else {}
            written.setdefault("tool_calls", []).append({**identity, "type": "function", "function": function})
        for name in ("name", "tool_call_id"):
            if getattr(message, name):
                written[name] = getattr(message, name)
        messages.append(written)
    return messages


def _folded(conversation: Conversation, markers: _Markers) -> list[dict[str, Any]]:
    parts = [
        ("assistant" if message.role == "assistant" else "user", markers.text(turn, message, message.text, 0))
        for turn, message in enumerate(conversation.messages)
    ]
    tools = tools_json(conversation.tools)
    messages = [{"role": "user", "content": tools}] if tools else []
    for role, content in parts:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n\n" * bool(messages[-1]["content"] and content) + content
        else:
            messages.append({"role": role, "content": content})
    opening = {"role": "user", "content": ""}
    return messages if messages and messages[0]["role"] == "user" else [opening, *messages]


def tools_json(tools: Sequence[Tool]) -> str:
    """The tools that were offered, as one line of JSON; "" for none."""
    return json.dumps([_tool(tool)["function"] for tool in tools], ensure_ascii=False) if tools else ""


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = json_object(tool.parameters)
    shown = tool.parameters if parameters is None else parameters
    function = {"name": tool.name, "description": tool.description, "parameters": shown}
    return {"type": "function", "function": function}


def _json_forms(value: dict[str, Any]) -> Iterator[str]:
    for indent in (None, 4, 2):
        yield json.dumps(value, ensure_ascii=False, indent=indent)
    yield json.dumps(value)
    yield json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _keys(texts: str) -> Iterator[str]:
    number = 0
    while True:
        yield "Zq" + hashlib.sha256(f"{number}{texts}".encode(errors="replace")).hexdigest()[:8] + "n"
        number += 1


def _optional(slot: _Slot) -> _Slot:
    return _Slot(slot.turn, slot.role, slot.text, slot.origin, optional=True)
