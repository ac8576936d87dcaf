import pytest

from offmap.conversation import Message, ToolCall
from offmap.evidence import Span
from offmap.gateway.actions import allowed_calls, apply, safe_part
from offmap.gateway.config import StageTable
from offmap.gateway.decision import Decision, Finding

TEXT = 'First we greet. Then "we plan." After that comes harm. And an end.'
REPLY = Message("assistant", TEXT, (ToolCall("read", '{"a": 1}'), ToolCall("delete", "{}")))
STAGE = StageTable(("a",), refusal="No.", read_only_tools=("read",))


def decision(action, fallback="", spans=(), messages=2):
    finding = Finding("a", "v", "scored", 0.001, spans=tuple(spans))
    stops = action in ("block", "escalate", "error")
    return Decision(
        id="1",
        at=0.0,
        stage="response",
        action=action,
        would=action,
        status="enforced",
        rule="r",
        policy="p",
        findings=(finding,),
        replacement="No." if stops else "",
        fallback=fallback,
        messages=messages,
    )


def span(start, message=1, text="comes harm"):
    return Span(message, "assistant", start, start + len(text), text, 3.0)


def test_allow_changes_nothing():
    done = apply(decision("allow"), REPLY, STAGE)
    assert done.message is REPLY
    assert not done.changed


@pytest.mark.parametrize("action", ["block", "escalate", "error"])
def test_what_is_stopped_leaves_the_policys_text_alone(action):
    done = apply(decision(action, spans=[span(TEXT.index("harm"))]), REPLY, STAGE)
    assert done.message == Message("assistant", "No.")
    assert done.changed
    assert done.refused == REPLY.tool_calls


def test_partial_ends_with_the_last_whole_sentence_before_what_was_found():
    done = apply(decision("modify", "partial", [span(TEXT.index("comes"))]), REPLY, STAGE)
    assert done.message == Message("assistant", 'First we greet. Then "we plan."')
    assert done.refused == REPLY.tool_calls
    first = apply(decision("modify", "partial", [span(TEXT.index("end")), span(20)]), REPLY, STAGE)
    assert first.message.content == "First we greet."


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [span(3)],
        [span(0)],
        [span(TEXT.index("end"), message=0)],
    ],
    ids=["none", "first sentence", "at the start", "only in the question"],
)
def test_where_no_part_is_known_to_be_safe_nothing_of_it_is_given(spans):
    assert apply(decision("modify", "partial", spans), REPLY, STAGE).message == Message("assistant", "No.")


def test_no_partial_text_reaches_into_a_flagged_span():
    for start in range(len(TEXT) + 30):
        part = safe_part(REPLY, 1, [span(start)])
        assert TEXT.startswith(part)
        assert len(part) <= start
        assert part == "" or part[-1] in '.!?"'


def test_sentences_of_other_scripts_and_lines():
    message = Message("assistant", "一つ目。二つ目。悪い")
    assert safe_part(message, 0, [span(9, message=0)]) == "一つ目。二つ目。"
    assert safe_part(Message("assistant", "- one\n- two\n- bad"), 0, [span(14, message=0)]) == "- one\n- two"
    assert safe_part(Message("assistant", "Version 3.5 is bad"), 0, [span(12, message=0)]) == ""


def test_read_only_mode_is_a_hard_allow_list():
    done = apply(decision("modify", "read_only_tools"), REPLY, STAGE)
    assert done.message.tool_calls == (ToolCall("read", '{"a": 1}'),)
    assert done.message.content == TEXT
    assert done.refused == (ToolCall("delete", "{}"),)
    only_calls = Message("assistant", "", (ToolCall("delete", "{}"),))
    assert apply(decision("modify", "read_only_tools"), only_calls, STAGE).message == Message("assistant", "No.")


@pytest.mark.parametrize("name", ["Read", "read ", "read\n", "readx", "", "delete", "ｒead"])
def test_a_name_is_on_the_list_letter_by_letter(name):
    assert allowed_calls([ToolCall(name)], ("read",)) == ((), (ToolCall(name),))


@pytest.mark.parametrize("arguments", ["", " ", "{}", '{"a": 1}'])
def test_a_call_may_leave_its_arguments_out(arguments):
    assert allowed_calls([call := ToolCall("read", arguments)], ("read",)) == ((call,), ())


@pytest.mark.parametrize("arguments", ["{", "[]", "3", "null", '{"a": 1} x', "{'a': 1}", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments):
    assert allowed_calls([ToolCall("read", arguments)], ("read",)) == ((), (ToolCall("read", arguments),))
