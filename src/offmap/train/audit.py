"""Do rows of one split show up in another? Looked for before any training; every pair found can be read.

Near-duplicates share word shingles, of five words as in Lee et al. 2021, arXiv:2107.06499. MinHash sketches (Broder
1997) in a locality-sensitive index (Indyk and Motwani 1998) only propose who to compare with whom: what is reported is
the exact Jaccard similarity. System turns and offered tools are left out: rows that share a tool list are no copies.
Knows nothing of meaning: a paraphrase, a translation, or a copy inside something much longer passes, unless it opens
with the same words. Text without spaces between its words is compared in pieces as long as its clauses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np

from offmap.atomic import write_whole
from offmap.conversation import Conversation, content_key
from offmap.errors import InputError
from offmap.splits import opening

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

Kind = Literal["same id", "same conversation", "near-duplicate", "same pair", "same opening"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Strongest first: two rows are reported once, by the first that holds."""
THRESHOLD = 0.8
SHINGLE = 5
_HASHES = 128
FEWEST = 10
"""Different shingles that a near-duplicate must have: who says a few words says what others say."""
_MISSED = 1e-3
"""The share of pairs exactly at the threshold that the index may fail to propose."""
_COMPARED = 16
"""Of the rows that may be a row's counterpart, how many are compared exactly: those with the likest sketches."""
_NAMED = 5
"""Leaks that a message spells out."""
_SHOWN = 200
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leak:
    """Two rows of different splits that share too much.

    Attributes:
        kind: the strongest of what they share.
        splits: the earlier and the later split, in the order in which they were given.
        ids: of their rows.
        similarity: exact Jaccard similarity of their word shingles, whatever the kind; in [0, 1].
        openings: the first characters of what the user says first, so that a person sees what it is about.
    """

    kind: Kind
    splits: tuple[str, str]
    ids: tuple[str, str]
    similarity: float
    openings: tuple[str, str]


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        leaks: for every two splits, each row with a counterpart in the other and the strongest, nearest one of these:
            as many leaks as rows, not as pairs. By splits, then kind, then falling similarity.
        n_rows: rows of each split.
        threshold: the similarity from which two rows are near-duplicates.
        shingle: words of a shingle.
    """

    leaks: tuple[Leak, ...]
    n_rows: Mapping[str, int]
    threshold: float
    shingle: int

    @property
    def counts(self) -> dict[tuple[str, str, Kind], int]:
        """Leaks by earlier split, later split and kind."""
        return dict(Counter((*leak.splits, leak.kind) for leak in self.leaks))

    @property
    def summary(self) -> str:
        """The counts and the first leaks, for a person."""
        counts = ", ".join(f"{n} x {kind} in {a} and {b}" for (a, b, kind), n in self.counts.items())
        first = [f"{a.splits[0]} {a.ids[0]!r} and {a.splits[1]} {a.ids[1]!r} ({a.kind}, similarity {a.similarity:.2f})"
                 for a in self.leaks[:_NAMED]]  # fmt: skip
        return f"{counts}; such as {'; '.join(first)}" if self.leaks else "no leaks"

    def leaking(self, split: str) -> frozenset[str]:
        """The ids of a split's rows that show up in a later split: to be left out of this one, never of the later."""
        return frozenset(leak.ids[0] for leak in self.leaks if leak.splits[0] == split)

    def remaining(self, split: str) -> int:
        """How many leaks do not concern a split, and stay whatever of its rows is left out."""
        return sum(split not in leak.splits for leak in self.leaks)

    def refuse(self, named: Path | None = None) -> None:
        """Stop if there is anything to stop for.

        Args:
            named: where all leaks were written.

        Raises:
            InputError: there are leaks.
        """
        if self.leaks:
            place = f"; all {len(self.leaks)} are named in {named}" if named else ""
            raise InputError(
                f"the splits leak: found {self.summary}{place}; wanted rows that share nothing with another split's. "
                "To go on, leave the fit rows among them out (--leaks drop; leaks between other splits remain) or "
                "train on them all the same (--leaks allow)"
            )

    def write(self, path: Path) -> None:
        """Write the leaks as JSON Lines, one a line.

        Raises:
            InputError: no file can be made there.
        """
        write_whole(path, b"".join(msgspec.json.encode(leak) + b"\n" for leak in self.leaks))


def audit(
    splits: Mapping[str, Sequence[Conversation]],
    *,
    threshold: float = THRESHOLD,
    shingle: int = SHINGLE,
    seed: int = 0,
) -> Audit:
    """Look for rows of one split that show up in another. Rows of the same split may share what they like.

    Args:
        splits: rows by the name of their split, in the order fit, calibrate, threshold, test: of two that leak, the
            earlier can be left out.
        threshold: the similarity from which two rows are near-duplicates, in (0, 1].
        shingle: words of a shingle; a shorter conversation is one shingle.
        seed: of the sketches. It decides which near-duplicates at the very threshold may be overlooked, one in a
            thousand, and never what is reported of those that are found.

    Raises:
        InputError: a threshold or a shingle out of its range, or the package datasketch is not installed.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold:g}; a similarity above 0, up to 1, is wanted")
    if shingle < 1:
        raise InputError(f"shingle is {shingle}; at least 1 word is wanted")
    sides = {name: _side(rows, shingle, seed) for name, rows in splits.items()}
    nearest: dict[tuple[str, str], list[_Nearest | None]] = {}
    for name, side in sides.items():
        index = _Index(side, threshold, shingle)
        for other, (rows, sketches) in sides.items():
            if other != name:
                nearest[other, name] = [index.nearest(*of) for of in zip(rows, sketches, strict=True)]
    leaks = [
        leak
        for names in combinations(splits, 2)
        for leak in _leaks(names, splits, nearest[names], nearest[names[1], names[0]])
    ]
    return Audit(tuple(leaks), {name: len(rows) for name, rows in splits.items()}, threshold, shingle)


class _Side(NamedTuple):
    """A split's rows and their sketches; a row that says too little has none."""

    rows: Sequence[Conversation]
    sketches: Sequence[MinHash | None]


