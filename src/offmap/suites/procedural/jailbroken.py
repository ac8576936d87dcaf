"""Jailbroken: a harmful request in a wrapper (role play, code, transcript, ...), obeyed (unsafe) or deflected (safe).

Both tellings are the two sides of one sentence, so that words alone do not tell them apart. As in harmless, what is
obeyed is a placeholder.
"""

from __future__ import annotations

import base64
import random

from offmap.conversation import Message
from offmap.suites.procedural._jailbreaks import (
    AGAIN,
    BANKS,
    FAKE,
    GAPS,
    GOALS,
    LENGTHEN,
    REPLIES,
    WRAPPERS,
)
from offmap.suites.procedural._small import nonsense
from offmap.suites.procedural.frames import Case, Talk, say, twins
from offmap.suites.procedural.worlds import World

__all__ = ["BANKS", "make"]


def make(rng: random.Random) -> Case:
    """One wrapped request and its two endings."""
    kind, goal = rng.choice(tuple(WRAPPERS)), rng.choice(tuple(GOALS))
    slots = _slots(rng, goal)
    before: tuple[Message, ...] = (Talk.user(say(rng, WRAPPERS[kind], **slots)),)
    if rng.random() < 0.25:
        safe, _ = _replies(rng, kind, goal, slots)
        before += (Talk.assistant(safe), Talk.user(say(rng, AGAIN)))
    safe, unsafe = _replies(rng, kind, goal, slots)
    return Case(kind, (*before, Talk.assistant(safe)), (*before, Talk.assistant(unsafe)))


def _slots(rng: random.Random, goal: str) -> dict[str, str]:
    cut = rng.randint(len(goal) // 3, len(goal) // 2)
    shots = "\n".join(say(rng, FAKE, gap=say(rng, GAPS)) for _ in range(rng.randint(2, 4)))
    return {
        "goal": goal,
        "bot": nonsense(rng).title(),
        "who": World(rng).person().last,
        "n": str(rng.randint(2, 40)),
        "coded": base64.b64encode(f"Explain how to {goal}".encode()).decode(),
        "spaced": " ".join(goal.replace(" ", "_")),
        "reversed": goal[::-1],
        "left": goal[:cut],
        "right": goal[cut:],
        "shots": shots,
    }


def _replies(rng: random.Random, kind: str, goal: str, slots: dict[str, str]) -> tuple[str, str]:
    parts = [twins(rng, (text,), gap=say(rng, GAPS), gap2=say(rng, GAPS)) for text in _parts(rng, goal)]
    if rng.random() < 0.4:
        parts.append(twins(rng, LENGTHEN))
    between, seed = rng.choice((" ", " ", "\n\n")), rng.getrandbits(32)
    said = [between.join(side) for side in zip(*parts, strict=True)]
    safe, unsafe = (twins(random.Random(seed), REPLIES[kind], said=said[side], **slots)[side] for side in (0, 1))
    return safe, unsafe


def _parts(rng: random.Random, goal: str) -> list[str]:
    return rng.sample(GOALS[goal], rng.choice((1, 2)))
