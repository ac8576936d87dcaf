"""What a policy means: cuts on p-values, which rule an outcome meets, what is done, and for whom it is enforced.

A tier is a false-positive rate of a WHOLE stage. By the union bound, a stage that stops where any of m p-values is at
or below its cut stops at most the sum of the m cuts of safe traffic, so the rate is shared out among the steps and
their two questions: more monitors do not mean more false alarms. The rate is nominal: it is as good as the p-values,
which are for traffic like that which the monitor was calibrated on. Knows nothing of how monitors are run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from offmap.combination import QUESTIONS
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.gateway.config import Act, Band, Gateway, StageTable, Tier
from offmap.gateway.decision import Action, Finding, Outcome, Stage, Status

Signal = Literal["unsafe", "unknown", "uncertain", "unscored", "error", "pass"]
"""What traffic met. ``error``: a monitor failed, was too slow, or had no room; ``pass``: nothing that counts."""
ERRORS: frozenset[Outcome] = frozenset({"failed", "timeout", "overloaded"})
_NAME = re.compile(r"[\w.-](?:[\w. -]{0,62}[\w.-])?")
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
    between = any(stop < p_value <= passing for _, p_value, (stop, passing) in answered)
    if found:
        return found, True
    return (("uncertain",) if between and last else ()), not between


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

    Without an id nothing is remembered, so it would look at the same messages. It is asked unless its policy is the
    same too: whoever leaves the id out gets past no stage.
    """
    table = gateway.stages.get("conversation")
    return table is not None and (bool(conversation_id) or table != gateway.stages.get("response"))


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


def require_consistent(gateway: Gateway, name: str = "gateway.toml") -> None:
    """Refuse a policy that contradicts itself.

    Raises:
        InputError: with the first contradiction.
    """
    for found in contradictions(gateway):
        raise InputError(f"{name}: {found}")


def contradictions(gateway: Gateway) -> Iterator[str]:
    """Every place where a policy says what cannot be done, or leaves open what must be said."""
    if not gateway.stages:
        yield "stages: found none, wanted at least one"
    if not _NAME.fullmatch(gateway.name):
        yield f"name: found {gateway.name[:80]!r}, wanted up to 64 letters, digits and any of _ . -"
    for name, monitor in gateway.monitors.items():
        if not _NAME.fullmatch(name):
            yield f"monitors: found the name {name[:80]!r}, wanted up to 64 letters, digits, spaces and any of _ . -"
        if bool(monitor.bundle) == bool(monitor.judge):
            yield f"monitors.{name}: found {'both' if monitor.bundle else 'neither'}, wanted a bundle or a judge"
    for stage, table in gateway.stages.items():
        for found in _stage_contradictions(gateway, stage, table):
            yield f"stages.{stage}.{found}"
    if gateway.audit.on_error == "allow" and not gateway.audit.reason.strip():
        yield "audit.reason: found none beside on_error = 'allow', wanted why unrecorded traffic may go on"
    yield from _review_contradictions(gateway)


def warnings(gateway: Gateway) -> Iterator[str]:
    """What is allowed and probably not meant."""
    asked = {step.monitor for table in gateway.stages.values() for step in table.steps}
    for name in gateway.monitors:
        if name not in asked:
            yield f"monitors.{name}: no stage asks it"
    if gateway.audit.keep_days and gateway.audit.capture == "none":
        yield "audit.keep_days: no content is kept, so there is nothing to remove"
    if gateway.audit.before == "upstream" and not gateway.upstream:
        yield "audit.before: there is no upstream, so nothing waits for it"
    for stage, table in gateway.stages.items():
        at = f"stages.{stage}"
        judged = [bool(gateway.monitors[s.monitor].judge) for s in table.steps if s.monitor in gateway.monitors]
        if judged and judged[0] and not all(judged):
            yield f"{at}.cascade: a judge is asked first; a cheap monitor before it saves most of its calls"
        if stage == "input" and table.actions.unknown != "allow":
            yield (
                f"{at}.actions.unknown: a monitor calibrated on conversations that end with a reply finds safe prompts "
                "unknown more often than its p-values say; calibrate one on prompts, or say 'allow'"
            )
        yield from (f"{at}.{found}" for found in (*_walls(table), *_idle(table), *_unused_tier(table)))
        if not enforces(table):
            yield f"{at}: nothing is done, only recorded"


