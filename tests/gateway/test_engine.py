import asyncio
import contextlib
import logging
import threading
import time
import uuid
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.gateway.config import Actions, Audit, Gateway, Limits, MonitorTable, StageTable, Step, default_gateway
from offmap.gateway.consistency import contradictions
from offmap.gateway.decision import STOPS, Finding
from offmap.gateway.engine import Clocks, Engine
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.opening import open_monitors
from offmap.gateway.policy import promoted
from offmap.gateway.request import Ask
from offmap.gateway.uuid7 import uuid7
from offmap.monitor import Verdict

HELLO = Conversation("c", (Message("user", "hello"), Message("assistant", "hi there")))
REASONS = "the monitor's reasons"


def verdict(unsafe=0.5, unknown=0.5, p=None, dropped=0):
    return Verdict(
        "c", False, min(unsafe, unknown) if p is None else p, unsafe, unknown, 0.01, (REASONS,), (), n_dropped=dropped
    )


@dataclass
class Sink:
    """Keeps what it is given, or fails."""

    fault: str = ""
    kept: list = field(default_factory=list)

    async def append(self, decision, content):
        await asyncio.sleep(0)
        if self.fault == "raises":
            raise OSError("disk full")
        if self.fault == "hangs":
            await asyncio.sleep(60)
        self.kept.append((decision, content))


@dataclass
class Scorer:
    """Does what its plan says for every conversation."""

    plan: object
    released: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def score(self, conversations):
        self.asked += len(conversations)
        plan = self.plan
        if isinstance(plan, tuple):
            return [verdict(*plan) for _ in conversations]
        if plan == "raises":
            raise RuntimeError(REASONS)
        if plan == "exits":
            raise SystemExit(1)
        if plan == "hangs":
            self.released.wait(20)
            return [verdict() for _ in conversations]
        if plan == "refuses":
            raise InputError("cannot be read")
        answers = {
            "too few": [],
            "too many": [verdict()] * (len(conversations) + 1),
            "no verdict": [None] * len(conversations),
            "none": [Verdict("c", True, None, None, None, 0.0, (), ())] * len(conversations),
            "nan": [verdict(float("nan"), 0.5, 0.5)] * len(conversations),
            "nan fused": [verdict(0.5, 0.5, float("nan"))] * len(conversations),
            "dropped": [verdict(dropped=3)] * len(conversations),
            "outside": [verdict(1.5, 0.5, 0.5)] * len(conversations),
        }
        return answers[plan]


OUTAGES = ("raises", "exits", "hangs", "too few", "too many", "no verdict")
UNSCORED = ("none", "nan", "nan fused", "dropped", "outside", "refuses")


@contextlib.asynccontextmanager
async def engine_of(gateway, plans, sink, timeout=5.0):
    scorers = {name: Scorer(plan) for name, plan in plans.items()}
    running = {
        name: Running(name, Opened(scorer, f"{name}-1"), timeout=timeout, limits=Limits(max_wait_ms=0))
        for name, scorer in scorers.items()
    }
    engine = Engine(gateway, running, sink)
    try:
        yield engine, scorers
    finally:
        for scorer in scorers.values():
            scorer.released.set()
        await engine.drain(5)


def gateway_of(plans, audit=Audit(), limits=Limits(), **stage):  # noqa: B008 - frozen
    return Gateway(
        monitors={name: MonitorTable(bundle="pocket") for name in plans},
        stages={"response": StageTable(**{"cascade": tuple(plans), **stage})},
        audit=audit,
        limits=limits,
    )


def decide(gateway, plans, sink=None, conversation=HELLO, timeout=5.0, **options):
    sink = Sink() if sink is None else sink

    async def main():
        async with engine_of(gateway, plans, sink, timeout) as (engine, _):
            return await engine.decide(Ask("response", conversation, **options))

    return asyncio.run(main())


