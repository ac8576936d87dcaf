"""What monitors found of conversations, kept in a file, so that a run that was ended asks only for the rest.

One JSON line each, appended when it is known; a line that was cut short does not count. No text of a conversation is
kept, only a hash of it with all that an answer depends on.
"""

from __future__ import annotations

import hashlib
import math
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from offmap.conversation import Conversation
from offmap.conversation.types import content_sha256
from offmap.errors import InputError
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Finding


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer that a monitor gave: its p-values, None where it gave none, and how long it took."""

    key: str
    p_unsafe: float | None
    p_unknown: float | None
    seconds: float

    @classmethod
    def of(cls, key: str, finding: Finding) -> Kept:
        """A finding, scored or unscored; of the latter no p-value counts."""
        if finding.outcome != "scored":
            return cls(key, None, None, finding.seconds)
        return cls(key, finding.p_unsafe, finding.p_unknown, finding.seconds)

    @property
    def row(self) -> tuple[float, float, float]:
        """p_unsafe, p_unknown and seconds; NaN for None."""
        return _number(self.p_unsafe), _number(self.p_unknown), self.seconds


def key_of(gateway: Gateway, name: str, version: str, conversation: Conversation) -> str:
    """All that an answer depends on, as 32 hexadecimal digits."""
    parts = (version, gateway.monitors[name].window_tokens, gateway.limits.max_windows, content_sha256(conversation))
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


class Findings:
    """The answers in a file; one that is not there yet is made.

    Raises:
        InputError: it cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        kept, whole = _read(path)
        self.known = {each.key: each for each in kept}
        self._out = _appending(path)
        self._out.truncate(whole)  # a line that was cut short: what comes next begins a new one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._out.close()

    def add(self, kept: Kept) -> None:
        """Keep an answer, out of this process before it counts.

        A process that is killed loses none. A machine that stops may lose the last ones: these are asked for again.
        """
        self._out.write(msgspec.json.encode(kept) + b"\n")
        self._out.flush()
        self.known[kept.key] = kept


def _read(path: Path) -> tuple[list[Kept], int]:
    """The answers of every whole line, and how many bytes these are."""
    try:
        raw = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    *lines, rest = raw.split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(msgspec.json.decode(line, type=Kept))
        except msgspec.DecodeError as error:
            raise InputError(f"{path}:{number}: no finding of a monitor: {error}; wanted another directory") from None
    return found, len(raw) - len(rest)


def _appending(path: Path) -> BufferedWriter:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
