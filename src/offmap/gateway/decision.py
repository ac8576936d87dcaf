"""What the gateway decides about one piece of traffic, as plain data. Every wire format is a translation of it.

Knows nothing of HTTP, policies or storage.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from offmap.evidence import Span

Action = Literal["allow", "modify", "escalate", "block", "error"]
"""What is done, the least severe first. An outage is ``error``, never ``allow`` spelled as success."""
STOPS: frozenset[Action] = frozenset({"escalate", "block", "error"})
"""Actions after which nothing of the content goes on, for now or for good."""
Stage = Literal["input", "response", "tool_call", "conversation"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Status = Literal["enforced", "shadow", "fail_open"]
"""How an action came about: enforced as the policy says; recorded only, while the traffic goes on (``would``); or a
monitor failed and the policy says in writing that such traffic goes on."""
Outcome = Literal["scored", "unscored", "failed", "timeout", "overloaded", "skipped"]
Fallback = Literal["refusal", "partial", "read_only_tools"]
"""What is given in place of the content: a text of the policy; the reply up to its last safe sentence; the reply with
only those tool calls that are on an allow-list."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one monitor of a stage found.

    Attributes:
        monitor: its name in the configuration.
        version: a hash of the bundle, or of the judge's model and prompt.
        outcome: scored; or it gave no score, raised, was too slow, had no room in its queue, or was not asked since a
            monitor before it was sure or stopped the traffic.
        p_value, p_unsafe, p_unknown: of its verdict, None where it has none.
        fired: the detectors behind an alarm.
        shift: kind of shift, "" where none is told.
        spans: stretches of text behind it; they hold text, so they are stored only where content may be.
        dropped: tokens that were not read; windows make it 0.
        windows: in how many parts it was read; the p-values are corrected for them. 0 where nothing was read.
        seconds: how long it took.
        least_unsafe, least_unknown: the smallest p-values that there can be in so many windows; 0 in one, or not known.
    """

    monitor: str
    version: str
    outcome: Outcome
    p_value: float | None = None
    p_unsafe: float | None = None
    p_unknown: float | None = None
    fired: tuple[str, ...] = ()
    shift: str = ""
    spans: tuple[Span, ...] = ()
    dropped: int = 0
    windows: int = 0
    seconds: float = 0.0
    least_unsafe: float = 0.0
    least_unknown: float = 0.0


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision about one stage of one request.

    Attributes:
        id: unique, sortable by time (UUID version 7, as text).
        at: seconds since the epoch, UTC.
        stage: what was looked at.
        action: what is done to the traffic.
        would: what the policy would do if it were enforced; differs from ``action`` in shadow mode and on fail-open.
        status: how ``action`` came about.
        rule: the policy's rule that decided, low in cardinality and free of user content: "response.unsafe";
            "response.audit" where the decision could not be written.
        policy: name and hash of the policy: "default@3f2a...".
        conversation: the caller's conversation id, "" where there is none.
        caller: the name of the API key, never the key.
        content_sha256: of what was looked at, canonical JSON.
        findings: of every monitor of the stage, in the order asked.
        replacement: the policy's text that takes the place of content that is stopped (block, escalate, error) or of
            which nothing may be kept (modify), "" where the content goes on. Never a monitor's words.
        fallback: what a modify does to the content (``actions.apply``), "" for every other action.
        messages: how many were looked at; ``Span.message`` counts in these, and the last one is what an action changes.
        forgotten: messages of the conversation that memory had to let go before this decision.
        partial: whether it is about a part of a streamed reply, of which more may come. Another decision is about the
            whole of it, unless the reply ended here: a partial one that stops or cuts is the last about its reply.
        seconds: from receipt to decision.
    """

    id: str
    at: float
    stage: Stage
    action: Action
    would: Action
    status: Status
    rule: str
    policy: str
    conversation: str = ""
    caller: str = ""
    content_sha256: str = ""
    findings: tuple[Finding, ...] = ()
    replacement: str = ""
    fallback: Fallback | Literal[""] = ""
    messages: int = 0
    forgotten: int = 0
    partial: bool = False
    seconds: float = 0.0

    @property
    def on_record(self) -> str:
        """The id, "" where the decision could not be written; the rule of such a one ends in ".audit"."""
        return "" if self.rule.endswith(".audit") else self.id
