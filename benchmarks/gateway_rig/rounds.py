"""The same requests at the same moments, sent through every arm in turn, and what came back of each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from gateway_rig import host
from gateway_rig.figures import Array, arrivals
from gateway_rig.load import Answer, Client, Target, closed_loop, lag, open_loop
from gateway_rig.setting import Plan, bodies
from gateway_rig.traffic import Exchange
from offmap.gateway.streaming import HoldBack

WARM = 20
"""Requests before each round that are not measured: connections are made, caches filled."""
SETTLE = 1.0
"""Seconds after a round, in which a server ends what it still does for requests that it has answered."""
ANSWERED, REFUSED, FAILED = "answered", "refused", "failed"


@dataclass
class Seen:
    """What came of one arm. Times of requests that were not answered word for word are NaN.

    Attributes:
        rounds: seconds from due to the last byte, an array for each round.
        first: the same to the first piece with words or calls; of streams.
        held: seconds between that piece and the one that a gateway has to wait for before it may let anything go;
            of streams. It is read off this arm's own pieces, so it is the upstream's time and nobody's work.
        late: how late each request was sent.
        outcomes: answered | refused | failed.
        decisions: ids of decisions that were told.
    """

    rounds: list[Array] = field(default_factory=list)
    first: list[Array] = field(default_factory=list)
    held: list[Array] = field(default_factory=list)
    late: list[Array] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    decisions: list[str] = field(default_factory=list)


@dataclass
class Try:
    """One try of a round.

    Attributes:
        number: of the round.
        taken: what the host took of the processors in each arm's turn, in seconds of a second.
        counts: whether it is the one of its round that counts.
    """

    number: int
    taken: dict[str, float]
    counts: bool = False

    @property
    def quiet(self) -> bool:
        """Whether the host left the processors alone."""
        return max(self.taken.values()) <= host.MOST_TAKEN


@dataclass
class Taken:
    """What came of all rounds.

    Attributes:
        every: of every try, by arm.
        tries: all, in their order.
    """

    every: dict[str, Seen]
    tries: list[Try] = field(default_factory=list)

    @property
    def counted(self) -> dict[str, Seen]:
        """Times of each round's first quiet try; where none was, of the last."""
        return self._of([place for place, each in enumerate(self.tries) if each.counts])

    @property
    def first(self) -> dict[str, Seen]:
        """Times of each round's first try: what would be said if none were taken again."""
        numbers = [each.number for each in self.tries]
        return self._of([numbers.index(number) for number in dict.fromkeys(numbers)])

    def _of(self, places: Sequence[int]) -> dict[str, Seen]:
        """The times of some tries, with the outcomes and decisions of all."""
        return {arm: _picked(seen, places) for arm, seen in self.every.items()}


def _picked(seen: Seen, places: Sequence[int]) -> Seen:
    times = {name: [getattr(seen, name)[place] for place in places] for name in ("rounds", "first", "held", "late")}
    return replace(seen, **times)


def order(arms: Sequence[str], number: int) -> list[str]:
    """Whose turn it is in a round: an order that rotates and, every other time, runs backwards.

    So each comes first as often, and no arm always follows the same one.
    """
    start = number // 2 % len(arms)
    names = [*arms[start:], *arms[:start]]
    return names[::-1] if number % 2 else names


def drawn(plan: Plan, rows: Sequence[Exchange], number: int) -> tuple[list[Exchange], Array]:
    """A round's exchanges, and when each is due."""
    due = arrivals(plan.rate, plan.seconds, plan.seed + 1000 * (number + 1))
    rng = random.Random(plan.seed + number)
    return [rng.choice(rows) for _ in due], due


