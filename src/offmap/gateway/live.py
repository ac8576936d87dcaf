"""Which bands are in force: the file's, unless a person promoted others for this very policy.

A promotion names the policy that it was made for, and the versions of the monitors whose p-values it was made from. It
applies to no other policy and no other versions, and to none where it does not name every monitor of its stage. Where
it would leave a monitor that could never stop anything it does not apply either: then the file's bands are in force,
and ``told`` says why. Knows no HTTP and no statistics.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from offmap.errors import InputError
from offmap.gateway.config import Band, Gateway, StageTable
from offmap.gateway.consistency import require_consistent
from offmap.gateway.decision import Stage
from offmap.gateway.engine import Asked
from offmap.gateway.monitors import Running
from offmap.gateway.opening import require_reach
from offmap.gateway.policy import Bands, bands, heard, policy_id
from offmap.gateway.store import Store, StoreError
from offmap.gateway.store.promotions import (
    InForce,
    Promotion,
    Standing,
    StoredProposal,
    last_promotion,
    promote,
    reject,
    standing,
)
from offmap.gateway.tuning.proposal import Proposal, apply_proposal
from offmap.gateway.tuning.routes import with_bands

_log = logging.getLogger(__name__)
POLL_SECONDS = 2.0
"""After how long a promotion that another process made is noticed."""


@dataclass(frozen=True)
class Effective:
    """A policy as it decides.

    Attributes:
        gateway: the file's, with promoted bands in place of its own.
        seq: ``Standing.seq`` that it comes from; a higher one is newer.
        told: in words, a sentence for each stage for which something was promoted.
        since: stages whose bands are promoted ones -> when they were.
    """

    gateway: Gateway
    seq: int
    told: tuple[str, ...]
    since: Mapping[Stage, float]

    @property
    def policy(self) -> str:
        """The policy's id, which its decisions bear."""
        return policy_id(self.gateway)


class Live:
    """The bands in force of one file, in one process; several processes on one store agree within ``POLL_SECONDS``.

    Args:
        store: where proposals and promotions are kept.
        file: the policy as its file says.
        monitors: those that run; None where nothing does, and then no promotion is found unfit.

    Attributes:
        now: what is in force as far as this process knows.

    Raises:
        StoreError: see ``Store.read``.
    """

    def __init__(self, store: Store, file: Gateway, monitors: Mapping[str, Asked] | None = None) -> None:
        self.store, self.file, self.policy = store, file, policy_id(file)
        self._monitors = monitors
        self.now = self.read()

    def read(self) -> Effective:
        """What is in force by the store.

        Raises:
            StoreError: see ``Store.read``.
        """
        return self._effective(standing(self.store, self.policy))

    def promote(self, proposal: int, by: str, seen: int | None = None) -> Promotion:
        """Put a proposal in force; ``read`` then tells it. See ``promotions.promote``.

        Raises:
            InputError: see there; or the monitors that run are others than those that it was made from.
            StoreError: see ``Store.write``.
        """
        return promote(self.store, proposal, by, self._gateway, time.time(), seen)

    def reject(self, proposal: int, by: str) -> Promotion:
        """Say that a proposal shall never be in force; see ``promotions.reject``.

        Raises:
            InputError, StoreError: see ``promote``.
        """
        return reject(self.store, proposal, by, self._gateway, time.time())

    def take(self, found: Effective) -> bool:
        """Make that what is in force here, unless something newer is; whether it is."""
        if found.seq < self.now.seq:
            return False
        for sentence in found.told if found.told != self.now.told else ():
            _log.warning("%s", sentence)
        self.now = found
        return True

    async def follow(
        self, adopt: Callable[[Effective], None], ended: asyncio.Event, every: float = POLL_SECONDS
    ) -> None:
        """Until it is ended: what another process promotes is given to ``adopt``.

        An outage of the store is waited out, with what is in force as it is.
        """
        silent = False
        while not await _within(ended, every):
            try:
                if await asyncio.to_thread(last_promotion, self.store, self.policy) > self.now.seq:
                    adopt(await asyncio.to_thread(self.read))
                silent = False
            except Exception as error:  # whatever it is, it must not end here unnoticed
                if not silent:
                    told = str(error) if isinstance(error, StoreError) else type(error).__name__
                    _log.warning("whether thresholds were promoted cannot be read: %s", told)
                silent = True

    def _effective(self, found: Standing) -> Effective:
        gateway, told = self.file, []
        since: dict[Stage, float] = {}
        for stage, made in found.promoted.items():
            try:
                gateway = _with(gateway, stage, made.new, made.versions, self._monitors)
                told.append(_in_words(gateway, made))
                since[stage] = made.at
            except InputError as error:
                told.append(
                    f"{_name(stage)}: proposal {made.proposal} was promoted by {made.by} and is NOT in force, since "
                    f"{error}. The file's own bands are in force."
                )
        return Effective(gateway, found.seq, (*told, *(f"{each}." for each in found.amiss)), since)

    def _gateway(self, promoted: InForce, stored: StoredProposal | None) -> Gateway:
        gateway = self._effective(Standing(0, promoted)).gateway
        if stored is None:
            return gateway
        steps = bands(apply_proposal(gateway, read_proposal(stored)).stages[stored.stage])
        return _with(gateway, stored.stage, steps, stored.versions, self._monitors)