p_values = st.sampled_from([1e-6, 0.003, 0.02, 0.06, 0.3, 0.9])
scores = st.tuples(p_values, p_values)
plans = st.one_of(scores, scores, scores, st.sampled_from([p for p in OUTAGES + UNSCORED if p != "hangs"]))
band = st.one_of(st.none(), st.sampled_from([(0.01, 0.05), (0.001, 0.1), (0.0, 0.5)]))
stages = st.fixed_dictionaries(
    {
        "tier": st.sampled_from(["balanced", "strict"]),
        "quiet": st.sampled_from(
            [{}] * 12 + [{"tier": "observe"}, {"mode": "shadow"}, {"percent": 50.0}, {"percent": 0.0}]
        ),
        "on_error": st.sampled_from(["block", "escalate", "allow"]),
        "reason": st.just("in writing"),
        "actions": st.builds(
            Actions,
            unsafe=st.sampled_from(["block", "escalate", "modify"]),
            unknown=st.sampled_from(["block", "escalate", "modify", "allow"]),
            uncertain=st.sampled_from(["block", "escalate", "modify", "allow"]),
            unscored=st.sampled_from(["block", "escalate", "allow"]),
        ),
        "fallback": st.just("partial"),
        "bands": st.lists(st.tuples(band, band), min_size=3, max_size=3),
    }
)


def cuts(stage, number, count):
    """The bands of a step, worked out anew: the tier's rate over 2 questions and all steps."""
    alpha, hand_on = {"observe": (0.01, 0.1), "balanced": (0.01, 0.1), "strict": (0.05, 0.4)}[stage.tier]
    cut = alpha / 2 / count
    step = stage.steps[number]
    default = (cut, cut) if number == count - 1 else (cut, hand_on / 2)
    return {"unsafe": step.unsafe or default, "unknown": step.unknown or default}


def may_go_on(stage, plan_of, key):
    """Whether the policy lets traffic go on, from what was injected alone."""
    if stage.mode == "shadow" or stage.tier == "observe" or not promoted(stage.percent, key):
        return True
    count = len(plan_of)
    for number, plan in enumerate(plan_of.values()):
        if isinstance(plan, str):
            if (stage.on_error if plan in OUTAGES else stage.actions.unscored) != "allow":
                return False
            continue
        bands = [band for q, band in cuts(stage, number, count).items() if getattr(stage.actions, q) != "allow"]
        heard = [p for q, p in zip(("unsafe", "unknown"), plan, strict=True) if getattr(stage.actions, q) != "allow"]
        if any(p <= stop for p, (stop, _) in zip(heard, bands, strict=True)):
            return False
        if all(p > high for p, (_, high) in zip(heard, bands, strict=True)):
            return True
    return isinstance(plan, str) or stage.actions.uncertain == "allow"


