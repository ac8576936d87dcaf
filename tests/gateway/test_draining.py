import asyncio
import time

import pytest

from offmap.gateway.config import default_gateway
from offmap.gateway.draining import POLL, EndedError, Exchange, Exchanges
from offmap.gateway.service import Service


def test_what_has_begun_may_finish_and_is_waited_for_no_longer():
    async def play():
        exchanges, done = Exchanges(9), []

        async def answer(seconds):
            with exchanges.begin() as exchange:
                await exchange.wait(asyncio.sleep(seconds))
                done.append(seconds)

        task = asyncio.create_task(answer(0.1))
        await asyncio.sleep(0)
        assert len(exchanges) == 1
        begun = time.monotonic()
        assert await exchanges.empty(20)
        await task
        return done, len(exchanges), time.monotonic() - begun

    done, left, took = asyncio.run(play())
    assert (done, left) == ([0.1], 0)
    assert took < 10


@pytest.mark.parametrize("hurried", [False, True])
def test_what_does_not_finish_is_ended_wherever_it_is(hurried):
    """One waits, one is between two waits, one does both and is told once for each."""

    async def play():
        exchanges, told = Exchanges(9), []

        async def answer(name, before):
            with exchanges.begin() as exchange:
                await asyncio.sleep(before)
                for _ in range(2):
                    try:
                        await exchange.wait(asyncio.sleep(30))
                    except EndedError:
                        told.append(name)

        tasks = [asyncio.create_task(answer("waits", 0)), asyncio.create_task(answer("between", 0.3))]
        await asyncio.sleep(0)
        assert not await exchanges.empty(60 if hurried else 0.05, lambda: hurried)
        await asyncio.gather(*tasks)
        return told

    assert sorted(asyncio.run(play())) == ["between"] * 2 + ["waits"] * 2


def test_other_ends_are_themselves():
    async def slow():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)

    async def fails():
        raise ValueError("as it was")

    async def play(answer):
        return await Exchange().wait(answer)

    with pytest.raises(TimeoutError):
        asyncio.run(play(slow()))
    with pytest.raises(ValueError, match="as it was"):
        asyncio.run(play(fails()))
    assert asyncio.run(play(asyncio.sleep(0, "whole"))) == "whole"


def test_one_who_is_cancelled_is_cancelled_and_not_ended():
    async def play():
        task = asyncio.create_task(Exchange().wait(asyncio.sleep(30)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(play())


def test_what_never_waits_is_ended_too():
    async def at_once():
        return "more"

    async def main():
        exchanges, taken = Exchanges(9), 0
        with exchanges.begin() as exchange:
            exchange.end()
            with pytest.raises(EndedError):
                while taken < 100:
                    await exchange.wait(at_once())
                    taken += 1
        return taken

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("hurried", [False, True])
def test_the_end_waits_for_exchanges_and_then_for_decisions_unless_hurried(hurried):
    service = object.__new__(Service)
    service.gateway, service.exchanges, service.pending = default_gateway(), Exchanges(9), 1

    async def play():
        with service.exchanges.begin():
            finishing = asyncio.create_task(service.finish(lambda: hurried))
            await asyncio.sleep(3 * POLL)
            assert finishing.done() == hurried
        await asyncio.sleep(3 * POLL)
        assert finishing.done() == hurried  # a decision is under way
        service.pending = 0
        await asyncio.wait_for(finishing, 10)

    asyncio.run(play())
