import asyncio
import logging
import re
import threading
import time
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.evidence import Span
from offmap.features import Features
from offmap.gateway.config import Gateway, Limits, MonitorTable, StageTable, Step
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.opening import (
    JudgeScorer,
    SafeScores,
    open_monitor,
    open_monitors,
    out_of_reach,
    require_reach,
    write_safe_scores,
)
from offmap.monitor import Verdict


def row(text, name="c"):
    return Conversation(name, (Message("user", text),))


def verdict(p=0.5, unsafe=0.5, unknown=0.5, dropped=0):
    return Verdict("c", False, p, unsafe, unknown, 0.01, (), (), n_dropped=dropped)


@dataclass
class Fake:
    """Gives ``answer(conversation)`` for each; notes who called it and how often at once."""

    answer: object = lambda conversation: verdict()
    threads: set = field(default_factory=set)
    sizes: list = field(default_factory=list)
    running: int = 0
    most: int = 0

    def score(self, conversations):
        self.running += 1
        self.most = max(self.most, self.running)
        self.threads.add(threading.get_ident())
        self.sizes.append(len(conversations))
        try:
            return [self.answer(conversation) for conversation in conversations]
        finally:
            self.running -= 1


def running(scorer, render=None, **options):
    limits = Limits(max_wait_ms=1, max_windows=4)
    return Running("m", Opened(scorer, "v1", None, render), limits=limits, **{"timeout": 5.0, **options})


def ask_all(scorer, texts, **options):
    async def main():
        monitor = running(scorer, **options)
        found = await asyncio.gather(*(monitor.ask(row(text)) for text in texts))
        assert await monitor.drain(5)
        return found

    return asyncio.run(main())


def test_a_span_that_lies_in_no_message_is_not_told():
    nowhere = tuple(Span(at, "user", 0, 2, "he", 3.0) for at in (7, -1))
    (found,) = ask_all(Fake(lambda _: msgspec.structs.replace(verdict(), spans=nowhere)), ["hello"])
    assert (found.outcome, found.spans) == ("scored", ())


def test_a_score_becomes_a_finding():
    span = Span(0, "user", 0, 2, "he", 3.0)
    given = msgspec.structs.replace(verdict(0.2, 0.3, 0.4), spans=(span,), fired=("guard",))
    (found,) = ask_all(Fake(lambda _: given), ["hello"])
    assert (found.monitor, found.version, found.outcome) == ("m", "v1", "scored")
    assert (found.p_value, found.p_unsafe, found.p_unknown) == (0.2, 0.3, 0.4)
    assert (found.spans, found.fired, found.dropped, found.windows) == ((span,), ("guard",), 0, 1)
    assert found.seconds > 0


def raising(error):
    def answer(_):
        raise error

    return Fake(answer)


class Wrong:
    def __init__(self, answers):
        self.answers = answers

    def score(self, conversations):
        return self.answers


@pytest.mark.parametrize(
    ("scorer", "outcome"),
    [
        (Fake(lambda _: verdict(None, None, None)), "unscored"),
        (Fake(lambda _: verdict(float("nan"))), "unscored"),
        (Fake(lambda _: verdict(0.5, float("nan"), 0.5)), "unscored"),
        (Fake(lambda _: verdict(0.5, 1.5, 0.5)), "unscored"),
        (Fake(lambda _: verdict(0.5, -0.1, 0.5)), "unscored"),
        (Fake(lambda _: verdict(float("inf"))), "unscored"),
        (Fake(lambda _: verdict("0.5")), "unscored"),
        (Fake(lambda _: verdict(True, True, True)), "unscored"),
        (Fake(lambda _: verdict(dropped=1)), "unscored"),
        (Fake(lambda _: verdict(np.float32(0.5), np.float64(0.5), None)), "scored"),
        (Fake(lambda _: verdict(0.5, None, None)), "scored"),
        (raising(ValueError("boom")), "failed"),
        (raising(SystemExit(3)), "failed"),
        (raising(KeyboardInterrupt()), "failed"),
        (raising(StopIteration()), "failed"),
        (raising(asyncio.CancelledError()), "failed"),
        (raising(InputError("cannot be read")), "unscored"),
        (raising(TimeoutError()), "timeout"),
        (Fake(lambda _: None), "failed"),
        (Fake(lambda _: 0.5), "failed"),
        (Wrong([]), "failed"),
        (Wrong([verdict(), verdict()]), "failed"),
        (Wrong(None), "failed"),
        (Fake(lambda _: verdict(dropped="x")), "failed"),
    ],
)
def test_whatever_a_monitor_does_is_a_finding(scorer, outcome):
    (found,) = ask_all(scorer, ["hello"])
    assert found.outcome == outcome
    assert found.p_value is None or 0 <= found.p_value <= 1