@given(
    plan=st.lists(plans, min_size=1, max_size=3),
    options=stages,
    fault=st.sampled_from([""] * 9 + ["raises"]),
    audit=st.sampled_from([Audit(), Audit(on_error="allow", reason="in writing")]),
    key=st.sampled_from(["", "conversation 1", "conversation 2", "conversation 5"]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_allow_means_that_all_was_scored_and_nothing_crossed_or_that_the_policy_says_so(
    plan, options, fault, audit, key
):
    plan_of = {f"m{i}": each for i, each in enumerate(plan)}
    own = options.pop("bands")
    options |= options.pop("quiet")
    cascade = tuple(Step(name, *own[i]) for i, name in enumerate(plan_of))
    options |= {} if "modify" in msgspec.structs.astuple(options["actions"]) else {"fallback": "refusal"}
    gateway = gateway_of(plan_of, audit, cascade=cascade, **options)
    if list(contradictions(gateway)):
        return
    sink = Sink(fault)
    found = decide(gateway, plan_of, sink, conversation_id=key)
    stage = gateway.stages["response"]
    recorded = fault != "raises" or audit.on_error == "allow"
    wanted = may_go_on(stage, plan_of, key or found.content_sha256)
    assert (found.action == "allow") == (wanted and recorded)
    _check_consistent(found, stage, sink, fault)


def _check_consistent(found, stage, sink, fault):
    assert len(found.findings) == len(stage.steps)
    assert found.action not in STOPS or found.replacement == stage.refusal
    assert found.action in STOPS or found.replacement == ""
    assert REASONS not in found.replacement
    assert (found.fallback != "") == (found.action == "modify")
    if found.status == "enforced":
        assert found.would == found.action
    else:
        assert found.action in ("allow", "modify")
    if not fault:
        assert [decision for decision, _ in sink.kept] == [found]
    failed = [each.outcome for each in found.findings if each.outcome in ("failed", "timeout", "unscored")]
    if found.action == "allow" and found.status == "enforced":
        assert not failed


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("fault", [*OUTAGES, *UNSCORED])
@pytest.mark.parametrize("number", [0, 1])
def test_every_fault_at_every_step_stops_by_default(fault, number, steps):
    if number >= steps:
        return
    plan_of = {f"m{i}": (0.03, 0.5) for i in range(steps)}  # in the band of the first, so the second is asked
    plan_of[f"m{number}"] = fault
    found = decide(gateway_of(plan_of), plan_of, timeout=0.05 if fault == "hangs" else 5.0)
    assert found.action == ("error" if fault in OUTAGES else "block")
    outcome = {"hangs": "timeout"}.get(fault, "failed") if fault in OUTAGES else "unscored"
    assert found.rule == f"response.{outcome}"
    assert found.findings[number].outcome == outcome


@pytest.mark.parametrize("fault", ["raises", "hangs"])
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("p", [0.5, 0.02, 1e-9])
def test_what_cannot_be_recorded_does_not_go_on(fault, mode, p):
    plan_of = {"m": (p, p)}
    gateway = gateway_of(plan_of, Audit(timeout_ms=20), mode=mode)
    started = time.monotonic()
    found = decide(gateway, plan_of, Sink(fault))
    assert time.monotonic() - started < 3
    stopped = "error" if p > 0.005 or mode == "shadow" else "block"
    assert (found.action, found.status, found.rule) == (stopped, "enforced", "response.audit")
    assert found.on_record == "", "nobody is told of it as if it could be found in the log"
    assert found.replacement


def test_what_a_monitor_failed_at_is_told_apart_from_what_is_on_record():
    assert decide(gateway_of({"m": None}), {"m": "raises"}).on_record
    found = decide(gateway_of({"m": None}), {"m": "raises"}, Sink("raises"))
    assert (found.action, found.rule, found.on_record) == ("error", "response.audit", "")


def test_unrecorded_traffic_goes_on_only_in_writing_and_is_told_apart():
    audit = Audit(on_error="allow", reason="in writing")
    found = decide(gateway_of({"m": None}, audit), {"m": (0.5, 0.5)}, Sink("raises"))
    assert (found.action, found.would, found.status, found.rule) == ("allow", "error", "fail_open", "response.audit")
    assert decide(gateway_of({"m": None}, audit), {"m": (1e-9, 0.5)}, Sink("raises")).action == "block"
    held = decide(gateway_of({"m": None}, audit), {"m": (0.5, 1e-9)}, Sink("raises"))
    assert (held.action, held.rule) == ("error", "response.audit")


def test_it_is_recorded_before_it_is_answered():
    async def main():
        order = []

        class Slow(Sink):
            async def append(self, decision, content):
                await asyncio.sleep(0.02)
                order.append("recorded")

        async with engine_of(gateway_of({"m": None}), {"m": (0.5, 0.5)}, Slow()) as (engine, _):
            await engine.decide(Ask("response", HELLO))
            order.append("answered")
        assert order == ["recorded", "answered"]

    asyncio.run(main())


def test_a_fail_open_is_logged_and_counted_without_a_word_of_the_user(caplog):
    plan_of = {"m": "raises"}
    gateway = gateway_of(plan_of, on_error="allow", reason="staff only")

    async def main():
        async with engine_of(gateway, plan_of, Sink()) as (engine, _):
            found = [await engine.decide(Ask("response", HELLO)) for _ in range(3)]
            return found, engine.counts

    with caplog.at_level(logging.WARNING):
        found, counts = asyncio.run(main())
    assert {each.status for each in found} == {"fail_open"}
    assert {each.would for each in found} == {"error"}
    assert counts == {("response", "allow", "fail_open", "response.failed"): 3}
    assert caplog.text.count("fail-open") == 3
    assert "hello" not in caplog.text
    assert REASONS not in caplog.text


def test_a_sure_cheap_monitor_spares_the_strong_one():
    for cheap, outcome in (((0.9, 0.9), "skipped"), ((1e-6, 0.9), "skipped"), ((0.03, 0.9), "scored")):
        found = decide(gateway_of({"cheap": None, "strong": None}), {"cheap": cheap, "strong": (0.9, 0.9)})
        assert [each.outcome for each in found.findings] == ["scored", outcome]
        assert found.findings[1].version == "strong-1"


def test_a_monitor_behind_one_that_failed_open_is_still_heard():
    plan_of = {"cheap": "raises", "strong": (1e-6, 0.9)}
    found = decide(gateway_of(plan_of, on_error="allow", reason="in writing"), plan_of)
    assert (found.action, found.rule) == ("block", "response.unsafe")


def test_the_deadline_is_hard():
    plan_of = {"m": "hangs"}
    gateway = gateway_of(plan_of, limits=Limits(deadline_ms=40))
    found = decide(gateway, plan_of)
    assert (found.action, found.rule) == ("error", "response.timeout")
    assert found.seconds < 2
    past = decide(gateway_of({"m": None}), {"m": (0.5, 0.5)}, deadline=0.0)
    assert (past.action, past.rule) == ("error", "response.timeout")


def test_a_monitor_that_breaks_its_contract_is_an_error():
    class Broken:
        version, stuck = "1", False

        def __init__(self, answer):
            self.answer = answer

        async def ask(self, conversation, timeout=None):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        async def drain(self, timeout=None):
            return True

    nan = Finding("m", "1", "scored", float("nan"), float("nan"), float("nan"))
    for answer in (RuntimeError("x"), None, "allow", nan, Finding("m", "1", "scored"), Finding("m", "1", "skipped")):
        engine = Engine(gateway_of({"m": None}), {"m": Broken(answer)}, Sink())
        found = asyncio.run(engine.decide(Ask("response", HELLO)))
        assert found.action in ("error", "block")


def test_what_nobody_foresaw_stops_and_is_recorded():
    broken = Conversation("c", (Message("user", "\ud800"),))
    sink = Sink()
    found = decide(gateway_of({"m": None}), {"m": (0.5, 0.5)}, sink, broken)
    assert (found.action, found.rule, found.content_sha256) == ("error", "response.internal", "")
    assert sink.kept[0][0] == found
    assert decide(gateway_of({"m": None}, mode="shadow"), {"m": (0.5, 0.5)}, sink, broken).action == "allow"


def test_the_parts_of_a_split_attack_are_scored_together_and_callers_apart():
    class Sees(Scorer):
        def score(self, conversations):
            texts = ["".join(m.content for m in c.messages) for c in conversations]
            return [verdict(1e-9 if "first" in text and "second" in text else 0.9) for text in texts]

    async def main():
        sink = Sink()
        gateway = msgspec.structs.replace(gateway_of({"m": None}), stages={"conversation": StageTable(("m",))})
        engine = Engine(gateway, {"m": Running("m", Opened(Sees(None)))}, sink)

        async def say(text, caller="alice", name="1"):
            part = Conversation("c", (Message("user", text),))
            return await engine.decide(Ask("conversation", part, name), caller=caller)

        assert (await say("first half")).action == "allow"
        assert (await say("second half", caller="bob")).action == "allow"
        assert (await say("second half", name="2")).action == "allow"
        assert (await say("second half", name="")).action == "allow"
        together = await say("second half")
        assert together.action == "block"
        assert together.messages == 2
        assert len(sink.kept[-1][1].messages) == 2
        await engine.drain(5)

    asyncio.run(main())


def test_a_conversation_does_not_change_sides():
    async def main():
        gateway = gateway_of({"m": None}, percent=50)
        async with engine_of(gateway, {"m": (1e-9, 0.5)}, Sink()) as (engine, _):
            found = {}
            for turn in range(3):
                for name in map(str, range(40)):
                    said = Conversation("c", (Message("user", f"turn {turn}"),))
                    decision = await engine.decide(Ask("response", said, name))
                    found.setdefault(name, set()).add((decision.action, decision.status, decision.would))
            return found

    found = asyncio.run(main())
    assert all(len(each) == 1 for each in found.values())
    sides = {next(iter(each)) for each in found.values()}
    assert sides == {("block", "enforced", "block"), ("allow", "shadow", "block")}


def test_only_stages_of_the_policy_and_only_monitors_that_run():
    with pytest.raises(InputError, match="no such stage"):
        asyncio.run(Engine(default_gateway(), {"pocket": None}, Sink()).decide(Ask("x", HELLO)))
    with pytest.raises(InputError, match="is not running"):
        Engine(gateway_of({"m": None}), {}, Sink())
    with pytest.raises(InputError, match="reason: found none"):
        Engine(gateway_of({"m": None}, on_error="allow"), {"m": None}, Sink())


def test_many_at_once_each_get_their_own():
    class Echo(Scorer):
        def score(self, conversations):
            return [verdict(float(c.messages[0].content)) for c in conversations]

    async def main():
        engine = Engine(gateway_of({"m": None}), {"m": Running("m", Opened(Echo(None)))}, Sink())
        numbers = [(i + 1) / 1000 for i in range(200)]
        said = [Conversation("c", (Message("user", repr(p)),)) for p in numbers]
        found = await asyncio.gather(*(engine.decide(Ask("response", each)) for each in said))
        for p, decision in zip(numbers, found, strict=True):
            assert decision.findings[0].p_unsafe == p
            assert (decision.action == "block") == (p <= 0.005)
        assert len({each.id for each in found}) == 200
        await engine.drain(5)

    asyncio.run(main())


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=20), st.binary(min_size=8, max_size=8))
def test_ids_are_uuids_of_version_7_in_order_of_time(times, noise):
    ids = [uuid7(now, lambda n: noise) for now in sorted(times)]
    assert ids == sorted(ids)
    for now, text in zip(sorted(times), ids, strict=True):
        found = uuid.UUID(text)
        assert str(found) == text
        assert (found.version, found.variant) == (7, uuid.RFC_4122)
        assert found.int >> 80 == int(now * 1000)
    assert uuid7(1.0) != uuid7(1.0)


