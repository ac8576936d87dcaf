"""Conversation -> token ids, with the role, the turn and the place in the text of every token; the one truncation rule.

A tokenizer with a chat template of its own is rendered by it (``chat_template``). Any other gets the plain template:
``<|bos|>``, then for each message ``<|role|>``, ``Message.text`` and ``<|end|>``, where the vocabulary has these marks
as special tokens, or else a blank line, ``role: `` and the text. Tools stand as JSON at the end of the system message,
or in one of their own. What a message says never becomes a mark. Knows nothing of models.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offmap.chat_template import ChatTemplate, Layout, tools_json
from offmap.conversation import ROLES, Conversation
from offmap.errors import InputError
from offmap.features import ROLE_CODE, ROLE_NAMES

RULES = 1
"""Raised whenever some conversation would render to other tokens than before; part of every fingerprint."""
SYSTEM_SHARE = 4
"""Truncation leaves the system prompt at most one part in this many of the limit."""
MOST_MESSAGES = 2**15 - 1
"""Of a conversation: tokens tell theirs by an int16."""
_CHUNK = 256
_Marks = tuple[tuple[int, ...], dict[str, tuple[int, ...]], tuple[int, ...]]


class Encoding(Protocol):
    """Token ids of a text and the characters each came from."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
    """What is asked of a ``tokenizers.Tokenizer``."""

    encode_special_tokens: bool

    def encode_batch(self, texts: list[str], /, *, add_special_tokens: bool) -> Sequence[Encoding]:
        """Each text on its own."""
        ...

    def token_to_id(self, token: str, /) -> int | None:
        """The id of a token of the vocabulary."""
        ...

    def to_str(self) -> str:
        """The whole tokenizer as JSON."""
        ...

    def get_added_tokens_decoder(self) -> Mapping[int, Any]:
        """The added tokens by id."""
        ...

    def no_truncation(self) -> None:
        """Cut nothing."""
        ...

    def no_padding(self) -> None:
        """Add nothing."""
        ...


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens.

    Attributes:
        ids: (length,) int32.
        roles: (length,) int8, codes of ``features.ROLE_NAMES``. The end mark of a reply is the assistant's: it is
            predicted, as the rest of the reply. Other marks are the template's.
        turns: (length,) int16, the index of the message; -1 for what belongs to no message.
        starts: (length,) int32, where the token begins in ``Message.text``; -1 for marks and text not found there.
        dropped: tokens cut by truncation, by role; empty if nothing was cut.
        n_dropped: all of them.
    """

    ids: NDArray[np.int32]
    roles: NDArray[np.int8]
    turns: NDArray[np.int16]
    starts: NDArray[np.int32]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_dropped(self) -> int:
        """Tokens cut by truncation."""
        return sum(self.dropped.values())


class Renderer:
    """Renders conversations for one tokenizer.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``, or a Hugging Face tokenizer that is backed by one.
        max_tokens: the limit of ``truncate``, or None.

    Raises:
        InputError: the tokenizer is not backed by the tokenizers library.
    """

    def __init__(self, tokenizer: Any, max_tokens: int | None = None) -> None:
        backend: Tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "encode_batch"):
            raise InputError(f"tokenizer {type(tokenizer).__name__}: a fast one is wanted (a tokenizer.json)")
        self.max_tokens = max_tokens
        self._literal, self._parsing = copy.deepcopy(backend), copy.deepcopy(backend)
        for each, literal in ((self._literal, True), (self._parsing, False)):
            each.encode_special_tokens = literal
            each.no_truncation()
            each.no_padding()
        special = {i: token.content for i, token in backend.get_added_tokens_decoder().items() if token.special}
        self._special = np.array(sorted(special), dtype=np.int32)
        template = getattr(tokenizer, "chat_template", None)
        self._chat = ChatTemplate(tokenizer, list(special.values())) if template else None
        self._marks = _plain_marks(self._literal, getattr(tokenizer, "bos_token_id", None))
        named = f"{RULES}\n{max_tokens}\n{template}\n{self._marks}\n{backend.to_str()}"
        self.fingerprint = hashlib.sha256(named.encode()).hexdigest()[:16]

    def __call__(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        """Each conversation as tokens, truncated to ``max_tokens``.

        Raises:
            InputError: the model's own chat template refuses a conversation, or it has more messages than are counted.
        """
        for conversation in conversations:
            if len(conversation.messages) > MOST_MESSAGES:
                found = f"conversation {conversation.id!r}: found {len(conversation.messages):,} messages"
                raise InputError(f"{found}, wanted at most {MOST_MESSAGES:,}")
        render = self._by_template if self._chat else self._plain
        rows: list[Rendered] = []
        for at in range(0, len(conversations), _CHUNK):
            rows += render(conversations[at : at + _CHUNK])
        return rows if self.max_tokens is None else [truncate(row, self.max_tokens) for row in rows]

    def _plain(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        turns = [_turns(conversation) for conversation in conversations]
        texts = [text for row in turns for _, _, *both in row for text in both]
        encoded = iter(self._literal.encode_batch(texts, add_special_tokens=False))
        return [self._join(row, [next(encoded) for _ in range(2 * len(row))]) for row in turns]

    def _join(self, row: list[tuple[int, str, str, str]], encoded: list[Encoding]) -> Rendered:
        bos, headers, end = self._marks
        ids, starts, parts = list(bos), [-1] * len(bos), [(len(bos), -1, "template")]
        for (turn, role, *_), text, tools in zip(row, encoded[::2], encoded[1::2], strict=True):
            ids += [*headers[role], *text.ids, *tools.ids, *end]
            starts += [-1] * len(headers[role])
            starts += [start for start, _ in text.offsets]
            starts += [-1] * (len(tools.ids) + len(end))
            replied = len(end) if role == "assistant" else 0
            body = len(text.ids) + len(tools.ids) + replied
            parts += [(len(headers[role]), -1, "template"), (body, turn, role), (len(end) - replied, -1, "template")]
        lengths = [length for length, _, _ in parts]
        return Rendered(
            np.array(ids, np.int32),
            np.repeat(np.array([ROLE_CODE[role] for *_, role in parts], np.int8), lengths),
            np.repeat(np.array([turn for _, turn, _ in parts], np.int16), lengths),
            np.array(starts, np.int32),
        )

    def _by_template(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        if self._chat is None:
            return []
        layouts = [self._chat(conversation) for conversation in conversations]
        whole = self._parsing.encode_batch([layout.text for layout in layouts], add_special_tokens=False)
        return [self._label(layout, tokens.ids, tokens.offsets) for layout, tokens in zip(layouts, whole, strict=True)]

    def _label(self, layout: Layout, ids: list[int], offsets: list[tuple[int, int]]) -> Rendered:
        turns, roles, origins, inside = _characters(layout)
        first, last = _edges(offsets, len(turns))
        if np.any(inside[first] & np.isin(ids, self._special)):
            ids, offsets = self._piecewise(layout)
            first, last = _edges(offsets, len(turns))
        # A token that straddles an edge belongs to the message it carries a part of.
        said = np.where(turns[first] >= 0, first, last)
        straddling = np.where(origins[last] >= 0, np.maximum(origins[last] - (last - first), 0), -1)
        starts = np.where(origins[first] >= 0, origins[first], straddling)
        return Rendered(np.array(ids, np.int32), roles[said], turns[said], starts.astype(np.int32))

    def _piecewise(self, layout: Layout) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a text that spells a special token within a message: there it must stay plain characters."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        edges = [0, *(edge for span in layout.texts for edge in (span.start, span.end)), len(layout.text)]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            tokenizer = self._literal if number % 2 else self._parsing
            piece = tokenizer.encode_batch([layout.text[start:end]], add_special_tokens=False)[0]
            ids += piece.ids
            offsets += [(start + a, start + b) for a, b in piece.offsets]
        return ids, offsets


def truncate(row: Rendered, limit: int) -> Rendered:
    """Cut a conversation to ``limit`` tokens; a reply never loses its end.

    In this order, as far as the limit allows: the first mark of the template; the last assistant turn with its header
    (its end, if it is too long alone); the start of the system prompt, at most a quarter of the limit; the most recent
    other tokens. Without an assistant turn the most recent tokens take its place.

    Raises:
        ValueError: a limit below 2.
    """
    if limit < 2:
        raise ValueError(f"a limit of {limit} tokens; at least 2 are wanted")
    if len(row) <= limit:
        return row
    keep = np.zeros(len(row), bool)
    keep[0] = row.turns[0] < 0
    for candidates, most, from_end in (
        (_last_reply(row), limit, True),
        (_system(row), limit // SYSTEM_SHARE, False),
        (np.arange(len(row)), limit, True),
    ):
        left = candidates[~keep[candidates]]
        room = min(most, limit - int(keep.sum()), len(left))
        keep[left[len(left) - room :] if from_end else left[:room]] = True
    lost = np.bincount(row.roles[~keep], minlength=len(ROLE_NAMES))
    dropped = {name: int(count) for name, count in zip(ROLE_NAMES, lost, strict=True) if count}
    return Rendered(row.ids[keep], row.roles[keep], row.turns[keep], row.starts[keep], dropped)


def _last_reply(row: Rendered) -> NDArray[np.intp]:
    """Positions of the last assistant turn, with the template's marks directly before it."""
    said = np.flatnonzero(row.roles == ROLE_CODE["assistant"])
    if not len(said):
        return said
    reply = np.flatnonzero(row.turns == row.turns[said[-1]])
    before = np.flatnonzero(row.roles[: reply[0]] != ROLE_CODE["template"])
    return np.arange(before[-1] + 1 if len(before) else 0, reply[-1] + 1)


