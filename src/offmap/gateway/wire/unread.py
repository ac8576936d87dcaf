"""Text of messages as they came that no ``Message`` is made of: speakers' names, and fields that nobody knows.

It is read where whoever asks gives these messages to a model as they are. Knows nothing of any one wire format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from offmap.conversation import Message
from offmap.conversation.fields import Object

_MESSAGE = {"role", "content", "tool_calls", "refusal"}
_CALL, _CALLED = {"type"}, {"name", "arguments"}
_IDS = {"id", "tool_call_id"}
WORD = re.compile(r"[\w.:\-]{1,64}", re.ASCII)
_CACHED = {"type": re.compile("ephemeral"), "ttl": re.compile(r"\d{1,4}[smhd]")}


def with_unread(messages: Sequence[Message], given: Sequence[Object]) -> tuple[Message, ...]:
    """The messages with all text of those that they were read of: what one does not say stands behind what it says.

    Ids are left out where they are a word, and names where they are those of calls, which results of tools bear too.
    """
    called = called_names(messages)
    return tuple(_with(message, fields, called) for message, fields in zip(messages, given, strict=True))


def called_names(messages: Sequence[Message]) -> set[str]:
    """Of all calls."""
    return {call.name for message in messages for call in message.tool_calls}


def is_mark(name: str, value: object) -> bool:
    """Whether a field says that what it stands in is to be cached, and how long."""
    if name != "cache_control" or not isinstance(value, dict) or not set(value) <= set(_CACHED):
        return False
    return all(isinstance(each, str) and _CACHED[key].fullmatch(each) for key, each in value.items())


def _with(message: Message, given: Object, called: set[str]) -> Message:
    found = [text for text in _unread(given) if text and text not in called]
    if not found:
        return message
    return msgspec.structs.replace(message, content="\n".join([message.content] * bool(message.content) + found))


def _unread(given: Object) -> Iterator[str]:
    yield from _beside(given, _MESSAGE)
    content, calls = given.get("content"), given.get("tool_calls")
    for part in content if isinstance(content, list) else ():
        yield from _beside(part, {"type", part.get("type")})
    for call in calls if isinstance(calls, list) else ():
        inner = call.get("function")
        yield from _beside(call, _CALL | {"function"} if inner else _CALL | _CALLED)
        yield from _beside(inner or {}, _CALLED)


def _beside(value: Any, read: set[str]) -> Iterator[str]:
    for name, each in value.items():
        is_id = name in _IDS and isinstance(each, str) and WORD.fullmatch(each)
        if name not in read and not is_id and not is_mark(name, each):
            yield from _texts(each)


def _texts(value: object) -> Iterator[str]:
    """Every text within, and the names of what is there."""
    if isinstance(value, str):
        yield value
    for each in value if isinstance(value, list) else ():
        yield from _texts(each)
    for name, each in value.items() if isinstance(value, dict) else ():
        if each not in (None, "", [], {}):
            yield name
            yield from _texts(each)
