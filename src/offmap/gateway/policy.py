"""What a policy means: cuts on p-values, which rule an outcome meets, what is done, and for whom it is enforced.

A tier is a false-positive rate of a WHOLE stage. By the union bound, a stage that stops where any of m p-values is at
or below its cut stops at most the sum of the m cuts of safe traffic, so the rate is shared out among the steps and
their two questions: more monitors do not mean more false alarms. The rate is nominal: it is as good as the p-values,
which are for traffic like that which the monitor was calibrated on. Knows nothing of how monitors are run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from offmap.combination import QUESTIONS
from offmap.detectors.base import Question
from offmap.gateway.config import Act, Band, Gateway, StageTable, Tier
from offmap.gateway.decision import Action, Finding, Outcome, Status

Signal = Literal["unsafe", "unknown", "uncertain", "unscored", "error", "pass"]
"""What traffic met. ``error``: a monitor failed, was too slow, or had no room; ``pass``: nothing that counts."""
ERRORS: frozenset[Outcome] = frozenset({"failed", "timeout", "overloaded"})
SEVERITY: tuple[Action, ...] = get_args(Action)
"""Every action, the least severe first: of several that traffic meets the last is done."""


@dataclass(frozen=True)
class TierMeaning:
    """What a tier promises.

    Attributes:
        alpha: the nominal share of safe traffic that a stage stops or sends to a person.
        reach: the nominal share of safe traffic that a step hands on to the next one.
        acts: whether anything is done, or only recorded.
    """

    alpha: float
    reach: float
    acts: bool


TIERS: dict[Tier, TierMeaning] = {
    "observe": TierMeaning(alpha=0.01, reach=0.1, acts=False),
    "balanced": TierMeaning(alpha=0.01, reach=0.1, acts=True),
    "strict": TierMeaning(alpha=0.05, reach=0.4, acts=True),
}


@dataclass(frozen=True)
class Bands:
    """One step's bands for the two questions."""

    monitor: str
    unsafe: Band
    unknown: Band


@dataclass(frozen=True)
class Ruling:
    """What a policy says about what was found.

    Attributes:
        signal: what it met, of several the most severe.
        would: what is done where the policy is enforced.
        action: what is done.
        status: how that came about.
    """

    signal: Signal
    would: Action
    action: Action
    status: Status


@lru_cache(maxsize=64)
def bands(stage: StageTable) -> tuple[Bands, ...]:
    """The bands of each step: its own, or the tier's. A last step's own tier band is empty: stopped or passed."""
    tier, steps = TIERS[stage.tier], stage.steps
    cut = tier.alpha / (2 * len(steps))
    found = []
    for number, step in enumerate(steps, start=1):
        band = (cut, cut if number == len(steps) else max(cut, tier.reach / 2))
        found.append(Bands(step.monitor, step.unsafe or band, step.unknown or band))
    return tuple(found)


def false_positive_rate(stage: StageTable) -> float:
    """The nominal share of safe traffic that a stage does anything to, by the union bound; at most 1.

    A question whose action is "allow" stops nothing and does not count. What the last step leaves in its band goes to a
    person.
    """
    *others, last = bands(stage)
    ends = 0 if stage.actions.uncertain == "allow" else 1
    rates = [band[0] for step in others for band in heard(stage, step).values()]
    return min(1.0, sum(rates + [band[ends] for band in heard(stage, last).values()]))


def reach(stage: StageTable) -> float:
    """The nominal share of safe traffic that the first step hands on to the second, by the union bound; at most 1."""
    return min(1.0, sum(high - low for low, high in heard(stage, bands(stage)[0]).values()))


def heard(stage: StageTable, step: Bands) -> dict[Question, Band]:
    """The bands of the questions that a stage acts on.

    One whose action is "allow" is not heard at all: else strange wording would end a cascade before the monitor that
    is asked about harm.
    """
    return {question: getattr(step, question) for question in QUESTIONS if getattr(stage.actions, question) != "allow"}


def acted_on(stage: StageTable, step: Bands, *, last: bool) -> dict[Question, float]:
    """The largest p-value of each question that lets nothing simply pass: its traffic is stopped, or asked about on.

    ``last``: whether the step is the cascade's last, which hands on to a person, or to nobody.
    """
    passes = last and stage.actions.uncertain == "allow"
    return {question: stop if passes else passing for question, (stop, passing) in heard(stage, step).items()}


