"""The engine: a policy, running monitors and a log; a conversation in, a recorded decision out. No HTTP, no data base.

Every decision is written before it is answered. Traffic goes on only where every monitor on its path gave a score and
no cut was crossed, or where the policy says so in writing: whatever else happens is an error, and an error stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import msgspec

from offmap.conversation import Conversation
from offmap.conversation.types import content_sha256
from offmap.errors import InputError
from offmap.gateway.config import Gateway, StageTable
from offmap.gateway.consistency import require_consistent
from offmap.gateway.decision import Decision, Finding, Stage
from offmap.gateway.memory import Memory
from offmap.gateway.policy import (
    Ruling,
    Signal,
    bands,
    enforces,
    policy_id,
    rule,
    signals,
    without_bands,
)
from offmap.gateway.request import Ask, Request
from offmap.gateway.uuid7 import uuid7

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where decisions are kept."""

    async def append(self, decision: Decision, content: Conversation, /) -> object:
        """Keep it for good; returns when it is kept, raises where it cannot be."""
        ...


class Asked(Protocol):
    """What is asked of a running monitor; see ``monitors.Running``."""

    @property
    def version(self) -> str:
        """A hash of what it is."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether it does not answer any more."""
        ...

    async def ask(self, conversation: Conversation, timeout: float | None = None) -> Finding:
        """What it finds. Raises nothing."""
        ...

    async def drain(self, timeout: float | None = None) -> bool:
        """Answer what waits and end."""
        ...


