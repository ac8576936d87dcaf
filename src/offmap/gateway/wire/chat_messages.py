"""OpenAI chat completions as plain data: requests read, replies read, answers written. No HTTP, no engine.

What is passed on to the upstream is what was read and looked at, written anew: a body with a name twice, or with
"Messages" beside "messages", would be read in one way here and maybe in another there. Messages, their parts and calls,
and tools may hold no text in fields that are not read: templates write some of them into the prompt (``chat_settings``
is about all other fields). Ids of calls, which no monitor reads, are made words of; the names of speakers are read
where they are more. Of a reply only those fields are passed on that are known, since whatever else holds text (a
model's reasoning, for one) was looked at by nobody.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from offmap.conversation import Conversation, Message, ToolCall, parse_messages, parse_tools
from offmap.conversation.fields import Object, as_list, as_object, described, optional_text, wrong
from offmap.gateway.decision import Decision
from offmap.gateway.wire.chat_settings import require_settings

MOST_CHOICES = MOST_CALLS = 128
"""As many choices as OpenAI gives; and as many calls as one reply may make."""
_READ = (
    "messages tools tool_choice stream n role content tool_calls function arguments name type text image_url url "
    "refusal modalities audio functions function_call chat_template documents"
).split()
_FOLDED = {name.casefold(): name for name in _READ}
_FUNCTION = {"type", "function", "name", "description", "parameters", "arguments", "id"}
_LOOKED_AT = {
    "messages": set("role content name tool_calls tool_call_id refusal images function_call audio".split()),
    "tools": _FUNCTION - {"arguments", "id"},
    "tool_calls": _FUNCTION - {"description", "parameters"},
}
"""Field -> the names within it whose text is looked at, or refused by who reads them."""
_WORD = re.compile(r"[\w.:\-]{1,64}", re.ASCII)
_ENVELOPE = ("id", "created", "model", "system_fingerprint", "service_tier")
_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_PREDICTED = ("accepted_prediction_tokens", "rejected_prediction_tokens")
_USAGE_PARTS = {
    "prompt_tokens_details": ("audio_tokens", "cache_write_tokens", "cached_tokens", "image_tokens", "text_tokens"),
    "completion_tokens_details": (*_PREDICTED, "audio_tokens", "reasoning_tokens", "text_tokens"),
}
"""The parts of a count, and the names within each. Read from openai 3.54: types/completion_usage.py."""


@dataclass(frozen=True)
class ChatRequest:
    """What a caller asks for.

    Attributes:
        body: the whole request, with all that is not read here.
        conversation: its messages and tools.
        stream: whether the answer is wanted in pieces.
        n: how many choices are wanted.
        usage: whether a stream shall end with a count of tokens.
    """

    body: Object
    conversation: Conversation
    stream: bool = False
    n: int = 1
    usage: bool = False

    @property
    def model(self) -> str:
        """The model asked for, "" where that is no text."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    def with_tools(self, allowed: Collection[str]) -> ChatRequest:
        """The same with those tools only whose names are allowed; where none is left, without any."""
        tools, offered = as_list(self.body.get("tools") or [], "tools"), self.conversation.tools
        kept = [pair for pair in zip(tools, offered, strict=True) if pair[1].name in allowed]
        body = {name: value for name, value in self.body.items() if name not in ("tools", "tool_choice")}
        if kept:
            body["tools"] = [tool for tool, _ in kept]
        else:
            body.pop("parallel_tool_calls", None)
        conversation = msgspec.structs.replace(self.conversation, tools=tuple(tool for _, tool in kept))
        return replace(self, body=body, conversation=conversation)


@dataclass(frozen=True)
class Reply:
    """One choice of an answer.

    ``message`` is what is looked at: its content is ``content``, then ``refusal``, the model's own.
    """

    index: int
    message: Message
    content: str
    finish_reason: str
    logprobs: object = None


def read_request(fields: Object, unseen: Collection[str] = ()) -> ChatRequest:
    """The request that a decoded body holds.

    Args:
        fields: the decoded body.
        unseen: names of fields that are passed on whatever they hold.

    Raises:
        InputError: a field that is read has the wrong type; or something is asked for that cannot be looked at: sound,
            pictures, custom tools, a template, log-probabilities of a stream or of what was not said, text in a field
            that is not read.
    """
    _require_supported(fields)
    messages = tuple(map(_with_name, parse_messages(fields.get("messages"))))
    for index, message in enumerate(messages):
        if message.images:
            raise wrong(f"messages[{index}].content", "a picture", "text: pictures are not looked at by this gateway")
    tools = () if fields.get("tools") is None else parse_tools(fields["tools"])
    require_settings(fields, [tool.name for tool in tools], unseen)
    stream, n = fields.get("stream") or False, 1 if fields.get("n") is None else fields["n"]
    if not isinstance(stream, bool):
        raise wrong("stream", described(stream), "true or false")
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_CHOICES:
        raise wrong("n", described(n), f"a number from 1 to {MOST_CHOICES}")
    if stream and fields.get("logprobs"):
        raise wrong("logprobs", described(fields["logprobs"]), "none in a stream: text is held back and cut anew there")
    if fields.get("top_logprobs"):
        raise wrong("top_logprobs", described(fields["top_logprobs"]), "none: what was not said is not looked at")
    told = fields.get("stream_options")
    usage = told is not None and bool(as_object(told, "stream_options").get("include_usage"))
    fields = fields | {"messages": [_with_plain_ids(each) for each in as_list(fields["messages"], "messages")]}
    return ChatRequest(fields, Conversation("chat", messages, tools=tools), stream, n, usage)


