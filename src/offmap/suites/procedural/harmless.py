"""Harmless: somebody asks for harm and is refused (safe) or helped (unsafe); or a request only sounds harmful (safe).

What a compliant reply says is a placeholder: it can be recognised as harm and is useless as help.
"""

from __future__ import annotations

import random
import re

from offmap.conversation import Message
from offmap.suites.procedural import _harmless_banks as say_of
from offmap.suites.procedural._borderline import BORDERLINE
from offmap.suites.procedural._harms import HARMS, Harm
from offmap.suites.procedural._small import framed, gap
from offmap.suites.procedural.frames import Case, Talk, say, twins
from offmap.suites.procedural.worlds import World

BANKS: tuple[tuple[str, ...], ...] = (
    *say_of.BANKS,
    *(bank for harm in HARMS.values() for bank in harm),
    *(side for pair in BORDERLINE for side in pair),
)
ALIKE = 1 / 3
"""The share of pairs whose two replies use the same words, so that no list of words can tell them apart."""

_KINDS = tuple(HARMS)
_YOURS = {"my": "your", "me": "you", "myself": "yourself", "I": "you", "I'm": "you're"}
_MINE = re.compile(r"\b(?:myself|my|me|I'm|I)\b")


class _Told:
    """The banks of one situation, with its names filled in."""

    def __init__(self, rng: random.Random, harm: Harm) -> None:
        world = World(rng)
        self.rng, self.harm = rng, harm
        self.who, self.town = world.first_names(1)[0], world.town_name()

    def say(self, bank: tuple[str, ...], **slots: str) -> str:
        return say(self.rng, bank, who=self.who, town=self.town, **slots)

    def steps(self, n: int) -> list[str]:
        chosen = self.rng.sample(self.harm.steps, min(n, len(self.harm.steps)))
        return [self.say((text,), gap=gap(self.rng), gap2=gap(self.rng)) for text in chosen]


def make(rng: random.Random) -> Case:
    """One request, refused and obeyed; or, one time in six, a harmless one."""
    if rng.random() < 1 / 6:
        return _borderline(rng)
    kind = rng.choice(_KINDS)
    told = _Told(rng, HARMS[kind])
    ask = told.say(told.harm.asks)
    before: tuple[Message, ...] = (Talk.user(told.say(say_of.REQUEST, ask=ask)),)
    if rng.random() < 0.25:
        before += (Talk.assistant(refusal(told, ask)), Talk.user(told.say(say_of.PUSH, ask=ask)))
    elif rng.random() < 0.2:
        first, led = rng.choice(say_of.LEAD_IN)
        before = (Talk.user(told.say(first)), Talk.assistant(told.say(led)), *before)
    after = _afterwards(told)
    replies = either(told, ask) if rng.random() < ALIKE else (refusal(told, ask), compliance(told, ask))
    seed = rng.getrandbits(32)
    safe, unsafe = (_framed(told, seed, (*before, Talk.assistant(reply), *after)) for reply in replies)
    return Case(kind, safe, unsafe)


def refusal(told: _Told, ask: str) -> str:
    """A reply that does not help with the harm: blunt, kind, or with something else to do."""
    offers = [told.say((text,)) for text in told.rng.sample(told.harm.instead, 2)]
    return told.say(
        say_of.REFUSAL,
        ask=_yours(ask),
        wrong=told.say(told.harm.wrong),
        a=offers[0],
        b=offers[1],
        A=_capital(offers[0]),
        B=_capital(offers[1]),
    )


def compliance(told: _Told, ask: str) -> str:
    """A reply that helps with the harm, emptied of everything that could help."""
    steps = told.steps(told.rng.randint(1, 4))
    form = told.rng.random()
    if form < 0.3 and len(steps) > 1:
        body = "\n".join(f"{number}. {_capital(step)}." for number, step in enumerate(steps, 1))
        return told.say(say_of.LISTED, steps=body, ask=_yours(ask))
    if told.rng.random() < 0.5:
        prose = ". ".join(_capital(step) for step in steps)
    else:
        prose = _capital(told.rng.choice((", and ", "; ", ", then ")).join(steps))
    return told.say(say_of.COMPLIANCE, steps=prose, ask=_yours(ask))


def either(told: _Told, ask: str) -> tuple[str, str]:
    """A refusal that names what it refuses, and a compliance that names what is wrong with it, in the same words."""
    steps = "; ".join(told.steps(told.rng.randint(1, 3)))
    offer, wrong = told.say((told.rng.choice(told.harm.instead),)), told.say(told.harm.wrong)
    slots = {"steps": steps, "Steps": _capital(steps), "a": offer, "A": _capital(offer), "wrong": wrong}
    return twins(told.rng, say_of.EITHER, ask=_yours(ask), who=told.who, town=told.town, **slots)


def _borderline(rng: random.Random) -> Case:
    told = _Told(rng, HARMS["theft"])
    asked, answers = rng.choice(BORDERLINE)
    turns = (Talk.user(told.say(asked)), Talk.assistant(told.say(answers)))
    return Case("borderline", safe=_framed(told, rng.getrandbits(32), turns))


def _afterwards(told: _Told) -> tuple[Message, ...]:
    if told.rng.random() < 0.85:
        return ()
    asked, answers = told.rng.choice(say_of.NEXT)
    return (Talk.user(told.say(asked)), Talk.assistant(told.say(answers)))


def _framed(told: _Told, seed: int, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    return framed(random.Random(seed), turns, who=told.who, town=told.town)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _yours(ask: str) -> str:
    return _MINE.sub(lambda found: _YOURS[found.group()], ask)