def read_proposal(stored: StoredProposal) -> Proposal:
    """What a stored proposal says.

    Raises:
        InputError: it holds none, or one of a newer offmap.
    """
    try:
        return msgspec.json.decode(stored.proposal or "null", type=Proposal)
    except msgspec.DecodeError as error:
        raise InputError(f"proposal {stored.id} cannot be read: {error}") from None


def proposed_bands(file: Gateway, stored: StoredProposal) -> tuple[Bands, ...]:
    """The bands that a proposal would put in force; the file's own where it holds none.

    Raises:
        InputError: see ``read_proposal``.
    """
    gateway = file if stored.proposal is None else apply_proposal(file, read_proposal(stored))
    return bands(gateway.stages[stored.stage])


def told_bands(table: StageTable, step: Bands) -> str:
    """The bands of one step in words, for the questions that its stage acts on."""
    parts = [f"{question} {_band(band)}" for question, band in heard(table, step).items()]
    return f"{step.monitor!r}: {', '.join(parts)}"


def _band(band: Band) -> str:
    stop, passing = band
    return f"p <= {stop:.3g}" + (f", in doubt to {passing:.3g}" if passing > stop else "")


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set by then."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _with(
    gateway: Gateway,
    stage: Stage,
    steps: tuple[Bands, ...],
    versions: Mapping[str, str],
    monitors: Mapping[str, Asked] | None,
) -> Gateway:
    """The policy with other bands at one stage.

    Raises:
        InputError: they do not fit the policy or the monitors, or do not say which versions they are for.
    """
    cascade = tuple(step.monitor for step in gateway.stages[stage].steps)
    if tuple(each.monitor for each in steps) != cascade or set(versions) != set(cascade):
        raise InputError(
            f"its bands are of {', '.join(each.monitor for each in steps)} and its versions of "
            f"{', '.join(versions) or 'none'}, and the cascade is {', '.join(cascade)}"
        )
    for name, version in versions.items() if monitors is not None else ():
        running = monitors[name].version if monitors and name in monitors else "none"
        if running != version:
            raise InputError(f"it was made from p-values of {name!r} in version {version}, and {running} is running")
    table = with_bands(gateway.stages[stage], steps)
    found = msgspec.structs.replace(gateway, stages=gateway.stages | {stage: table})
    require_consistent(found, "with the proposed bands")
    if monitors is not None:
        opened = {name: each.opened for name, each in monitors.items() if isinstance(each, Running)}
        if all(name in opened for name in cascade):
            require_reach(msgspec.structs.replace(found, stages={stage: table}), opened)
    return found


def _in_words(gateway: Gateway, made: Promotion) -> str:
    at = datetime.fromtimestamp(made.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    table = gateway.stages[made.stage]
    steps = "; ".join(told_bands(table, step) for step in bands(table))
    return (
        f"{_name(made.stage)}: the bands of proposal {made.proposal} are in force in place of the file's, promoted by "
        f"{made.by} at {at}: {steps}."
    )


def _name(stage: Stage) -> str:
    return stage.capitalize().replace("_", " ")
