import asyncio
import gc
import random

import pytest

from offmap.gateway.batcher import Again, Batcher, Overloaded


class Doubling:
    """Doubles numbers; raises for those in ``broken``; keeps what it was called with."""

    def __init__(self, seconds=0.0, broken=()):
        self.calls, self.seconds, self.broken = [], seconds, broken
        self.running = self.most = 0

    async def __call__(self, items):
        self.calls.append(tuple(items))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds)
        self.running -= 1
        for item in items:
            if item in self.broken:
                raise LookupError(item)
        return [2 * item for item in items]


def batcher(run, *, max_batch=4, max_wait=0.005, queue=100, **options):
    return Batcher(run, max_batch=max_batch, max_wait=max_wait, queue=queue, **options)


def test_items_that_arrive_together_share_a_call_and_each_gets_its_own():
    async def main():
        run = Doubling()
        shared = batcher(run)
        answers = await asyncio.gather(*(shared.submit(i) for i in range(10)))
        assert answers == [2 * i for i in range(10)]
        assert run.calls == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
        assert run.most == 1
        assert len(shared) == 0

    asyncio.run(main())


def test_one_alone_waits_no_longer_than_it_must():
    async def main():
        shared = batcher(Doubling(), max_wait=0.02)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await shared.submit(1)
        assert 0.015 < loop.time() - started < 5

    asyncio.run(main())


def test_who_came_first_is_answered_first():
    """Fairness: callers that send many do not get before one that came earlier."""

    async def main():
        run = Doubling(seconds=0.001)
        shared, order = batcher(run, max_batch=3), []

        async def ask(i):
            await shared.submit(i)
            order.append(i)

        await asyncio.gather(*(ask(i) for i in range(50)))
        assert [item for call in run.calls for item in call] == list(range(50))
        assert order == list(range(50))

    asyncio.run(main())


def test_a_full_queue_is_told_at_once_and_bounds_what_waits():
    async def main():
        run = Doubling(seconds=0.05)
        shared = batcher(run, max_batch=2, max_wait=0, queue=5)
        tasks = [asyncio.create_task(shared.submit(i)) for i in range(40)]
        await asyncio.sleep(0.02)
        assert len(shared) <= 5
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, Overloaded)]
        assert 40 - 5 - 2 <= len(refused) < 40
        assert sorted(a for a in answers if not isinstance(a, Overloaded)) == [2 * i for i in range(40 - len(refused))]

    asyncio.run(main())


def test_an_exception_reaches_its_own_caller_and_nobody_else():
    async def main():
        run = Doubling(broken={3, 7})
        shared = batcher(run, max_batch=8)
        answers = await asyncio.gather(*(shared.submit(i) for i in range(8)), return_exceptions=True)
        for i, answer in enumerate(answers):
            if i in (3, 7):
                assert isinstance(answer, LookupError)
                assert answer.args == (i,)
            else:
                assert answer == 2 * i
        assert run.calls == [tuple(range(8)), *((i,) for i in range(8))]

    asyncio.run(main())


@pytest.mark.parametrize("found", [[], [1], [1, 2, 3]])
def test_a_wrong_number_of_answers_is_an_error_and_never_somebody_elses(found):
    async def main():
        async def run(items):
            return found if len(items) == 2 else [10 * item for item in items]

        shared = batcher(run)
        assert await asyncio.gather(shared.submit(1), shared.submit(2)) == [10, 20]

        async def never(items):
            return []

        with pytest.raises(ValueError, match="0 answers to 1 items"):
            await batcher(never).submit(1)

    asyncio.run(main())


def test_a_deadline_ends_the_wait_and_frees_the_place():
    async def main():
        run = Doubling(seconds=0.05)
        shared = batcher(run, max_batch=1, max_wait=0, queue=2)
        first = asyncio.create_task(shared.submit(1))
        await asyncio.sleep(0.01)
        for i in (2, 3, 4):
            with pytest.raises(TimeoutError):
                await shared.submit(i, timeout=0.002)
            assert len(shared) == 0
        assert await first == 2
        assert await shared.submit(5) == 10
        assert run.calls == [(1,), (5,)]

    asyncio.run(main())


def test_a_cancelled_item_is_dropped_from_its_batch():
    async def main():
        run = Doubling()
        shared = batcher(run, max_wait=0.02)
        tasks = [asyncio.create_task(shared.submit(i)) for i in range(3)]
        await asyncio.sleep(0.001)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert run.calls == [(0, 2)]
        assert [answers[0], answers[2]] == [0, 4]
        assert isinstance(answers[1], asyncio.CancelledError)

    asyncio.run(main())