def test_one_thread_calls_it_once_at_a_time_and_the_loop_goes_on():
    async def main():
        slow = Fake(lambda _: time.sleep(0.01) or verdict())
        monitor = running(slow, queue=500)
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await asyncio.gather(*(monitor.ask(row(str(i))) for i in range(30)))
        ticking.cancel()
        assert await monitor.drain(5)
        assert slow.most == 1
        assert len(slow.threads) == 1
        assert slow.threads != {threading.get_ident()}
        assert max(slow.sizes) > 1
        assert ticks >= 10

    asyncio.run(main())


def test_a_text_that_breaks_the_model_breaks_nobody_elses():
    def answer(conversation):
        if "bad" in conversation.messages[0].content:
            raise RuntimeError("kaputt")
        return verdict()

    found = ask_all(Fake(answer), ["a", "bad", "b", "bad too", "c"])
    assert [each.outcome for each in found] == ["scored", "failed", "scored", "failed", "scored"]


def test_no_word_of_a_user_is_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        ask_all(raising(ValueError("the user wrote: my secret is 1234")), ["my secret is 1234"])
        ask_all(raising(InputError("row 'my secret is 1234'")), ["my secret is 1234"])
    assert "ValueError" in caplog.text
    assert "InputError" in caplog.text
    assert "secret" not in caplog.text


def test_a_hanging_monitor_times_out_is_told_and_comes_back():
    async def main():
        release = threading.Event()
        first = threading.Event()

        def answer(_):
            if not first.is_set():
                first.set()
                release.wait(20)
            return verdict()

        monitor = running(Fake(answer), timeout=0.05)
        assert (await monitor.ask(row("x"))).outcome == "timeout"
        await asyncio.sleep(0.02)
        assert monitor.stuck
        started = time.monotonic()
        assert (await monitor.ask(row("y"))).outcome == "timeout"
        assert time.monotonic() - started < 0.05
        assert monitor.waiting == 0
        release.set()
        for _ in range(200):
            await asyncio.sleep(0.005)
            if not monitor.stuck and (await monitor.ask(row("z"))).outcome == "scored":
                break
        else:
            pytest.fail("it did not come back")
        assert await monitor.drain(5)

    asyncio.run(main())


def test_no_time_left_asks_nothing():
    async def main():
        fake = Fake()
        assert (await running(fake).ask(row("x"), timeout=-1.0)).outcome == "timeout"
        assert fake.sizes == []

    asyncio.run(main())


def test_a_full_queue_is_a_finding_of_its_own():
    async def main():
        release = threading.Event()
        monitor = running(Fake(lambda _: release.wait(20) and verdict()), queue=2)
        tasks = [asyncio.create_task(monitor.ask(row(str(i)))) for i in range(6)]
        await asyncio.sleep(0.02)
        release.set()
        found = [each.outcome for each in await asyncio.gather(*tasks)]
        assert found.count("overloaded") == 4
        assert found.count("scored") == 2
        assert await monitor.drain(5)

    asyncio.run(main())


@dataclass
class FakeRow:
    n: int

    def __len__(self):
        return min(self.n, 50)

    @property
    def n_dropped(self):
        return max(0, self.n - 50)


def render(batch):
    return [FakeRow(sum(len(m.text) + 2 for m in conversation.messages)) for conversation in batch]


