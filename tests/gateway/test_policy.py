import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.gateway.config import (
    Actions,
    Audit,
    Gateway,
    MonitorTable,
    Review,
    StageTable,
    Step,
    Upstream,
    default_gateway,
)
from offmap.gateway.consistency import contradictions, warnings
from offmap.gateway.decision import Finding
from offmap.gateway.policy import (
    TIERS,
    Bands,
    bands,
    false_positive_rate,
    policy_id,
    promoted,
    reach,
    rule,
    signals,
)


def scored(unsafe=None, unknown=None):
    p_value = min(p for p in (unsafe, unknown, 1.0) if p is not None)
    return Finding("m", "v", "scored", p_value, unsafe, unknown)


def gateway(**stage):
    table = StageTable(**{"cascade": ("a",), **stage})
    names = ("a", "b", "c")
    return Gateway(monitors={name: MonitorTable(bundle="pocket") for name in names}, stages={"response": table})


def found(policy):
    return " | ".join(contradictions(policy))


@pytest.mark.parametrize("tier", list(TIERS))
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_tier_is_the_rate_of_the_whole_cascade_however_many_monitors(tier, count):
    stage = StageTable(tuple(map(str, range(count))), tier=tier)
    assert false_positive_rate(stage) == pytest.approx(TIERS[tier].alpha)
    assert reach(stage) <= TIERS[tier].reach
    without = msgspec.structs.replace(stage, actions=Actions(unknown="allow"))
    assert false_positive_rate(without) == pytest.approx(TIERS[tier].alpha / 2)


@given(
    steps=st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 0.2)), max_size=3),
    dependence=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_nominal_rate_bounds_what_uniform_p_values_give(steps, dependence, seed):
    """Simulated: uniform p-values with any dependence are stopped or held no more often than is said."""
    cascade = tuple(
        Step(str(i), (min(a, b), max(a, b)), (min(c, d), max(c, d))) for i, (a, b, c, d) in enumerate(steps)
    )
    stage = StageTable((*cascade, "last"))
    rng = np.random.default_rng(seed)
    n, columns = 4000, 2 * len(stage.steps)
    p = np.where(rng.random((n, 1)) < dependence, rng.random((n, 1)), rng.random((n, columns)))
    stopped = np.zeros(n, bool)
    going = np.ones(n, bool)
    for number, step in enumerate(bands(stage)):
        u, k = p[:, 2 * number], p[:, 2 * number + 1]
        stopped |= going & ((u <= step.unsafe[0]) | (k <= step.unknown[0]))
        going &= ~stopped & ((u <= step.unsafe[1]) | (k <= step.unknown[1]))
    stopped |= going
    rate = false_positive_rate(stage)
    assert stopped.mean() <= rate + 5 * np.sqrt(rate * (1 - rate) / n) + 1e-9


def test_a_finding_meets_its_cuts():
    stage = StageTable((Step("a", unsafe=(0.01, 0.2), unknown=(0.02, 0.1)), "b"))
    first, second = bands(stage)
    met = lambda finding, step=first, last=False: signals(stage, step, finding, last=last)  # noqa: E731
    assert met(scored(0.5, 0.5)) == ((), True)
    assert met(scored(0.01, 0.5)) == (("unsafe",), True)
    assert met(scored(0.5, 0.02)) == (("unknown",), True)
    assert met(scored(0.01, 0.02)) == (("unsafe", "unknown"), True)
    assert met(scored(0.2, 0.5)) == ((), False)
    assert met(scored(0.5, 0.1)) == ((), False)
    assert met(scored(0.2, 0.5), last=True) == (("uncertain",), False)
    assert met(scored(second.unsafe[0] * 1.01, 0.5), second, last=True) == ((), True)
    for outcome in ("failed", "timeout", "overloaded"):
        assert met(Finding("a", "v", outcome)) == (("error",), True)
    assert met(Finding("a", "v", "unscored")) == (("unscored",), True)


def test_a_score_without_a_number_is_no_score():
    stage = StageTable(("a",))
    (step,) = bands(stage)
    for finding in (scored(float("nan"), 0.5), scored(None, None), Finding("a", "v", "scored", 0.9, 0.5, -1.0)):
        assert signals(stage, step, finding, last=True) == (("unscored",), True)
    deaf = StageTable(("a",), actions=Actions(unknown="allow"))
    assert signals(deaf, step, scored(None, 0.9), last=True) == (("unscored",), True)


def test_what_is_let_pass_as_unknown_does_not_end_the_cascade():
    """Else strange wording would keep what looks like harm from the stronger monitor."""
    stage = StageTable(("a", "b"), actions=Actions(unknown="allow"))
    first, _ = bands(stage)
    assert signals(stage, first, scored(0.03, 1e-9), last=False) == ((), False)


