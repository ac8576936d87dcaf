"""Sentences from frames: ``[this|that]`` is a choice, ``{slot}`` is filled in, everything else stands as written.

A frame is one way through all choices, before slots are filled: ``count`` says how many distinct frames a bank holds.
Brackets without a bar are literal, so ``[omitted]`` can be said. Where twins are told, ``<this~that>`` is what the safe
and the unsafe telling say in one and the same sentence.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from offmap.conversation import Message, Tool

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_TWIN = re.compile(r"<([^<>~]*)~([^<>~]*)>")
_WAYS = re.compile("\x00([0-9]+)\x00")


class Case(NamedTuple):
    """One generated situation: its safe telling, its unsafe telling, or both as twins.

    ``kind`` is a sub-source within the domain, for the breakdown in reports.
    """

    kind: str
    safe: tuple[Message, ...] | None = None
    unsafe: tuple[Message, ...] | None = None
    tools: tuple[Tool, ...] = ()


def bank(text: str) -> tuple[str, ...]:
    """Frames written one a line; blank lines are left out, and ``¶`` stands for a line break inside a frame."""
    return tuple(line.strip().replace("¶", "\n") for line in text.splitlines() if line.strip())


def words(text: str) -> tuple[str, ...]:
    """The words of a text: a bank of single words."""
    return tuple(text.split())


def say(rng: random.Random, bank: tuple[str, ...], /, **slots: object) -> str:
    """A random frame of ``bank`` with its slots filled. Slot values are inserted as they are, never expanded."""
    text = _choose(rng, rng.choice(bank)).strip(" ")
    return text.format(**slots) if slots else text


def twins(rng: random.Random, bank: tuple[str, ...], /, **slots: object) -> tuple[str, str]:
    """The safe and the unsafe side of a random frame; where they do not differ, both make the same choices."""
    text = _choose(rng, rng.choice(bank))
    safe, unsafe = _TWIN.sub(r"\1", text).strip(" "), _TWIN.sub(r"\2", text).strip(" ")
    return (safe.format(**slots), unsafe.format(**slots)) if slots else (safe, unsafe)


def count(*banks: tuple[str, ...]) -> int:
    """The number of ways through the choices of all banks (an upper bound where two ways read alike)."""
    return sum(_ways(text) for bank in banks for text in bank)


def _choose(rng: random.Random, text: str) -> str:
    while "[" in text:
        parts = _split(text)
        if len(parts) == 1:
            break
        text = "".join(rng.choice(part) for part in parts)
    return text


@cache
def _split(text: str) -> tuple[tuple[str, ...], ...]:
    """What stands between innermost choices, and those choices, in turn."""
    parts = _CHOICE.split(text)
    return tuple(tuple(part.split("|")) if index % 2 else (part,) for index, part in enumerate(parts))


def _ways(text: str) -> int:
    while found := _CHOICE.search(text):
        ways = sum(_marked(part) for part in found.group(1).split("|"))
        text = f"{text[: found.start()]}\0{ways}\0{text[found.end() :]}"
    return _marked(text)


def _marked(text: str) -> int:
    return math.prod(int(ways) for ways in _WAYS.findall(text))


@dataclass(frozen=True)
class Talk:
    """Short ways to write turns."""

    @staticmethod
    def user(text: str) -> Message:
        """A user's turn."""
        return Message(role="user", content=text)

    @staticmethod
    def assistant(text: str) -> Message:
        """An assistant's turn."""
        return Message(role="assistant", content=text)

    @staticmethod
    def system(text: str) -> Message:
        """A system prompt."""
        return Message(role="system", content=text)
