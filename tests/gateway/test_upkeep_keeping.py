"""What is kept of the drift watch: over restarts and crashes, and never in place of what could not be read."""

import asyncio
import contextlib
import logging

import pytest

from offmap.gateway import upkeep as room
from offmap.gateway.config import Server
from offmap.gateway.store import StoreError, open_store
from offmap.gateway.store.state import remembered

from .services import kinds, lived, opened, see, until, watching


@pytest.fixture
def small(configured):
    return watching(configured)


def test_the_watch_goes_on_after_a_restart(small, monitor, caplog):
    first = opened(small(), monitor)

    async def drift():
        see(first, low=True)

    assert asyncio.run(lived(first, drift))
    second = opened(small(), monitor)

    async def nothing():
        await until(lambda: second.drift.report().alarms)

    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert asyncio.run(lived(second, nothing))
    assert caplog.records == []
    assert second.drift.report() == first.drift.report()
    with contextlib.closing(open_store(small().store.url)) as store:
        assert [kind for kind, *_ in kinds(store)] == ["drift"]


def test_nothing_is_looked_at_or_kept_before_what_was_kept_is_read(small, monitor, monkeypatch, caplog):
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(room, "TIDY_SECONDS", 0.01)
    first = opened(small(), monitor)
    see(first, low=True)
    first.upkeep.look()
    second, real, tries = opened(small(), monitor), room.remembered, []

    def broken(*args):
        tries.append(1)
        if len(tries) < 6:
            raise StoreError("zebra")
        return real(*args)

    monkeypatch.setattr(room, "remembered", broken)
    see(second, low=False, count=120)

    async def work():
        await until(lambda: second.drift.report().alarms)

    assert asyncio.run(lived(second, work))
    assert totals(second) == {"unsafe": totals(first)["unsafe"] + 120}
    with contextlib.closing(open_store(small().store.url)) as store:
        assert [kind for kind, *_ in kinds(store)] == ["drift"]
        third = opened(small(), monitor)
        third.upkeep.look()
        assert totals(third) == totals(second)


def test_where_nothing_could_be_read_the_end_keeps_nothing(small, monitor, monkeypatch):
    first, second = opened(small(), monitor), opened(small(), monitor)
    see(first, low=True)
    first.upkeep.look()
    before = remembered(first.store, room.state_name(small()))
    monkeypatch.setattr(room, "remembered", lambda *_: (_ for _ in ()).throw(StoreError("zebra")))

    async def nothing():
        pass

    assert asyncio.run(lived(second, nothing))
    assert remembered(first.store, room.state_name(small())) == before != ""


def totals(service):
    watched = service.drift.report().watched
    return {x.kind: x.decisions for x in watched if (x.stage, x.kind) == ("response", "unsafe")}


def test_an_alarm_that_was_told_stays_told_after_a_crash(small, monitor, caplog):
    first = opened(small(), monitor)
    see(first, low=True)
    first.upkeep.look()  # and nothing else: the process is gone
    second = opened(small(), monitor)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        second.upkeep.look()
        see(second, low=True)
        second.upkeep.look()
    assert [alarm.kind for alarm in second.drift.report().alarms] == ["unsafe"]
    assert (caplog.records, len(kinds(second.store))) == ([], 1)


def test_an_alarm_and_the_watch_are_kept_together_or_not_at_all(small, monitor, monkeypatch):
    service, name = opened(small(), monitor), room.state_name(small())
    see(service, low=True)

    def broken(*_):
        raise StoreError("zebra")

    with monkeypatch.context() as broke:
        broke.setattr(room, "replace", broken)
        with pytest.raises(StoreError):
            service.upkeep.look()
    assert (kinds(service.store), remembered(service.store, name)) == ([], None)
    service.upkeep.look()
    assert [kind for kind, *_ in kinds(service.store)] == ["drift"]


def test_metrics_that_fail_keep_no_alarm_from_the_chain(small, monitor, monkeypatch, caplog):
    service = opened(small(), monitor)
    see(service, low=True)
    monkeypatch.setattr(service.telemetry, "drift", lambda _: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            service.upkeep.look()
    assert [kind for kind, *_ in kinds(service.store)] == ["drift"]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_window_that_was_tested_is_never_tested_again_after_a_crash(small, monitor):
    first = opened(small(), monitor)
    see(first, low=False, count=120)
    first.upkeep.look()  # and nothing else
    second = opened(small(), monitor)
    second.upkeep.look()
    assert second.drift.windows() == first.drift.windows() > 0
    see(second, low=False, count=10)
    kept = remembered(first.store, room.state_name(small()))
    second.upkeep.look()
    assert remembered(first.store, room.state_name(small())) == kept  # no window was full


def test_processes_that_share_a_store_keep_a_watch_each(small, monitor):
    one, other = (small(server=Server(port=port)) for port in (8401, 8402))
    first, second = opened(one, monitor), opened(other, monitor)
    see(first, low=True)
    first.upkeep.look()
    see(second, low=False)
    second.upkeep.look()
    again = opened(one, monitor)
    again.upkeep.look()
    assert again.drift.report().watched == first.drift.report().watched
    assert again.drift.report().alarms


def test_what_is_kept_of_the_watch_is_small(small, monitor):
    service = opened(small(), monitor)
    see(service, low=True)
    service.upkeep.look()
    assert len(remembered(service.store, room.state_name(small()))) < 50_000