def _system(row: Rendered) -> NDArray[np.intp]:
    """Positions up to the end of a system prompt that opens the conversation."""
    opening = np.flatnonzero(~np.isin(row.roles, (ROLE_CODE["template"], ROLE_CODE["system"])))
    said = np.flatnonzero(row.roles[: opening[0] if len(opening) else len(row)] == ROLE_CODE["system"])
    return np.arange(said[-1] + 1 if len(said) else 0)


def _characters(layout: Layout) -> tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.int32], NDArray[np.bool_]]:
    """For each character: its turn, its role, its place in ``Message.text``, whether it is a message's text."""
    size = max(len(layout.text), 1)
    turns, roles = np.full(size, -1, np.int16), np.zeros(size, np.int8)
    origins, inside = np.full(size, -1, np.int32), np.zeros(size, bool)
    for span in layout.turns:
        turns[span.start : span.end] = span.turn
        roles[span.start : span.end] = ROLE_CODE[span.role]
    for span in layout.texts:
        inside[span.start : span.end] = True
        if span.origin >= 0:
            origins[span.start : span.end] = np.arange(span.origin, span.origin + span.end - span.start)
    return turns, roles, origins, inside


def _edges(offsets: list[tuple[int, int]], size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last character of each token; of an empty token, the character it stands before."""
    both = np.array(offsets, np.intp).reshape(-1, 2)
    first = np.minimum(both[:, 0], size - 1)
    return first, np.maximum(both[:, 1] - 1, first)


def _plain_marks(literal: Tokenizer, bos: int | None) -> _Marks:
    """Ids of the opening mark, of each role's header and of the end mark."""
    names = ["<|bos|>", "<|end|>", *(f"<|{role}|>" for role in ROLES)]
    found = [literal.token_to_id(name) for name in names]
    spelled = literal.encode_batch(names, add_special_tokens=False)
    marks = [i for i, spelling in zip(found, spelled, strict=True) if i is not None and i not in spelling.ids]
    if len(marks) == len(names):
        return (marks[0],), {str(role): (i,) for role, i in zip(ROLES, marks[2:], strict=True)}, (marks[1],)
    written = literal.encode_batch([f"\n\n{role}: " for role in ROLES], add_special_tokens=False)
    headers = {str(role): tuple(encoding.ids) for role, encoding in zip(ROLES, written, strict=True)}
    return () if bos is None else (bos,), headers, ()


def _turns(conversation: Conversation) -> list[tuple[int, str, str, str]]:
    """Index, role, text and tools of each message; tools without a system message get one of their own, index -1."""
    turns = [(i, str(message.role), message.text, "") for i, message in enumerate(conversation.messages)]
    tools = tools_json(conversation.tools)
    if not tools:
        return turns
    at = next((i for i, (_, role, *_) in enumerate(turns) if role == "system"), None)
    if at is None:
        return [(-1, "system", "", tools), *turns]
    turns[at] = (*turns[at][:3], "\n" * bool(turns[at][2]) + tools)
    return turns
