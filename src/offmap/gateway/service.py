"""The running gateway: monitors, store and engine opened together, with a bound on what is under way. No HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.gateway.ahead import Ahead
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Decision, Finding, Stage
from offmap.gateway.draining import POLL, Exchange, Exchanges
from offmap.gateway.drift import Watch, setups
from offmap.gateway.engine import Asked, Engine
from offmap.gateway.keys import Keys, load_keys, require_closed
from offmap.gateway.live import Effective, Live
from offmap.gateway.opening import open_monitors
from offmap.gateway.policy import ERRORS
from offmap.gateway.request import Ask
from offmap.gateway.store import AuditLog, ReviewRules, Store, StoreError, open_store
from offmap.gateway.store.state import probe
from offmap.gateway.telemetry import Telemetry
from offmap.gateway.upkeep import Upkeep

_log = logging.getLogger(__name__)
_PROBE = Conversation("probe", (Message("user", "hello"), Message("assistant", "Hello. How can I help?")))
_FRESH = 1.0
"""Seconds for which an answer about readiness is given again."""
_FAILURES = 5
"""So many failed findings of a monitor one after the other, and it counts as silent until it answers again."""
_UNRECORDED = 10.0
"""Seconds without readiness after a decision that could not be recorded."""


class BusyError(Exception):
    """No room for more, or going down: nothing was looked at and nothing recorded. ``retry_after``: seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Service:
    """The gateway of a configuration.

    Args:
        gateway: the configuration.
        monitors: in place of those that it names.
        keys: in place of those of the file that it names and of the environment.

    Attributes:
        draining: nothing new is taken in.
        pending: decisions under way.
        exchanges: answers under way that take more than one decision.
        drift: whether traffic still is what the monitors were calibrated on; ``drift.report()`` says how it stands.
        live: which bands are in force; ``engine.gateway`` is the configuration with these.
        closers: what else is to be closed, after the last answer.

    Raises:
        InputError: something cannot be opened, or would be open to others without keys.
        StoreError: the data base cannot be reached.
    """

    def __init__(
        self, gateway: Gateway, *, monitors: Mapping[str, Asked] | None = None, keys: Keys | None = None
    ) -> None:
        self.gateway = gateway
        self.keys = load_keys(Path(gateway.server.keys) if gateway.server.keys else None) if keys is None else keys
        require_closed(gateway.server.host, self.keys)
        running = open_monitors(gateway) if monitors is None else monitors
        self.telemetry = Telemetry(gateway)
        self.store: Store = open_store(gateway.store.url)
        review = gateway.review
        rules = ReviewRules(review.timeout_s, review.default, review.sample, review.seed)
        self.log = AuditLog(self.store, gateway.audit.capture, rules)
        self.live = Live(self.store, gateway, running)
        now, known = self.live.now, gateway.limits.conversations
        self.drift = Watch(gateway.drift, setups(now.gateway, running, now.since), conversations=known)
        self.upkeep = Upkeep(self.store, gateway, self.drift, self.telemetry)
        self.engine = Engine(now.gateway, running, self.log)
        self.draining = False
        self.pending = self._foreseeing = 0
        self.exchanges = Exchanges(gateway.server.queue + (gateway.upstream.connections if gateway.upstream else 0))
        self.closers: list[Callable[[], Awaitable[object]]] = []
        self._silent = {name for name in running if not gateway.monitors[name].judge}
        self._failures: Counter[str] = Counter()
        self._unrecorded_at = -float("inf")
        self._readiness: tuple[float, tuple[str, ...]] | None = None
        self._checking = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._ahead: dict[asyncio.Task[Decision], Ahead | None] = {}
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Ask every monitor once, judges excepted: an answer may cost money. Who does not answer is not ready."""
        self._following = asyncio.create_task(self.live.follow(self._adopt, self._ended))
        self.upkeep.start()
        await self._probe()

    async def promote(self, proposal: int, by: str, seen: int | None = None) -> None:
        """Put proposed thresholds in force, here at once; see ``Live.promote``.

        Raises:
            InputError, StoreError: see there.
        """
        await asyncio.to_thread(self.live.promote, proposal, by, seen)
        self._adopt(await asyncio.to_thread(self.live.read))

    async def finish(self, hurried: Callable[[], bool]) -> None:
        """Wait for exchanges, ``drain_s`` at most, and for decisions, which end by their deadline, unless hurried."""
        await self.exchanges.empty(self.gateway.server.drain_s, hurried)
        while self.pending and not hurried():
            await asyncio.sleep(POLL)

    async def drain(self, timeout: float = 10.0) -> bool:
        """Take nothing new, answer what is under way, close; whether all was answered within ``timeout`` seconds."""
        self.draining = True
        self._ended.set()
        ends = time.monotonic() + timeout
        for ahead in filter(None, self._ahead.values()):
            ahead.want()  # the log takes nothing any more once it is closed
        await asyncio.sleep(0)
        answered = await self.engine.drain(timeout)
        while self._ahead and (left := ends - time.monotonic()) > 0:
            await asyncio.wait(self._ahead, timeout=left)
        answered = answered and not self._ahead
        if self._following is not None:
            await asyncio.wait({self._following}, timeout=timeout)
        for close in self.closers:
            await close()
        await self.upkeep.stop()
        await asyncio.to_thread(self.log.close)
        self.store.close()
        return answered

    @contextmanager
    def exchange(self) -> Iterator[Exchange]:
        """An answer that takes more than one decision: once begun, it may finish while the service drains.

        Raises:
            BusyError: no room, or draining.
        """
        if self.draining:
            raise BusyError("draining", 5.0)
        if self.exchanges.full:
            raise BusyError("queue_full")
        with self.exchanges.begin() as begun:
            yield begun

    async def decide(
        self,
        stage: Stage,
        conversation: Conversation,
        *,
        conversation_id: str = "",
        caller: str = "",
    ) -> Decision:
        """One decision; see ``Ask``.

        Raises:
            BusyError: no room, or draining.
            InputError: the policy has no such stage.
        """
        (decision,) = await self.decide_all([Ask(stage, conversation, conversation_id)], caller=caller)
        return decision

    async def decide_all(self, asks: Sequence[Ask], *, caller: str = "") -> list[Decision]:
        """Several decisions at once, all or none of them.

        Raises:
            BusyError, InputError: see ``decide``.
        """
        self.require_stages(*(ask.stage for ask in asks))
        if self.draining:
            raise BusyError("draining", 5.0)
        with self._room_for(len(asks)):
            return list(await asyncio.gather(*(self._decide(ask, caller) for ask in asks)))

    async def ahead(self, ask: Ask, *, caller: str = "", wanted: bool = False) -> Ahead:
        """A decision of an exchange, told as soon as it is made; it is recorded whoever waits for that.

        Draining does not refuse it: the exchange is under way. ``wanted``: see ``Ahead``.

        Raises:
            BusyError: no room.
            InputError: the policy has no such stage.
        """
        self.require_stages(ask.stage)
        ahead = Ahead(wanted=wanted or self.draining)
        self._recording(self._begun(ask, caller, ahead), ahead).add_done_callback(ahead.ended)
        await ahead.ready()
        return ahead

    async def foresee(self, ask: Ask) -> Finding | None:
        """What the first monitor of a stage finds, for an ``Ask`` that may follow: nothing is decided or recorded.

        None where it failed, so that it is asked again in its turn, and where there is little room.
        """
        if self.pending + self._foreseeing >= self.gateway.server.looks_ahead:
            return None
        self._foreseeing += 1
        try:
            finding = await self.engine.foresee(ask)
        except Exception as error:
            _log.error("%s: nothing was foreseen (%s)", ask.stage, type(error).__name__)
            return None
        finally:
            self._foreseeing -= 1
        return None if finding.outcome in ERRORS else finding

    async def stop(
        self, ask: Ask, action: Literal["block", "error"], why: str, *, caller: str = "", replacement: str = ""
    ) -> Decision:
        """A decision that no monitor was asked for, recorded, counted and logged; see ``Engine.stop``.

        It is recorded whoever waits for that.
        """
        stopping = self.engine.stop(
            ask.stage,
            ask.conversation,
            action,
            why,
            conversation_id=ask.conversation_id,
            caller=caller,
            replacement=replacement,
        )
        decision = await asyncio.shield(self._recording(self._told(ask.stage, stopping)))
        _log.warning("stopped unasked: rule %s, decision %s", decision.rule, decision.id)
        return decision

    def require_stages(self, *stages: Stage) -> None:
        """Refuse a stage that the policy does not have: what nothing looks at is never told to be in order.

        Raises:
            InputError: there is one.
        """
        for stage in stages:
            if not self.engine.watches(stage):
                raise InputError(f"field stage: found {stage}, wanted a stage of the policy")

    async def unready(self) -> tuple[str, ...]:
        """Why no traffic should come here, in fixed words; empty where it should."""
        if self.draining:
            return ("draining",)
        async with self._checking:
            now = time.monotonic()
            if self._readiness is None or now - self._readiness[0] > _FRESH:
                self._readiness = (now, await self._check())
            return self._readiness[1]

    @property
    def records(self) -> bool:
        """Whether no decision failed to be recorded lately."""
        return time.monotonic() - self._unrecorded_at >= _UNRECORDED

    def _adopt(self, found: Effective) -> None:
        if self.live.take(found):
            self.engine.adopt(found.gateway)
            self.drift.adopt(setups(found.gateway, self.engine.monitors, found.since))

    def _recording(self, deciding: Coroutine[Any, Any, Decision], ahead: Ahead | None = None) -> asyncio.Task[Decision]:
        """A task of its own, which going down waits for: it ends though whoever asked has left."""
        recording = asyncio.create_task(deciding)
        self._ahead[recording] = ahead
        recording.add_done_callback(self._ahead.pop)
        return recording

    async def _begun(self, ask: Ask, caller: str, ahead: Ahead) -> Decision:
        with self._room_for(1):
            return await self._decide(ask, caller, ahead)

    async def _decide(self, ask: Ask, caller: str, ahead: Ahead | None = None) -> Decision:
        deciding = self.engine.decide(ask, caller=caller, made=ahead.tell_made if ahead else None)
        decision = await self._told(ask.stage, deciding, ahead)
        self.drift.saw(decision, ask.conversation)
        self._heard(decision.findings)
        return decision

    async def _told(self, stage: Stage, deciding: Awaitable[Decision], ahead: Ahead | None = None) -> Decision:
        """A decision of the engine, in metrics and in what is known of the store."""
        with self.telemetry.deciding(stage) as told:
            decision = await deciding
            if not decision.on_record:
                self._unrecorded_at = time.monotonic()
            if ahead:
                ahead.tell_kept(decision)
                await asyncio.sleep(0)  # who waits for it goes on first
            told(decision)
        return decision

    def _heard(self, findings: Sequence[Finding]) -> None:
        """Count failures in a row. No room in a queue is neither a failure nor an answer."""
        for name, outcome in ((each.monitor, each.outcome) for each in findings):
            if outcome in ("scored", "unscored"):
                self._failures[name] = 0
                self._silent.discard(name)
            elif outcome in ("failed", "timeout"):
                self._failures[name] += 1
                if self._failures[name] >= _FAILURES:
                    self._silent.add(name)

    @contextmanager
    def _room_for(self, count: int) -> Iterator[None]:
        if self.pending + count > self.gateway.server.queue:
            raise BusyError("queue_full")
        self.pending += count
        try:
            yield
        finally:
            self.pending -= count

    async def _check(self) -> tuple[str, ...]:
        await self._probe()
        stuck = {*self._silent, *self.engine.stuck}
        found = [f"monitor {name} does not answer" for name in self.engine.monitors if name in stuck]
        if not self.records or not await self._writable():
            found.append("the store cannot be written")
        return tuple(found)

    async def _probe(self) -> None:
        for name in sorted(self._silent - set(self.engine.stuck)):
            if (await self.engine.monitors[name].ask(_PROBE)).outcome not in ERRORS:
                self._failures[name] = 0
                self._silent.discard(name)

    async def _writable(self) -> bool:
        try:
            async with asyncio.timeout(self.gateway.audit.timeout_ms / 1000):
                await asyncio.to_thread(probe, self.store)
        except (TimeoutError, StoreError):
            return False
        return True