async def take_turns(
    plan: Plan, arms: Mapping[str, Target], rows: Sequence[Exchange], *, stream: bool = False
) -> Taken:
    """All rounds. Where the host takes too much in any arm's turn, all arms have theirs again, ``plan.tries`` at most.

    All of them, since an arm that works more has more that can be taken: none gets a quieter hour than another.
    """
    found = Taken({name: Seen() for name in arms})
    for number in range(plan.rounds):
        asked, due = drawn(plan, rows, number)
        sent = bodies(asked, stream=stream)
        for attempt in range(plan.tries):
            once = Try(number, {})
            for name in order(list(arms), number):
                answers, once.taken[name] = await _turn(arms[name], sent, due)
                add(found.every[name], asked, answers, stream=stream)
            once.counts = once.quiet or attempt == plan.tries - 1
            found.tries.append(once)
            if once.counts:
                break
    return found


async def _turn(target: Target, sent: Sequence[bytes], due: Array) -> tuple[list[Answer], float]:
    """One arm's answers, and what the host took meanwhile, in seconds of a second."""
    client = Client(target)
    await closed_loop(client, sent[:WARM])
    begun, before = monotonic(), host.taken()
    answers = await open_loop(client, sent, due)
    taken = (host.taken() - before) / (monotonic() - begun)
    await client.aclose()
    await asyncio.sleep(SETTLE)
    return answers, taken


def add(seen: Seen, asked: Sequence[Exchange], answers: Sequence[Answer], *, stream: bool = False) -> None:
    """Count and keep what came of one round."""
    seen.late.append(lag(answers))
    judged = [
        _streamed(row, answer) if stream else _whole(row, answer) for row, answer in zip(asked, answers, strict=True)
    ]
    seen.outcomes.update(outcome for outcome, *_ in judged)
    right = np.array([outcome == ANSWERED for outcome, *_ in judged])
    seen.rounds.append(np.where(right, [answer.seconds for answer in answers], np.nan))
    seen.first.append(np.array([first for _, first, _ in judged]))
    seen.held.append(np.array([held for *_, held in judged]))
    for answer in answers:
        seen.decisions += filter(None, answer.headers.get("x-offmap-decision", "").split(", "))


def _whole(row: Exchange, answer: Answer) -> tuple[str, float, float]:
    nothing = float("nan")
    if answer.status != 200:
        return FAILED, nothing, nothing
    choice = msgspec.json.decode(answer.body)["choices"][0]
    return _judged(row, choice["message"], choice["finish_reason"]), nothing, nothing


def _streamed(row: Exchange, answer: Answer) -> tuple[str, float, float]:
    nothing, first, due = float("nan"), None, None
    if answer.status != 200:
        return FAILED, nothing, nothing
    hold, said, reason = HoldBack(), "", ""
    calls: list[dict[str, Any]] = []
    for at, event in events(answer):
        if "choices" not in event:
            return FAILED, nothing, nothing
        for choice in event["choices"]:
            delta, ends = choice.get("delta") or {}, choice.get("finish_reason")
            reason = ends or reason
            piece, called = delta.get("content") or "", delta.get("tool_calls") or []
            said, calls = said + piece, calls + called
            hold.push(piece)
            first = at if first is None and (piece or called) else first
            due = at if due is None and (hold.due() is not None or ends) else due
    outcome = _judged(row, {"content": said, "tool_calls": calls}, reason)
    if outcome != ANSWERED or first is None or due is None:
        return outcome, nothing, nothing
    return outcome, first - answer.due, due - first


def events(answer: Answer) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events of a stream, each with the moment at which it was whole."""
    rest = b""
    for at, piece in answer.pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for event in whole:
            data = event.removeprefix(b"data: ").strip()
            if data and data != b"[DONE]":
                yield at, msgspec.json.decode(data)


def _judged(row: Exchange, message: Mapping[str, Any], reason: str) -> str:
    """Whether an answer is the upstream's, word for word."""
    calls = [call["function"] for call in message.get("tool_calls") or []]
    wanted = [{"name": call.name, "arguments": call.arguments} for call in row.reply.tool_calls]
    if (message.get("content") or "") == row.reply.content and calls == wanted:
        return ANSWERED
    return REFUSED if reason == "content_filter" else FAILED
