"""A policy in plain sentences, for the person who answers for it. Knows nothing of how it is run."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from offmap.gateway.config import Actions, Gateway, StageTable
from offmap.gateway.consistency import warnings
from offmap.gateway.decision import Stage
from offmap.gateway.policy import (
    Bands,
    bands,
    enforces,
    false_positive_rate,
    heard,
    holds_whole,
    policy_id,
    reach,
)
from offmap.gateway.streaming import Segments

_WHAT: dict[Stage, str] = {
    "input": "what is sent to the model",
    "response": "what the model replies",
    "tool_call": "tool calls before they are run",
    "conversation": "the whole conversation as far as it is remembered",
}
_ACT = {
    "allow": "it goes on",
    "modify": "it is changed",
    "escalate": "it is held for a person",
    "block": "it is stopped",
}
_MET = {
    "unsafe": "looks like known harm",
    "unknown": "is unlike anything that the monitor was calibrated on",
    "uncertain": "stays in doubt after the last monitor",
    "unscored": "gets no score (a part was not read, or the monitor gave no number)",
}


def explain(gateway: Gateway) -> list[str]:
    """The policy in words: what is looked at, what is done, how often in error, and what happens on failure."""
    said = [f"Policy {policy_id(gateway)}."]
    for stage, table in gateway.stages.items():
        said += _stage(gateway, stage, table)
    missing = [f"{stage} ({what})" for stage, what in _WHAT.items() if stage not in gateway.stages]
    if missing:
        said.append(f"Not looked at: {', '.join(missing)}.")
    said += _total(gateway)
    said += _streams(gateway)
    said += _records(gateway)
    said += _drift(gateway)
    said += [f"Warning: {each}." for each in warnings(gateway)]
    return said


def _stage(gateway: Gateway, stage: Stage, table: StageTable) -> Iterator[str]:
    at = stage.capitalize().replace("_", " ")
    yield f"{at}: {_WHAT[stage]}, scored by {_cascade(table)}."
    for signal, met in _MET.items():
        if signal == "uncertain" and not _leaves_doubt(table):
            continue
        act = getattr(table.actions, signal)
        yield f"{at}: if it {met}, {_done(table, act)}{_because(table, act) if signal == 'unscored' else ''}."
    yield f"{at}: {_on_failure(gateway, table)}"
    yield f"{at}: {_enforced(table)}"
    if enforces(table):
        yield (
            f"{at}: nominally at most {_percent(false_positive_rate(table))} of safe traffic is stopped or held by the "
            f"cascade as a whole ({len(table.steps)} monitor{'s' * (len(table.steps) > 1)}, union bound)."
        )


def _cascade(table: StageTable) -> str:
    *others, last = bands(table)
    words = [f"{each.monitor!r} ({_cuts(table, each)})" for each in others]
    said = ", where that is in doubt by ".join([*words, f"{last.monitor!r} ({_cuts(table, last)})"])
    asked = f"; nominally at most {_percent(reach(table))} of safe traffic reaches the second" if others else ""
    return said + asked


def _cuts(table: StageTable, step: Bands) -> str:
    cuts = [f"p({question}) <= {low:.3g}" for question, (low, _) in heard(table, step).items()]
    return f"acts at {' or '.join(cuts)}"


def _leaves_doubt(table: StageTable) -> bool:
    return any(low < high for low, high in heard(table, bands(table)[-1]).values())


def _done(table: StageTable, act: str) -> str:
    if act != "modify":
        return _ACT[act]
    if table.fallback == "partial":
        return "the reply is cut after its last sentence before what was found"
    return f"only these tools may still be called: {', '.join(table.read_only_tools)}"


def _because(table: StageTable, act: str) -> str:
    return f", because: {table.reason}" if act == "allow" else ""


def _on_failure(gateway: Gateway, table: StageTable) -> str:
    times = ", ".join(
        f"{gateway.monitors[step.monitor].timeout_ms:g} ms for {step.monitor!r}"
        for step in table.steps
        if step.monitor in gateway.monitors
    )
    when = f"if a monitor fails, has no room or is too slow ({times}; {gateway.limits.deadline_ms:g} ms in all), "
    if table.on_error == "allow":
        return when + (
            f"the traffic GOES ON UNCHECKED, logged and counted as fail-open, because: {table.reason}. "
            "Who can make a monitor fail then gets past it."
        )
    return when + ("it is held for a person." if table.on_error == "escalate" else "the traffic is stopped.")


def _enforced(table: StageTable) -> str:
    if not enforces(table):
        return "nothing is done, only recorded: all traffic goes on."
    if table.percent < 100:
        return f"enforced for {table.percent:g} % of conversations; for the others it is only recorded."
    return "enforced for all traffic."


def _total(gateway: Gateway) -> Iterator[str]:
    acting = {stage: false_positive_rate(table) for stage, table in gateway.stages.items() if enforces(table)}
    if len(acting) > 1:
        yield (
            f"A safe exchange that passes each of the {len(acting)} enforced stages once is stopped or held somewhere "
            f"nominally at most {_percent(min(1.0, sum(acting.values())))} of the time."
        )
    if "tool_call" in acting:
        yield f"Every tool call of a reply is looked at by itself: {_more(acting['tool_call'], 'call')}"
    if gateway.upstream and (replies := sum(acting.get(stage, 0.0) for stage in ("response", "conversation"))):
        yield f"Every choice, where a request asks for several, is looked at by itself: {_more(replies, 'choice')}"
    if acting:
        yield (
            "Nominal rates hold for traffic like that which the monitors were calibrated on; measure yours in shadow "
            "mode before enforcing."
        )


def _more(rate: float, what: str) -> str:
    """What each further look adds."""
    return f"each further {what} adds up to {_percent(rate)}, ten of them {_percent(min(1.0, 10 * rate))}."


def _streams(gateway: Gateway) -> Iterator[str]:
    """What is done with the streams of the chat proxy, where there is one."""
    if gateway.upstream is None:
        return
    table = gateway.stream
    cut = Segments(table.segment_chars, table.segment_growth)
    if holds_whole(gateway):
        yield "Streams: no text leaves before the conversation stage was asked about the whole reply."
    elif "response" in gateway.stages:
        yield (
            f"Streams: text is held back until it was looked at, first after {cut.first} characters, then each time "
            f"there are {cut.growth:g} times as many; a reply of 10,000 is looked at at most "
            f"{cut.most_checks(10_000)} times. Each look reads the request and all of the reply so far; the response "
            "stage's rate is of one look."
        )
        if "conversation" in gateway.stages and enforces(gateway.stages["conversation"]):
            yield "Streams: what passed the response stage has left where the conversation stage stops the reply."
    else:
        yield "Streams: text leaves as it comes: no stage that could stop it looks at it."
    ends = "a refusal" if table.on_stop == "refusal" else "a refusal, then an error frame"
    calls = "were looked at" if "tool_call" in gateway.stages else "the reply was looked at as a whole"
    yield f"Streams: tool calls leave when they are whole and {calls}. One that is stopped ends with {ends}."
    late = "what is not whole by then ends as an error"
    yield f"On SIGTERM answers under way may go on for {gateway.server.drain_s:g} s; {late}."


def _records(gateway: Gateway) -> Iterator[str]:
    kept = {
        "none": "nothing of the content is kept",
        "hash": "a hash of the content is kept",
        "redacted": "the content is kept with personal data and secrets marked out as far as their form tells them",
        "full": "the content is kept in full",
    }
    yield f"Every decision is recorded before it is answered; {kept[gateway.audit.capture]}."
    if gateway.audit.keep_days:
        yield f"What is kept of content, and reviewers' notes, are purged after {gateway.audit.keep_days:g} days."
    elif gateway.audit.capture != "none":
        yield "It is kept for good, since there is no keep_days."
    if gateway.upstream:
        if gateway.audit.before == "upstream":
            yield "The model is never asked before the request's record is there."
        else:
            yield "The model is asked while the request's record is written; if that fails, its answer is thrown away."
    if gateway.audit.on_error == "allow":
        yield f"If it cannot be recorded, the decision STANDS UNRECORDED, because: {gateway.audit.reason}."
    else:
        yield "If it cannot be recorded, the traffic is stopped, in shadow mode too."
    yield from _reviews(gateway)


def _reviews(gateway: Gateway) -> Iterator[str]:
    review = gateway.review
    held = any(_holds(table.actions) or table.on_error == "escalate" for table in gateway.stages.values())
    if held:
        late = "goes on" if review.default == "allow" else "is stopped"
        because = f", because: {review.reason}" if review.default == "allow" else ""
        yield f"What is held and decided by nobody within {review.timeout_s:g} s {late}{because}."
    if review.sample:
        yield f"Of all that is not held, people look at {_percent(review.sample)}, drawn by chance."
    if (held or review.sample) and gateway.audit.capture in ("none", "hash"):
        yield "Who reviews sees what the monitors found and no text, since none is kept."


def _drift(gateway: Gateway) -> Iterator[str]:
    drift = gateway.drift
    if not drift.enabled:
        yield "Drift is not watched: nobody is told when the nominal rates no longer hold."
        return
    watched = sum(len(table.steps) for table in gateway.stages.values())
    yield (
        "Drift is watched, at the first look at each conversation: p-values against the rows that a monitor was "
        f"calibrated on, and length, unscored and failed shares against the first {drift.reference:,} decisions. An "
        f"alarm says that the nominal rates no longer hold; over the whole run it is false with probability at most "
        f"{_percent(drift.level)} for one monitor at one stage, of which there {_are(watched)}. With bands "
        "that a person promotes the run of their p-values begins anew, beside the first decisions under them."
    )


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def _holds(actions: Actions) -> bool:
    return "escalate" in msgspec.structs.astuple(actions)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