@dataclass(frozen=True)
class Clocks:
    """Seconds since the epoch, and seconds that never go back."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Engine:
    """Decides. One event loop; many calls at once.

    Args:
        gateway: the configuration.
        monitors: every monitor that its stages ask, running.
        sink: where decisions are kept.
        clocks: for tests.

    Attributes:
        counts: how many decisions there were, by (stage, action, status, rule).
        policy: name and hash of the policy.

    Raises:
        InputError: a policy that contradicts itself, or a monitor that is not there.
    """

    def __init__(
        self, gateway: Gateway, monitors: Mapping[str, Asked], sink: Sink, *, clocks: Clocks | None = None
    ) -> None:
        require_consistent(gateway)
        for stage, table in gateway.stages.items():
            for step in table.steps:
                if step.monitor not in monitors:
                    raise InputError(f"stages.{stage}.cascade: monitor {step.monitor!r} is not running")
        self.gateway, self.monitors, self.sink = gateway, monitors, sink
        self.policy = policy_id(gateway)
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        self._clocks = clocks or Clocks()
        self._memory = Memory(gateway.limits, self._clocks.monotonic)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()

    def adopt(self, gateway: Gateway) -> None:
        """Decide by other bands from the next decision on; those under way end by the bands that they began with.

        Raises:
            InputError: more than the bands of its stages differs, or it contradicts itself.
        """
        require_consistent(gateway)
        if without_bands(gateway) != without_bands(self.gateway):
            raise InputError("only bands of a running policy may change: found another difference")
        self.gateway, self.policy = gateway, policy_id(gateway)

    def watches(self, stage: Stage) -> bool:
        """Whether the policy has that stage."""
        return stage in self.gateway.stages

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of the monitors that do not answer any more."""
        return tuple(name for name, monitor in self.monitors.items() if monitor.stuck)

    async def drain(self, timeout: float | None = 10.0) -> bool:
        """End every monitor after what waits; whether all was answered within ``timeout`` seconds."""
        return all(await asyncio.gather(*(monitor.drain(timeout) for monitor in self.monitors.values())))

    async def decide(
        self, ask: Ask, *, caller: str = "", made: Callable[[Decision], Awaitable[None]] | None = None
    ) -> Decision:
        """What is done about a conversation, recorded.

        Args:
            ask: what is to be decided.
            caller: the name of the API key.
            made: awaited with the decision before it is recorded; what is returned differs where it could not be.

        Raises:
            InputError: the policy has no such stage.
        """
        table, started, ends = self._table(ask.stage), self._clocks.monotonic(), self._until(ask.deadline)
        began = started - ask.foreseen.seconds if ask.foreseen else started
        request = Request(ask, table, self.policy, caller, began, ends, ask.conversation, ask.foreseen)
        decision, about = await self._deliberate(request)
        if made:
            await made(decision)
        decision = await self._record(decision, about)
        if decision.status == "fail_open":
            _log.warning("fail-open: rule %s, decision %s", decision.rule, decision.id)
        return decision

    def remember(self, conversation: Conversation, *, conversation_id: str, caller: str = "") -> None:
        """Keep what was said, though the stage "conversation" is not asked about it: it was stopped before.

        Nothing is kept without an id, or where the policy has no such stage.
        """
        if conversation_id and self.watches("conversation"):
            self._memory.merge((caller, conversation_id), conversation.messages)

    async def foresee(self, ask: Ask) -> Finding:
        """What the first monitor of a stage finds, before it is known whether that will be asked. Nothing is recorded.

        Raises:
            InputError: the policy has no such stage.
        """
        return await self._ask(bands(self._table(ask.stage))[0].monitor, ask.conversation, self._until(ask.deadline))

    def latest(self) -> float:
        """When what is asked now has to be decided, on the monotonic clock."""
        return self._clocks.monotonic() + self.gateway.limits.deadline_ms / 1000

    def _table(self, stage: Stage) -> StageTable:
        if not self.watches(stage):
            raise InputError(f"stages.{stage}: the policy has no such stage")
        return self.gateway.stages[stage]

    def _until(self, deadline: float | None) -> float:
        return self.latest() if deadline is None else min(self.latest(), deadline)

    async def _deliberate(self, request: Request) -> tuple[Decision, Conversation]:
        """The decision, and what it is about."""
        try:
            request = self._with_memory(request)
            findings, met = await self._cascade(request)
            ruling = rule(request.table, met, enforced=request.enforced)
            return self._decision(request, ruling, findings), request.content
        except Exception as error:
            # Ours, not a monitor's: no policy allows what nobody foresaw, but one that enforces nothing stops nothing.
            _log.error("%s: no decision (%s)", request.ask.stage, type(error).__name__)
            stopped, passed = Ruling("error", "error", "error", "enforced"), Ruling("error", "error", "allow", "shadow")
            ruling = stopped if enforces(request.table) else passed
            return self._decision(request, ruling, (), "internal"), request.content

    def _with_memory(self, request: Request) -> Request:
        content, forgotten, foreseen = request.content, 0, request.foreseen
        ask = request.ask
        if ask.stage == "conversation" and ask.conversation_id:
            look = self._memory.merge if ask.remember and not ask.partial else self._memory.beside
            known = look((request.caller, ask.conversation_id), content.messages)
            content, forgotten = msgspec.structs.replace(content, messages=known.messages), known.forgotten
            foreseen = None  # that was of another conversation
        known_by = content_sha256(content)
        return msgspec.structs.replace(
            request, content=content, content_sha256=known_by, forgotten=forgotten, foreseen=foreseen
        )

    async def _cascade(self, request: Request) -> tuple[tuple[Finding, ...], tuple[Signal, ...]]:
        """What each monitor found, and what was met. Where a failure is allowed, those behind it are still asked."""
        steps = bands(request.table)
        findings: list[Finding] = []
        met: tuple[Signal, ...] = ()
        for number, step in enumerate(steps, start=1):
            foreseen = request.foreseen if number == 1 else None
            findings.append(foreseen or await self._ask(step.monitor, request.content, request.deadline))
            found, settled = signals(request.table, step, findings[-1], last=number == len(steps))
            met += found
            if settled:
                break
        names = [step.monitor for step in steps[len(findings) :]]
        return (*findings, *(Finding(name, self.monitors[name].version, "skipped") for name in names)), met

    async def _ask(self, name: str, content: Conversation, deadline: float) -> Finding:
        monitor, left = self.monitors[name], deadline - self._clocks.monotonic()
        try:
            async with asyncio.timeout(max(left, 0)):
                finding = await monitor.ask(content, left)
        except TimeoutError:
            return Finding(name, monitor.version, "timeout")
        return finding

    def _decision(self, request: Request, ruling: Ruling, findings: tuple[Finding, ...], why: str = "") -> Decision:
        return request.decided(ruling, findings, why, at=self._clocks.wall(), ended=self._clocks.monotonic())

    async def stop(
        self,
        stage: Stage,
        content: Conversation,
        action: Literal["block", "error"],
        why: str,
        *,
        conversation_id: str = "",
        caller: str = "",
        replacement: str = "",
    ) -> Decision:
        """A decision that no monitor was asked for, recorded and counted like any other. It stands unrecorded too.

        Args:
            stage: where traffic is stopped.
            content: what was stopped.
            action: how.
            why: the end of its rule: "response.upstream".
            conversation_id: the caller's.
            caller: the name of the API key.
            replacement: what takes the content's place.
        """
        now = self._clocks.wall()
        decision = Decision(
            id=uuid7(now),
            at=now,
            stage=stage,
            action=action,
            would=action,
            status="enforced",
            rule=f"{stage}.{why}",
            policy=self.policy,
            conversation=conversation_id,
            caller=caller,
            content_sha256=content_sha256(content),
            replacement=replacement,
            messages=len(content.messages),
        )
        return await self._record(decision, content)

    async def _record(self, decision: Decision, content: Conversation) -> Decision:
        """Write and count it; where it cannot be written, it is what the policy says of decisions without a record."""
        decision = await self._written(decision, content)
        self.counts[decision.stage, decision.action, decision.status, decision.rule] += 1
        return decision

    async def _written(self, decision: Decision, content: Conversation) -> Decision:
        audit = self.gateway.audit
        try:
            async with asyncio.timeout(audit.timeout_ms / 1000):
                await self.sink.append(decision, content)
        except Exception as error:
            _log.error("decision %s could not be recorded (%s)", decision.id, type(error).__name__)
            rule_name = f"{decision.stage}.audit"
            if audit.on_error == "allow" and decision.action in ("allow", "modify"):
                return msgspec.structs.replace(decision, would="error", status="fail_open", rule=rule_name)
            if decision.action in ("block", "error"):
                return msgspec.structs.replace(decision, rule=rule_name)
            # Nobody waits for a record that comes too late, so an escalation ends here too, though it may be reviewed.
            text = self.gateway.stages[decision.stage].refusal
            return msgspec.structs.replace(
                decision,
                action="error",
                would="error",
                status="enforced",
                rule=rule_name,
                replacement=text,
                fallback="",
            )
        return decision
