"""Bands in force: the file's, or those that a person promoted for this very file; taken over while traffic goes on."""

import asyncio
import contextlib
import functools
import logging
from dataclasses import dataclass, field

import msgspec
import pytest

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.gateway import live as living
from offmap.gateway.config import Gateway, MonitorTable, StageTable, Step, Store
from offmap.gateway.decision import Finding
from offmap.gateway.engine import Engine
from offmap.gateway.keys import Keys
from offmap.gateway.live import Live
from offmap.gateway.policy import Bands, bands, policy_id
from offmap.gateway.service import Service
from offmap.gateway.store import open_store, verify
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.opening import StoreError
from offmap.gateway.store.promotions import Draft, add_proposal, proposals
from offmap.gateway.tuning.proposal import Proposal, Rates


def looped(test):
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


@dataclass
class Graded:
    """Its p-value stands in the text: "p=0.01"."""

    version: str = "v1"
    stuck: bool = False
    asked: list = field(default_factory=list)
    held: asyncio.Event | None = None

    async def ask(self, conversation, timeout=None):
        self.asked.append(conversation)
        if self.held is not None:
            await self.held.wait()
        p = float(conversation.messages[-1].text.partition("p=")[2] or 0.9)
        return Finding("m", self.version, "scored", p, p, 0.9, windows=1)

    async def drain(self, timeout=None):
        return True


@pytest.fixture
def file(tmp_path):
    stages = {stage: StageTable(("m",)) for stage in ("response", "conversation")}
    return Gateway(
        monitors={"m": MonitorTable(bundle="b")}, stages=stages, store=Store(f"sqlite:///{tmp_path}/g.sqlite")
    )


@pytest.fixture
def store(file):
    with contextlib.closing(open_store(file.store.url)) as opened:
        yield opened


def saying(text):
    return Conversation("c", (Message("user", "?"), Message("assistant", text)))


def add(store, file, cut, stage="response", version="v1"):
    steps = (Bands("m", (cut, cut), (cut, cut)),)
    made = Proposal(stage, steps, 0.01, "stopped", Rates(0.01, 0.0, (1.0,)), 100)
    return add_proposal(store, Draft(stage, policy_id(file), {"m": version}, canonical(made), "null"), 5.0)


def stop(gateway, stage="response"):
    return bands(gateway.stages[stage])[0].unsafe[0]


def opened(file, monitor=None):
    return Service(file, monitors={"m": monitor or Graded()}, keys=Keys())


def test_the_files_bands_until_somebody_promotes_others(store, file):
    live = Live(store, file)
    number = add(store, file, 0.2)
    assert (live.read().gateway, live.read().told, live.read().policy) == (file, (), policy_id(file))
    live.promote(number, "anna")
    found = live.read()
    assert stop(found.gateway) == 0.2
    assert found.policy != policy_id(file)
    (said,) = found.told
    assert said.startswith(
        f"Response: the bands of proposal {number} are in force in place of the file's, promoted by anna"
    )
    assert "'m': unsafe p <= 0.2" in said
    live.promote(proposals(store)[0].id, "anna")
    assert (live.read().gateway, live.read().told) == (file, ())


def test_a_promotion_is_for_one_policy_and_says_nothing_of_another(store, file):
    Live(store, file).promote(add(store, file, 0.2), "anna")
    edited = msgspec.structs.replace(file, stages=file.stages | {"response": StageTable(("m",), tier="strict")})
    renamed = msgspec.structs.replace(file, name="other")
    for other in (edited, renamed):
        assert Live(store, other).now.gateway == other
        assert Live(store, other).now.told == ()
    elsewhere = msgspec.structs.replace(file, server=msgspec.structs.replace(file.server, port=1))
    looked_at = msgspec.structs.replace(file, review=msgspec.structs.replace(file.review, sample=0.5))
    for same in (elsewhere, looked_at):
        assert stop(Live(store, same).now.gateway) == 0.2


def test_bands_do_not_apply_to_p_values_of_another_version(store, file):
    number = add(store, file, 0.2)
    running = Live(store, file, {"m": Graded("v2")})
    with pytest.raises(InputError, match="'m' in version v1, and v2 is running"):
        running.promote(number, "anna")
    Live(store, file).promote(number, "anna")
    found = running.read()
    assert found.gateway == file
    assert "NOT in force, since it was made from p-values of 'm' in version v1, and v2 is running" in found.told[0]
    assert stop(Live(store, file, {"m": Graded("v1")}).now.gateway) == 0.2


def test_bands_that_would_leave_a_monitor_dead_do_not_apply(store, file):
    from offmap.gateway.monitors import Opened, Running

    class Never:
        def score(self, conversations):
            raise AssertionError

    running = Running("m", Opened(Never(), "v1", {"unsafe": 0.004, "unknown": 0.004}))
    live = Live(store, file, {"m": running})
    with pytest.raises(InputError, match="could never stop anything"):
        live.promote(add(store, file, 0.001), "anna")
    live.promote(add(store, file, 0.0041), "anna")
    assert stop(live.read().gateway) == 0.0041
    Live(store, file).promote(proposals(store)[1].id, "anna")
    assert live.read().gateway == file
    assert "could never stop anything" in live.read().told[0]
    asyncio.run(running.drain())


def test_a_proposal_that_cannot_be_read_is_not_promoted_and_not_in_force(store, file):
    number = add_proposal(store, Draft("response", policy_id(file), {}, '{"stage": 3}', "null"), 5.0)
    with pytest.raises(InputError, match=f"proposal {number} cannot be read"):
        Live(store, file).promote(number, "anna")
    assert verify(store).n == 0