def read_replies(answer: Object, n: int) -> list[Reply]:
    """The choices of an upstream's answer to a request for ``n`` of them.

    Raises:
        InputError: there are none, or one says something in a form that is not looked at.
    """
    replies = [_reply(choice, n) for choice in as_list(answer.get("choices"), "choices")]
    if not replies or len({reply.index for reply in replies}) < len(replies):
        raise wrong("choices", f"{len(replies)}", "at least one, each with an index of its own")
    return replies


def _reply(choice: object, n: int) -> Reply:
    fields = as_object(choice, "choices")
    index = fields.get("index", 0)
    if not isinstance(index, int) or not 0 <= index < n:
        raise wrong("choices.index", described(index), f"a number below {n}")
    said = as_object(fields.get("message"), "choices.message")
    (message,) = parse_messages([{**said, "role": "assistant", "refusal": None}], "choices.message")
    refusal = optional_text(said.get("refusal"), "choices.message.refusal")
    if message.images:
        raise wrong("choices.message.content", "images", "text")
    if len(message.tool_calls) > MOST_CALLS:
        raise wrong("choices.message.tool_calls", f"{len(message.tool_calls)} calls", f"at most {MOST_CALLS}")
    whole = Message("assistant", message.content + refusal, message.tool_calls)
    reason = optional_text(fields.get("finish_reason"), "choices.finish_reason") or "stop"
    return Reply(index, whole, message.content, reason, fields.get("logprobs"))


def envelope(answer: Object) -> Object:
    """What an answer or a chunk says about itself: numbers and short names, nothing that a model wrote."""
    found = {name: answer[name] for name in _ENVELOPE if isinstance(answer.get(name), str | int)}
    return {name: value for name, value in found.items() if not isinstance(value, str) or len(value) <= 256}


def usage_of(answer: Object) -> Object | None:
    """The upstream's count of tokens: numbers under OpenAI's names, since any other name could be a text."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    parts = {name: usage[name] for name in _USAGE_PARTS if isinstance(usage.get(name), dict)}
    return _counts(usage, _NO_USAGE) | {name: _counts(each, _USAGE_PARTS[name]) for name, each in parts.items()}


def choice_of(reply: Reply, kept: Message) -> Object:
    """A choice that says what may be passed on of a reply."""
    changed = kept != reply.message
    content, refusal = kept.content[: len(reply.content)], kept.content[len(reply.content) :]
    message: Object = {"role": "assistant", "content": content or None, "refusal": refusal or None}
    if not kept.tool_calls and not refusal:
        message["content"] = content
    if kept.tool_calls:
        message["tool_calls"] = [call_of(call) for call in kept.tool_calls]
    reason = reason_for(reply.finish_reason, kept, changed=changed)
    logprobs = None if changed else logprobs_of(reply.logprobs, reply.content)
    return {"index": reply.index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def refused_choice(index: int, text: str) -> Object:
    """A choice that was stopped: the policy's text as a refusal."""
    message = {"role": "assistant", "content": None, "refusal": text}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": "content_filter"}


def reason_for(reason: str, kept: Message, *, changed: bool) -> str:
    """Why a choice ended: as the upstream says, or since a part of it was taken out."""
    return "content_filter" if changed and not kept.tool_calls else reason


def logprobs_of(found: object, content: str) -> Object | None:
    """The log-probabilities of the tokens that were said; None where these do not spell what was looked at."""
    listed = found.get("content") if isinstance(found, dict) else None
    tokens = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    said = [each.get("token") for each in tokens]
    texts = [text for text in said if isinstance(text, str)]
    if not texts or len(texts) < len(said) or "".join(texts) != content:
        return None
    numbers = [token.get("logprob") for token in tokens]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    each = zip(texts, numbers, strict=True)
    kept = [{"token": text, "logprob": p, "bytes": list(text.encode()), "top_logprobs": []} for text, p in each]
    return {"content": kept, "refusal": None}


