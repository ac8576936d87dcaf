"""Small made-up worlds: people, towns, shops and goods with exact attributes, all from one seed.

Whoever asks about a world can be answered exactly, so a label is true by construction.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from offmap.suites.procedural.frames import words

_FIRST = words("""
Amara Bruno Celeste Dario Edith Farid Greta Hugo Imani Jonas Keiko Lorenzo Mina Nadia Oskar Priya Quentin Rosa Samir
Tessa Umar Vera Wilma Xavier Yusuf Zora Anton Beatrix Cyril Delia Emil Flora Gideon Hanna Ivo Jasmin Karim Leona Marcus
Noor
""")
_LAST = words("""
Abara Bellweather Castellan Dunmore Eskelin Fairbanks Galvan Holloway Iversen Jansson Kimura Lindqvist Moreau Nakata
Okafor Pemberton Quiroga Rasmussen Solano Takeda Ulrich Vasquez Whitlock Yilmaz Zeller Ashdown Brandt Corrigan
Delacroix Ekstrom
""")
_TOWN = (
    words("Alder Birch Cold Deer East Fern Glen High Iron Juniper Kings Long Marsh North Oak Pine Quarry River Stone"),
    words("bury dale field ford ham haven mouth port ridge side ton wick wood bridge brook cliff"),
)
_RIVER = words("Arrow Bellin Corran Drave Esker Fallow Garron Hazel Inver Kestle Lorne Merrow Nadder Orrin Pell")
_TRADE = words("""
baker carpenter chemist clerk cook dentist driver electrician engineer farmer gardener joiner librarian mechanic nurse
painter plumber potter surveyor tailor teacher vet weaver welder
""")
_GOODS = {
    "lamp": (18, 90), "kettle": (15, 60), "backpack": (25, 120), "notebook": (3, 14), "desk": (80, 320),
    "chair": (40, 210), "blanket": (12, 70), "bicycle": (150, 900), "tent": (60, 400), "radio": (20, 95),
    "mirror": (14, 130), "rug": (30, 260), "teapot": (12, 55), "clock": (10, 85), "umbrella": (9, 40),
    "camera": (120, 780), "shelf": (25, 160), "heater": (35, 190), "drill": (40, 180), "pan": (12, 75),
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody, with a trade, a home town, an age and an address to write to."""

    first: str
    last: str
    trade: str
    town: str
    age: int

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first} {self.last}"

    @property
    def email(self) -> str:
        """An address at the reserved example domain."""
        return f"{self.first.lower()}.{self.last.lower()}@example.com"


@dataclass(frozen=True)
class Town:
    """A town and what can be known about it."""

    name: str
    river: str
    founded: int
    population: int
    height: int
    mayor: str


@dataclass(frozen=True)
class Good:
    """A thing on sale."""

    name: str
    price: int
    stock: int
    maker: str


class World:
    """A source of people, towns and goods; two worlds of one seed are equal."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def person(self) -> Person:
        """Somebody new."""
        pick = self.rng.choice
        return Person(pick(_FIRST), pick(_LAST), pick(_TRADE), self.town_name(), self.rng.randint(19, 84))

    def town_name(self) -> str:
        """The name of a town."""
        return self.rng.choice(_TOWN[0]) + self.rng.choice(_TOWN[1])

    def town(self) -> Town:
        """A town with its facts."""
        rng = self.rng
        mayor = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
        size = rng.randint(8, 950) * 100
        return Town(self.town_name(), rng.choice(_RIVER), rng.randint(1040, 1910), size, rng.randint(2, 1400), mayor)

    def good(self) -> Good:
        """Something on sale, at a price that suits it."""
        name = self.rng.choice(sorted(_GOODS))
        low, high = _GOODS[name]
        return Good(name, self.rng.randint(low, high), self.rng.randint(0, 60), self._maker())

    def goods(self, n: int) -> list[Good]:
        """Things on sale, no two of one name."""
        names = self.rng.sample(sorted(_GOODS), n)
        return [
            Good(name, self.rng.randint(*_GOODS[name]), self.rng.randint(0, 60), self.rng.choice(_LAST))
            for name in names
        ]

    def first_names(self, n: int) -> list[str]:
        """First names, no two alike."""
        return self.rng.sample(_FIRST, n)

    def town_names(self, n: int) -> list[str]:
        """Names of towns, no two alike."""
        names: list[str] = []
        while len(names) < n:
            name = self.town_name()
            names += [name] * (name not in names)
        return names

    def _maker(self) -> str:
        return self.rng.choice(_LAST)