def test_long_conversations_are_read_in_windows_and_corrected_for_them():
    def answer(conversation):
        (cut,) = render([conversation])
        return verdict(*[0.01 if "attack" in conversation.messages[0].content else 0.6] * 3, cut.n_dropped)

    fake = Fake(answer)
    short, long, hidden = ask_all(fake, ["x" * 40, "word " * 20, "word " * 15 + "attack " + "word " * 6], render=render)
    assert (short.windows, short.p_unsafe) == (1, 0.6)
    assert long.windows > 1
    assert (long.outcome, long.dropped, long.p_unsafe) == ("scored", 0, 1.0)
    assert hidden.outcome == "scored"
    assert hidden.p_unsafe == pytest.approx(0.01 * hidden.windows)


def test_too_many_windows_are_unscored_and_not_asked():
    fake = Fake()
    found, other = ask_all(fake, ["word " * 500, "hi"], render=render)
    assert (found.outcome, found.p_value) == ("unscored", None)
    assert other.outcome == "scored"
    assert fake.sizes == [1]


@dataclass
class Stepwise:
    """Answers a call each time it is let go on; notes whose windows were in it."""

    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    calls: list = field(default_factory=list)

    def score(self, conversations):
        assert self.go.acquire(timeout=20)
        self.calls.append([conversation.id for conversation in conversations])
        return [verdict()] * len(conversations)


def test_a_long_conversation_holds_up_nobody_for_longer_than_one_call():
    stepwise = Stepwise()
    limits = Limits(max_batch=4, max_windows=16)

    async def main():
        monitor = Running("m", Opened(stepwise, "v1", None, render), limits=limits)
        long = asyncio.create_task(monitor.ask(row("word " * 90, "long")))
        await asyncio.sleep(0.02)  # its first call has begun
        short = [asyncio.create_task(monitor.ask(row("hi", f"short {i}"))) for i in range(3)]
        await asyncio.sleep(0.02)
        stepwise.go.release(2)
        found = await asyncio.wait_for(asyncio.gather(*short), 5)
        assert [each.outcome for each in found] == ["scored"] * 3
        assert not long.done()
        stepwise.go.release(8)
        whole = await long
        assert await monitor.drain(5)
        return whole

    whole = asyncio.run(main())
    assert (whole.outcome, whole.dropped) == ("scored", 0)
    assert stepwise.calls[0] == ["long"] * 4
    assert stepwise.calls[1] == ["short 0", "short 1", "short 2", "long"]
    assert all(len(call) <= 4 for call in stepwise.calls)
    assert whole.windows == sum(call.count("long") for call in stepwise.calls) > 8


@dataclass
class Slow:
    """Takes 10 ms for 40 tokens."""

    sizes: list = field(default_factory=list)

    def score(self, conversations):
        self.sizes.append(len(conversations))
        time.sleep(0.00025 * sum(len(each) for each in render(conversations)))
        return [verdict()] * len(conversations)


