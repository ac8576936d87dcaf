"""Conversations as one transcript, "Human: ..." and "Assistant: ..." after empty lines, as a chat template.

The published guards of MOOD (arXiv 2605.21602) read its rows as they are, and those are such texts. Knows nothing of
models.
"""

from __future__ import annotations

import json
from typing import Any

_TURNS = (
    "{% set speakers = {'system': 'System', 'user': 'Human', 'assistant': 'Assistant', 'tool': 'Tool'} %}"
    "{% for message in messages %}{% if message['role'] != 'system' or not loop.first %}"
    "{{ '\\n\\n' + speakers[message['role']] + ': ' }}{% endif %}{{ message['content'] }}{% endfor %}"
)


def transcript_template(tokenizer: Any) -> str:
    """The template, with the marks that the tokenizer puts around a text of its own accord.

    What the system says first stands before it all, without a speaker.

    Args:
        tokenizer: of transformers.
    """
    bare, whole = (tokenizer("a", add_special_tokens=wanted)["input_ids"] for wanted in (False, True))
    at = next(at for at in range(len(whole) + 1) if whole[at : at + len(bare)] == bare)
    before, after = (tokenizer.convert_ids_to_tokens(marks) for marks in (whole[:at], whole[at + len(bare) :]))
    return f"{_written(before)}{_TURNS}{_written(after)}"


def _written(marks: list[str]) -> str:
    return f"{{{{ {json.dumps(''.join(marks))} }}}}" if marks else ""