def test_times_come_from_the_clocks_that_are_given():
    ticks = iter(range(100, 200))
    clocks = Clocks(wall=lambda: 1_700_000_000.25, monotonic=lambda: 100 + 0 * next(ticks))
    engine = Engine(gateway_of({"m": None}), {"m": Running("m", Opened(Scorer((0.5, 0.5))))}, Sink(), clocks=clocks)
    found = asyncio.run(engine.decide(Ask("response", HELLO)))
    assert found.at == 1_700_000_000.25
    assert found.seconds == 0
    assert uuid.UUID(found.id).int >> 80 == 1_700_000_000_250


def test_the_embedded_monitor_without_any_configuration():
    from offmap.suites.procedural import generate

    async def main():
        gateway, sink = default_gateway(), Sink()
        gateway = msgspec.structs.replace(gateway, limits=Limits(deadline_ms=60_000))
        slow = {name: msgspec.structs.replace(table, timeout_ms=60_000) for name, table in gateway.monitors.items()}
        gateway = msgspec.structs.replace(gateway, monitors=slow)
        engine = Engine(gateway, open_monitors(gateway), sink)
        safe = [row for row in generate("helpful", 60, 991) if not row.unsafe][:8]
        strange = [row for row in generate("scheming", 30, 991) if row.unsafe][:6]
        long = Conversation(
            "long", (*safe[0].messages[:-1], Message("assistant", (safe[0].messages[-1].content * 200)[:6000]))
        )
        everything = [*safe, *strange, long]
        found = await asyncio.gather(*(engine.decide(Ask("response", row)) for row in everything))
        assert await engine.drain(60)
        return found, sink

    found, sink = asyncio.run(main())
    assert sum(each.action == "allow" for each in found[:8]) >= 7
    assert sum(each.action != "allow" for each in found[8:14]) >= 2
    (reading,) = found[14].findings
    assert reading.windows > 1
    assert (reading.outcome, reading.dropped) == ("scored", 0)
    assert len(sink.kept) == len(found)
    assert {each.findings[0].version for each in found} == {found[0].findings[0].version}
    assert all(each.policy.startswith("default@") for each in found)
