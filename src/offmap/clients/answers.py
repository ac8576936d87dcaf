"""What the gateway tells its callers, as plain data. The words are those of ``offmap.gateway.decision``.

Knows nothing of HTTP. Written out anew, so that the process of an agent loads nothing that computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from offmap.conversation import Message, ToolCall

Action = Literal["allow", "modify", "escalate", "block", "error"]
Stage = Literal["input", "response", "tool_call", "conversation"]
Status = Literal["enforced", "shadow", "fail_open"]
Messages = Iterable[Mapping[str, object]]
"""OpenAI chat messages."""
REFUSAL = "This was stopped by a safety policy."
"""What is said where the gateway gave no text of its policy."""
UNREADABLE = {"type": "unreadable"}
"""A part of a message that stands for what cannot be written down. The gateway refuses it: what nobody can read is not
looked at."""


class Failure(msgspec.Struct, frozen=True):
    """Why something was not judged: a fixed word, and a sentence that repeats nothing of what was sent."""

    type: str
    message: str


class Answer(msgspec.Struct, frozen=True):
    """A decision, or why there is none.

    Attributes:
        action: what is to be done; see ``passes``.
        would: what the policy would do if it were enforced.
        status: how ``action`` came about.
        stage: what was looked at.
        rule: the rule that decided; "client.*" where the gateway gave no decision.
        id: of the decision, in the gateway's log; "" where there is none.
        replacement: the policy's text in place of content that is stopped.
        fallback: what a "modify" does to a reply.
        message: what may be passed on in place of a reply, None where that is the reply itself.
        error: there where it was not judged.
    """

    action: Action
    would: Action
    status: Status
    stage: Stage
    rule: str
    id: str = ""
    replacement: str = ""
    fallback: str = ""
    message: Message | None = None
    error: Failure | None = None

    @property
    def passes(self) -> bool:
        """Whether the content goes on as it is: allowed, or a reply all of whose tool calls merely read."""
        whole = self.fallback == "read_only_tools" and self.message is None and self.stage != "input"
        return self.action == "allow" or (self.action == "modify" and whole)

    def keeps(self, calls: Sequence[ToolCall]) -> list[bool]:
        """Which of a reply's tool calls may be made: all where it goes on as it is, else those that are left of it.

        Ids are the model's, so a call is left only where its name and arguments are too; and each that is left is made
        once.
        """
        left = Counter(self.message.tool_calls if self.action == "modify" and self.message else ())
        kept = []
        for call in calls:
            kept.append(self.passes or left[call] > 0)
            left[call] -= 1
        return kept

    @property
    def text(self) -> str:
        """What may be said in place of the content: the policy's words or a part of the reply, never a monitor's."""
        return self.message.content if self.message else self.replacement

    @property
    def record(self) -> dict[str, str]:
        """What a log of the caller should hold. No content."""
        told = {"id": self.id, "stage": self.stage, "action": self.action, "would": self.would, "status": self.status}
        return {**told, "rule": self.rule, "error": self.error.type if self.error else ""}


class Finding(msgspec.Struct, frozen=True):
    """What one monitor found, as far as a caller is told; see ``offmap.gateway.decision.Finding``."""

    monitor: str
    outcome: str
    p_value: float | None = None
    p_unsafe: float | None = None
    p_unknown: float | None = None


class Score(msgspec.Struct, frozen=True):
    """What the monitors of a stage found in a conversation; ``error`` where one failed, or the gateway was silent."""

    action: Action
    status: Status
    stage: Stage
    decision: str = ""
    findings: tuple[Finding, ...] = ()
    error: Failure | None = None

    @property
    def p_value(self) -> float | None:
        """The smallest p-value, times the number of monitors (the union bound); None where it was not judged."""
        found = [each.p_value for each in self.findings if each.outcome == "scored" and each.p_value is not None]
        return None if self.error or not found else min(1.0, len(self.findings) * min(found))
