import json
from dataclasses import dataclass, field

import pytest

from offmap.conversation import Conversation, Message, Tool, ToolCall
from offmap.gateway.config import Limits
from offmap.gateway.reading import Reader, Reading, laid_open
from offmap.monitor import Verdict


class Row:
    """A token for three characters of messages and tools, of which a window has room for 100."""

    def __init__(self, conversation):
        said = [message.text for message in conversation.messages] + [tool.parameters for tool in conversation.tools]
        self.n = sum(map(len, said)) // 3

    def __len__(self):
        return min(self.n, 100)

    @property
    def n_dropped(self):
        return max(0, self.n - 100)


def render(batch):
    return [Row(conversation) for conversation in batch]


@dataclass
class Timed:
    """A monitor that takes ``fixed`` and ``seconds`` for a token, on a clock of its own."""

    seconds: float = 0.001
    fixed: float = 0.02
    now: float = 0.0
    calls: list = field(default_factory=list)

    def score(self, conversations):
        sizes = [len(row) for row in render(conversations)]
        self.calls.append(sizes)
        self.now += self.fixed + self.seconds * sum(sizes)
        return [Verdict("c", False, 0.5, 0.5, 0.5, 0.01, (), ())] * len(conversations)


@pytest.fixture
def timed(monkeypatch):
    monitor = Timed()
    monkeypatch.setattr("offmap.gateway.reading.time.perf_counter", lambda: monitor.now)
    return monitor


def reader(monitor, seconds=0.25, rendered=render, **limits):
    return Reader(monitor, rendered, Limits(**limits), seconds=seconds)


def text(tokens, tools=0):
    offered = (Tool("f", "", "x" * 3 * tools),) if tools else ()
    return Reading(Conversation("c", (Message("user", "a" * 3 * tokens),), tools=offered))


def known(timed, **options):
    """A reader that knows the pace."""
    reads = reader(timed, **options)
    for tokens in (20, 40, 80, 100):
        reads.read([text(tokens)])
    reads.read([text(90), text(90)])
    timed.calls.clear()
    return reads


def test_a_call_is_about_as_much_as_is_read_in_its_time(timed):
    reads = known(timed)
    reads.read([text(90) for _ in range(8)])
    assert timed.calls.pop() == [90, 90]
    reads.read([text(10) for _ in range(8)])
    assert timed.calls.pop() == [10] * 8
    reads.read([long := text(400)])
    while not long.read:
        reads.read([long])
    assert len(timed.calls) > 2
    assert max(map(sum, timed.calls)) <= 250
    assert min(map(sum, timed.calls[:-1])) > 150
    assert long.verdict.p_value == 1.0


def test_what_has_no_turn_in_a_call_has_one_later(timed):
    reads = known(timed)
    batch = [text(90) for _ in range(8)]
    reads.read(batch)
    assert [each.read for each in batch] == [True] * 2 + [False] * 6
    while not all(each.read for each in batch):
        reads.read([each for each in batch if not each.read])
    assert timed.calls == [[90, 90]] * 4


def test_what_is_always_short_comes_to_share_calls(timed):
    """Each call takes more than its time, whatever it is about: then it had better be about much."""
    timed.fixed, timed.seconds = 0.5, 0.0
    reads = reader(timed)
    reads.read([text(30)])
    for _ in range(4):
        reads.read([text(30) for _ in range(8)])
    assert [len(call) for call in timed.calls] == [1, 2, 4, 8, 8]


def test_each_gets_a_window_before_any_gets_two_and_a_call_no_more_than_it_may_have(timed):
    reads = reader(timed, seconds=100.0, max_batch=4)
    batch = [text(40), text(250)]
    reads.read(batch)
    assert [len(call) for call in timed.calls] == [4]
    assert [len(each.verdicts) for each in batch] == [1, 3]


def test_one_that_is_long_is_cut_in_a_call(timed):
    """To cut one takes as long as to read some of it."""
    reads = reader(timed, seconds=100.0)
    batch = [text(10), text(300), text(300), text(20)]
    reads.read(batch)
    assert [each.windows is None for each in batch] == [False, False, True, True]
    assert [each.read for each in batch] == [True, True, False, False]
    reads.read(batch[2:])
    assert [each.read for each in batch] == [True, True, True, False]


def test_what_is_left_is_what_is_not_read_yet_with_the_tools(timed):
    reads = known(timed, max_batch=1)
    long = text(300)
    assert reads.left(long) == 300
    reads.read([long])
    left = reads.left(long)
    assert 200 <= left < 300
    reads.read([long])
    assert reads.left(long) < left
    assert reads.left(text(10, tools=500)) > 500
    reads.read([tooled := text(10, tools=200)])
    assert reads.left(tooled) > 100


def test_who_takes_no_longer_for_more_text_is_given_all(timed):
    """A judge behind an endpoint grades several as fast as one."""
    timed.seconds = 1.0
    reads = reader(timed, rendered=None)
    for _ in range(3):
        reads.read([text(100), text(10)])
    reads.read([text(1000) for _ in range(8)])
    assert len(timed.calls[-1]) == 8
    assert reads.left(text(1000)) == reads.left(text(1)) == 0


def test_a_call_that_fails_has_read_nothing(timed):
    reads = reader(timed, max_batch=2)
    reads.read([long := text(300)])
    left = len(long.left)
    timed.score = lambda conversations: 1 / 0
    with pytest.raises(ZeroDivisionError):
        reads.read([long, text(10)])
    assert len(long.left) == left > 0


def test_calls_about_nothing_tell_nothing_of_the_pace(timed):
    reads = known(timed, max_windows=2)
    for _ in range(80):
        reads.read([over := text(5000)])
    assert (over.read, over.verdict, timed.calls) == (True, None, [])
    reads.read([text(90) for _ in range(8)])
    assert timed.calls == [[90, 90]]


def test_no_template_leaves_out_what_stands_between_tags_of_reasoning():
    """Every character stands where it stood, so that spans hold."""
    asked = Message("user", "<think>a</think>b </THINK> I think> so")
    seen = laid_open(Conversation("c", (asked, Message("assistant", "plain"))))
    assert [len(each.content) for each in seen.messages] == [len(asked.content), 5]
    assert "<think>" not in seen.messages[0].content
    assert "</think>" not in seen.messages[0].content
    assert seen.messages[0].content.endswith("b </THINK> I think> so")
    call = ToolCall("look</think>", '{"q": "</think> ok"}')
    tool = Tool("look", "what <think> does", '{"title": "<think>"}')
    seen = laid_open(Conversation("c", (Message("assistant", "before", (call,)),), tools=(tool,)))
    assert "before" in seen.messages[0].text
    assert len(seen.messages[0].text) == len(Message("assistant", "before", (call,)).text)
    assert "<" not in repr(seen)
    escaped = Tool("look", parameters='{"a": "<\\/think>", "b": "\\u003cthink>"}')
    seen = laid_open(Conversation("c", (Message("user", "plain"),), tools=(escaped,)))
    assert json.loads(seen.tools[0].parameters) == {"a": "(/think>", "b": "(think>"}
    plain = Conversation("c", (Message("user", "plain", (ToolCall("look"),)),), tools=(Tool("look"),))
    assert laid_open(plain) is plain