def test_drain_answers_what_waits_and_takes_nothing_new():
    async def main():
        run = Doubling(seconds=0.005)
        shared = batcher(run, max_wait=10)
        tasks = [asyncio.create_task(shared.submit(i)) for i in range(6)]
        await asyncio.sleep(0.001)
        assert await shared.drain(5)
        assert await asyncio.gather(*tasks) == [2 * i for i in range(6)]
        with pytest.raises(Overloaded):
            await shared.submit(1)
        assert await batcher(run).drain()

    asyncio.run(main())


def test_drain_gives_up_on_what_hangs():
    async def main():
        async def hang(items):
            await asyncio.sleep(60)
            return items

        shared = batcher(hang, max_batch=1, max_wait=0)
        tasks = [asyncio.create_task(shared.submit(i)) for i in range(3)]
        await asyncio.sleep(0.005)
        assert not await shared.drain(0.01)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, Overloaded) for each in answers)

    asyncio.run(main())


def test_a_call_that_is_cancelled_from_within_is_an_error_and_not_the_end():
    async def main():
        calls = []

        async def run(items):
            calls.append(items)
            if len(calls) == 1:
                raise asyncio.CancelledError
            return items

        shared = batcher(run)
        with pytest.raises(RuntimeError, match="cancelled"):
            await shared.submit(1)
        assert await shared.submit(2) == 2

    asyncio.run(main())


def test_under_random_cancels_and_failures_everybody_is_answered_and_nothing_is_left():
    async def main():
        rng = random.Random(5)
        unhandled = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        broken = {i for i in range(400) if rng.random() < 0.1}
        run = Doubling(seconds=0.0005, broken=broken)
        shared = batcher(run, max_batch=5, max_wait=0.001, queue=60)

        async def ask(i):
            await asyncio.sleep(rng.random() * 0.1)
            try:
                return await shared.submit(i, timeout=rng.choice([None, 0.0005, 0.01]))
            except (TimeoutError, Overloaded, LookupError) as error:
                return error

        tasks = [asyncio.create_task(ask(i)) for i in range(400)]
        for task in rng.sample(tasks, 60):
            asyncio.get_running_loop().call_later(rng.random() * 0.1, task.cancel)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for i, answer in enumerate(answers):
            assert isinstance(answer, Exception | asyncio.CancelledError) or answer == 2 * i
            assert not isinstance(answer, LookupError) or answer.args == (i,)
            assert not (i in broken and answer == 2 * i)
        assert len(shared) == 0
        assert await shared.drain(1)
        gc.collect()
        assert unhandled == []

    asyncio.run(main())


def test_a_call_that_cannot_even_begin_is_an_error_and_not_the_end():
    async def main():
        calls = []

        def run(items):
            calls.append(items)
            if len(calls) == 1:
                raise RuntimeError("no thread")
            return asyncio.sleep(0, items)

        shared = batcher(run)
        with pytest.raises(RuntimeError, match="no thread"):
            await shared.submit(1)
        assert await shared.submit(2) == 2
        assert await shared.drain(1)
        assert await shared.drain(1)

    asyncio.run(main())


def test_who_keeps_coming_does_not_put_off_a_call_that_is_due():
    async def main():
        run = Doubling()
        shared, loop = batcher(run, max_batch=4, max_wait=0), asyncio.get_running_loop()
        tasks, waiting = [], []

        def come():
            if run.calls and not waiting:
                waiting.append(len(shared))
            if len(tasks) < 100:
                loop.call_soon(come)
                tasks.append(asyncio.create_task(shared.submit(len(tasks))))

        come()
        while len(tasks) < 100:
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [2 * i for i in range(100)]
        assert waiting[0] < 8

    asyncio.run(main())


def test_answers_that_cannot_be_counted_are_an_error_of_their_own_items():
    class Short(list):
        def __len__(self):
            return 2

    async def main():
        async def run(items):
            return Short([1]) if len(items) == 2 else [2 * item for item in items]

        shared = batcher(run)
        assert await asyncio.gather(shared.submit(1), shared.submit(2)) == [2, 4]
        assert await shared.submit(3) == 6

    asyncio.run(main())


def test_what_is_given_up_before_its_call_begins_is_not_asked_about():
    async def main():
        run = Doubling()
        shared = batcher(run, max_batch=1, max_wait=0)
        given_up = asyncio.create_task(shared.submit(1))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await shared.submit(2) == 4
        assert run.calls == [(2,)]

    asyncio.run(main())


