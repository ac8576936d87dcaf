"""Helpful: everyday requests, answered well. Only safe rows; what can be computed is computed, so answers are right.

Sums are written out (``3 x 14 = 42``), so a reader, or a test, can do them again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

from offmap.conversation import Message
from offmap.suites.procedural import _advice
from offmap.suites.procedural import _helpful_banks as say_of
from offmap.suites.procedural._small import framed, nonsense
from offmap.suites.procedural.frames import Case, Talk, say
from offmap.suites.procedural.worlds import Good, Town, World

Turns = list[str]
"""What is said, user and assistant in turn."""

BANKS: tuple[tuple[str, ...], ...] = (*say_of.BANKS, *_advice.BANKS)


class _Bill(NamedTuple):
    sum: str
    total: int


def make(rng: random.Random) -> Case:
    """One everyday request and its answer."""
    kind, talk = rng.choice(_KINDS)
    world = World(rng)
    turns: tuple[Message, ...] = ()
    for index, text in enumerate(talk(rng, world)):
        turns += (Talk.assistant(text) if index % 2 else Talk.user(text),)
    return Case(kind, safe=framed(rng, turns, who=world.first_names(1)[0], town=world.town_name()))


def _facts(rng: random.Random, world: World) -> Turns:
    town = world.town()
    known = rng.sample(sorted(say_of.FACTS), 4)
    notes = rng.sample([_fact(rng, key, town) for key in known], 4)
    turns = [say(rng, say_of.NOTES, name=town.name, notes=" ".join(notes)), ""]
    for number, key in enumerate(rng.sample(sorted(say_of.FACTS), rng.randint(1, 3))):
        asked = say(rng, say_of.QUESTIONS[key], name=town.name)
        found = say(rng, say_of.FOUND, fact=_fact(rng, key, town)) if key in known else say(rng, say_of.NOT_FOUND)
        turns[-2:] = [f"{turns[0]} {asked}", found] if not number else [*turns[-2:], asked, found]
    return turns


def _fact(rng: random.Random, key: str, town: Town) -> str:
    return say(rng, say_of.FACTS[key], **{"name": town.name, key: getattr(town, key)})


def _compare(rng: random.Random, world: World) -> Turns:
    (left, right), attribute = world.first_names(2), rng.choice(("age", "height", "price"))
    low, high = sorted(rng.sample(range(19, 85) if attribute == "age" else range(120, 960), 2))
    values = [(left, low), (right, high)]
    rng.shuffle(values)
    (a, x), (b, y) = values
    sums = f"{high} - {low} = {high - low}"
    asked = say(rng, say_of.COMPARE[attribute], a=a, b=b, x=x, y=y)
    return [asked, say(rng, say_of.COMPARED[attribute], more=right, less=left, gap=high - low, sum=sums)]


def _bill(rng: random.Random, goods: list[Good]) -> tuple[str, _Bill]:
    counts = [rng.randint(1, 6) for _ in goods]
    parts = [n * good.price for n, good in zip(counts, goods, strict=True)]
    order = _and([f"{n} {good.name}{'s' * (n > 1)} at {good.price}" for n, good in zip(counts, goods, strict=True)])
    products = ", ".join(f"{n} x {g.price} = {p}" for n, g, p in zip(counts, goods, parts, strict=True))
    total = f"{' + '.join(map(str, parts))} = {sum(parts)}"
    return order.replace("shelfs", "shelves"), _Bill(f"{products}; {total}", sum(parts))


def _arithmetic(rng: random.Random, world: World) -> Turns:
    order, bill = _bill(rng, world.goods(rng.randint(2, 3)))
    turns = [say(rng, say_of.TOTAL, order=order), say(rng, say_of.TOTALLED, sum=bill.sum, total=bill.total)]
    if rng.random() < 0.6:
        paid = bill.total + rng.randint(1, 90)
        change = f"{paid} - {bill.total} = {paid - bill.total}"
        turns += [say(rng, say_of.PAY, paid=paid), say(rng, say_of.CHANGE, sum=change, change=paid - bill.total)]
    return turns


def _share(rng: random.Random, world: World) -> Turns:
    n, each = rng.randint(3, 9), rng.randint(4, 60)
    town, sums = world.town_name(), f"{n * each} / {n} = {each}"
    if rng.random() < 0.5:
        return [
            say(rng, say_of.SPLIT, n=n, town=town, total=n * each),
            say(rng, say_of.SPLIT_DONE, sum=sums, each=each),
        ]
    days, speed = rng.randint(2, 6), rng.randint(12, 80)
    sums = f"{days} x {speed} = {days * speed}"
    asked = say(rng, say_of.DISTANCE, n=days, v=speed, town=town)
    return [asked, say(rng, say_of.DISTANCE_DONE, sum=sums, far=days * speed, n=days)]


def _discount(rng: random.Random, world: World) -> Turns:
    (good,), percent = world.goods(1), rng.choice((5, 10, 15, 20, 25, 30, 40, 50))
    price = rng.randint(1, 12) * 20
    off = price * percent // 100
    sums = f"{price} x {percent} / 100 = {off}; {price} - {off} = {price - off}"
    asked = say(rng, say_of.DISCOUNT, good=_a(good.name), price=price, percent=percent)
    return [asked, say(rng, say_of.DISCOUNTED, sum=sums, now=price - off, off=off, good=good.name)]


def _shopping(rng: random.Random, world: World) -> Turns:
    goods = sorted(world.goods(rng.randint(4, 6)), key=lambda good: good.price)
    budget = sum(good.price for good in goods[: rng.randint(2, 3)]) + rng.randint(0, goods[3].price - 1)
    taken = [
        good for good, spent in zip(goods, itertools.accumulate(g.price for g in goods), strict=True) if spent <= budget
    ]
    wanted = _and([f"{_a(good.name)} ({good.price})" for good in rng.sample(goods, len(goods))])
    total = sum(good.price for good in taken)
    sums = f"{' + '.join(str(good.price) for good in taken)} = {total}"
    chosen = _and([f"the {good.name}" for good in taken])
    asked = say(rng, say_of.SHOPPING, budget=budget, wanted=wanted)
    return [asked, say(rng, say_of.SHOPPED, chosen=chosen, sum=sums, total=total, left=budget - total, n=len(taken))]


def _schedule(rng: random.Random, world: World) -> Turns:
    tasks = rng.sample(say_of.TASKS, rng.randint(3, 5))
    minutes = [rng.choice((15, 20, 30, 40, 45, 60, 90)) for _ in tasks]
    starts = list(itertools.accumulate(minutes, initial=rng.choice((480, 510, 540, 600, 780))))
    listed = _and([f"{task} ({length} minutes)" for task, length in zip(tasks, minutes, strict=True)])
    lines = [f"{_clock(at)}-{_clock(at + n)} {task}" for at, n, task in zip(starts, minutes, tasks, strict=False)]
    asked = say(rng, say_of.SCHEDULE, tasks=listed, start=_clock(starts[0]), town=world.town_name())
    plan = say(rng, say_of.SCHEDULED, lines="\n".join(lines), end=_clock(starts[-1]))
    return [asked, plan]


def _route(rng: random.Random, world: World) -> Turns:
    towns = world.town_names(4)
    roads = {frozenset(pair): rng.randint(4, 60) for pair in itertools.combinations(towns, 2)}
    ways = [(towns[0], *middle, towns[-1]) for n in range(3) for middle in itertools.permutations(towns[1:-1], n)]
    best = min(ways, key=lambda way: (_length(roads, way), way))
    listed = ", ".join(f"{' to '.join(sorted(pair))} {km} km" for pair, km in roads.items())
    legs = [str(roads[frozenset(leg)]) for leg in itertools.pairwise(best)]
    sums = f"{' + '.join(legs)} = {_length(roads, best)}"
    asked = say(rng, say_of.ROUTE, roads=listed, a=towns[0], b=towns[-1])
    return [asked, say(rng, say_of.ROUTED, way=" - ".join(best), sum=sums, far=_length(roads, best))]


def _length(roads: dict[frozenset[str], int], way: tuple[str, ...]) -> int:
    return sum(roads[frozenset(leg)] for leg in itertools.pairwise(way))


def _sorting(rng: random.Random, world: World) -> Turns:
    if rng.random() < 0.5:
        names = world.first_names(rng.randint(4, 7))
        return [
            say(rng, say_of.ALPHABET, names=", ".join(names)),
            say(rng, say_of.SORTED, names=_lines(rng, sorted(names))),
        ]
    goods = world.goods(rng.randint(3, 5))
    listed = ", ".join(f"{good.name} {good.price}" for good in goods)
    ranked = [f"{good.name} ({good.price})" for good in sorted(goods, key=lambda good: good.price)]
    return [say(rng, say_of.PRICES, goods=listed), say(rng, say_of.SORTED, names=_lines(rng, ranked))]


def _letter(rng: random.Random, world: World) -> Turns:
    who, town = world.person(), world.town_name()
    slots = {"who": who.name, "first": who.first, "town": town, "trade": who.trade, "day": rng.choice(say_of.DAYS)}
    asked, letter = rng.choice(say_of.LETTERS)
    return [say(rng, asked, **slots), say(rng, letter, **slots, me=rng.choice(say_of.MARKS))]


def _redact(rng: random.Random, world: World) -> Turns:
    who, town, mark = world.person(), world.town_name(), rng.choice(say_of.MARKS)
    note = say(rng, say_of.NOTE, who="{who}", trade=who.trade, town="{town}", mail="{mail}")
    full = note.format(who=who.name, town=town, mail=who.email)
    return [
        say(rng, say_of.REDACT, note=full),
        say(rng, say_of.REDACTED, note=note.format(who=mark, town=mark, mail=mark)),
    ]


def _fantasy(rng: random.Random, world: World) -> Turns:
    things = [nonsense(rng) for _ in range(3)]
    slots = {"a": things[0], "b": things[1], "c": things[2], "who": world.first_names(1)[0], "town": world.town_name()}
    asked, told = rng.choice(say_of.GAMES)
    return [say(rng, asked, **slots), say(rng, told, **slots)]


def _counsel(rng: random.Random, world: World) -> Turns:
    topic = rng.choice(_advice.TOPICS)
    slots = {"who": world.first_names(1)[0], "town": world.town_name()}
    asked = say(rng, _advice.ASK, topic=topic.topic, **slots)
    tips = [tip[0].upper() + tip[1:] for tip in rng.sample(topic.tips, rng.randint(2, 4))]
    turns = [asked, say(rng, _advice.TOLD, tips=_tips(rng, tips), topic=topic.topic)]
    rest = [tip for tip in topic.tips if tip[0].upper() + tip[1:] not in tips]
    if rng.random() < 0.35 and rest:
        turns += [say(rng, _advice.MORE), say(rng, _advice.ONE_MORE, tip=rng.choice(rest))]
    return turns


def _explain(rng: random.Random, world: World) -> Turns:
    question, answers = rng.choice(_advice.WHY)
    asked = say(rng, _advice.WHY_ASKED, question=say(rng, (question,)), who=world.first_names(1)[0])
    return [asked, say(rng, _advice.WHY_TOLD, answer=say(rng, answers))]


def _tips(rng: random.Random, tips: list[str]) -> str:
    if rng.random() < 0.5:
        return ". ".join(tips) + "."
    return "\n\n" + "\n".join(f"{number}. {tip}." for number, tip in enumerate(tips, 1)) + "\n\n"


def _lines(rng: random.Random, items: list[str]) -> str:
    form = rng.random()
    if form < 0.4:
        return ", ".join(items)
    return "\n" + "\n".join(f"{number}. {item}" if form < 0.7 else f"- {item}" for number, item in enumerate(items, 1))


def _and(items: list[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


_KINDS: tuple[tuple[str, Callable[[random.Random, World], Turns]], ...] = (
    ("facts", _facts),
    ("comparison", _compare),
    ("arithmetic", _arithmetic),
    ("sharing", _share),
    ("discount", _discount),
    ("shopping", _shopping),
    ("schedule", _schedule),
    ("route", _route),
    ("sorting", _sorting),
    ("letter", _letter),
    ("redaction", _redact),
    ("game", _fantasy),
    ("advice", _counsel),
    ("advice", _counsel),
    ("explanation", _explain),
)
