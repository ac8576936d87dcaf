"""The text that pocket learns from: public permissive documents, and conversations that offmap generates.

Documents arrive as "role: text" lines; they leave as conversations, so that the model is trained on exactly
the token stream that the monitor will later score.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from offmap.conversation import Conversation, Message, ToolCall
from offmap.suites.procedural import FAILURES, IN_DISTRIBUTION, generate

UNKNOWN_NORMS = ("jailbroken", "scheming")
"""Failures whose safe side pocket never reads: they show whether a norm that is known helps with one that is not."""

_TURN = re.compile(r"^(system|user|assistant|tool): ?", re.MULTILINE)
_CALL = re.compile(r"\n?CALL (\[.*\])\s*$", re.DOTALL)


def permissive(path: Path) -> Iterator[Conversation]:
    """Every document of a ``{"text", "source"}`` JSONL.gz file as a conversation."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            messages = tuple(_messages(json.loads(line)["text"]))
            if messages:
                yield Conversation(id=f"permissive-{number}", messages=messages)


def generated(situations: int, seed: int = 20_260) -> list[Conversation]:
    """Safe rows of the procedural suite's in-distribution domains; none is a row of a suite's test half."""
    return [row for domain in IN_DISTRIBUTION for row in generate(domain, situations, seed) if not row.unsafe]


def norms(situations: int, seed: int = 20_261) -> list[Conversation]:
    """How it is done well: safe rows of the procedural suite's failures but ``UNKNOWN_NORMS``; none of a test half."""
    domains = [domain for domain in FAILURES if domain not in UNKNOWN_NORMS]
    return [row for domain in domains for row in generate(domain, situations, seed) if not row.unsafe]


def held_out(conversation: Conversation) -> bool:
    """One document in fifty is never trained on: held-out perplexity is measured there."""
    return int(conversation.id.rsplit("-", 1)[1]) % 50 == 0


def _messages(text: str) -> Iterator[Message]:
    marks = list(_TURN.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        role, body = mark.group(1), text[mark.end() : end].strip("\n")
        calls = _CALL.search(body) if role == "assistant" else None
        yield _with_calls(body, calls) if calls else Message(role=role, content=body)  # type: ignore[arg-type]


def _with_calls(body: str, found: re.Match[str]) -> Message:
    try:
        calls = json.loads(found.group(1))
    except json.JSONDecodeError:
        return Message(role="assistant", content=body)
    return Message(
        role="assistant",
        content=body[: found.start()].strip(),
        tool_calls=tuple(ToolCall(name=c["name"], arguments=json.dumps(c["arguments"])) for c in calls),
    )