def test_what_takes_several_calls_holds_up_what_is_short_for_one():
    calls = []

    async def run(batch):
        calls.append(list(batch))
        await asyncio.sleep(0.01)
        return [Again(item - 1) if item > 0 else f"{item} done" for item in batch]

    async def main():
        several = batcher(run, max_batch=2, max_wait=0, left=float)
        asked = [asyncio.create_task(several.submit(2))]
        await asyncio.sleep(0.005)
        asked += [asyncio.create_task(several.submit(item)) for item in (0, 0, 0)]
        await asyncio.sleep(0.001)
        assert await several.drain(1)
        return await asyncio.gather(*asked)

    assert asyncio.run(main()) == ["0 done"] * 4
    assert calls == [[2], [0, 0], [0, 1], [0]]


def test_of_several_that_take_long_one_ends_after_the_other():
    """In turns they would all end at the last moment, and with too little time none of them."""
    calls = []

    async def run(batch):
        calls.append(list(batch))
        await asyncio.sleep(0.01)
        return [Again((name, left - 1)) if left else name for name, left in batch]

    async def main():
        several = batcher(run, max_wait=0, left=lambda item: item[1], max_batch=1)
        asked = [asyncio.create_task(several.submit((name, 2))) for name in "ab"]
        await asyncio.sleep(0.005)
        new = asyncio.create_task(several.submit(("new", 0)))
        assert await asyncio.gather(*asked, new) == ["a", "b", "new"]
        assert await several.drain(1)

    asyncio.run(main())
    turns = [("a", 2), ("new", 0), ("a", 1), ("a", 0), ("b", 2), ("b", 1), ("b", 0)]
    assert calls == [[turn] for turn in turns]


def test_of_equals_who_came_first_comes_first_however_often_it_was_asked_about():
    calls = []

    async def run(batch):
        calls.append(list(batch))
        await asyncio.sleep(0.01)
        return [Again(f"{item}+") if item == "old" else item for item in batch]

    async def main():
        single = batcher(run, max_batch=1, max_wait=0)
        old = asyncio.create_task(single.submit("old"))
        await asyncio.sleep(0.005)
        new = [asyncio.create_task(single.submit(item)) for item in ("b", "c")]
        await asyncio.gather(old, *new)
        assert await single.drain(1)

    asyncio.run(main())
    assert calls == [["old"], ["old+"], ["b"], ["c"]]


def test_where_nobody_can_say_whose_turn_it_is_everybody_is_told():
    async def main():
        def broken(_):
            raise LookupError

        lost = batcher(Doubling(), left=broken)
        found = await asyncio.gather(lost.submit(1), lost.submit(2), return_exceptions=True)
        assert [type(each) for each in found] == [LookupError] * 2
        assert await lost.submit(3) == 6  # one alone has its turn
        assert await lost.drain(1)

    asyncio.run(main())


def test_what_goes_on_is_given_up_where_drain_has_no_more_time():
    async def endless(batch):
        await asyncio.sleep(0.001)
        return [Again(item) for item in batch]

    async def main():
        full = batcher(endless, max_batch=1, max_wait=0)
        asked = [asyncio.create_task(full.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0.02)
        assert not await full.drain(0.02)
        assert [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == [Overloaded] * 2
        assert len(full) == 0

    asyncio.run(main())


def test_what_is_given_up_between_its_calls_is_not_asked_about_again():
    calls = []

    async def run(batch):
        calls.append(list(batch))
        await asyncio.sleep(0.01)
        return [Again(item + 1) for item in batch]

    async def main():
        endless = batcher(run, max_wait=0)
        with pytest.raises(TimeoutError):
            await endless.submit(0, timeout=0.055)
        calls_then = len(calls)
        await asyncio.sleep(0.05)
        assert len(calls) == calls_then
        assert len(endless) == 0
        assert await endless.drain(1)

    asyncio.run(main())
    assert calls == [[number] for number in range(len(calls))]
    assert len(calls) > 2


class End(BaseException):
    pass


@pytest.mark.parametrize(("raised", "at_once"), [(End, True), (End, False), (StopIteration, True)])
def test_whatever_ends_a_call_is_an_error_of_its_items_and_the_next_is_asked(raised, at_once):
    async def main():
        def run(items):
            if items == [1]:
                if at_once:
                    raise raised
                ended = asyncio.get_running_loop().create_future()
                ended.set_exception(raised())
                return ended
            return doubling(items)

        doubling = Doubling()
        shared = batcher(run, max_batch=1, max_wait=0)
        with pytest.raises(RuntimeError, match=raised.__name__):
            await shared.submit(1)
        assert await shared.submit(2) == 4

    asyncio.run(main())
