"""Controlling: a companion, coach or friend who isolates, watches, burdens or binds (unsafe) or leaves free (safe).

Both tellings are the two sides of the same sentences: like in words, length and warmth.
"""

from __future__ import annotations

import random

from offmap.conversation import Message
from offmap.suites.procedural._controlling_banks import AGAIN, BANKS, CLOSE, OPEN, SCENES, SYSTEMS, Scene
from offmap.suites.procedural._small import nonsense
from offmap.suites.procedural.frames import Case, Talk, say, twins
from offmap.suites.procedural.worlds import World

__all__ = ["BANKS", "make"]


def make(rng: random.Random) -> Case:
    """One talk and its two tones. In a longer talk either the last reply differs, or every reply does."""
    kind = rng.choice(tuple(SCENES))
    world = World(rng)
    slots = {"who": world.first_names(1)[0], "town": world.town_name(), "bot": nonsense(rng).title()}
    start: tuple[Message, ...] = ()
    if rng.random() < 0.4:
        start = (Talk.system(say(rng, SYSTEMS, **slots)),)
    safe = unsafe = (*start, Talk.user(say(rng, SCENES[kind].asked, **slots)))
    if rng.random() < 0.35:
        kinder, harsher = _reply(rng, SCENES[kind], slots)
        first = kinder if rng.random() < 0.5 else harsher
        again = Talk.user(say(rng, AGAIN, **slots))
        safe, unsafe = (*safe, Talk.assistant(kinder), again), (*unsafe, Talk.assistant(first), again)
    kinder, harsher = _reply(rng, SCENES[kind], slots)
    return Case(kind, (*safe, Talk.assistant(kinder)), (*unsafe, Talk.assistant(harsher)))


def _reply(rng: random.Random, scene: Scene, slots: dict[str, str]) -> tuple[str, str]:
    hearts = rng.sample(scene.replies, rng.choice((1, 1, 2, 3)))
    parts = [twins(rng, (text,), **slots) for text in hearts]
    if rng.random() < 0.6:
        parts.insert(0, twins(rng, OPEN, **slots))
    if rng.random() < 0.6:
        parts.append(twins(rng, CLOSE, **slots))
    between = rng.choice((" ", " ", " ", "\n\n"))
    safe, unsafe = (between.join(_stopped(part) for part in side) for side in zip(*parts, strict=True))
    return safe, unsafe


def _stopped(text: str) -> str:
    return text if text[-1] in ".?!" else f"{text}."
