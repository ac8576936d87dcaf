"""OpenAI chat completions as plain data: requests read, replies read, answers written. No HTTP, no engine.

What is passed on to the upstream is what was read and looked at, written anew: a body with a name twice, or with
"Messages" beside "messages", would be read in one way here and maybe in another there (``chat_forwarded`` is about
messages and tools, ``chat_settings`` about all other fields). Of a reply only those fields are passed on that are
known, since whatever else holds text (a model's reasoning, for one) was looked at by nobody.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import msgspec

from offmap.conversation import Conversation, Message, parse_messages
from offmap.conversation.fields import Object, as_list, as_object, described, optional_text, wrong
from offmap.gateway.decision import Decision
from offmap.gateway.wire.chat_forwarded import call_of, forwarded, read_messages, read_tools
from offmap.gateway.wire.chat_settings import require_settings

MOST_CHOICES = MOST_CALLS = 128
"""As many choices as OpenAI gives; and as many calls as one reply may make."""
_NAME, _REASON = re.compile(r"[\w.:/@+\-]{1,256}", re.ASCII), re.compile(r"[a-z_]{1,24}")
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
        body: what goes upstream.
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
    messages, tools = read_messages(fields), read_tools(fields)
    require_settings(fields, [tool.name for tool in tools], unseen)
    stream = False if fields.get("stream") is None else fields["stream"]
    n = 1 if fields.get("n") is None else fields["n"]
    if not isinstance(stream, bool):
        raise wrong("stream", described(stream), "true or false")
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_CHOICES:
        raise wrong("n", described(n), f"a number from 1 to {MOST_CHOICES}")
    if stream and fields.get("logprobs"):
        raise wrong("logprobs", described(fields["logprobs"]), "none in a stream: text is held back and cut anew there")
    if fields.get("top_logprobs"):
        raise wrong("top_logprobs", described(fields["top_logprobs"]), "none: what was not said is not looked at")
    options = as_object(fields.get("stream_options") or {}, "stream_options")
    body, row = forwarded(fields, messages, tools), Conversation("chat", messages, tools=tools)
    return ChatRequest(body, row, stream, n, options.get("include_usage") is True)


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
    return {name: value for name, value in found.items() if not isinstance(value, str) or _NAME.fullmatch(value)}


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
    """Why a choice ended: as the upstream says in a word, or since a part of it was taken out."""
    if changed and not kept.tool_calls:
        return "content_filter"
    return reason if _REASON.fullmatch(reason) else "stop"


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


def _counts(value: Object, names: Iterable[str]) -> Object:
    """Those of the names that have a number; true and false are none."""
    found = {name: value.get(name) for name in names}
    return {name: each for name, each in found.items() if isinstance(each, int | float) and not isinstance(each, bool)}