def signals(stage: StageTable, step: Bands, finding: Finding, *, last: bool) -> tuple[tuple[Signal, ...], bool]:
    """What a finding meets, and whether it settles the matter, so that no later monitor is asked.

    A failure that the policy lets pass settles nothing: the monitors behind it may still find something.
    """
    if finding.outcome in ERRORS:
        return ("error",), stage.on_error != "allow"
    answers: dict[Question, float | None] = {"unsafe": finding.p_unsafe, "unknown": finding.p_unknown}
    answered = [(each, p, band) for each, band in heard(stage, step).items() if (p := answers[each]) is not None]
    # A score of no question that this stage acts on could never stop anything; a NaN would pass every comparison.
    if finding.outcome != "scored" or not answered or not all(0 <= p_value <= 1 for _, p_value, _ in answered):
        return ("unscored",), stage.actions.unscored != "allow"
    found = tuple(question for question, p_value, (stop, _) in answered if p_value <= stop)
    if not found and _blind(stage, step, finding, last=last):
        return ("unscored",), stage.actions.unscored != "allow"
    between = any(stop < p_value <= passing for _, p_value, (stop, passing) in answered)
    if found:
        return found, True
    return (("uncertain",) if between and last else ()), not between


def _blind(stage: StageTable, step: Bands, finding: Finding, *, last: bool) -> bool:
    """Whether a question could be acted on in one window and cannot in as many as were read: p-values grow with them.

    Without this who pads a text would get past a monitor whose p-values do not become small.
    """
    least: dict[Question, float] = {"unsafe": finding.least_unsafe, "unknown": finding.least_unknown}
    edges = acted_on(stage, step, last=last)
    return any(least[each] / max(1, finding.windows) <= edge < least[each] for each, edge in edges.items())


def rule(stage: StageTable, met: Sequence[Signal], *, enforced: bool) -> Ruling:
    """What is done about what was met: of several the most severe."""
    each = [(_act(stage, signal), signal) for signal in met]
    would, signal = max(each, key=lambda pair: SEVERITY.index(pair[0])) if each else ("allow", "pass")
    if not (enforced and enforces(stage)):
        return Ruling(signal, would, "allow", "shadow")
    if would == "allow" and signal in ("error", "unscored"):
        return Ruling(signal, "error" if signal == "error" else "block", "allow", "fail_open")
    return Ruling(signal, would, would, "enforced")


def enforces(stage: StageTable) -> bool:
    """Whether a stage does anything for at least some conversations."""
    return stage.mode == "enforce" and TIERS[stage.tier].acts and stage.percent > 0


def sees_more(gateway: Gateway, conversation_id: str) -> bool:
    """Whether the conversation stage is to be asked about a reply that the response stage was asked about.

    Without an id nothing is remembered, so it would look at the same messages. It is asked unless it would decide the
    same too: whoever leaves the id out gets past no stage.
    """
    whole, reply = gateway.stages.get("conversation"), gateway.stages.get("response")
    if whole is None or reply is None or conversation_id:
        return whole is not None
    return msgspec.structs.replace(whole, refusal=reply.refusal, reason=reply.reason) != reply


def holds_whole(gateway: Gateway) -> bool:
    """Whether no text of a reply may leave before all of it was looked at.

    So it is where the conversation stage may stop it and the response stage does not look at every reply before.
    """
    whole, reply = gateway.stages.get("conversation"), gateway.stages.get("response")
    return whole is not None and enforces(whole) and not (reply and enforces(reply) and reply.percent >= 100)


def promoted(percent: float, key: str) -> bool:
    """Whether a conversation is among the ``percent`` that a policy is enforced for.

    By a hash of the conversation's id or content alone: it stays so for all its turns and at every stage, and whoever
    is in at 10 percent is in at 20. Who may choose ids may choose the side: it is for trying out, not for keeping out.
    """
    if percent >= 100:
        return True
    place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    return place * 100 < percent


def policy_id(gateway: Gateway) -> str:
    """Name and hash of the policy: of all that can change a decision, and not of where the service listens."""
    # Who may ask how often decides nothing, and neither does what people look at beside escalations, what is purged,
    # or what a record is waited for with.
    limits = msgspec.structs.replace(gateway.limits, requests_per_minute=0)
    review = msgspec.structs.replace(gateway.review, sample=0.0, seed=0, lease_s=300)
    audit = msgspec.structs.replace(gateway.audit, keep_days=0, before="answer")
    parts = (gateway.monitors, gateway.stages, limits, audit, review, gateway.stream)
    digest = hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
    return f"{gateway.name}@{digest[:16]}"


def without_bands(gateway: Gateway) -> Gateway:
    """The same with no bands of its own at any step."""
    replace = msgspec.structs.replace
    bare = {
        stage: replace(table, cascade=tuple(replace(step, unsafe=None, unknown=None) for step in table.steps))
        for stage, table in gateway.stages.items()
    }
    return replace(gateway, stages=bare)


def escalates(gateway: Gateway) -> bool:
    """Whether anything is held for a person."""
    acts = (msgspec.structs.astuple(table.actions) for table in gateway.stages.values())
    return any("escalate" in each for each in acts) or any(s.on_error == "escalate" for s in gateway.stages.values())


def _act(stage: StageTable, signal: Signal) -> Action:
    if signal == "pass":
        return "allow"
    if signal == "error":
        return "error" if stage.on_error == "block" else stage.on_error
    act: Act = getattr(stage.actions, signal)
    return act
