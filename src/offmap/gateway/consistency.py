"""Whether a policy says what can be done: its contradictions are refused, and told is what is probably not meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from offmap.errors import InputError
from offmap.gateway.config import LEAST_WINDOW, Gateway, StageTable
from offmap.gateway.decision import Stage
from offmap.gateway.policy import bands, enforces, escalates, heard

_NAME = re.compile(r"[\w.-](?:[\w. -]{0,62}[\w.-])?")


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
        if 0 < monitor.window_tokens < LEAST_WINDOW:
            yield f"monitors.{name}.window_tokens: found {monitor.window_tokens}, wanted 0 or at least {LEAST_WINDOW}"
    for stage, table in gateway.stages.items():
        for found in _stage_contradictions(gateway, stage, table):
            yield f"stages.{stage}.{found}"
    if gateway.audit.on_error == "allow" and not gateway.audit.reason.strip():
        yield "audit.reason: found none beside on_error = 'allow', wanted why unrecorded traffic may go on"
    yield from _review_contradictions(gateway)


def warnings(gateway: Gateway) -> Iterator[str]:
    """What is allowed and probably not meant."""
    yield from _in_vain(gateway)
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


def _in_vain(gateway: Gateway) -> Iterator[str]:
    """Monitors that are not asked, and times that are not waited for."""
    asked = {step.monitor for table in gateway.stages.values() for step in table.steps}
    most = gateway.limits.deadline_ms
    for name, monitor in gateway.monitors.items():
        if name not in asked:
            yield f"monitors.{name}: no stage asks it"
        elif monitor.timeout_ms > most:
            told = f"{monitor.timeout_ms:,g} is never waited for, since limits.deadline_ms is {most:,g}"
            yield f"monitors.{name}.timeout_ms: {told}"


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
    own = all(
        getattr(step, question)
        for step, each in zip(table.steps, bands(table), strict=True)
        for question in heard(table, each)
    )
    if table.tier != usual.tier and own and enforces(table) == enforces(usual):
        yield f"tier: {table.tier!r} changes nothing: every monitor of the cascade has bands of its own"


def _stage_contradictions(gateway: Gateway, stage: Stage, table: StageTable) -> Iterator[str]:
    if table.cascade:
        yield from _cascade_contradictions(gateway, table)
    else:
        yield "cascade: found no monitor, wanted at least one"
    if table.actions.unsafe == "allow":
        yield "actions.unsafe: found 'allow', wanted another action; mode = 'shadow' records without acting"
    opened = ["on_error = 'allow'"] * (table.on_error == "allow")
    if table.actions.unscored == "allow" or (table.actions.unscored, table.fallback) == ("modify", "read_only_tools"):
        opened.append(f"actions.unscored = {table.actions.unscored!r}")
    if opened and not table.reason.strip():
        yield f"reason: found none beside {opened[0]}, wanted why such traffic may go on"
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
    if stage == "input" and table.actions.unsafe == "modify":
        yield "actions.unsafe: found 'modify', wanted 'block' or 'escalate': the model would read what looks like harm"
    if table.fallback == "read_only_tools" and not table.read_only_tools:
        yield "read_only_tools: found none, wanted the names of the tools that may still be called"


def _review_contradictions(gateway: Gateway) -> Iterator[str]:
    if not escalates(gateway):
        return
    if gateway.review.timeout_s <= 0:
        yield f"review.timeout_s: found {gateway.review.timeout_s}, wanted a time after which the default is decided"
    if gateway.review.default == "allow" and not gateway.review.reason.strip():
        yield "review.reason: found none beside default = 'allow', wanted why what nobody looked at may go on"
