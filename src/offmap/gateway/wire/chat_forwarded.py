"""What of a request's messages and tools goes upstream: what is read there, written anew.

Nothing else of them reaches a model. Text in a field that nobody reads is refused, so that nobody wonders where it
went; what is no text, and what clients add to the replies that they send back, is left out. The name of a speaker is
read with what is said. Ids of calls, which no monitor reads and some prompts hold, go upstream as hashes of themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from offmap.conversation import Message, Tool, ToolCall, parse_messages, parse_tools
from offmap.conversation.fields import Object, as_list, as_object, described, json_object, wrong
from offmap.gateway.wire.unread import WORD, called_names, is_mark

_BODY = "messages tools tool_choice stream n modalities audio functions function_call chat_template documents".split()
_MESSAGE = set("role content name tool_calls tool_call_id refusal".split())
_REFUSED = {"images", "function_call", "audio"}
"""Names in a message that who reads it refuses."""
_PARTS = ("text", "refusal", "image_url")
_CALL, _CALLED = {"id", "type"}, {"name", "arguments"}
_TOOL, _OFFERED = {"type"}, {"name", "description", "parameters"}
_LEFT_OUT = set("id parsed parsed_arguments annotations reasoning reasoning_content thinking thinking_blocks".split())
"""What clients and servers add to a reply, and clients send back."""
_TOLD = _LEFT_OUT | _CALL | _CALLED | _OFFERED | set("cache_control documents metadata status text image_url".split())
"""Names of fields that an error may repeat; any other name could be somebody's text."""
_NUMBERED = re.compile(r"functions\.(.+):\d{1,4}")
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
"""All that some servers take."""


def read_messages(fields: Object) -> tuple[Message, ...]:
    """The messages of a request as monitors read them.

    Raises:
        InputError: they are of another form, hold pictures or sound, or text in a field that nobody reads.
    """
    _require_spelled(fields, "", _BODY)
    for index, item in enumerate(as_list(fields.get("messages"), "messages")):
        _require_message(as_object(item, f"messages[{index}]"), f"messages[{index}]")
    messages = parse_messages(fields.get("messages"))
    for index, message in enumerate(messages):
        if message.images:
            raise wrong(f"messages[{index}].content", "a picture", "text: pictures are not looked at by this gateway")
    if not any(message.name for message in messages):
        return messages
    return tuple(map(partial(_with_name, read_elsewhere=_names(messages, read_tools(fields))), messages))


def read_tools(fields: Object) -> tuple[Tool, ...]:
    """The tools that a request offers.

    Raises:
        InputError: they are of another form, or hold text in a field that nobody reads.
    """
    if fields.get("tools") is None:
        return ()
    for index, item in enumerate(as_list(fields["tools"], "tools")):
        _require_tool(as_object(item, f"tools[{index}]"), f"tools[{index}]")
    return parse_tools(fields["tools"])


def forwarded(fields: Object, messages: Sequence[Message], tools: Sequence[Tool]) -> Object:
    """The request with its messages and tools written anew.

    Args:
        fields: the decoded body.
        messages: read of it.
        tools: read of it.
    """
    given = as_list(fields["messages"], "messages")
    names = _names(messages, tools)
    anew: Object = {"messages": [_message(*pair, names) for pair in zip(given, messages, strict=True)]}
    if fields.get("tools") is not None:
        anew["tools"] = [_tool(*pair) for pair in zip(as_list(fields["tools"], "tools"), tools, strict=True)]
    return fields | anew


