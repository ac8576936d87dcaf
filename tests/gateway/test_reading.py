from dataclasses import dataclass, field

import pytest

from offmap.conversation import Conversation, Message
from offmap.gateway.config import Limits
from offmap.gateway.reading import Reader, Reading
from offmap.monitor import Verdict


class Row:
    """A token a character, of which a window has room for 100."""

    def __init__(self, conversation):
        self.n = sum(len(message.text) for message in conversation.messages)

    def __len__(self):
        return min(self.n, 100)

    @property
    def n_dropped(self):
        return max(0, self.n - 100)


def render(batch):
    return [Row(conversation) for conversation in batch]


@dataclass
class Timed:
    """A monitor that takes ``seconds`` for a character, on a clock of its own."""

    seconds: float
    now: float = 0.0
    calls: list = field(default_factory=list)

    def score(self, conversations):
        sizes = [len(conversation.messages[0].content) for conversation in conversations]
        self.calls.append(sizes)
        self.now += self.seconds * sum(sizes)
        return [Verdict("c", False, 0.5, 0.5, 0.5, 0.01, (), ())] * len(conversations)


@pytest.fixture
def timed(monkeypatch):
    monitor = Timed(0.001)
    monkeypatch.setattr("offmap.gateway.reading.time.perf_counter", lambda: monitor.now)
    return monitor


def reader(monitor, seconds=0.25, rendered=render, **limits):
    return Reader(monitor, rendered, Limits(**limits), seconds=seconds)


def text(size):
    return Reading(Conversation("c", (Message("user", "a" * size),)))


def test_a_call_is_about_as_much_text_as_is_read_in_its_time(timed):
    reads = reader(timed)
    assert reads.share([text(90)] * 8) == 8  # nothing is known yet
    reads.read([text(40)])
    assert reads.share([text(90)] * 8) == 2
    assert reads.share([text(10)] * 8) == 8
    assert reads.share([text(300), text(10)]) == 0  # the batcher asks about the first in any case
    reads.read([long := text(400)])
    assert reads.share([text(300), text(10)]) == 2  # by now it knows how large a window is
    while long.left:
        reads.read([long])
    assert [sum(call) for call in timed.calls[1:]] == [200, 200, 125]
    assert long.verdict.p_value == 1.0


def test_whoever_reads_faster_is_given_more(timed):
    reads = reader(timed, max_batch=8)
    reads.read([text(100)])
    timed.seconds = 0.00001
    for _ in range(12):
        reads.read([text(100)])
    assert reads.share([text(100)] * 8) == 8
    timed.calls.clear()
    reads.read([text(1000)])
    assert timed.calls == [[100] * 8]


def test_each_gets_a_window_before_any_gets_two_and_a_call_no_more_than_it_may_have(timed):
    reads = reader(timed, seconds=100.0, max_batch=4)
    batch = [text(250), text(50), text(250)]
    reads.read(batch)
    assert timed.calls == [[100, 100, 50, 100]]
    assert [len(each.left) for each in batch] == [2, 0, 3]


def test_who_takes_no_longer_for_more_text_is_given_all(timed):
    """A judge behind an endpoint grades several as fast as one."""
    reads = reader(timed, rendered=None)
    reads.read([text(100)])
    assert reads.share([text(1000)] * 8) == 8


def test_a_call_that_fails_has_read_nothing(timed):
    reads = reader(timed, max_batch=2)
    reads.read([long := text(300)])
    left = len(long.left)
    timed.score = lambda conversations: 1 / 0
    with pytest.raises(ZeroDivisionError):
        reads.read([long, text(10)])
    assert len(long.left) == left > 0