@pytest.mark.parametrize("versions", [{}, {"other": "v1"}, {"m": "v1", "other": "v1"}])
def test_versions_that_do_not_name_every_monitor_are_refused(store, file, versions):
    steps = (Bands("m", (0.2, 0.2), (0.2, 0.2)),)
    made = Proposal("response", steps, 0.01, "stopped", Rates(0.01, 0.0, (1.0,)), 100)
    number = add_proposal(store, Draft("response", policy_id(file), versions, canonical(made), "null"), 5.0)
    with pytest.raises(InputError, match=r"versions of .* and the cascade is m"):
        Live(store, file).promote(number, "anna")
    assert verify(store).n == 0


def test_a_forged_promotion_is_told_and_not_in_force(store, file):
    add(store, file, 0.2)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE proposal SET state = 'promoted', seq = 999, versions = '{}' WHERE id = 2")
    found = Live(store, file, {"m": Graded()}).now
    assert found.gateway == file
    assert "Proposal 2 is called promoted and is NOT in force" in found.told[0]


def test_an_engine_takes_over_bands_and_nothing_else(file):
    class Nowhere:
        async def append(self, decision, content, /):
            return None

    engine = Engine(file, {"m": Graded()}, Nowhere())
    other = msgspec.structs.replace(file.stages["response"], cascade=(Step("m", (0.3, 0.4), None),))
    engine.adopt(msgspec.structs.replace(file, stages=file.stages | {"response": other}))
    assert engine.policy == policy_id(engine.gateway) != policy_id(file)
    before = engine.gateway
    for changed in (
        msgspec.structs.replace(file, limits=msgspec.structs.replace(file.limits, deadline_ms=1)),
        msgspec.structs.replace(file, stages={"response": other}),
        msgspec.structs.replace(file, stages=file.stages | {"response": StageTable(("m",), refusal="no")}),
        msgspec.structs.replace(file, stages=file.stages | {"response": StageTable((Step("m", (0.5, 0.4)),))}),
    ):
        with pytest.raises(InputError):
            engine.adopt(changed)
        assert engine.gateway is before


@looped
async def test_decisions_under_way_end_by_the_policy_that_they_began_with(store, file):
    monitor = Graded(held=asyncio.Event())
    service = opened(file, monitor)
    try:
        under_way = asyncio.create_task(service.decide("response", saying("p=0.1")))
        while not monitor.asked:
            await asyncio.sleep(0)
        await service.promote(add(store, file, 0.2), "anna")
        later = asyncio.create_task(service.decide("response", saying("p=0.1")))
        monitor.held.set()
        first, second = await under_way, await later
        assert (first.action, first.policy) == ("allow", policy_id(file))
        assert (second.action, second.policy) == ("block", service.engine.policy)
        assert first.policy != second.policy
    finally:
        await service.drain()


@looped
async def test_a_promotion_forgets_no_conversation(store, file):
    monitor = Graded()
    service = opened(file, monitor)
    try:
        await service.decide("conversation", saying("p=0.5"), conversation_id="x")
        await service.promote(add(store, file, 0.2, "conversation"), "anna")
        decision = await service.decide("conversation", saying("p=0.1"), conversation_id="x")
        assert "p=0.5" in [message.text for message in monitor.asked[-1].messages]
        assert decision.action == "block"
    finally:
        await service.drain()


@looped
async def test_other_processes_follow_within_seconds_and_a_restart_keeps_it(store, file, monkeypatch, caplog):
    monkeypatch.setattr(Live.follow, "__defaults__", (0.02,))
    here, there = opened(file), opened(file)
    await here.start()
    await there.start()
    number = add(store, file, 0.2)
    try:
        with caplog.at_level(logging.WARNING):
            await here.promote(number, "anna")
            assert stop(here.engine.gateway) == 0.2
            await eventually(lambda: stop(there.engine.gateway) == 0.2)
        assert sum("the bands of proposal" in each.message for each in caplog.records) == 2
        assert (await there.decide("response", saying("p=0.1"))).action == "block"
        assert there.engine.policy == here.engine.policy
        await there.promote(proposals(store)[0].id, "ben")
        await eventually(lambda: here.engine.gateway == file)
        await here.promote(number, "anna")
    finally:
        await here.drain()
        await there.drain()
    again = opened(file)
    assert stop(again.engine.gateway) == 0.2
    await again.drain()
    assert verify(store).broken_at is None


@looped
async def test_an_outage_of_the_store_changes_nothing_and_is_told_once(store, file, monkeypatch, caplog):
    monkeypatch.setattr(Live.follow, "__defaults__", (0.01,))
    service = opened(file)
    tries = []

    def gone(*_):
        tries.append(1)
        raise StoreError("the data base is gone")

    number = add(store, file, 0.2)
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(living, "last_promotion", gone)
        await service.start()
        await eventually(lambda: len(tries) > 3)
        assert service.engine.gateway == file
    assert sum("the data base is gone" in each.message for each in caplog.records) == 1
    Live(store, file).promote(number, "anna")
    await eventually(lambda: stop(service.engine.gateway) == 0.2)
    await service.drain()


def test_what_is_read_late_does_not_undo_what_is_newer(store, file):
    live = Live(store, file)
    late = live.read()
    live.promote(add(store, file, 0.2), "anna")
    assert live.take(live.read())
    assert not live.take(late)
    assert stop(live.now.gateway) == 0.2


async def eventually(holds, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