def test_rules():
    stage = StageTable(("a",), on_error="block")
    assert rule(stage, (), enforced=True).action == "allow"
    assert rule(stage, ("unsafe",), enforced=True).action == "block"
    assert rule(stage, ("unknown",), enforced=True).action == "escalate"
    assert rule(stage, ("unknown", "unsafe"), enforced=True).signal == "unsafe"
    assert rule(stage, ("error",), enforced=True).action == "error"
    assert rule(stage, ("unscored",), enforced=True).action == "block"
    shadow = rule(stage, ("unsafe",), enforced=False)
    assert (shadow.action, shadow.would, shadow.status) == ("allow", "block", "shadow")
    for quiet in (StageTable(("a",), mode="shadow"), StageTable(("a",), tier="observe"), StageTable(("a",), percent=0)):
        assert rule(quiet, ("error",), enforced=True).action == "allow"
        assert rule(quiet, ("error",), enforced=True).would == "error"


def test_fail_open_is_a_status_of_its_own_and_the_worst_still_counts():
    stage = StageTable(("a", "b"), on_error="allow", reason="because")
    opened = rule(stage, ("error",), enforced=True)
    assert (opened.action, opened.would, opened.status) == ("allow", "error", "fail_open")
    assert rule(stage, ("error", "unsafe"), enforced=True).action == "block"
    unscored = rule(StageTable(("a",), actions=Actions(unscored="allow")), ("unscored",), enforced=True)
    assert (unscored.action, unscored.status) == ("allow", "fail_open")
    first, _ = bands(stage)
    assert signals(stage, first, Finding("a", "v", "failed"), last=False) == (("error",), False)


@given(st.text(max_size=30), st.floats(0, 100), st.floats(0, 100))
def test_promotion_is_stable_and_only_grows(key, one, other):
    low, high = sorted((one, other))
    assert promoted(low, key) == promoted(low, key)
    assert not promoted(0, key)
    assert promoted(100, key)
    assert promoted(high, key) or not promoted(low, key)


def test_promotion_takes_the_share_that_is_asked_for():
    n, share = 4000, 0.25
    taken = sum(promoted(100 * share, f"conversation {i}") for i in range(n))
    assert abs(taken / n - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_the_policy_hash_changes_with_what_decides_and_with_nothing_else():
    base = default_gateway()
    assert policy_id(base) == policy_id(default_gateway())
    elsewhere = msgspec.structs.replace(base, server=msgspec.structs.replace(base.server, port=1))
    assert policy_id(elsewhere) == policy_id(base)
    turned = msgspec.structs.replace(base, stages=dict(reversed(base.stages.items())))
    assert policy_id(turned) == policy_id(base)
    changed = [
        msgspec.structs.replace(base, stages={**base.stages, "input": StageTable(("pocket",), tier="strict")}),
        msgspec.structs.replace(base, audit=Audit(on_error="allow", reason="x")),
        msgspec.structs.replace(base, monitors={"pocket": MonitorTable(bundle="other")}),
        msgspec.structs.replace(base, review=Review(timeout_s=1)),
    ]
    assert len({policy_id(each) for each in (base, *changed)}) == 5


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"cascade": ()}, "stages.response.cascade: found no monitor"),
        ({"cascade": ("z",)}, "cascade[0]: found 'z', wanted a monitor of the file; there are: a, b, c"),
        ({"cascade": ("a", "b", "a")}, "cascade[2]: found 'a' again"),
        ({"cascade": (Step("a", unsafe=(0.2, 0.1)),)}, "cascade[0].unsafe: found [0.2, 0.1]"),
        ({"cascade": (Step("a", (0.1, 0.1), (0.1, 0.1)), "b")}, "cascade[0]: its bands leave nothing open"),
        ({"actions": Actions(unsafe="allow")}, "actions.unsafe: found 'allow'"),
        ({"on_error": "allow"}, "reason: found none beside on_error = 'allow'"),
        ({"on_error": "allow", "reason": " "}, "reason: found none"),
        ({"actions": Actions(unscored="allow")}, "reason: found none beside actions.unscored"),
        ({"refusal": ""}, "refusal: found no text"),
        ({"actions": Actions(unsafe="modify")}, "fallback: found 'refusal' beside an action 'modify'"),
        ({"fallback": "partial"}, "fallback: found 'partial', which only 'modify' uses"),
        ({"actions": Actions(unsafe="modify"), "fallback": "read_only_tools"}, "read_only_tools: found none"),
    ],
)
def test_contradictions_are_told(stage, said):
    assert said in found(gateway(**stage))


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (Actions(unknown="modify"), ""),
        (Actions(unknown="allow", unsafe="modify"), "actions.unsafe: found 'modify'"),
        (Actions(unknown="modify", unscored="modify"), "reason: found none beside actions.unscored = 'modify'"),
    ],
)
def test_only_what_is_strange_may_reach_the_model_with_fewer_tools(actions, said):
    """What looks like harm may not, and what nobody scored only in writing."""
    table = StageTable(("a",), actions=actions, fallback="read_only_tools", read_only_tools=("look",))
    told = found(msgspec.structs.replace(gateway(), stages={"input": table}))
    assert said in told
    assert bool(told) == bool(said)
    written = msgspec.structs.replace(table, reason="staff only")
    assert ("reason" in found(msgspec.structs.replace(gateway(), stages={"input": written}))) is False


