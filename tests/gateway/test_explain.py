import msgspec
import pytest

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
from offmap.gateway.explain import explain

MONITORS = {name: MonitorTable(bundle="pocket", timeout_ms=70) for name in ("cheap", "strong", "third")}


def said(**stage):
    return "\n".join(explain(Gateway(monitors=MONITORS, stages={"response": StageTable(**stage)})))


def test_the_default_says_what_stops_and_how_often():
    words = "\n".join(explain(default_gateway()))
    assert words.count("the traffic is stopped.") == 4
    assert "nominally at most 1 % of safe traffic" in words
    assert (
        "each of the 4 enforced stages once is stopped or held somewhere nominally at most 3.5 % of the time" in words
    )
    assert (
        "Every tool call of a reply is looked at by itself: each further call adds up to 1 %, ten of them 10 %."
        in words
    )
    assert "nothing of the content is kept" in words
    assert "GOES ON" not in words
    assert "Warning" not in words


def test_the_rate_of_the_whole_cascade_is_told_and_not_that_of_each_monitor():
    words = said(cascade=("cheap", "strong", "third"), tier="strict")
    assert "nominally at most 5 % of safe traffic is stopped or held by the cascade as a whole (3 monitors" in words
    assert "where that is in doubt by 'strong'" in words
    assert "p(unsafe) <= 0.00833" in words


def test_a_stage_that_lets_nothing_pass_is_warned_of():
    words = said(cascade=("cheap", Step("strong", unsafe=(1.0, 1.0), unknown=(0.01, 1.0))))
    assert "Warning: stages.response.cascade[1].unsafe: 'strong' acts at p <= 1, which every p-value is" in words
    assert "Warning: stages.response.cascade[1].unknown: 'strong' lets nothing pass" in words
    assert "what it does not stop meets 'escalate'" in words
    assert "cascade[0]" not in words


def test_failures_are_told_as_what_they_are():
    words = said(cascade=("cheap",), on_error="allow", reason="staff only")
    assert "GOES ON UNCHECKED, logged and counted as fail-open, because: staff only." in words
    assert "70 ms for 'cheap'" in words
    assert "held for a person" in said(cascade=("cheap",), on_error="escalate")
    base = default_gateway()
    unrecorded = msgspec.structs.replace(base, audit=Audit(on_error="allow", reason="disk is small"))
    assert "STANDS UNRECORDED, because: disk is small" in "\n".join(explain(unrecorded))
    late = msgspec.structs.replace(base, review=Review(default="allow", reason="night"))
    assert "goes on, because: night" in "\n".join(explain(late))


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"mode": "shadow"}, "nothing is done, only recorded: all traffic goes on"),
        ({"tier": "observe"}, "nothing is done, only recorded: all traffic goes on"),
        ({"percent": 5}, "enforced for 5 % of conversations"),
        ({"actions": Actions(unsafe="modify"), "fallback": "partial"}, "cut after its last sentence before"),
        (
            {"actions": Actions(unsafe="modify"), "fallback": "read_only_tools", "read_only_tools": ("get", "list")},
            "only these tools may still be called: get, list",
        ),
    ],
)
def test_what_is_done_is_told(stage, words):
    assert words in said(cascade=("cheap",), **stage)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (("response",), "tool calls leave when they are whole and the reply was looked at as a whole"),
        (("response", "tool_call"), "tool calls leave when they are whole and were looked at"),
        (("conversation",), "no text leaves before the conversation stage was asked about the whole reply"),
        (("response", "conversation"), "what passed the response stage has left where the conversation stage stops"),
        (("input",), "text leaves as it comes: no stage that could stop it looks at it"),
    ],
)
def test_what_a_stream_waits_for_is_told(stages, words):
    table = StageTable(("pocket",), tier="strict")
    gateway = Gateway(stages=dict.fromkeys(stages, table), upstream=Upstream("http://127.0.0.1:1/v1"))
    told = "\n".join(explain(gateway))
    assert words in told
    choices = 5 * len({"response", "conversation"} & {*stages})
    assert (f"each further choice adds up to {choices} %" in told) == bool(choices)


def test_stages_that_nobody_looks_at_are_told():
    words = said(cascade=("cheap",))
    assert "Not looked at: input (what is sent to the model), tool_call" in words
