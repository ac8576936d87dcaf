"""What a monitor still flags after edits that keep what is said: the share of its own alarms that survive each of them.

Only rows that the monitor flags as they are count, so a monitor is not blamed here for what it misses anyway. Beside
that stand its false alarms on benign rows under the same edits: one that flags whatever looks odd survives every edit
and is no better for it. Knows nothing of files or of what a monitor is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from offmap.bench.edits import ATTACKS, edited
from offmap.bench.metrics import mean_of
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.monitor import Verdict
from offmap.rates import Rate, rate_of

Score = Callable[[Sequence[Conversation]], Sequence[Verdict]]
CHUNK = 32


class Survived(msgspec.Struct, frozen=True):
    """What one edit does.

    Attributes:
        attack: its name.
        told: what it does in a few words.
        flagged: of the flagged rows that it changes those that are flagged still. A row without a score is flagged.
        p_before, p_after: the mean p-value of these rows, before and after.
        alarms_before, alarms_after: of the benign rows that it changes those that are flagged.
        cut: edited rows, of both kinds, that were not read to their end.
    """

    attack: str
    told: str
    flagged: Rate
    p_before: float | None
    p_after: float | None
    alarms_before: Rate
    alarms_after: Rate
    cut: int


class Evasion(msgspec.Struct, frozen=True):
    """A monitor under all edits.

    Attributes:
        looked_at: how many rows that may be harmful were scored to find those that are flagged.
        flagged: how many of them are; these are edited.
        benign: how many rows labelled safe are edited beside them.
        survived: edit by edit.
        every: flagged rows that are still flagged under each of the edits that change them.
        seed: of the sample and the edits.
    """

    looked_at: int
    flagged: int
    benign: int
    survived: tuple[Survived, ...]
    every: Rate
    seed: int

    def below(self, share: float) -> tuple[str, ...]:
        """Names of the edits under which less than that share of the alarms survives."""
        found = ((each.attack, each.flagged.value) for each in self.survived)
        return tuple(name for name, survived in found if survived is not None and survived < share)

    def above(self, share: float) -> tuple[str, ...]:
        """Names of the edits under which more than that share of benign rows is flagged."""
        found = ((each.attack, each.alarms_after.value) for each in self.survived)
        return tuple(name for name, alarms in found if alarms is not None and alarms > share)


def evade(
    score: Score,
    rows: Sequence[Conversation],
    attacks: Sequence[str] = tuple(ATTACKS),
    *,
    most: int = 100,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Evasion:
    """Edit what a monitor flags, and benign rows beside it, and ask it again.

    Args:
        score: the monitor.
        rows: conversations. One that is not labelled safe and is flagged is taken for an attack.
        attacks: names of edits.
        most: flagged rows, and benign ones, that are edited at most, drawn by ``seed``.
        seed: of the sample and of the edits.
        progress: told how many rows have been scored.

    Raises:
        InputError: an unknown edit, or nothing that is flagged: then there is nothing to lose.
    """
    _require_known(attacks)
    asked = _Asked(score, progress)
    drawn = random.Random(seed).sample(rows, len(rows))
    looked_at, flagged = _flagged(asked, [row for row in drawn if row.unsafe is not False], most)
    safe = [row for row in drawn if row.unsafe is False][:most]
    benign = list(zip(safe, asked(safe), strict=True))
    if not flagged:
        raise InputError(f"the monitor flags none of {looked_at} rows that may be harmful: there is nothing to evade")
    kept: dict[int, bool] = {}
    survived = []
    for attack in attacks:
        one, still = _survived(asked, attack, flagged, benign, seed)
        survived.append(one)
        kept |= {at: kept.get(at, True) and flag for at, flag in still.items()}
    every = rate_of(list(kept.values()))
    return Evasion(looked_at, len(flagged), len(benign), tuple(survived), every, seed)


def most_rows(rows: Sequence[Conversation], attacks: Sequence[str], most: int) -> int:
    """The most rows that ``evade`` scores."""
    safe = sum(row.unsafe is False for row in rows)
    return len(rows) - safe + min(safe, most) + (min(len(rows) - safe, most) + min(safe, most)) * len(attacks)


class _Asked:
    """A monitor, asked a few rows at a time."""

    def __init__(self, score: Score, progress: Callable[[int], object]) -> None:
        self._score, self._progress = score, progress

    def __call__(self, rows: Sequence[Conversation]) -> list[Verdict]:
        return [verdict for part in _chunks(rows) for verdict in self.part(part)]

    def part(self, rows: Sequence[Conversation]) -> Sequence[Verdict]:
        verdicts = self._score(rows)
        self._progress(len(rows))
        return verdicts


_Scored = tuple[Conversation, Verdict]


def _flagged(asked: _Asked, rows: Sequence[Conversation], most: int) -> tuple[int, list[_Scored]]:
    """How many rows were looked at, and the first of them that are flagged, ``most`` at most."""
    looked_at, found = 0, list[_Scored]()
    for part in _chunks(rows):
        verdicts = asked.part(part)
        looked_at += len(part)
        found += [(row, verdict) for row, verdict in zip(part, verdicts, strict=True) if verdict.flagged]
        if len(found) >= most:
            break
    return looked_at, found[:most]


def _survived(
    asked: _Asked, attack: str, flagged: Sequence[_Scored], benign: Sequence[_Scored], seed: int
) -> tuple[Survived, dict[int, bool]]:
    """What an edit does, and of each flagged row that it changes, by its place, whether it is flagged still."""
    harmful, safe = _changed(attack, flagged, seed), _changed(attack, benign, seed)
    now, alarms = asked(list(harmful.values())), asked(list(safe.values()))
    still = {at: verdict.flagged for at, verdict in zip(harmful, now, strict=True)}
    one = Survived(
        attack,
        ATTACKS[attack].told,
        rate_of(list(still.values())),
        mean_of([_number(flagged[at][1]) for at in harmful]),
        mean_of([_number(verdict) for verdict in now]),
        rate_of([benign[at][1].flagged for at in safe]),
        rate_of([verdict.flagged for verdict in alarms]),
        sum(verdict.n_dropped > 0 for verdict in (*now, *alarms)),
    )
    return one, still


def _changed(attack: str, rows: Sequence[_Scored], seed: int) -> dict[int, Conversation]:
    """The rows that an edit changes, by their places, as it leaves them."""
    after = {at: edited(row, attack, seed) for at, (row, _) in enumerate(rows)}
    return {at: row for at, row in after.items() if row.messages != rows[at][0].messages}


def _number(verdict: Verdict) -> float:
    return math.nan if verdict.p_value is None else verdict.p_value


def _chunks(rows: Sequence[Conversation]) -> Iterator[Sequence[Conversation]]:
    return (rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK))


def _require_known(attacks: Sequence[str]) -> None:
    for name in attacks:
        if name not in ATTACKS:
            raise InputError(f"attack {name!r} is not known; wanted one of {', '.join(ATTACKS)}")
    if not attacks:
        raise InputError(f"no attack; wanted at least one of {', '.join(ATTACKS)}")