def call_of(call: ToolCall) -> Object:
    """A tool call in OpenAI's form. An id that could hold more than a name, since models write some, is hashed."""
    return {"id": _plain_id(call.id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _message(given: Any, read: Message, names: Collection[str]) -> Object:
    found: Object = {"role": given["role"]}
    if "content" in given:
        found["content"] = _content(given["content"])
    found |= {name: given[name] for name in ("name", "refusal") if given.get(name)}
    if read.tool_call_id:
        found["tool_call_id"] = _upstream_id(read.tool_call_id, names)
    if read.tool_calls:
        found["tool_calls"] = [_call(call, names) for call in read.tool_calls]
    return found | _mark(given)


def _call(read: ToolCall, names: Collection[str]) -> Object:
    identity = {"id": _upstream_id(read.id, names)} if read.id else {}
    return {**identity, "type": "function", "function": {"name": read.name, "arguments": read.arguments}}


def _content(given: Any) -> Any:
    """What is read of parts: one text. Where marks have to stay with their parts, these bear the line breaks."""
    if not isinstance(given, list):
        return given
    texts = [part[part["type"]] for part in given]
    marks = [_mark(part) for part in given]
    if not any(marks):
        return "\n".join(texts)
    ends = ["\n"] * (len(texts) - 1) + [""]
    rows = zip(texts, ends, marks, strict=True)
    return [{"type": "text", "text": text + end} | mark for text, end, mark in rows]


def _tool(given: Any, read: Tool) -> Object:
    inner = given if given.get("function") is None else given["function"]
    if inner.get("name") is None:  # a tool of the upstream's own, of which there is only the type
        return {"type": read.name} | _mark(given)
    function = {name: inner[name] for name in ("name", "description", "parameters") if inner.get(name) is not None}
    if isinstance(inner.get("parameters"), str):
        shown = json_object(inner["parameters"])
        function["parameters"] = inner["parameters"] if shown is None else shown
    strict = {"strict": inner["strict"]} if isinstance(inner.get("strict"), bool) else {}
    return {"type": "function", "function": function | strict} | _mark(given)


def _names(messages: Sequence[Message], tools: Sequence[Tool]) -> set[str]:
    """Of tools and calls, which are read as such: results of tools bear them too."""
    return called_names(messages) | {tool.name for tool in tools}


def _with_name(message: Message, read_elsewhere: Collection[str]) -> Message:
    if not message.name or message.name in read_elsewhere:
        return message
    return msgspec.structs.replace(message, content=f"{message.name}\n{message.content}")


def _plain_id(name: str) -> str:
    """An id as it is where it is no more than a word."""
    return name if not name or WORD.fullmatch(name) else _hashed(name)


def _upstream_id(name: str, names: Collection[str]) -> str:
    """A hash, or the id as it is where it only numbers a call of a tool that is read: some models know no other."""
    numbered = _NUMBERED.fullmatch(name)
    return name if numbered and numbered[1] in names else _hashed(name)


def _hashed(name: str) -> str:
    """The same for the same id, in a call and in its result, and of nobody's words."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return digest[:9] if _SHORT_ID.fullmatch(name) else f"call_{digest[:24]}"


def _require_message(message: Object, at: str) -> None:
    _require_only(message, at, _MESSAGE)
    content, calls = message.get("content"), message.get("tool_calls")
    for number, item in enumerate(content if isinstance(content, list) else ()):
        part = as_object(item, f"{at}.content[{number}]")
        kind = part.get("type")
        _require_only(part, f"{at}.content[{number}]", {"type", kind if kind in _PARTS else "text"})
    for number, item in enumerate(as_list(calls or [], f"{at}.tool_calls")):
        _require_nested(as_object(item, f"{at}.tool_calls[{number}]"), f"{at}.tool_calls[{number}]", _CALL, _CALLED)


def _require_tool(tool: Object, at: str) -> None:
    kind, function = tool.get("type"), tool.get("function")
    if kind == "custom":
        raise wrong(f"{at}.type", "'custom'", "function: what a custom tool is given is not looked at")
    _require_nested(tool, at, _TOOL, _OFFERED)
    inner = tool if function is None else as_object(function, f"{at}.function")
    if inner.get("name") is not None and kind not in (None, "", "function"):
        raise wrong(f"{at}.type", described(kind), "function, since it has a name")


def _require_nested(value: Object, at: str, outer: Collection[str], inner: Collection[str]) -> None:
    """``inner`` stands under ``function`` in OpenAI's form, beside ``outer`` in ours, and never in both."""
    if value.get("function") is None:
        return _require_only(value, at, {*outer, *inner})
    _require_only(value, at, {*outer, "function"})
    return _require_only(as_object(value["function"], f"{at}.function"), f"{at}.function", inner)


def _require_only(value: Object, at: str, read: Collection[str]) -> None:
    """Refuse text in a field that nobody reads."""
    _require_spelled(value, at, read)
    for name, each in value.items():
        if name in read or name in _LEFT_OUT or (name in _REFUSED and "role" in read):
            continue
        if _holds_text(each) and not is_mark(name, each):
            place = f"{at}.{name}" if name in _TOLD else at
            raise wrong(place, "text that nobody reads", f"text in {', '.join(sorted(read))} only")


def _mark(value: Object) -> Object:
    marked = is_mark("cache_control", value.get("cache_control"))
    return {"cache_control": value["cache_control"]} if marked else {}


def _require_spelled(value: Object, at: str, read: Collection[str]) -> None:
    """Refuse a name that some readers take for one that is read here: they do not mind capitals."""
    folded = {name.casefold(): name for name in read}
    for name in value:
        if folded.get(name.casefold(), name) != name:
            raise wrong(at or "the body", f"a field {name!r}", f"{folded[name.casefold()]!r}, spelled so")


def _holds_text(value: object) -> bool:
    return any(map(_holds_text, value)) if isinstance(value, list) else isinstance(value, str | dict) and bool(value)