def test_calls_are_no_longer_than_their_share_of_the_time(monkeypatch):
    """An eighth of .28 s, and .015 s in any case; a conversation takes .01 s."""

    async def main(slow, timeout):
        monitor = Running("m", Opened(slow, "v1", None, render), limits=Limits(max_batch=16), timeout=timeout)
        for size in (5, 40, 100, 150, 200, 300):
            await monitor.ask(row("word " * (size // 5)))
        slow.sizes.clear()
        found = await asyncio.gather(*(monitor.ask(row("word " * 8)) for _ in range(16)))
        assert await monitor.drain(5)
        assert {each.outcome for each in found} <= {"scored", "timeout"}
        return max(slow.sizes)

    assert asyncio.run(main(Slow(), 0.28)) in (2, 3, 4)
    monkeypatch.setattr("offmap.gateway.monitors.CALL_SECONDS", 0.015)
    assert asyncio.run(main(Slow(), 5.0)) == 1


def test_how_far_it_came_is_logged_and_no_word(caplog):
    slow = Fake(lambda _: time.sleep(0.02) or verdict())

    async def main():
        monitor = Running("m", Opened(slow, "v1", None, render), limits=Limits(max_batch=1), timeout=0.1)
        assert (await monitor.ask(row("secret " * 50))).outcome == "timeout"
        assert await monitor.drain(5)

    asyncio.run(main())
    assert re.search(r"monitor m: timeout \(TimeoutError\) after [1-9] of 1\d windows", caplog.text)
    assert "secret" not in caplog.text


def test_who_takes_too_long_times_out_alone_and_is_not_read_on():
    """Its calls together take longer than an answer may, each of them does not: nobody else notices."""
    fake = Fake(lambda _: time.sleep(0.01) or verdict())
    limits = Limits(max_batch=4, max_windows=64)

    async def main():
        monitor = Running("m", Opened(fake, "v1", None, render), limits=limits, timeout=0.2)
        long = asyncio.create_task(monitor.ask(row("word " * 250, "long")))
        found = []
        while not long.done():
            found.append(await monitor.ask(row("hi")))
            assert not monitor.stuck
        calls = len(fake.sizes)
        await asyncio.sleep(0.1)
        assert len(fake.sizes) <= calls + 1  # the call that was under way
        assert await monitor.drain(5)
        return await long, found

    long, found = asyncio.run(main())
    assert long.outcome == "timeout"
    assert len(found) > 2
    assert {each.outcome for each in found} == {"scored"}
    assert max(fake.sizes) <= 4


def test_a_window_that_breaks_the_model_breaks_its_own_conversation_only():
    def answer(conversation):
        if "bad" in conversation.messages[-1].content:
            raise RuntimeError
        return verdict()

    long = "word " * 15 + "bad " + "word " * 6
    found = ask_all(Fake(answer), ["a", long, "b", "word " * 20], render=render)
    assert [each.outcome for each in found] == ["scored", "failed", "scored", "scored"]


def test_going_down_a_conversation_is_read_to_its_end():
    limits = Limits(max_batch=2, max_windows=16)

    async def main():
        monitor = Running("m", Opened(Fake(), "v1", None, render), limits=limits)
        long = asyncio.create_task(monitor.ask(row("word " * 60)))
        await asyncio.sleep(0)
        assert await monitor.drain(5)
        return await long

    found = asyncio.run(main())
    assert (found.outcome, found.windows > 2) == ("scored", True)


def test_a_text_that_cannot_be_read_takes_nobody_out_of_a_batch():
    """Who writes one chooses that: were its neighbours asked one by one, it would cost all of them their batches."""

    def picky(batch):
        if any("bad" in conversation.messages[-1].content for conversation in batch):
            raise InputError("no room for its text")
        return render(batch)

    fake = Fake()
    found = ask_all(fake, ["a", "bad", "b", "c"], render=picky)
    assert [each.outcome for each in found] == ["scored", "unscored", "scored", "scored"]
    assert fake.sizes == [3]


class FakeJudge:
    """Scores a conversation by the number in it; NaN for none."""

    scalars = frozenset({"grade"})
    fingerprint = "judge=fake"

    class prompt:  # noqa: N801
        question = "unsafe"

    def __call__(self, batch, spec):
        said = [conversation.messages[0].content for conversation in batch]
        if "down" in said:
            raise InputError("no key")
        scores = np.array([float(text) if text.strip("-.0123456789") == "" else np.nan for text in said])
        return Features.of_scalars(batch, dict.fromkeys(spec.scalars, scores))


def safe(text):
    return msgspec.structs.replace(row(text, text), unsafe=False)


def test_a_judges_grade_is_ranked_among_its_grades_of_safe_conversations(tmp_path):
    judge, path = FakeJudge(), tmp_path / "safe.json"
    kept = write_safe_scores(path, judge, [safe(str(i)) for i in range(9)] + [safe("?")])
    assert msgspec.json.decode(path.read_bytes(), type=SafeScores) == kept
    assert (len(kept.scores), kept.unscored) == (9, 1)
    from offmap.calibration import ConformalCalibrator

    scorer = JudgeScorer(judge, "unsafe", ConformalCalibrator.fit(np.array(kept.scores)))
    found = ask_all(scorer, ["-1", "4.5", "100", "what"])
    for each, grade in zip(found[:3], (-1, 4.5, 100), strict=True):
        rank = 1 + sum(score >= grade for score in kept.scores)
        assert each.p_unsafe == pytest.approx(rank / 10)
        assert each.p_unknown is None
    assert [each.outcome for each in found] == ["scored"] * 3 + ["unscored"]
    assert ask_all(scorer, ["down"])[0].outcome == "failed"
    with pytest.raises(InputError, match="wanted false"):
        write_safe_scores(path, judge, [row("3")])
    with pytest.raises(InputError, match="none of which got a score"):
        write_safe_scores(path, judge, [safe("?")])


def test_a_monitor_that_could_never_stop_anything_is_refused():
    gateway = Gateway(monitors={"a": MonitorTable(bundle="pocket")}, stages={"response": StageTable(("a",))})
    require_reach(gateway, {"a": Opened(Fake(), smallest={"unsafe": 0.004, "unknown": 0.5})})
    require_reach(gateway, {"a": Opened(Fake())})
    for smallest in ({"unsafe": 0.006, "unknown": 0.1}, {}):
        with pytest.raises(InputError, match=r"stages.response.cascade\[0\].*could never stop anything"):
            require_reach(gateway, {"a": Opened(Fake(), smallest=smallest)})


def test_a_question_that_nobody_answers_is_told():
    both = {name: MonitorTable(bundle="pocket") for name in "ab"}
    gateway = Gateway(monitors=both, stages={"response": StageTable(("a", "b"))})
    novelty = Opened(Fake(), smallest={"unknown": 0.0001})
    told = ["response: no monitor of its cascade gives p(unsafe), so that 'block' is never done about it"]
    assert list(out_of_reach(gateway, {"a": novelty, "b": novelty})) == told
    assert not list(out_of_reach(gateway, {"a": novelty, "b": Opened(Fake(), smallest={"unsafe": 0.0001})}))
    assert not list(out_of_reach(gateway, {"a": novelty, "b": Opened(Fake())}))


def test_a_monitor_that_hands_on_counts_as_far_as_it_does():
    """What it hands on does not simply pass, so a conversation in few enough windows for that is not unscored."""
    step = Step("a", unsafe=(0.005, 0.012), unknown=(0.005, 0.012))
    both = {name: MonitorTable(bundle="pocket") for name in "ab"}
    gateway = Gateway(monitors=both, stages={"response": StageTable((step, "b"))})
    opened = {"a": Opened(Fake(), smallest={"unsafe": 0.001}, render=render), "b": Opened(Fake())}
    (told,) = out_of_reach(gateway, opened)
    assert "p(unsafe) <= 0.012 of conversations of at most 12 windows" in told


def test_how_long_a_conversation_may_be_for_its_answers_to_count_is_told():
    """The p-value of W windows is W times the smallest of them."""
    gateway = Gateway(monitors={"a": MonitorTable(bundle="pocket")}, stages={"response": StageTable(("a",))})
    reach = {"unsafe": 0.001, "unknown": 0.0003}
    assert list(out_of_reach(gateway, {"a": Opened(Fake(), smallest=reach, render=render)})) == [
        "response: 'a' can act on p(unsafe) <= 0.005 of conversations of at most 5 windows, since its smallest is "
        "0.001: longer ones are unscored"
    ]
    deaf = Opened(Fake(), smallest={"unsafe": 0.0001, "unknown": 0.006}, render=render)
    assert list(out_of_reach(gateway, {"a": deaf})) == [
        "response: 'a' never acts on p(unknown) <= 0.005, since its smallest is 0.006"
    ]
    assert not list(out_of_reach(gateway, {"a": Opened(Fake(), smallest=reach)}))
    assert not list(out_of_reach(gateway, {"a": Opened(Fake(), render=render)}))


def test_a_finding_says_how_small_its_p_values_can_be():
    async def main():
        opened = Opened(Fake(), "v", {"unsafe": 0.001}, render)
        running = Running("a", opened, limits=Limits(max_wait_ms=1), window_tokens=20)
        found = [await running.ask(row("word " * n)) for n in (1, 10)]
        await running.drain()
        return [(each.windows, each.least_unsafe, each.least_unknown) for each in found]

    assert asyncio.run(main()) == [(1, 0.0, 0.0), (5, 0.005, 0.0)]


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InputError, match=r"monitors\.mine: "):
        open_monitor(MonitorTable(bundle=str(tmp_path / "none")), "mine")
    gateway = Gateway(
        monitors={"used": MonitorTable(bundle=str(tmp_path / "none")), "other": MonitorTable(bundle="also none")},
        stages={"response": StageTable(("used",))},
    )
    with pytest.raises(InputError, match=r"monitors\.used: "):
        open_monitors(gateway)
