"""Sycophancy: the user claims something about facts that are given, and the assistant caves in or corrects.

The facts decide the label, not the tone: where the user is right, agreeing is safe, and the same frames agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from offmap.conversation import Message
from offmap.suites.procedural import _sycophantic_bank as bank
from offmap.suites.procedural._phrasing import upper_first
from offmap.suites.procedural._sycophantic_facts import TOPIC_BANKS
from offmap.suites.procedural._sycophantic_topics import Matter, draw
from offmap.suites.procedural.frames import Case, Talk, say
from offmap.suites.procedural.worlds import Person, World

BANKS: tuple[tuple[str, ...], ...] = (*bank.BANKS, *TOPIC_BANKS)

_MIRRORED = 0.3
_PLAIN = 0.45
_TAIL = 0.6
_OTHERS = (
    "my sister",
    "my brother",
    "the neighbour",
    "my colleague",
    "my trainer",
    "my flatmate",
    "the man at the desk",
)

Shape = Callable[[random.Random, Matter, str], tuple[Message, ...]]


def make(rng: random.Random) -> Case:
    """One claim: twins where it is wrong, a safe case alone where it is right."""
    matter = draw(rng)
    claim = matter.right if rng.random() < _MIRRORED else matter.wrong
    return rng.choice((_stated, _stated, _stated, _disputed, _written))(rng, matter, claim)


def _stated(rng: random.Random, matter: Matter, claim: str) -> Case:
    shapes: tuple[Shape, ...] = (_belief, _belief, _system, _draft, _chat, _pushback, _pushback)
    shape = rng.choice((*shapes, _insist) if claim == matter.wrong else shapes)
    turns = shape(rng, matter, claim)
    contradicted = shape in (_pushback, _insist)

    def reply(so: str) -> str:
        agree, correct = (bank.YIELD, bank.KEEP) if contradicted else (bank.AGREE, bank.CORRECT)
        frames = bank.PLAIN if rng.random() < _PLAIN else agree if so == claim else correct
        return _say(rng, frames, matter, so=so, not_so=claim)

    return _case(rng, matter, claim, turns, reply)


def _disputed(rng: random.Random, matter: Matter, claim: str) -> Case:
    other = rng.choice(_OTHERS)
    counter = matter.wrong if claim == matter.right else matter.right
    turns = (Talk.user(_say(rng, bank.DISPUTED, matter, claim=claim, counter=counter, other=other)),)
    named = other.replace("my ", "your ")

    def reply(so: str) -> str:
        winner, loser = ("your side", named) if so == claim else (named, "your side")
        return _say(rng, bank.VERDICT, matter, so=so, winner=winner, loser=loser)

    return _case(rng, matter, claim, turns, reply)


def _written(rng: random.Random, matter: Matter, claim: str) -> Case:
    person: Person = World(rng).person()
    turns = (Talk.user(_say(rng, bank.WRITE, matter, claim=claim, person=person.name)),)

    def reply(so: str) -> str:
        note = say(rng, bank.NOTE_KEPT if so == claim else bank.NOTE_CHANGED, steps=matter.steps)
        return _say(rng, bank.WRITTEN, matter, so=so, first=person.first, note=note)

    return _case(rng, matter, claim, turns, reply)


def _case(
    rng: random.Random, matter: Matter, claim: str, turns: tuple[Message, ...], reply: Callable[[str], str]
) -> Case:
    tail = f" {say(rng, bank.TAIL)}" if rng.random() < _TAIL else ""
    safe = (*turns, Talk.assistant(reply(matter.right) + tail))
    if claim == matter.right:
        return Case(matter.kind, safe)
    return Case(matter.kind, safe, (*turns, Talk.assistant(reply(matter.wrong) + tail)))


def _belief(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    return (Talk.user(_say(rng, bank.BELIEF, matter, claim=claim)),)


def _draft(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    return (Talk.user(_say(rng, bank.DRAFT, matter, claim=claim)),)


def _system(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    asked = _say(rng, bank.AFTER_SYSTEM, matter, claim=claim)
    return Talk.system(_say(rng, bank.FOR_SYSTEM, matter)), Talk.user(asked)


def _chat(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    hello, answer = rng.choice(bank.CHAT)
    return Talk.user(say(rng, (hello,))), Talk.assistant(say(rng, (answer,))), *_belief(rng, matter, claim)


def _pushback(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    first = matter.wrong if claim == matter.right else matter.right
    return (
        Talk.user(_say(rng, bank.QUESTION, matter)),
        Talk.assistant(_say(rng, bank.FIRST_ANSWER, matter, so=first)),
        Talk.user(_say(rng, bank.PUSHBACK, matter, claim=claim)),
    )


def _insist(rng: random.Random, matter: Matter, claim: str) -> tuple[Message, ...]:
    firm = Talk.assistant(_say(rng, bank.STAND_FIRM, matter, so=matter.right))
    return *_pushback(rng, matter, claim), firm, Talk.user(_say(rng, bank.INSIST, matter, claim=claim))


def _say(rng: random.Random, frames: tuple[str, ...], matter: Matter, /, **slots: str) -> str:
    """A frame with the matter's slots and the given ones, each also as the beginning of a sentence."""
    known = {"facts": matter.facts, "ask": matter.ask, "steps": matter.steps} | slots
    return say(rng, frames, **known, **{upper_first(name): upper_first(text) for name, text in known.items()})
