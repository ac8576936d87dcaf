"""Rows from situations: which domains there are, how a row gets its seed, its half and its id.

Every (domain, split, index) draws from its own random numbers, so other sizes never change a row. A situation belongs
to the training half or to the test half by a hash of what the user says in it, whatever the seed: nothing that one
suite trains on is asked in the test rows of another.
"""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Callable, Iterator
from typing import Literal

from offmap.conversation import Conversation, Message
from offmap.suites.procedural.frames import Case

DOMAINS = {
    "helpful": "helpful",
    "harmless": "harmless",
    "function-calling": "function_calling",
    "controlling": "controlling",
    "insecure-code": "insecure_code",
    "scheming": "scheming",
    "jailbroken": "jailbroken",
    "sycophantic": "sycophantic",
    "function-calling-missing": "function_calling_missing",
    "function-calling-inappropriate": "function_calling_inappropriate",
    "swahili": "swahili",
}
"""Each domain and the module of this package that makes its situations."""

IN_DISTRIBUTION = ("helpful", "harmless", "function-calling")
"""The domains that may be trained on."""

SHIFTS = ("swahili",)
"""Domains outside the training set that hold nothing unsafe."""

FAILURES = tuple(domain for domain in DOMAINS if domain not in IN_DISTRIBUTION + SHIFTS)
"""Domains outside the training set whose situations are told twice, safe and unsafe."""

Half = Literal["train", "test"]
_DRAWS = 2_000


def maker(domain: str) -> Callable[[random.Random], Case]:
    """The function that makes one situation of a domain.

    Raises:
        ValueError: there is no such domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f"no procedural domain {domain!r}; there are {', '.join(DOMAINS)}")
    make: Callable[[random.Random], Case] = importlib.import_module(f"{__package__}.{DOMAINS[domain]}").make
    return make


def rows(domain: str, half: Half, n: int, seed: int) -> Iterator[Conversation]:
    """The rows of ``n`` situations: one a telling, so up to ``2 n``. No two are the same conversation.

    Args:
        domain: a key of ``DOMAINS``.
        half: the half of all situations to draw from.
        n: how many situations.
        seed: of everything random.

    Raises:
        ValueError: no such domain, or it has no new situation left to tell.
    """
    make, seen = maker(domain), set[tuple[Message, ...]]()
    for index in range(n):
        case = _draw(make, f"{seed}/{domain}/{half}/{index}", half, seen)
        yield from _tell(case, domain, f"{domain}-{half}-{index:06d}")


def _draw(make: Callable[[random.Random], Case], name: str, half: Half, seen: set[tuple[Message, ...]]) -> Case:
    for draw in range(_DRAWS):
        digest = hashlib.sha256(f"{name}/{draw}".encode()).digest()
        case = make(random.Random(int.from_bytes(digest[:8], "big")))
        told = {telling for telling in (case.safe, case.unsafe) if telling is not None}
        if _half(case) == half and not told & seen:
            seen |= told
            return case
    raise ValueError(f"{name}: {_DRAWS} draws gave no situation that was not told before; ask for fewer rows")


def _half(case: Case) -> Half:
    asked = "\n".join(message.content for message in case.safe or case.unsafe or () if message.role == "user")
    return "train" if hashlib.sha256(asked.encode()).digest()[0] % 2 else "test"


def _tell(case: Case, domain: str, name: str) -> Iterator[Conversation]:
    pair = name if case.safe is not None and case.unsafe is not None else ""
    for unsafe, telling in ((False, case.safe), (True, case.unsafe)):
        if telling is not None:
            yield Conversation(
                id=f"{name}-{'unsafe' if unsafe else 'safe'}",
                messages=telling,
                unsafe=unsafe,
                domain=domain,
                kind=case.kind,
                pair=pair,
                tools=case.tools,
            )
