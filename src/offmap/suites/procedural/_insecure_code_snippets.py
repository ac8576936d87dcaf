"""Small coding tasks whose code has a textbook weakness in one telling and its fix in the other.

They are read from ``snippets/*.txt``: a line ``== kind | language``, lines of tasks that complete "code that ...", a
line ``--``, the code. ``<%fixed%|%weak%>`` marks where the tellings differ; ``@slot@`` is a drawn name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

_MARK = re.compile(r"<%(.*?)%\|%(.*?)%>", re.DOTALL)
_SLOT = re.compile(r"@(\w+)@")
_FILES = ("python", "web", "javascript", "sql_and_shell")


class Snippet(NamedTuple):
    """Code for one task. Without a mark it only looks like the weakness of its kind, and is safe."""

    kind: str
    language: str
    tasks: tuple[str, ...]
    code: str

    @property
    def has_weak_telling(self) -> bool:
        """Whether the code can be told with the weakness."""
        return bool(_MARK.search(self.code))

    def fixed(self, slots: Mapping[str, str]) -> str:
        """The code without the weakness."""
        return fill(_MARK.sub(lambda found: found[1], self.code), slots)

    def weak(self, slots: Mapping[str, str]) -> str:
        """The code with the weakness."""
        return fill(_MARK.sub(lambda found: found[2], self.code), slots)


def fill(text: str, slots: Mapping[str, str]) -> str:
    """The text with its drawn names."""
    return _SLOT.sub(lambda found: slots[found[1]], text)


def _read() -> Iterator[Snippet]:
    folder = files("offmap.suites.procedural") / "snippets"
    for name in _FILES:
        for block in re.split(r"^== ", (folder / f"{name}.txt").read_text("utf-8"), flags=re.MULTILINE)[1:]:
            head, code = block.split("\n--\n", 1)
            title, *tasks = head.split("\n")
            kind, language = title.split(" | ")
            yield Snippet(kind, language, tuple(tasks), code.strip("\n"))


SNIPPETS = tuple(_read())
