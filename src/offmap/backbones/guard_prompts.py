"""What a generative guard reads: its own prompt about a conversation, up to where it states the verdict.

The prompt is the model's own chat template, which wraps the conversation into the guard's instruction; what the
family's answer opens with is written after it, so that the last token predicts the verdict. Tokens of messages keep
their turn, role and place, proven as for any chat template; all else, the instruction included, is the template's.
Truncation cuts the conversation, never the rest. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from offmap.backbones.guard_families import family_of, template_arguments
from offmap.chat_template import ChatTemplate, Layout, Span, tools_json
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.rendering import Rendered, Renderer, truncate

_QUESTION = "a question"


class GuardPrompt:
    """The tokenizer of a generative guard, whose prompts end where the verdict is predicted.

    Only user and assistant turns are written as such: a system role would take the place of the guard's own
    instruction. ``chat_template`` then folds what else a conversation has into user turns.

    Raises:
        InputError: no chat template, or one that shows no text or asks for no verdict of this family.
    """

    def __init__(self, tokenizer: Any, guard: str, policy: str | None) -> None:
        self.chat_template = getattr(tokenizer, "chat_template", None)
        if not self.chat_template:
            raise InputError(f"guard {guard!r}: the model has no chat template, from which its prompt is read")
        self.backend_tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self.family = family_of(guard, str(self.chat_template))
        self.arguments = template_arguments(guard, str(self.chat_template), policy)
        self._tokenizer, self._parts = tokenizer, False
        # Templates of models that also read images take texts as lists of parts; of a plain string they show nothing.
        self._parts = _QUESTION not in self._asked()
        asked, verdict = self._asked(), self.family.unsafe[0].strip()
        if _QUESTION not in asked or not re.search(rf"\b{verdict}\b", asked, re.IGNORECASE):
            raise InputError(f"guard {guard!r}: the chat template does not ask whether a question is {verdict!r}")

    def _asked(self) -> str:
        try:
            return self.apply_chat_template([{"role": "user", "content": _QUESTION}])
        except Exception as error:
            if self._parts:
                raise InputError(f"the guard's chat template cannot write a question: {error}") from error
            return ""

    def apply_chat_template(self, conversation: list[dict[str, Any]], /, **options: Any) -> str:
        """The guard's prompt about a conversation, up to the verdict.

        Raises:
            ValueError: roles other than user and assistant, or tool calls; and whatever the template raises.
        """
        if any(m["role"] not in ("user", "assistant") or "tool_calls" in m for m in conversation):
            raise ValueError("a guard reads plain user and assistant turns")
        if self._parts:
            conversation = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in conversation]
        always = {"tools": None, "tokenize": False, "add_generation_prompt": True}
        text = str(self._tokenizer.apply_chat_template(conversation, **{**options, **self.arguments, **always}))
        lead = self.family.lead
        begun = next(n for n in range(len(lead), -1, -1) if text.endswith(lead[:n]))
        return text + lead[begun:]


class GuardTemplate(ChatTemplate):
    """The layout of a guard's prompt; ``marks`` are the texts of the special tokens.

    A template that reads only the last turns is given the longest run of last turns that says all it reads. Where one
    rewrites the texts, nothing proves where they are: then no token has a turn.
    """

    def __init__(self, prompt: GuardPrompt, marks: Sequence[str]) -> None:
        # To the renderer of replies a mark ends the reply; here the next one ends the guard's instruction.
        super().__init__(prompt, ())
        self._special = [mark for mark in marks if mark]

    def __call__(self, conversation: Conversation) -> Layout:
        """The prompt about a conversation.

        Raises:
            InputError: the template cannot write it.
        """
        try:
            return super().__call__(conversation)
        except InputError as error:
            refused = error
        whole = self._whole(conversation)
        for first in range(1, len(conversation.messages)):
            last = msgspec.structs.replace(conversation, messages=conversation.messages[first:], tools=())
            try:
                layout = super().__call__(last)
            except InputError:
                continue
            if whole in (None, layout.text):
                return Layout(layout.text, _moved(layout.texts, first), _moved(layout.turns, first))
        if whole is None:
            raise refused
        if any(mark in message.text for message in conversation.messages for mark in self._special):
            found = "its text spells a special token, and the chat template rewrites it so that it cannot be found"
            raise InputError(f"conversation {conversation.id!r}: {found}")
        return Layout(whole, (), ())

    def _whole(self, conversation: Conversation) -> str | None:
        """The prompt without a layout, or None where the template cannot write it."""
        tools = tools_json(conversation.tools)
        turns = [{"role": "user", "content": tools}] if tools else []
        for message in conversation.messages:
            role = "assistant" if message.role == "assistant" else "user"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += f"\n\n{message.text}"
            else:
                turns.append({"role": role, "content": message.text})
        try:
            return self._write(turns, ())
        except Exception:
            return None


class GuardRenderer(Renderer):
    """Renders a conversation as a generative guard's prompt; truncation cuts the conversation, never the rest.

    Args:
        tokenizer: of the guard.
        guard: its family.
        policy: what it is told to judge by, or None.
        limit: the most tokens of a prompt, or None.

    Raises:
        InputError: as ``GuardPrompt``.
    """

    def __init__(self, tokenizer: Any, guard: str, policy: str | None, limit: int | None) -> None:
        self._prompt = GuardPrompt(tokenizer, guard, policy)
        super().__init__(self._prompt)
        added = self._prompt.backend_tokenizer.get_added_tokens_decoder().values()
        self._chat = GuardTemplate(self._prompt, [token.content for token in added if token.special])
        self._limit = limit
        named = f"{self.fingerprint}\n{limit}\n{self._prompt.family}\n{self._prompt.arguments}"
        self.fingerprint = hashlib.sha256(named.encode()).hexdigest()[:16]

    def __call__(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        """Each conversation as the guard's prompt, of at most ``limit`` tokens.

        Raises:
            InputError: the chat template refuses a conversation, or the guard's own text leaves no room for it.
        """
        rows = []
        for conversation, row in zip(conversations, super().__call__(conversations), strict=True):
            kept = row if self._limit is None else _cut(row, self._limit, conversation.id)
            rows.append(replace(kept, dropped=self._left_out(conversation, row) + Counter(kept.dropped)))
        return rows

    def verdicts(self) -> tuple[list[int], list[int]]:
        """The tokens that open an unsafe and a safe verdict, in every spelling that is one token.

        Raises:
            InputError: the tokenizer opens both with the same token.
        """
        unsafe, safe = (self._openings(words) for words in (self._prompt.family.unsafe, self._prompt.family.safe))
        if unsafe & safe:
            words = (*self._prompt.family.unsafe, *self._prompt.family.safe)
            raise InputError(f"the tokenizer cannot tell the verdicts {words} apart by their first token")
        return sorted(unsafe), sorted(safe)

    def _openings(self, words: Sequence[str]) -> set[int]:
        found = {self._tokens(word)[0] for word in words}
        for word in {word.strip() for word in words}:
            for written in (word.lower(), word.capitalize(), word.upper()):
                for spelled in (self._tokens(written), self._tokens(f" {written}")):
                    found |= set(spelled) if len(spelled) == 1 else set()
        return found

    def _tokens(self, text: str) -> list[int]:
        return self._literal.encode_batch([text], add_special_tokens=False)[0].ids

    def _left_out(self, conversation: Conversation, row: Rendered) -> Counter[str]:
        """Tokens of the first messages, by role, where the template took only later ones."""
        seen = row.turns[row.turns >= 0]
        lost: Counter[str] = Counter()
        for message in conversation.messages[: int(seen.min()) if len(seen) else 0]:
            lost[message.role] += len(self._tokens(message.text)) if message.text else 0
        return lost


def _cut(row: Rendered, limit: int, name: str) -> Rendered:
    """``truncate`` between the first and the last token of a message."""
    if len(row) <= limit:
        return row
    said = np.flatnonzero(row.turns >= 0)
    start, end = (int(said[0]), int(said[-1]) + 1) if len(said) else (0, 0)
    room = limit - len(row) + end - start
    if room < 2 or not len(said):
        own = len(row) - (end - start)
        found = f"{len(row)} tokens, {own} of them the guard's own or not to be told from it, and a limit of {limit}"
        raise InputError(f"conversation {name!r}: {found}: nothing can be cut; set max_tokens higher")
    inner = truncate(_part(row, slice(start, end)), room)
    pieces = (_part(row, slice(start)), inner, _part(row, slice(end, None)))
    return Rendered(
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([piece.roles for piece in pieces]),
        np.concatenate([piece.turns for piece in pieces]),
        np.concatenate([piece.starts for piece in pieces]),
        inner.dropped,
    )


def _part(row: Rendered, part: slice) -> Rendered:
    return Rendered(row.ids[part], row.roles[part], row.turns[part], row.starts[part])


def _moved(spans: tuple[Span, ...], by: int) -> tuple[Span, ...]:
    return tuple(replace(span, turn=span.turn + by) for span in spans)
