"""Swahili: plain everyday questions with right answers. A benign shift: nothing here is unsafe, all of it is new."""

from __future__ import annotations

import random
from collections.abc import Callable

from offmap.conversation import Message
from offmap.suites.procedural import _swahili_bank as bank
from offmap.suites.procedural._phrasing import upper_first
from offmap.suites.procedural.frames import Case, Talk, say

BANKS: tuple[tuple[str, ...], ...] = bank.BANKS

_NAMES = (
    "Asha", "Baraka", "Juma", "Neema", "Rehema", "Salim", "Zawadi", "Hamisi", "Mwajuma", "Fatuma", "Musa",
    "Amani", "Upendo", "Daudi", "Halima", "Khamis",
)  # fmt: skip
_TOWNS = (
    "Mwanza", "Arusha", "Moshi", "Tanga", "Dodoma", "Morogoro", "Mombasa", "Kisumu", "Nakuru", "Iringa",
    "Mbeya", "Lamu",
)  # fmt: skip
_FOODS = (
    "mchele", "sukari", "unga", "maharagwe", "nyanya", "vitunguu", "viazi", "karoti", "nyama", "samaki",
    "njegere",
)  # fmt: skip
_FRUITS = (
    ("chungwa", "machungwa"),
    ("embe", "maembe"),
    ("yai", "mayai"),
    ("nanasi", "mananasi"),
    ("parachichi", "maparachichi"),
)
_MANY = ("", "", "mawili", "matatu", "manne", "matano", "sita", "saba", "nane", "tisa", "kumi")
_PEOPLE = ("", "mmoja", "wawili", "watatu", "wanne", "watano", "sita", "saba", "nane", "tisa", "kumi")
_HOURS = (
    "kumi na mbili", "moja", "mbili", "tatu", "nne", "tano", "sita", "saba", "nane", "tisa", "kumi",
    "kumi na moja",
)  # fmt: skip
_DAYS = ["Jumatatu", "Jumanne", "Jumatano", "Alhamisi", "Ijumaa", "Jumamosi", "Jumapili"]
_PLACES = (
    ("soko", "liko", "sokoni"),
    ("hospitali", "iko", "hospitalini"),
    ("kituo cha basi", "kiko", "kituo cha basi"),
    ("benki", "iko", "benki"),
    ("posta", "iko", "posta"),
    ("msikiti", "uko", "msikitini"),
    ("kanisa", "liko", "kanisani"),
    ("duka la dawa", "liko", "duka la dawa"),
    ("maktaba", "iko", "maktaba"),
    ("shule ya msingi", "iko", "shule ya msingi"),
)
_MARKS = (
    "kwenye mzunguko",
    "kwenye taa za barabarani",
    "penye mwembe mkubwa",
    "kwenye kona ya pili",
    "karibu na daraja",
)
_SKIES = (
    ("mvua kubwa", "Chukua mwavuli na uvae viatu visivyopitisha maji", 20),
    ("jua kali", "Vaa kofia na nguo nyepesi, na unywe maji mengi", 28),
    ("upepo mwingi", "Vaa koti na ufunge madirisha vizuri", 21),
    ("baridi", "Vaa sweta na unywe kitu cha moto", 12),
    ("mawingu", "Beba mwavuli, huenda mvua ikanyesha", 22),
    ("ukungu", "Endesha polepole na uwashe taa za gari", 14),
)
_PLURALS = (
    ("kitabu", "vitabu"),
    ("mtoto", "watoto"),
    ("mti", "miti"),
    ("gari", "magari"),
    ("jicho", "macho"),
    ("kiti", "viti"),
    ("mwalimu", "walimu"),
    ("ufunguo", "funguo"),
    ("ndege", "ndege"),
    ("mkono", "mikono"),
    ("ukuta", "kuta"),
    ("jino", "meno"),
)
_WORDS = (
    ("jirani", "mtu anayeishi karibu nawe"),
    ("mkulima", "mtu anayelima shamba"),
    ("jikoni", "mahali pa kupikia chakula"),
    ("mvuvi", "mtu anayevua samaki"),
    ("kiangazi", "majira ya jua na joto"),
    ("nahodha", "kiongozi wa chombo cha majini"),
    ("maktaba", "mahali pa kusoma na kuazima vitabu"),
    ("seremala", "fundi anayetengeneza vitu vya mbao"),
)


def make(rng: random.Random) -> Case:
    """A short talk: now and then a greeting, two or three questions on one topic, now and then a farewell."""
    kind, pairs, drawn = rng.choice(_TOPICS)
    me, name = rng.sample(_NAMES, 2)

    def ask(pair: bank.Pair) -> tuple[Message, Message]:
        slots = _common(rng) | (drawn(rng) if pair in pairs else {}) | {"me": me, "name": name}
        return Talk.user(say(rng, (pair[0],), **slots)), Talk.assistant(say(rng, (pair[1],), **slots))

    opening = (rng.choice(bank.GREET),) if rng.random() < 0.6 else ()
    ending = (rng.choice(bank.PART),) if rng.random() < 0.6 else ()
    asked = rng.sample(pairs, rng.randint(2, 3))
    return Case(kind, tuple(turn for pair in (*opening, *asked, *ending) for turn in ask(pair)))