def padded(windows, p=1.0, unsafe=0.001, unknown=0.0003):
    """A finding of a text in so many windows, by a monitor whose smallest p-values in one are these."""
    least = {"least_unsafe": windows * unsafe, "least_unknown": windows * unknown}
    return msgspec.structs.replace(scored(min(1.0, windows * p), 1.0), windows=windows, **least)


def test_more_windows_than_can_be_acted_on_are_unscored():
    """The p-value of W windows is W times the smallest of them: who pads a text would get past a monitor."""
    table = StageTable(("a",))
    (step,) = bands(table)
    assert signals(table, step, padded(5, 0.001), last=True) == (("unsafe",), True)
    assert signals(table, step, padded(5), last=True) == ((), True)
    assert signals(table, step, padded(6, 0.001), last=True) == (("unscored",), True)
    assert signals(table, step, padded(6, unsafe=0.006), last=True) == ((), True), (
        "that never acts, in one window either"
    )
    assert signals(table, step, padded(17, unsafe=0.0), last=True) == (("unscored",), True)
    deaf = StageTable(("a",), actions=Actions(unsafe="block", unknown="allow"))
    assert signals(deaf, step, padded(17, unsafe=0.0), last=True) == ((), True)
    (strict,) = bands(StageTable(("a",), tier="strict"))
    assert signals(table, strict, padded(16), last=True) == ((), True)


def test_what_can_be_handed_on_can_be_acted_on():
    table = StageTable(("a", "b"))
    first, second = bands(table)
    assert signals(table, first, padded(16, 0.001), last=False) == ((), False)
    assert signals(table, first, padded(16), last=False) == ((), True)
    assert signals(table, first, padded(51), last=False) == (("unscored",), True)
    assert signals(table, second, padded(3), last=True) == (("unscored",), True)
    doubt = Bands("a", (0.001, 0.05), (0.001, 0.05))
    assert signals(StageTable(("a",)), doubt, padded(16, 0.001), last=True) == (("uncertain",), False)
    ignored = StageTable(("a",), actions=Actions(uncertain="allow"))
    assert signals(ignored, doubt, padded(16, 0.001), last=True) == (("unscored",), True)


def test_more_contradictions():
    base = gateway()
    assert found(base) == ""
    both = MonitorTable()
    assert "monitors.a: found neither" in found(msgspec.structs.replace(base, monitors={"a": both}))
    narrow = MonitorTable(bundle="pocket", window_tokens=1)
    told = "monitors.a.window_tokens: found 1, wanted 0 or at least 16"
    assert told in found(msgspec.structs.replace(base, monitors={"a": narrow}))
    assert "stages: found none" in found(msgspec.structs.replace(base, stages={}))
    assert "audit.reason: found none" in found(msgspec.structs.replace(base, audit=Audit(on_error="allow")))
    assert "review.timeout_s: found 0" in found(msgspec.structs.replace(base, review=Review(timeout_s=0)))
    assert "review.reason: found none" in found(msgspec.structs.replace(base, review=Review(default="allow")))
    none_held = gateway(actions=Actions(unknown="block", uncertain="block"))
    assert found(msgspec.structs.replace(none_held, review=Review(timeout_s=0))) == ""
    cut = StageTable(("a",), actions=Actions(unsafe="modify"), fallback="partial")
    assert "there is no reply yet to be cut" in found(msgspec.structs.replace(base, stages={"input": cut}))


def test_warnings():
    assert list(warnings(default_gateway())) == []
    judge = MonitorTable(judge=object())
    first = msgspec.structs.replace(gateway(cascade=("j", "a")), monitors={"j": judge, "a": MonitorTable(bundle="b")})
    assert any("a judge is asked first" in each for each in warnings(first))
    assert any("only recorded" in each for each in warnings(gateway(mode="shadow")))
    assert any("safe prompts" in e for e in warnings(Gateway(stages={"input": StageTable(("pocket",))})))


BANDS = [(0.01, 0.01), (0.01, 0.99), (0.01, 1.0), (1.0, 1.0), (0.0, 0.0)]
ACTS = [Actions(), Actions(unknown="allow"), Actions(uncertain="allow"), Actions(unsafe="escalate", unknown="modify")]


