"""One decoded row, or the body of one request, becomes conversations. Knows nothing of files.

The shape of a row is recognised by which of these fields it has, and is never guessed:

- ``messages``: a list of turns: offmap's own form, or OpenAI chat messages (content as text, as parts, or null;
  tool calls nested under ``function`` or flat; arguments as JSON text or as an object).
- ``conversation``: one transcript, "Human: ...", a blank line, "Assistant: ..." (MOOD).
- ``chosen`` and ``rejected``: two transcripts (hh-rlhf). They become two conversations that share a ``pair``, with ids
  ending in "-chosen" and "-rejected", and WITHOUT a label: a preference between two replies says nothing of harm.

Beside them a row may have ``id``, ``domain``, ``kind``, ``pair``, ``tools``, ``meta`` (an object with ``kind`` or
``pair``), and a label: ``unsafe``, ``malign`` or ``safe``, each 0, 1, true or false. Null means absent. Other fields
are left alone. A row without an id gets one from the hash of its messages and tools.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from offmap.conversation.fields import (
    Object,
    as_list,
    as_object,
    described,
    names_of,
    optional_text,
    required_text,
    wrong,
)
from offmap.conversation.types import ROLES, Conversation, Image, Message, Role, Tool, ToolCall
from offmap.errors import InputError

SHAPE_FIELDS = ("messages", "conversation", "chosen", "rejected")
"""The fields that say which shape a row has."""
FIELDS = (*SHAPE_FIELDS, "id", "domain", "kind", "pair", "tools", "meta", "unsafe", "malign", "safe")
"""Every field of a row that is read."""

_T = TypeVar("_T")
_ROLE_OF: dict[object, Role] = {**{role: role for role in ROLES}, "developer": "system"}
_SPEAKER: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ ]?")
_LABELS = (("unsafe", False), ("malign", False), ("safe", True))
_SAID = ("content", "tool_calls", "images", "refusal")
_MESSAGE_FIELDS = {"role", "name", "tool_call_id", *_SAID}
_REFUSED = {
    "function_call": "tool_calls (function_call is their retired form)",
    "audio": "text or images (sound is not read)",
}
_NO_ARGUMENTS, _NO_PARAMETERS = ToolCall("").arguments, Tool("").parameters
_MESSAGES, _TRANSCRIPT, _PREFERENCE = ({"messages"}, {"conversation"}, {"chosen", "rejected"})
_SHAPES_WANTED = (
    "exactly one of: messages (a list of turns); conversation (a transcript); chosen and rejected (two transcripts)"
)


def parse_row(row: object) -> tuple[Conversation, ...]:
    """The conversation of a row; two of them, for a row with ``chosen`` and ``rejected``.

    Args:
        row: a decoded JSON value.

    Raises:
        InputError: no shape or several; a field of the wrong type; labels that are not 0, 1, true or false, or that
            contradict each other. The message names the field, what was found and what is wanted.
    """
    fields = as_object(row, "")
    present = {name for name in SHAPE_FIELDS if fields.get(name) is not None}
    if present == _MESSAGES:
        return (_conversation(fields, parse_messages(fields["messages"])),)
    if present == _TRANSCRIPT:
        return (_conversation(fields, parse_transcript(fields["conversation"])),)
    if present == _PREFERENCE:
        return _preference(fields)
    raise InputError(f"the row's shape: found the fields {names_of(fields)}, wanted {_SHAPES_WANTED}")


def parse_messages(value: object, at: str = "messages") -> tuple[Message, ...]:
    """The turns of a list of OpenAI chat messages, or of offmap's own.

    A ``developer`` is a system. Text parts are joined by a line break; a ``refusal`` stands behind the content, as it
    does where a reply is looked at; image parts are kept by reference.

    Args:
        value: a decoded JSON value.
        at: what error messages call it.

    Raises:
        InputError: the list is empty, or a part of it is not of the form above.
    """
    turns = as_list(value, at)
    if not turns:
        raise wrong(at, "an empty list", "at least one message")
    return tuple(_message(turn, f"{at}[{index}]") for index, turn in enumerate(turns))


def parse_tools(value: object, at: str = "tools") -> tuple[Tool, ...]:
    """The offered tools: OpenAI's form or offmap's own. A built-in tool, which has only a type, is named by it.

    Raises:
        InputError: not a list of tools.
    """
    return tuple(_tool(tool, f"{at}[{index}]") for index, tool in enumerate(as_list(value, at)))


def parse_transcript(value: object, at: str = "conversation") -> tuple[Message, ...]:
    """The turns of a transcript whose speakers are marked "Human:" and "Assistant:", each after a blank line.

    Text before the first marker is the system's. A turn whose own text holds such a marker cannot be told from two.

    Raises:
        InputError: not text, or without any marker.
    """
    text = required_text(value, at)
    lead, *rest = _TURN.split(text)
    if not rest:
        raise wrong(at, described(text), r"a transcript with '\n\nHuman: ...' and '\n\nAssistant: ...'")
    system = (Message("system", lead.strip()),) if lead.strip() else ()
    turns = zip(rest[::2], rest[1::2], strict=True)
    return system + tuple(Message(_SPEAKER[speaker], said) for speaker, said in turns)


def _conversation(row: Object, messages: tuple[Message, ...]) -> Conversation:
    tools = () if row.get("tools") is None else parse_tools(row["tools"])
    return Conversation(
        id=_identity(row, messages, tools),
        messages=messages,
        unsafe=_label(row),
        domain=optional_text(row.get("domain"), "domain"),
        kind=_tag(row, "kind"),
        pair=_tag(row, "pair"),
        tools=tools,
    )


def _preference(row: Object) -> tuple[Conversation, ...]:
    label = next((name for name, _ in _LABELS if row.get(name) is not None), None)
    if label is not None:
        raise wrong(
            label, described(row[label]), "no label beside chosen and rejected: a preference is not a harm label"
        )
    replies = {name: parse_transcript(row[name], name) for name in ("chosen", "rejected")}
    shared = _conversation(row, (*replies["chosen"], *replies["rejected"]))
    return tuple(
        msgspec.structs.replace(shared, id=f"{shared.id}-{name}", messages=messages, pair=shared.pair or shared.id)
        for name, messages in replies.items()
    )


def _identity(row: Object, messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> str:
    if row.get("id") is None:
        return hashlib.sha256(msgspec.json.encode((messages, tools))).hexdigest()[:16]
    if not (given := optional_text(row["id"], "id")):
        raise wrong("id", "an empty text", "a text that names the row, or no id at all")
    return given


def _label(row: Object) -> bool | None:
    given = {name: _bit(row[name], name) != flipped for name, flipped in _LABELS if row.get(name) is not None}
    if len(set(given.values())) > 1:
        found = " and ".join(f"{name} = {described(row[name])}" for name in given)
        raise wrong(" and ".join(given), found, "labels that agree")
    return next(iter(given.values()), None)


def _bit(value: object, at: str) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise wrong(at, described(value), "0, 1, true or false")


def _tag(row: Object, name: str) -> str:
    meta = {} if row.get("meta") is None else as_object(row["meta"], "meta")
    outer, inner = optional_text(row.get(name), name), optional_text(meta.get(name), f"meta.{name}")
    if outer and inner and outer != inner:
        raise wrong(name, f"{described(outer)}, and meta.{name} {described(inner)}", "one of them, or the same in both")
    return outer or inner


def _message(value: object, at: str) -> Message:
    turn = as_object(value, at)
    role = _ROLE_OF.get(turn.get("role")) if isinstance(turn.get("role"), str) else None
    if role is None:
        raise wrong(f"{at}.role", described(turn.get("role")), f"developer, {', '.join(ROLES)}")
    for name, wanted in _REFUSED.items():
        if turn.get(name) is not None:
            raise wrong(f"{at}.{name}", described(turn[name]), wanted)
    if not any(name in turn for name in _SAID) and not turn.keys() <= _MESSAGE_FIELDS:
        raise wrong(at, f"the fields {names_of(turn)}", "content or tool_calls")
    content, images = _content(turn.get("content"), f"{at}.content")
    refusal = optional_text(turn.get("refusal"), f"{at}.refusal")
    return Message(
        role=role,
        content=content + refusal,
        tool_calls=_each(turn.get("tool_calls"), f"{at}.tool_calls", _tool_call),
        name=optional_text(turn.get("name"), f"{at}.name"),
        tool_call_id=optional_text(turn.get("tool_call_id"), f"{at}.tool_call_id"),
        images=images + _each(turn.get("images"), f"{at}.images", _image),
    )


def _content(value: object, at: str) -> tuple[str, tuple[Image, ...]]:
    if not isinstance(value, list | tuple):
        return optional_text(value, at, "text, a list of parts, or null"), ()
    texts: list[str] = []
    images: list[Image] = []
    for index, item in enumerate(value):
        part, place = as_object(item, f"{at}[{index}]"), f"{at}[{index}]"
        kind = part.get("type")
        if kind == "image_url":
            images.append(_image(part.get("image_url"), f"{place}.image_url"))
        elif isinstance(kind, str) and kind in ("text", "refusal"):
            texts.append(required_text(part.get(kind), f"{place}.{kind}"))
        else:
            raise wrong(f"{place}.type", described(kind), "text, image_url or refusal")
    return "\n".join(texts), tuple(images)


def _image(value: object, at: str) -> Image:
    return Image(required_text(as_object(value, at).get("url"), f"{at}.url"))


def _tool_call(value: object, at: str) -> ToolCall:
    call = as_object(value, at)
    if call.get("type") not in (None, "", "function"):
        raise wrong(f"{at}.type", described(call["type"]), "function")
    function, place = _function(call, at)
    return ToolCall(
        name=required_text(function.get("name"), f"{place}.name"),
        arguments=_json_text(function.get("arguments"), f"{place}.arguments", _NO_ARGUMENTS),
        id=optional_text(call.get("id"), f"{at}.id"),
    )


def _tool(value: object, at: str) -> Tool:
    tool = as_object(value, at)
    kind = optional_text(tool.get("type"), f"{at}.type")
    function, place = _function(tool, at)
    name = kind if function.get("name") is None and kind not in ("", "function") else function.get("name")
    return Tool(
        name=required_text(name, f"{place}.name"),
        description=optional_text(function.get("description"), f"{place}.description"),
        parameters=_json_text(function.get("parameters"), f"{place}.parameters", _NO_PARAMETERS),
    )


def _function(value: Object, at: str) -> tuple[Object, str]:
    """The object that holds the name: nested under ``function`` in OpenAI's form, the value itself in ours."""
    if value.get("function") is None:
        return value, at
    return as_object(value["function"], f"{at}.function"), f"{at}.function"


def _json_text(value: object, at: str, empty: str) -> str:
    text = optional_text(value if value is None or isinstance(value, str) else _dump(value, at), at)
    # msgspec leaves out a default by identity: equal conversations encode (and hash) alike only with this very object.
    return empty if value is None or text == empty else text


def _dump(value: object, at: str) -> str:
    if not isinstance(value, dict):
        raise wrong(at, described(value), "JSON text or an object")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise wrong(at, f"an object that is not JSON ({error})", "JSON text or an object") from None


def _each(value: object, at: str, parse: Callable[[object, str], _T]) -> tuple[_T, ...]:
    if value is None:
        return ()
    return tuple(parse(item, f"{at}[{index}]") for index, item in enumerate(as_list(value, at)))
