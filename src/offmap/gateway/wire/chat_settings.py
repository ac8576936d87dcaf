"""Which settings of a chat request may pass: what could carry text to the model is looked at, named here, or refused.

True, false, a number and null pass under any name: samplers have many. A text, a list and a table pass under the names
that are known to reach no prompt, as far as their values are what these names stand for. What an operator passes on
unseen all the same is named in the configuration (``upstream.unseen``). Knows nothing of messages.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from offmap.conversation.fields import Object, as_object, described, wrong

_READ = set("messages tools stream n logprobs top_logprobs stream_options".split())
"""Looked into by those who read them."""
_CHECKED = {"tool_choice", "modalities", "chat_template_kwargs", "response_format"}
"""Looked into here, each by a rule of its own."""
_UNLESS = "unless upstream.unseen in gateway.toml names it"
_PROMPT = {"truncate_prompt_tokens", "prompt_truncate_len", "continue_final_message", "add_generation_prompt"}
_TEMPLATE = _PROMPT | {"truncation", "max_length", "tokenize", "chat_template"}
"""What may not stand in ``chat_template_kwargs``: some servers hand it to the function that writes the prompt."""
_REFUSED = {
    "functions": "tools (functions is their retired form)",
    "function_call": "tool_choice (function_call is its retired form)",
    "audio": "no sound: it cannot be looked at",
    "chat_template": "none: a template can hold text that is not looked at",
    "documents": "messages: documents are not looked at",
} | dict.fromkeys(_PROMPT, f"none: the model would read another prompt than was looked at, {_UNLESS}")
_NAMES = {"model", "user", "safety_identifier", "prompt_cache_key"}
"""Texts that say who asks whom, and are in no prompt."""
_WORDS = {"reasoning_effort", "verbosity", "service_tier", "prompt_cache_retention"}
"""Some templates write these into the prompt: no more than a word."""
_NUMBERS = {"logit_bias", "stop_token_ids"}
_OFTEN = set(
    "reasoning thinking safety_settings "
    "prompt metadata prediction web_search_options guided_json guided_regex guided_choice guided_grammar "
    "stop structured_outputs bad_words prompt_embeds previous_response_id instructions system input extra_body".split()
)
"""Names of settings that an error may repeat; any other name could be somebody's text."""
_CHOICE = {"type", "function", "name", "mode", "tools", "allowed_tools"}
_CHOICES = {"none", "auto", "required", "any", "function", "allowed_tools"}
_NAME = re.compile(r"[\w.\-]{1,64}", re.ASCII)
_STREAM = {"include_usage", "include_obfuscation"}
_WORD = re.compile(r"[a-z0-9_\-]{1,24}", re.ASCII)
_LONGEST = 512
"""Characters of a name, or of a text that ends an answer."""


def require_settings(fields: Object, tools: Collection[str], unseen: Collection[str] = ()) -> None:
    """Refuse what could reach the model unseen.

    Args:
        fields: the decoded body.
        tools: names of the tools that it offers.
        unseen: fields that pass whatever they hold.

    Raises:
        InputError: there is such a thing; the message repeats no text of it.
    """
    for name, value in fields.items():
        if not _NAME.fullmatch(name):
            raise wrong("in the body", "a name of a setting", "one of at most 64 letters, digits and any of _ . -")
        if value is not None and name not in unseen:
            _require_setting(name, value)
    _require_choice(fields.get("tool_choice"), set(tools) | _CHOICES)


def _require_setting(name: str, value: object) -> None:
    if name in _REFUSED:
        raise wrong(name, described(value), _REFUSED[name])
    if name == "model" and not isinstance(value, str):
        raise wrong(name, described(value), "text")
    if name == "modalities" and value != ["text"]:
        raise wrong(name, described(value), 'none, or ["text"]')
    if name == "chat_template_kwargs":
        _require_harmless_template(as_object(value, name), name)
    if name == "response_format" and not _is_format(as_object(value, name)):
        raise wrong(name, described(value), f"no schema, since nobody looks at it, {_UNLESS}")
    if name == "logprobs" and not isinstance(value, bool):
        raise wrong(name, described(value), "true or false")
    if name == "stream_options" and not _is_stream(as_object(value, name)):
        raise wrong(name, described(value), "true or false for include_usage and include_obfuscation, and nothing else")
    if name in _NAMES and isinstance(value, str) and len(value) > _LONGEST:
        raise wrong(name, f"{len(value)} characters", f"at most {_LONGEST}")
    if name not in _READ | _CHECKED and not _harmless(name, value):
        known = name in _NAMES | _WORDS | _NUMBERS | _OFTEN
        wanted = f"no text, list or table there, since nobody looks at it, {_UNLESS}"
        raise wrong(name if known else "in the body", described(value), wanted)


def _require_harmless_template(value: Object, at: str) -> None:
    if not _plain(value):
        raise wrong(at, described(value), "true, false or a number under each name: text is not seen")
    for name in sorted(_TEMPLATE & value.keys()):
        raise wrong(f"{at}.{name}", described(value[name]), _REFUSED["truncate_prompt_tokens"])


def _harmless(name: str, value: object) -> bool:
    """Whether a setting holds nothing that could be read in a prompt."""
    if isinstance(value, bool | int | float) or value in ([], {}):
        return True
    if name in _NAMES:
        return isinstance(value, str)
    if name in _WORDS:
        return isinstance(value, str) and _WORD.fullmatch(value) is not None
    if name == "stop":
        return all(isinstance(each, str) and len(each) <= _LONGEST for each in _listed(value))
    if name in _NUMBERS:
        return _plain(value if isinstance(value, dict) else {str(n): each for n, each in enumerate(_listed(value))})
    return False


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _plain(value: Object) -> bool:
    """Whether there are only numbers and the like under names that say no more than a word."""
    numbers = (each is None or isinstance(each, bool | int | float) for each in value.values())
    return all(numbers) and all(map(_NAME.fullmatch, value))


def _is_stream(value: Object) -> bool:
    return set(value) <= _STREAM and all(each is None or isinstance(each, bool) for each in value.values())


def _is_format(value: Object) -> bool:
    return set(value) <= {"type"} and value.get("type") in ("text", "json_object")


def _require_choice(value: object, known: Collection[str]) -> None:
    """Refuse a choice of tools that names another than those offered."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and item not in known:
            raise wrong("tool_choice", "another text", "none, auto, required or the names of offered tools")
        if isinstance(item, int | float) or (isinstance(item, dict) and not set(item) <= _CHOICE):
            raise wrong("tool_choice", "another field", f"text in {', '.join(sorted(_CHOICE))} only")
        pending += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