def _walls(table: StageTable) -> Iterator[str]:
    """Bands that nothing gets past: every p-value is at most 1."""
    steps = bands(table)
    for number, step in enumerate(steps):
        for question, (stop, passing) in heard(table, step).items():
            at = f"cascade[{number}].{question}: {step.monitor!r}"
            if stop >= 1:
                act = getattr(table.actions, question)
                yield f"{at} acts at p <= 1, which every p-value is: all that it is asked about meets {act!r}"
            elif passing >= 1 and number == len(steps) - 1 and table.actions.uncertain != "allow":
                act = table.actions.uncertain
                yield f"{at} lets nothing pass, since no p-value is above 1: what it does not stop meets {act!r}"


def _idle(table: StageTable) -> Iterator[str]:
    """A last monitor whose bands stop nothing: every p-value is above 0."""
    steps = bands(table)
    passes = table.actions.uncertain == "allow"
    if steps and all(stop <= 0 and (passes or passing <= 0) for stop, passing in heard(table, steps[-1]).values()):
        at = f"cascade[{len(steps) - 1}]: {steps[-1].monitor!r}"
        yield f"{at} never stops anything: it acts at p <= 0, which no p-value is"


def _unused_tier(table: StageTable) -> Iterator[str]:
    """A tier beside bands that leave it nothing to say."""
    usual = msgspec.structs.replace(table, tier="balanced")
    told = [[heard(each, step) for step in bands(each)] for each in (table, usual)]
    if table.tier != usual.tier and told[0] == told[1] and enforces(table) == enforces(usual):
        yield f"tier: {table.tier!r} changes nothing: every monitor of the cascade has bands of its own"


def _stage_contradictions(gateway: Gateway, stage: Stage, table: StageTable) -> Iterator[str]:
    if table.cascade:
        yield from _cascade_contradictions(gateway, table)
    else:
        yield "cascade: found no monitor, wanted at least one"
    if table.actions.unsafe == "allow":
        yield "actions.unsafe: found 'allow', wanted another action; mode = 'shadow' records without acting"
    opened = ["on_error"] * (table.on_error == "allow") + ["actions.unscored"] * (table.actions.unscored == "allow")
    if opened and not table.reason.strip():
        yield f"reason: found none beside {opened[0]} = 'allow', wanted why such traffic may go on"
    yield from _fallback_contradictions(stage, table)


def _cascade_contradictions(gateway: Gateway, table: StageTable) -> Iterator[str]:
    names = [step.monitor for step in table.steps]
    for number, step in enumerate(table.steps):
        if step.monitor not in gateway.monitors:
            known = ", ".join(gateway.monitors) or "none"
            yield f"cascade[{number}]: found {step.monitor!r}, wanted a monitor of the file; there are: {known}"
        if step.monitor in names[:number]:
            yield f"cascade[{number}]: found {step.monitor!r} again, wanted each monitor once"
        for question, band in (("unsafe", step.unsafe), ("unknown", step.unknown)):
            if band is not None and band[0] > band[1]:
                yield f"cascade[{number}].{question}: found {list(band)}, wanted [stop, pass] with stop <= pass"
    for number, each in enumerate(bands(table)[:-1]):
        if all(low >= high for low, high in heard(table, each).values()):
            yield f"cascade[{number}]: its bands leave nothing open, wanted one in which the next monitor is asked"


def _fallback_contradictions(stage: Stage, table: StageTable) -> Iterator[str]:
    modifies = "modify" in msgspec.structs.astuple(table.actions)
    if not table.refusal.strip():
        yield "refusal: found no text, wanted what stands in place of what is stopped"
    if modifies and table.fallback == "refusal":
        yield "fallback: found 'refusal' beside an action 'modify', wanted 'partial' or 'read_only_tools'"
    if not modifies and table.fallback != "refusal":
        yield f"fallback: found {table.fallback!r}, which only 'modify' uses; wanted an action 'modify' or 'refusal'"
    if stage == "input" and modifies and table.fallback != "read_only_tools":
        yield "fallback: found one that cuts, wanted 'read_only_tools' or no 'modify': there is no reply yet to be cut"
    if table.fallback == "read_only_tools" and not table.read_only_tools:
        yield "read_only_tools: found none, wanted the names of the tools that may still be called"


def _review_contradictions(gateway: Gateway) -> Iterator[str]:
    if not escalates(gateway):
        return
    if gateway.review.timeout_s <= 0:
        yield f"review.timeout_s: found {gateway.review.timeout_s}, wanted a time after which the default is decided"
    if gateway.review.default == "allow" and not gateway.review.reason.strip():
        yield "review.reason: found none beside default = 'allow', wanted why what nobody looked at may go on"


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