def call_of(call: ToolCall) -> Object:
    """A tool call in OpenAI's form. An id that could hold more than a name, since models write some, is hashed."""
    return {"id": plain_id(call.id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def plain_id(name: str) -> str:
    """An id that is no more than a word, the same for the same one: another is hashed, since prompts hold ids."""
    if not name or _WORD.fullmatch(name):
        return name
    return f"call_{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:24]}"


def completion(head: Object, choices: Iterable[Object], usage: Object | None) -> Object:
    """A whole answer."""
    body: Object = {"object": "chat.completion", **head, "choices": list(choices)}
    return body if usage is None else {**body, "usage": usage}


def own_head(decision: Decision, model: str) -> Object:
    """The head of an answer that no upstream gave."""
    known = decision.on_record or secrets.token_hex(16)  # nobody would find what is not on record
    return {"id": f"chatcmpl-{known}", "created": int(decision.at), "model": model}


def stopped_completion(decision: Decision, request: ChatRequest, text: str) -> Object:
    """The answer to a request that was stopped before the upstream saw it."""
    choices = [refused_choice(index, text) for index in range(request.n)]
    return completion(own_head(decision, request.model), choices, dict(_NO_USAGE))


def error_body(message: str, kind: str, code: str = "") -> Object:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}


def _with_name(message: Message) -> Message:
    """What is looked at of a message: with its speaker's name, where that says more than a word."""
    if not message.name or _WORD.fullmatch(message.name):
        return message
    return msgspec.structs.replace(message, content=f"{message.name}\n{message.content}")


def _with_plain_ids(message: Any) -> Object:
    """The same message with ids that are no more than words: no monitor reads them."""
    found: Object = dict(message)
    if isinstance(name := found.get("tool_call_id"), str):
        found["tool_call_id"] = plain_id(name)
    calls: Any = found.get("tool_calls") or []
    if calls:
        found["tool_calls"] = [each | {"id": plain_id(each["id"])} if each.get("id") else each for each in calls]
    return found


def _require_supported(fields: Object) -> None:
    _require_spelled(fields, "")
    for index, message in enumerate(as_list(fields.get("messages"), "messages")):
        _require_spelled(message, f"messages[{index}]")
        _require_looked_at(message, f"messages[{index}]", "messages")
        _require_read(as_object(message, f"messages[{index}]"), f"messages[{index}]")
    for index, item in enumerate(as_list(fields.get("tools") or [], "tools")):
        tool = as_object(item, f"tools[{index}]")
        if tool.get("type") == "custom":
            raise wrong(f"tools[{index}].type", "'custom'", "function: what a custom tool is given is not looked at")
        _require_looked_at(tool, f"tools[{index}]", "tools")


def _require_spelled(value: Any, at: str) -> None:
    """Refuse a name that some readers take for one that is read here: they do not mind capitals."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            for name in item:
                if _FOLDED.get(name.casefold(), name) != name:
                    raise wrong(at or "the body", f"a field {name!r}", f"{_FOLDED[name.casefold()]!r}, spelled so")
            pending += [each for name, each in item.items() if at and name != "arguments"]


def _require_looked_at(value: object, at: str, kind: str) -> None:
    """Refuse text in a field that nobody looks at, which a model's template may write into its prompt."""
    known = _LOOKED_AT[kind]
    for name, each in as_object(value, at).items():
        if name not in known and _holds_text(each):
            wanted = f"text in {', '.join(sorted(known))} only: no other field is looked at"
            raise wrong(at, f"text in a field {name!r}", wanted)
        if name == "function" and isinstance(each, dict):
            _require_looked_at(each, f"{at}.function", kind)
        if name == "tool_calls":
            for number, call in enumerate(as_list(each or [], f"{at}.tool_calls")):
                _require_looked_at(call, f"{at}.tool_calls[{number}]", "tool_calls")


def _require_read(message: Object, at: str) -> None:
    """Refuse what a message says in a part beside that part's own text: nobody reads it."""
    content = message.get("content")
    for number, item in enumerate(content if isinstance(content, list) else ()):
        part = as_object(item, f"{at}.content[{number}]")
        for name, each in part.items():
            if name not in ("type", part.get("type")) and _holds_text(each) and not _is_mark(name, each):
                raise wrong(f"{at}.content[{number}]", f"text in a field {name!r}", "only the field named by its type")


def _is_mark(name: str, value: object) -> bool:
    """Whether a field of a part is what clients mark parts with: an id, or what is to be cached and how long."""
    words = list(value.values()) if name == "cache_control" and isinstance(value, dict) else [value]
    named = name == "id" or (isinstance(value, dict) and set(value) <= {"type", "ttl"})
    return named and all(isinstance(each, str) and _WORD.fullmatch(each) for each in words)


def _holds_text(value: object) -> bool:
    return any(map(_holds_text, value)) if isinstance(value, list) else isinstance(value, str | dict) and bool(value)


def _counts(value: Object, names: Iterable[str]) -> Object:
    """Those of the names that have a number; true and false are none."""
    found = {name: value.get(name) for name in names}
    return {name: each for name, each in found.items() if isinstance(each, int | float) and not isinstance(each, bool)}
