"""The watch over all traffic: decisions in, alarms out. Whoever decides only leaves a note; the rest is done elsewhere.

Turns of one conversation are alike, and not exchangeable: at each stage only the first look at a conversation counts
(``firsts``). A part of a streamed reply is not like the whole replies of calibration: it does not count at all, and is
no first look. Memory is bounded by the notes that wait, the conversations that are known and the windows. Safe for
several threads. Knows nothing of stores or metrics.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from offmap.conversation import Conversation
from offmap.gateway.config import Drift
from offmap.gateway.decision import Decision, Finding, Stage
from offmap.gateway.drift.firsts import Firsts, Keys, keys
from offmap.gateway.drift.series import Look, Series, SeriesState, Setup
from offmap.gateway.drift.told import Alarm, Kind, Report
from offmap.gateway.policy import ERRORS

MOST_WAITING = 10_000
"""Decisions that wait to be looked at; what comes beyond is only counted."""
_Key = tuple[Stage, str, Kind]


@dataclass(frozen=True)
class _Note:
    """What is kept of a decision until it is looked at."""

    stage: Stage
    findings: tuple[Finding, ...]
    at: float
    decision_id: str
    keys: Keys
    length: int


class _State(msgspec.Struct, frozen=True):
    """What a watch goes on from: only under the same settings do its numbers mean the same."""

    settings: Drift
    series: list[tuple[_Key, SeriesState]]


class Watch:
    """Everything that is watched.

    Args:
        settings: the table of the configuration.
        setups: what is watched; nothing where that is not enabled.
        conversations: how many are known at each stage before the oldest is forgotten.
        seed: of ties among ranks.
    """

    def __init__(self, settings: Drift, setups: Iterable[Setup], *, conversations: int = 10_000, seed: int = 0) -> None:
        self.settings = settings
        self._rng = np.random.default_rng(seed)
        self._series = {_key(each): Series(each, self._rng) for each in setups if settings.enabled}
        self._first = Firsts(conversations * len({stage for stage, _, _ in self._series}))
        self._notes: deque[_Note | tuple[Setup, ...]] = deque()
        self._lock = threading.Lock()
        self._missed = self._repeated = self._partial = 0
        if self._series:
            _load()

    def saw(self, decision: Decision, conversation: Conversation) -> None:
        """Leave a note of a decision and what it was about; takes no longer than it takes to count the characters."""
        if not self._series or not decision.findings or not conversation.messages:
            return
        if decision.partial:
            self._partial += 1
            return
        if len(self._notes) >= MOST_WAITING:
            self._missed += 1
            return
        known = keys(conversation, decision.conversation, decision.caller)
        place = decision.at, decision.id, known, _length(conversation)
        self._notes.append(_Note(decision.stage, decision.findings, *place))

    def adopt(self, setups: Iterable[Setup]) -> None:
        """Watch these from the next decision on; what is about the cut of other bands now starts anew."""
        if self.settings.enabled:
            self._notes.append(tuple(setups))

    def work(self) -> list[Alarm]:
        """Look at what waits; the alarms that are new."""
        with self._lock:
            return self._work()

    def report(self) -> Report:
        """How everything stands, as of the last ``work``."""
        with self._lock:
            watched = tuple(each.stands() for each in self._series.values())
            left_out = self._repeated, self._partial
            return Report(self.settings.enabled, self.settings.level, self._missed, watched, *left_out)

    def windows(self) -> int:
        """How many windows were tested: where this has grown, a part of the level is spent."""
        with self._lock:
            return sum(each.state.windows for each in self._series.values())

    def state(self) -> str:
        """All that a watch goes on from after a restart, but for windows that are not full."""
        with self._lock:
            series = [(key, each.state) for key, each in self._series.items()]
            return msgspec.json.encode(_State(self.settings, series)).decode()

    def resume(self, state: str | None) -> bool:
        """Go on from ``state``; whether it is of a watch with the same settings. Another version starts anew."""
        try:
            found = msgspec.json.decode(state or "null", type=_State)
        except msgspec.DecodeError:
            return False
        if found.settings != self.settings:
            return False
        with self._lock:
            for key, each in found.series:
                if key in self._series:
                    self._series[key].resume(each)
        return True

    def _work(self) -> list[Alarm]:
        found: list[Alarm] = []
        looks: dict[_Key, list[Look]] = {}
        for _ in range(len(self._notes)):
            note = self._notes.popleft()
            if not isinstance(note, _Note):
                found += self._look(looks)
                looks = {}
                self._series = {_key(each): self._goes_on(each) or Series(each, self._rng) for each in note}
                continue
            if not self._first(note.stage, note.keys):
                self._repeated += 1
                continue
            for finding in note.findings:
                for kind, look in _looks(note, finding):
                    looks.setdefault((note.stage, finding.monitor, kind), []).append(look)
        return found + self._look(looks)

    def _look(self, looks: Mapping[_Key, Sequence[Look]]) -> list[Alarm]:
        found = (self._series[key].add(each) for key, each in looks.items() if key in self._series)
        return [alarm for alarm in found if alarm]

    def _goes_on(self, setup: Setup) -> Series | None:
        """The series of that number where it is watched under the same bands already."""
        known = self._series.get(_key(setup))
        return known if known and known.setup.since == setup.since else None


def _key(setup: Setup) -> _Key:
    return setup.stage, setup.monitor, setup.kind


def _looks(note: _Note, finding: Finding) -> Iterable[tuple[Kind, Look]]:
    """The numbers of a finding."""
    if finding.outcome == "skipped":
        return
    whole = finding.windows <= 1
    yield "error", Look(float(finding.outcome in ERRORS), note.at, note.decision_id)
    if finding.outcome in ERRORS:
        return
    yield "length", Look(float(note.length), note.at, note.decision_id)
    yield "unscored", Look(float(finding.outcome == "unscored"), note.at, note.decision_id)
    if finding.outcome == "scored" and finding.p_unsafe is not None:
        yield "unsafe", Look(-finding.p_unsafe, note.at, note.decision_id, whole)
    if finding.outcome == "scored" and finding.p_unknown is not None:
        yield "unknown", Look(-finding.p_unknown, note.at, note.decision_id, whole)


def _length(conversation: Conversation) -> int:
    """Characters of what is looked at."""
    messages = conversation.messages
    return sum(len(each.content) + sum(len(call.arguments) for call in each.tool_calls) for each in messages)


def _load() -> None:
    """What the tests are made of, before traffic comes: the first import takes a while and holds up every thread."""
    import scipy.special
    import scipy.stats  # noqa: F401
