"""What the drift watch tells: an alarm in words, and how everything stands, as plain data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from offmap.combination import QUESTIONS
from offmap.gateway.decision import Stage

Kind = Literal["unsafe", "unknown", "length", "unscored", "error"]
"""The p-values of a question; how long what is looked at is; whether it got a score; whether the monitor failed."""
Direction = Literal["more", "less"]
_MOVED: dict[Kind, dict[Direction, str]] = {
    "unsafe": {"more": "its p-values of harm lie lower than", "less": "its p-values of harm lie higher than"},
    "unknown": {
        "more": "its p-values of the unknown lie lower than",
        "less": "its p-values of the unknown lie higher than",
    },
    "length": {"more": "what it looks at is longer than", "less": "what it looks at is shorter than"},
    "unscored": {"more": "it leaves more unscored than", "less": "it leaves less unscored than"},
    "error": {"more": "it fails more often than", "less": "it fails less often than"},
}
_THEN = "Drift may be an attack, another use or another model: look at what came since; recalibrate on rows like it."


class Alarm(msgspec.Struct, frozen=True):
    """Drift that was found.

    Attributes:
        stage, monitor, version: about which monitor, where it is asked.
        kind: in what.
        test: what found it: "martingale" over all decisions, or a window's "martingale", "alarm rate" or "uniformity".
        direction: whether there is more or less of it; less where p-values are larger.
        at, decision_id: when it was found, and at which decision.
        since: about when it began: the window's first decision, or when the martingale stood lowest.
        decisions: looked at until then.
        rate, expected: shares beyond the cut, of the decisions that it was found in and as they should be.
        cut: in words.
        compared: with what, in words.
        words: all of this for a person.
    """

    stage: Stage
    monitor: str
    version: str
    kind: Kind
    test: str
    direction: Direction
    at: float
    decision_id: str
    since: float
    decisions: int
    rate: float
    expected: float
    cut: str
    compared: str
    words: str = ""


class Window(msgspec.Struct, frozen=True):
    """Decisions that were looked at together: from when to when, how many, the share beyond the cut, what was found."""

    since: float
    until: float
    decisions: int
    rate: float
    found: tuple[str, ...] = ()


class Watched(msgspec.Struct, frozen=True):
    """How one number of one monitor at one stage stands.

    Attributes:
        stage, monitor, version, kind: which.
        compared: with what, in words; a reference that is still being collected says how far it is.
        one_sided: whether only more of it can be found, since its ranks are too large by nature.
        decisions: looked at, those of the reference excepted.
        capital: of the martingale over all of them, which starts from 1; None where there is none.
        rate: the share beyond the cut in the last window; None before there is one.
        expected: what that share should be, None before that is known.
        cut: in words.
        windows: the last ones, the oldest first.
        alarm: what was found first; it stands until the watch starts anew.
    """

    stage: Stage
    monitor: str
    version: str
    kind: Kind
    compared: str
    one_sided: bool
    decisions: int
    capital: float | None
    rate: float | None
    expected: float | None
    cut: str
    windows: tuple[Window, ...] = ()
    alarm: Alarm | None = None


class Report(msgspec.Struct, frozen=True):
    """How everything stands.

    Attributes:
        enabled: whether anything is watched.
        level: the probability of a false alarm about any one monitor of a stage, over the whole run.
        missed: decisions that came too fast to be looked at.
        watched: each number.
        repeated: looks that were left out since they were not the first at their conversation.
        partial: looks that were left out since they were at a part of a streamed reply.

    ``missed``, ``repeated`` and ``partial`` count from the start of this process.
    """

    enabled: bool
    level: float
    missed: int = 0
    watched: tuple[Watched, ...] = ()
    repeated: int = 0
    partial: int = 0

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Everything that was found."""
        return tuple(each.alarm for each in self.watched if each.alarm)


def in_words(alarm: Alarm) -> Alarm:
    """The same with its words."""
    moved = f"{_MOVED[alarm.kind][alarm.direction]} {alarm.compared}, since about {_time(alarm.since)}"
    rate = f"{100 * alarm.rate:.3g} % {alarm.cut}, where {100 * alarm.expected:.3g} % are expected"
    sure = "no longer holds" if alarm.kind in QUESTIONS else "may no longer hold"
    words = f"{moved} ({alarm.test}; {rate}). The stated false-positive rate {sure} there. {_THEN}"
    return msgspec.structs.replace(alarm, words=f"Drift at {alarm.stage}, monitor {alarm.monitor!r}: {words}")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
