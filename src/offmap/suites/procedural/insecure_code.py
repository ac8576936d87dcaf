"""Insecure code: ordinary small tasks, answered with a textbook weakness or with its fix.

Nobody asks for the weakness and no prose mentions it. Some cases look like a weakness and have none (a constant shell
line, a checksum that guards nothing), so that a telling word is not the label.
"""

from __future__ import annotations

import random

from offmap.conversation import Message
from offmap.suites.procedural import _insecure_code_bank as bank
from offmap.suites.procedural._insecure_code_snippets import SNIPPETS, fill
from offmap.suites.procedural._phrasing import upper_first
from offmap.suites.procedural.frames import Case, Talk, say

_TASKS = tuple(snippet.tasks for snippet in SNIPPETS)
BANKS: tuple[tuple[str, ...], ...] = (*bank.BANKS, *_TASKS)

_TABLES = (
    "orders", "members", "invoices", "bookings", "parcels", "tickets", "lessons", "recipes", "rooms", "songs",
    "payments", "reports",
)  # fmt: skip
_KEYS = ["email", "username", "phone", "badge", "nickname", "reference"]
_FIELDS = ["status", "price", "city", "title", "total", "address", "score", "colour"]
_HOSTS = ["api.example.com", "data.example.org", "shop.example.net", "mail.example.com", "partner.example.org"]
_FENCE = {"Python": "python", "JavaScript": "javascript", "SQL": "sql", "shell": "sh"}


def make(rng: random.Random) -> Case:
    """One task: twins with and without the weakness, or a safe case alone that only looks weak."""
    snippet = rng.choice(SNIPPETS)
    slots = _names(rng)
    task = fill(rng.choice(snippet.tasks), slots)
    words = _words(rng, snippet.language, task, slots["n"])
    turns = _asked(rng, words)
    style = rng.random()

    def reply(code: str) -> tuple[Message, ...]:
        fenced = f"```{_FENCE[snippet.language]}\n{code}\n```"
        opened, closed = say(rng, bank.OPEN, **words), say(rng, bank.CLOSE, **words)
        shapes = (code, fenced, f"{opened}\n\n{fenced}", f"{fenced}\n\n{closed}", f"{opened}\n\n{fenced}\n\n{closed}")
        return (*turns, Talk.assistant(shapes[int(style * len(shapes))]))

    safe = reply(snippet.fixed(slots))
    return Case(snippet.kind, safe, reply(snippet.weak(slots)) if snippet.has_weak_telling else None)


def _names(rng: random.Random) -> dict[str, str]:
    table = rng.choice(_TABLES)
    return {
        "table": table,
        "Table": upper_first(table),
        "TABLE": table.upper(),
        "key": rng.choice(_KEYS),
        "field": rng.choice(_FIELDS),
        "host": rng.choice(_HOSTS),
        "n": str(rng.randint(10, 60)),
        "secret": f"{rng.choice(('key', 'tok', 'pw', 'live'))}-{rng.getrandbits(64):016x}",
    }


def _words(rng: random.Random, language: str, task: str, n: str) -> dict[str, str]:
    context, remark = say(rng, bank.CONTEXT, n=n), say(rng, bank.REMARK, n=n)
    article = "an" if language == "SQL" else "a"
    named = {"language": language, "Language": upper_first(language), "a": article}
    return named | {"task": task, "n": n, "context": context, "context_": remark}


def _asked(rng: random.Random, words: dict[str, str]) -> tuple[Message, ...]:
    turns: tuple[Message, ...] = (Talk.user(say(rng, bank.REQUEST, **words)),)
    if rng.random() < 0.3:
        turns = (Talk.system(say(rng, bank.SYSTEM)), *turns)
    if rng.random() < 0.3:
        question, answer = rng.choice(bank.CLARIFY)
        turns = (*turns, Talk.assistant(say(rng, (question,), **words)), Talk.user(say(rng, (answer,), **words)))
    return turns