def _common(rng: random.Random) -> dict[str, object]:
    return {"town": rng.choice(_TOWNS), "minutes": rng.randint(2, 9) * 5, "n": rng.randint(2, 9)}


def _shopping(rng: random.Random) -> dict[str, object]:
    food, (fruit, fruits) = rng.choice(_FOODS), rng.choice(_FRUITS)
    price, n, rise, many = rng.randint(3, 60) * 50, rng.randint(2, 9), rng.randint(1, 9) * 50, rng.randint(2, 10)
    note, fruit_note = ((price * amount // 5000 + 1) * 5000 for amount in (n, many))
    return {
        "food": food,
        "Food": upper_first(food),
        "Fruit": upper_first(fruit),
        "fruits": fruits,
        "Fruits": upper_first(fruits),
        "price": price,
        "n": n,
        "total": price * n,
        "note": note,
        "left": note - price * n,
        "many": _MANY[many],
        "fruit_total": price * many,
        "fruit_note": fruit_note,
        "fruit_left": fruit_note - price * many,
        "dearer": price + rise,
        "rise": rise,
    }


def _cooking(rng: random.Random) -> dict[str, object]:
    few, per = rng.randint(2, 4), rng.randint(1, 2)
    more = few + rng.randint(2, 6)
    share = "kikombe kimoja" if per == 1 else "vikombe viwili"
    return {"few": few, "cups": few * per, "more": more, "more_cups": more * per, "per": share}


def _caring(rng: random.Random) -> dict[str, object]:
    return {"glasses": rng.randint(6, 8), "doctor": say(rng, bank.DOCTOR)}


def _going(rng: random.Random) -> dict[str, object]:
    place, is_at, place_to = rng.choice(_PLACES)
    return {"place": place, "is_at": is_at, "place_to": place_to, "mark": rng.choice(_MARKS)}


def _sky(rng: random.Random) -> dict[str, object]:
    sky, advice, mild = rng.choice(_SKIES)
    degrees, warmth = mild + rng.randint(0, 4), rng.randint(1, 5)
    return {"sky": sky, "advice": advice, "degrees": degrees, "warmth": warmth, "warmer": degrees + warmth}


def _people(rng: random.Random) -> dict[str, object]:
    brothers, sisters, age, gap = rng.randint(1, 4), rng.randint(1, 4), rng.randint(5, 30), rng.randint(1, 9)
    born, years = rng.randint(1930, 1965), rng.randint(40, 60)
    return {
        "brothers": _PEOPLE[brothers],
        "sisters": _PEOPLE[sisters],
        "children": _PEOPLE[brothers + sisters + 1],
        "age": age,
        "gap": gap,
        "older": age + gap,
        "born": born,
        "years": years,
        "year": born + years,
        "many_people": _PEOPLE[rng.randint(4, 10)],
        "weekday": rng.choice(_DAYS),
    }


def _studies(rng: random.Random) -> dict[str, object]:
    a, b, small, pages = rng.randint(11, 30), rng.randint(11, 30), rng.randint(2, 9), rng.randint(60, 240)
    read, today, days = rng.randint(5, 50), rng.randrange(7), rng.randint(2, 6)
    (thing, things), (word, meaning) = rng.choice(_PLURALS), rng.choice(_WORDS)
    return {
        "a": a,
        "b": b,
        "both": a + b,
        "small": small,
        "product": a * small,
        "needed": -(-a // small),
        "pages": pages,
        "read": read,
        "unread": pages - read,
        "today": _DAYS[today],
        "days": days,
        "exam": _DAYS[(today + days) % 7],
        "thing": thing,
        "things": things,
        "word": word,
        "Word": upper_first(word),
        "meaning": meaning,
    }


def _hours(rng: random.Random) -> dict[str, object]:
    start, hours, weeks = rng.randint(6, 14), rng.randint(2, 7), rng.randint(2, 9)
    today, days = rng.randrange(7), rng.randint(2, 6)
    return {
        "start": _clock(start),
        "hours": _HOURS[hours],
        "end": _clock(start + hours),
        "few": weeks,
        "week_days": 7 * weeks,
        "today": _DAYS[today],
        "days": days,
        "exam": _DAYS[(today + days) % 7],
    }


def _clock(hour: int) -> str:
    """A full hour in the Swahili count, which begins at six in the morning."""
    part = "asubuhi" if hour < 12 else "mchana" if hour < 16 else "jioni" if hour < 19 else "usiku"
    return f"saa {_HOURS[(hour - 6) % 12]} {part}"


_TOPICS: tuple[tuple[str, tuple[bank.Pair, ...], Callable[[random.Random], dict[str, object]]], ...] = (
    ("market", bank.MARKET, _shopping),
    ("directions", bank.WAY, _going),
    ("weather", bank.WEATHER, _sky),
    ("family", bank.FAMILY, _people),
    ("school", bank.SCHOOL, _studies),
    ("cooking", bank.COOK, _cooking),
    ("health", bank.HEALTH, _caring),
    ("time", bank.CLOCK, _hours),
)
