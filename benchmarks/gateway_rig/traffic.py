"""What is asked and answered: chats from the procedural suite, as OpenAI's clients and servers write them.

The field ``seed`` of a request is the number of its exchange, so that the upstream, who knows them all, finds the
answer; every proxy passes it on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from offmap.atomic import write_whole
from offmap.conversation import Conversation, Message

DOMAINS = ("helpful", "harmless", "function-calling")
MODEL = "mock"
PIECE = 4
"""Characters of a piece of a stream, about a token."""


class Exchange(msgspec.Struct, frozen=True):
    """A conversation as far as it was asked, and the reply."""

    name: str
    asked: Conversation
    reply: Message

    def stages(self) -> list[Conversation]:
        """What the gateway looks at, one after the other: the request, the reply, each tool call by itself."""
        replied = [self.reply, *(msgspec.structs.replace(self.reply, tool_calls=(c,)) for c in self.reply.tool_calls)]
        whole = [msgspec.structs.replace(self.asked, messages=(*self.asked.messages, each)) for each in replied]
        return [self.asked, *whole]

    def request(self, *, stream: bool = False) -> bytes:
        """The body of its request."""
        body: dict[str, Any] = {
            "model": MODEL,
            "seed": int(self.name),
            "messages": [_written(message) for message in self.asked.messages],
        }
        if self.asked.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": msgspec.Raw(tool.parameters.encode()),
                    },
                }
                for tool in self.asked.tools
            ]
        return msgspec.json.encode(body | ({"stream": True} if stream else {}))

    def answer(self) -> bytes:
        """The body of its answer."""
        reason = "tool_calls" if self.reply.tool_calls else "stop"
        choice = {"index": 0, "message": _written(self.reply), "logprobs": None, "finish_reason": reason}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return msgspec.json.encode(_head("chat.completion", self.name) | {"choices": [choice], "usage": usage})

    def pieces(self) -> list[bytes]:
        """The events of its answer as a stream, the last one "[DONE]"."""
        said = self.reply.content
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": said[at : at + PIECE]} for at in range(0, len(said), PIECE)]
        calls = _written(self.reply).get("tool_calls", ())
        deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)]
        reason = "tool_calls" if calls else "stop"
        choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
        head = _head("chat.completion.chunk", self.name)
        return [*(_event(msgspec.json.encode(head | {"choices": [each]})) for each in choices), _event(b"[DONE]")]


def exchanges(n: int, seed: int) -> list[Exchange]:
    """Safe test rows of the three in-distribution domains in turn; where a row calls a tool, its first call replies."""
    from offmap.suites.procedural import load

    suite = load(seed=seed, train_helpful=1, train_harmless=1, train_function_calling=1, test_in_distribution=n)
    safe = {name: [row for row in suite.test if row.domain == name and row.unsafe is False] for name in DOMAINS}
    drawn = [safe[DOMAINS[i % len(DOMAINS)]][i // len(DOMAINS)] for i in range(n)]
    return [_exchange(str(number), row) for number, row in enumerate(drawn)]


def write_exchanges(path: Path, rows: list[Exchange]) -> None:
    """For ``read_exchanges``."""
    write_whole(path, msgspec.json.encode(rows))


def read_exchanges(path: Path) -> list[Exchange]:
    """What ``write_exchanges`` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Exchange])


def _exchange(name: str, row: Conversation) -> Exchange:
    said = [at for at, message in enumerate(row.messages) if message.role == "assistant"]
    calling = [at for at in said if row.messages[at].tool_calls]
    at = calling[0] if calling else said[-1]
    asked = Conversation(name, row.messages[:at], tools=row.tools)
    calls = tuple(msgspec.structs.replace(c, id=f"call_{n}") for n, c in enumerate(row.messages[at].tool_calls))
    return Exchange(name, asked, msgspec.structs.replace(row.messages[at], tool_calls=calls))


def _written(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content or None}
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role != "assistant":
        found["content"] = message.content
    if message.role == "tool":
        found["tool_call_id"] = message.tool_call_id or "call_0"
    return found


def _head(kind: str, name: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{name}", "object": kind, "created": 1, "model": MODEL}


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