class _Nearest(NamedTuple):
    """A row's counterpart in another split: its place there, its kind's place in KINDS, the exact similarity."""

    place: int
    kind: int
    similarity: float


class _Index:
    """Finds, for rows of another split, the nearest row of one split."""

    def __init__(self, side: _Side, threshold: float, shingle: int) -> None:
        self._rows, self._threshold, self._shingle = side.rows, threshold, shingle
        self._places: dict[tuple[Kind, str | None], list[int]] = {}
        for place, row in enumerate(side.rows):
            for name in _names(row):
                self._places.setdefault(name, []).append(place)
        self._index = _lsh(threshold)
        sketched: dict[bytes, int] = {}
        for place, sketch in enumerate(side.sketches):
            # Rows with one sketch stand for each other, so that a thousand copies are one entry.
            if sketch is not None and sketched.setdefault(sketch.hashvalues.tobytes(), place) == place:
                self._index.insert(place, sketch)
        blank = np.zeros(_HASHES, np.uint32)
        self._values = np.array([blank if s is None else s.hashvalues for s in side.sketches]).reshape(-1, _HASHES)

    def nearest(self, row: Conversation, sketch: MinHash | None) -> _Nearest | None:
        """The likest of the rows that share the strongest thing that any of them shares with ``row``."""
        names = dict(_names(row))
        for number, kind in enumerate(KINDS):
            places = self._proposed(sketch) if kind == "near-duplicate" else self._places.get((kind, names.get(kind)))
            if places:
                own = shingles(row, self._shingle)
                like = {p: jaccard(own, shingles(self._rows[p], self._shingle)) for p in self._likest(places, sketch)}
                place = max(like, key=lambda p: (like[p], -p))
                if kind != "near-duplicate" or like[place] >= self._threshold:
                    return _Nearest(place, number, like[place])
        return None

    def _proposed(self, sketch: MinHash | None) -> list[int]:
        return sorted(self._index.query(sketch)) if sketch is not None else []

    def _likest(self, places: list[int], sketch: MinHash | None) -> list[int]:
        if len(places) <= _COMPARED or sketch is None:
            return places[:_COMPARED]
        equal = (self._values[places] == sketch.hashvalues).sum(axis=1)
        return [places[at] for at in np.argsort(-equal, kind="stable")[:_COMPARED]]


def shingles(row: Conversation, size: int = SHINGLE) -> set[str]:
    """Every run of ``size`` words in what a conversation says, system turns left out; all its words if there are fewer.

    Case, punctuation and white space do not count. Empty where there are no words.
    """
    said = "\n".join(message.text for message in row.messages if message.role != "system")
    words = _WORD.findall(said.casefold())
    return {" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))} if words else set()


def jaccard(one: set[str], other: set[str]) -> float:
    """The share of all elements that both sets have; 1 for two empty ones."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if one or other else 1.0


def _names(row: Conversation) -> list[tuple[Kind, str]]:
    """What a row may share with another word for word."""
    said = " ".join(opening(row).casefold().split())
    shared: list[tuple[Kind, str]] = [("same id", row.id), ("same conversation", content_key(row))]
    shared += [("same pair", row.pair), ("same opening", said)]
    return [(kind, name) for kind, name in shared if name]


def _side(rows: Sequence[Conversation], shingle: int, seed: int) -> _Side:
    minhash = _datasketch().MinHash
    encoded = [[text.encode() for text in shingles(row, shingle)] for row in rows]
    sketches = minhash.generator(encoded, num_perm=_HASHES, seed=seed)
    telling = (len(each) >= FEWEST for each in encoded)
    return _Side(rows, [sketch if enough else None for sketch, enough in zip(sketches, telling, strict=True)])


def _lsh(threshold: float) -> MinHashLSH:
    """An index with the longest bands, so the fewest proposals, that overlooks few enough at the threshold."""
    lengths = [r for r in range(1, _HASHES // 2 + 1) if (1 - threshold**r) ** (_HASHES // r) <= _MISSED]
    length = max(lengths, default=1)
    return _datasketch().MinHashLSH(num_perm=_HASHES, params=(_HASHES // length, length))


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError as error:
        raise InputError("the leakage audit needs datasketch: pip install 'offmap[train]'") from error
    return datasketch


def _leaks(
    names: tuple[str, str],
    splits: Mapping[str, Sequence[Conversation]],
    onward: Sequence[_Nearest | None],
    back: Sequence[_Nearest | None],
) -> list[Leak]:
    """The leaks of two splits, from the counterparts of the earlier one's rows and of the later one's."""
    pairs = {(i, to.place): (to.kind, -to.similarity) for i, to in enumerate(onward) if to}
    pairs |= {(to.place, j): (to.kind, -to.similarity) for j, to in enumerate(back) if to}
    leaks = []
    for (i, j), (kind, minus) in sorted(pairs.items(), key=lambda pair: (pair[1], pair[0])):
        one, two = splits[names[0]][i], splits[names[1]][j]
        leaks.append(Leak(KINDS[kind], names, (one.id, two.id), -minus, (opening(one)[:_SHOWN], opening(two)[:_SHOWN])))
    return leaks
