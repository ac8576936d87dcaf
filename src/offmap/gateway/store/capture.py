"""What is kept of content: nothing, a hash, redacted text, or all of it. Knows nothing of the data base.

``none``, the default, keeps nothing that comes from the content. ``hash`` keeps its SHA-256, which proves what was
looked at to whoever has the content, but lets a short or guessable one be found by trial. ``redacted`` keeps the
content as ``redaction`` leaves it, with what that cannot promise, up to ``READABLE`` characters, and no hash of the
original: a redacted number could be found from it by trial. ``full`` keeps everything.

All that is kept of content is one text, ``Kept`` as JSON, so that it can be purged by itself; the record beside it,
which stays for good, holds none of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal, get_args

import msgspec

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.evidence import Span
from offmap.gateway.decision import Decision
from offmap.gateway.redaction import redact, redact_value

Capture = Literal["none", "hash", "redacted", "full"]
CAPTURES: tuple[Capture, ...] = get_args(Capture)
REDACTED_SPAN = "[redacted]"
READABLE = 1 << 17
"""Characters of a conversation that are redacted: about a tenth of a second, or four of digits and hyphens, for which
the records of other decisions wait."""
_EACH = 64
"""Characters that a message counts besides its own."""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of content.

    Attributes:
        content: what was looked at, redacted or whole; empty where there is none.
        note: a reviewer's words.
        sha256: of what was looked at.
        spans: the text of each span of each finding.
    """

    content: msgspec.Raw = msgspec.Raw()
    note: str = ""
    sha256: str = ""
    spans: tuple[tuple[str, ...], ...] = ()


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces. Half of a surrogate pair, which UTF-8 lacks, becomes its escape as text."""
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_writable(msgspec.to_builtins(value)), order="sorted").decode()


def captured(decision: Decision, content: object, capture: Capture) -> tuple[Decision, str | None]:
    """A decision as it may be recorded for good, and what is kept of content: ``Kept`` as canonical JSON, or None.

    Args:
        decision: the record loses the text of its spans and the hash of what was looked at. In redacted text a span's
            text is kept only if it stands there word for word, since a span alone may be half of a secret.
        content: anything that msgspec can write as JSON; None for no content.
        capture: what is kept.
    """
    findings = decision.findings
    if any(each.spans for each in findings):
        findings = tuple(msgspec.structs.replace(each, spans=_with_texts(each.spans, ())) for each in findings)
    record = msgspec.structs.replace(decision, content_sha256="", findings=findings)
    if capture == "none":
        return record, None
    if capture == "hash":
        return record, _written(sha256=decision.content_sha256 or _digest(content) or None)
    shown = content if capture == "full" else redact_value(msgspec.to_builtins(_readable(content)))
    texts = None if capture == "full" else tuple(_texts(shown))
    spans = [[_span_text(span, texts) for span in each.spans] for each in decision.findings]
    digest = decision.content_sha256 if capture == "full" else ""
    return record, _written(content=shown, sha256=digest or None, spans=spans if any(spans) else None)


def captured_note(note: str, capture: Capture) -> str:
    """A reviewer's words as they may be stored: they may quote the content, so they are redacted unless all is kept."""
    return note if capture == "full" else redact(note)


def kept_note(note: str | None) -> str | None:
    """A reviewer's words, as ``captured_note`` leaves them, as what is kept of content; None for none."""
    return _written(note=note or None)


def kept(content: str | None) -> Kept:
    """What a row's content holds; nothing where it has none, or had it purged.

    Raises:
        InputError: it is not what ``captured`` gives.
    """
    if content is None:
        return Kept()
    try:
        return msgspec.json.decode(content, type=Kept)
    except msgspec.DecodeError as error:
        raise InputError(f"content of an audit row: found no JSON of ours ({error})") from None


def restored(record: Decision, content: str | None) -> Decision:
    """A recorded decision with the texts and the hash that are kept beside it, as far as they are.

    Raises:
        InputError: see ``kept``.
    """
    found = kept(content)
    texts = found.spans + ((),) * len(record.findings)
    findings = tuple(
        msgspec.structs.replace(each, spans=_with_texts(each.spans, own))
        for each, own in zip(record.findings, texts, strict=False)
    )
    return msgspec.structs.replace(record, content_sha256=found.sha256, findings=findings)


def _readable(content: object) -> object:
    """What is redacted of a conversation: what there is room for. Of the rest only how much it is.

    A text is left out whole: of one that is cut, half a secret could stay.
    """
    if not isinstance(content, Conversation):
        return content
    messages: list[Message] = []
    tools = content.tools if _size(content.tools) <= READABLE // 2 else ()
    room = READABLE - _size(tools)
    for message in content.messages:
        if room < _EACH:
            messages.append(Message("system", f"[{len(content.messages) - len(messages)} messages left out]"))
            break
        size = _size(message) - len(message.role)
        fits = size + _EACH <= room
        messages.append(message if fits else Message(message.role, f"[{size} characters left out]"))
        room -= _EACH + size * fits
    told = (Message("system", "[tools left out]"),) if tools != content.tools else ()
    return msgspec.structs.replace(content, messages=(*messages, *told), tools=tools)


def _size(part: object) -> int:
    """Characters of all texts of a part."""
    return sum(map(len, _texts(msgspec.to_builtins(part))))


def _digest(content: object) -> str:
    return "" if content is None else hashlib.sha256(canonical(content).encode()).hexdigest()


def _written(**parts: object) -> str | None:
    """The parts that there are as canonical JSON, None where there are none."""
    there = {name: value for name, value in parts.items() if value is not None}
    return canonical(there) if there else None


def _span_text(span: Span, texts: tuple[str, ...] | None) -> str:
    return span.text if texts is None or any(span.text in text for text in texts) else REDACTED_SPAN


def _with_texts(spans: tuple[Span, ...], texts: tuple[str, ...]) -> tuple[Span, ...]:
    """The spans with these texts, "" where there are fewer."""
    both = zip(spans, texts + ("",) * len(spans), strict=False)
    return tuple(msgspec.structs.replace(span, text=text) for span, text in both)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _writable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    return [_writable(item) for item in value] if isinstance(value, list | tuple) else value