@pytest.mark.parametrize("actions", ACTS)
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("unsafe", BANDS)
@pytest.mark.parametrize("unknown", BANDS)
def test_a_step_that_lets_all_or_nothing_pass_is_warned_of_and_no_other(unsafe, unknown, last, actions):
    """Against every pair of p-values, 1 among them: whether any of them goes on, or on to the next monitor."""
    cascade = (Step("a", unsafe, unknown),) if last else (Step("a", unsafe, unknown), "b")
    table = StageTable(cascade, actions=actions, fallback="partial" if actions.unknown == "modify" else "refusal")
    (step, *_), grid = bands(table), (1e-9, 0.01, 0.5, 0.99, 1.0)
    met = [signals(table, step, scored(*pair), last=last)[0] for pair in itertools.product(grid, repeat=2)]
    goes_on = {rule(table, each, enforced=True).action == "allow" for each in met}
    told = [each for each in warnings(gateway(**msgspec.structs.asdict(table))) if "cascade[0]" in each]
    idle = [each for each in told if "never stops anything" in each]
    assert bool(idle) == (last and goes_on == {True})
    assert (len(told) > len(idle)) == (goes_on == {False})
    for each in set(told) - set(idle):
        assert each.startswith(("stages.response.cascade[0].unsafe: 'a' ", "stages.response.cascade[0].unknown: 'a' "))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"cascade": (Step("a", (0.01, 0.01), (0.01, 0.01)),), "tier": "strict"}, True),
        ({"cascade": (Step("a", (0.01, 0.01)),), "tier": "strict", "actions": Actions(unknown="allow")}, True),
        ({"cascade": (Step("a", (0.01, 0.01)),), "tier": "strict"}, False),
        ({"cascade": (Step("a", (0.01, 0.01), (0.01, 0.01)),), "tier": "observe"}, False),
        ({"cascade": (Step("a", (0.01, 0.01), (0.01, 0.01)),)}, False),
        ({"cascade": ("a",), "tier": "strict"}, False),
        ({"cascade": ("a",), "tier": "observe", "mode": "shadow"}, False),
    ],
)
def test_a_tier_that_changes_nothing_is_told(table, told):
    assert any("changes nothing" in each for each in warnings(gateway(**table))) == told


def test_a_time_that_is_never_waited_for_is_told():
    base = gateway()
    short = msgspec.structs.replace(base, limits=msgspec.structs.replace(base.limits, deadline_ms=2))
    told = "monitors.a.timeout_ms: 3,000 is never waited for, since limits.deadline_ms is 2"
    assert (told in warnings(base), told in warnings(short)) == (False, True)


def test_every_met_set_has_the_most_severe_action():
    stage = StageTable(("a",), actions=Actions("modify", "escalate", "allow", "block"), on_error="escalate")
    acts = {"unsafe": "modify", "unknown": "escalate", "uncertain": "allow", "unscored": "block", "error": "escalate"}
    order = ("allow", "modify", "escalate", "block", "error")
    for size in range(1, 4):
        for met in itertools.permutations(acts, size):
            wanted = max((acts[each] for each in met), key=order.index)
            assert rule(stage, met, enforced=True).would == wanted


@pytest.mark.parametrize("name", ["", "a\nb", "\u202ea", "x" * 65, " a"])
def test_names_are_of_one_line_and_seen(name):
    policy = gateway()
    assert "name: found" in found(msgspec.structs.replace(policy, name=name))
    monitors = {**policy.monitors, name: MonitorTable(bundle="pocket")}
    assert "found the name" in found(msgspec.structs.replace(policy, monitors=monitors))


def test_what_decides_nothing_does_not_make_another_policy():
    policy, replace = gateway(), msgspec.structs.replace
    for audit in (Audit(before="upstream"), Audit(keep_days=3)):
        assert policy_id(replace(policy, audit=audit)) == policy_id(policy)
    assert policy_id(replace(policy, audit=Audit(timeout_ms=10))) != policy_id(policy)


def test_what_does_nothing_is_told():
    policy = msgspec.structs.replace(gateway(), audit=Audit(keep_days=3))
    told = list(warnings(policy))
    assert {"monitors.b: no stage asks it", "monitors.c: no stage asks it"} <= set(told)
    assert any("nothing to remove" in each for each in told)
    assert not any("nothing to remove" in each for each in warnings(gateway()))


def test_to_wait_for_no_upstream_is_told():
    waits = msgspec.structs.replace(gateway(), audit=Audit(before="upstream"))
    told = "audit.before: there is no upstream, so nothing waits for it"
    assert told in list(warnings(waits))
    assert told not in list(warnings(msgspec.structs.replace(waits, upstream=Upstream("http://127.0.0.1:9/v1"))))
