import math
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.conversation import Conversation, Image, Message, Tool, ToolCall
from offmap.errors import InputError
from offmap.evidence import Span
from offmap.gateway.windows import OVERLAP, Window, combine, windows
from offmap.monitor import Verdict


@dataclass
class FakeRow:
    """Two tokens a message and one a character of its text or of a tool's parameters, cut at ``limit``."""

    n: int
    limit: int

    def __len__(self):
        return min(self.n, self.limit)

    @property
    def n_dropped(self):
        return max(0, self.n - self.limit)


def render(limit):
    def count(conversation):
        said = sum(2 + len(message.text) for message in conversation.messages)
        return said + sum(len(tool.parameters) for tool in conversation.tools)

    return lambda batch: [FakeRow(count(conversation), limit) for conversation in batch]


def read(conversation, limit, size=0):
    return list(windows(conversation, render(limit), size))


def covered(window, turn, text):
    """Places of a message's text that are in a window; a piece must be what stands there."""
    places = set()
    for piece in window.pieces:
        if piece.turn == turn:
            said = piece.message.text
            assert text[piece.start : piece.start + len(said)] == said
            places |= set(range(piece.start, piece.start + len(said)))
    return places


def test_what_fits_is_read_as_it_is():
    conversation = Conversation("c", (Message("user", "hello"), Message("assistant", "hi")))
    (window,) = read(conversation, 100)
    assert window.conversation is conversation


messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.text(alphabet="ab \n", max_size=120),
        st.lists(st.builds(ToolCall, st.just("f"), st.text(alphabet='{}"a1 ', max_size=40)), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=5,
).map(tuple)


@given(messages, st.integers(20, 90), st.sampled_from([0, 1]), st.sampled_from([0, 15, 40]))
@settings(max_examples=150, deadline=None)
def test_every_character_is_in_a_window_and_every_window_is_read_whole(said, limit, tools, size):
    tool = (Tool("f", "", '{"type": "object"}'),) * tools
    conversation = Conversation("c", said, tools=tool)
    most = min(size or limit, limit)
    found = read(conversation, limit, size)
    for window in found:
        row = render(10**9)([window.conversation])[0]
        assert len(row) <= most
        assert window.conversation.messages == tuple(piece.message for piece in window.pieces)
        for piece in window.pieces:
            assert piece.turn < 0 or piece.message.role == said[piece.turn].role
    for turn, message in enumerate(said):
        places = set().union(*(covered(window, turn, message.text) for window in found))
        assert places == set(range(len(message.text)))
    if tools:
        shown = [w for w in found if w.conversation.tools or any(p.turn < 0 for p in w.pieces)]
        assert shown


@given(st.integers(200, 1500), st.integers(0, 1400), st.integers(60, 150))
@settings(max_examples=60, deadline=None)
def test_a_short_stretch_is_whole_in_some_window(length, start, limit):
    text = "".join(chr(97 + i % 23) for i in range(length))
    conversation = Conversation("c", (Message("user", text),))
    short = int(OVERLAP * 0.7 * limit) - 2
    start = min(start, length - short)
    wanted = set(range(start, start + short))
    assert any(wanted <= covered(window, 0, text) for window in read(conversation, limit))


def test_windows_are_nearly_full():
    text = "word " * 2000
    found = read(Conversation("c", (Message("user", text),)), 500)
    least = math.ceil(len(text) / 500)
    assert len(found) <= 2 * least


@given(messages, st.integers(20, 90), st.sampled_from([0, 15, 40]))
@settings(max_examples=100, deadline=None)
def test_a_long_conversation_is_cut_as_any_other(said, limit, size):
    conversation = Conversation("c", said)
    whole = read(conversation, limit, size)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("offmap.gateway.windows._BEGINNING", 100)
        found = read(conversation, limit, size)
    for turn, message in enumerate(said):
        assert set(range(len(message.text))) == set().union(*(covered(window, turn, message.text) for window in found))
    assert all(row.n_dropped == 0 for row in render(limit)([window.conversation for window in found]))
    assert (len(found) == 1) == (len(whole) == 1)


@pytest.mark.parametrize("where", ["user", "system", "tools"])
def test_of_a_megabyte_no_more_is_rendered_than_what_is_read(where):
    """Rendering all of it takes a second in which nobody is answered, and then it has too many windows all the same."""
    rendered = []

    def counting(batch):
        said = [[*(m.text for m in each.messages), *(tool.parameters for tool in each.tools)] for each in batch]
        rendered.extend(sum(map(len, texts)) for texts in said)
        return render(1000)(batch)

    long = "a " * (1 << 19)
    tools = (Tool("f", "", f'{{"type": "object", "description": "{long}"}}'),) if where == "tools" else ()
    spoken = Message(where, long) if where != "tools" else Message("user", "hi")
    conversation = Conversation("c", (spoken, Message("user", "b")), tools=tools)
    found = list(islice(windows(conversation, counting), 17))
    assert len(found) == 17
    assert sum(rendered) < 2 * (1 << 16) + 17 * 4 * 1000
    assert [window.tokens for window in found] == [len(row) for row in render(1000)([w.conversation for w in found])]


def test_of_many_short_messages_no_more_are_rendered_than_are_read():
    rendered = []

    def counting(batch):
        rendered.extend(len(each.messages) for each in batch)
        return render(1000)(batch)

    said = tuple(Message("user", "a" * (n % 2)) for n in range(30_000))
    found = list(islice(windows(Conversation("c", said), counting), 9))
    assert len(found) == 9
    assert sum(rendered) < 8192 + 9 * 4 * 1000
    read = [piece.turn for window in found for piece in window.pieces]
    assert set(read) == set(range(max(read) + 1))


def test_a_long_conversation_that_fits_is_one_window():
    conversation = Conversation("c", (Message("user", "a" * (3 << 16)),))
    (window,) = read(conversation, 1 << 20)
    assert window.conversation is conversation
    assert window.tokens == (3 << 16) + 2


def test_a_short_system_prompt_and_tools_open_every_window():
    tools = (Tool("f", "", '{"a": 1}'),)
    system = Message("system", "Be good.")
    conversation = Conversation("c", (system, Message("user", "long " * 100)), tools=tools)
    for window in read(conversation, 100):
        assert window.conversation.messages[0] == system
        assert window.conversation.tools == tools


def test_long_tools_and_prompts_are_read_as_text_and_not_left_out():
    parameters = '{"description": "' + "x" * 300 + '"}'
    conversation = Conversation("c", (Message("user", "hi"),), tools=(Tool("f", "", parameters),))
    found = read(conversation, 80)
    text = "".join(piece.message.content for window in found for piece in window.pieces if piece.turn < 0)
    assert text.count("x") >= 300
    assert all(window.conversation.tools == () for window in found)


def test_what_is_cut_keeps_its_speaker_and_its_pictures():
    said = Message("assistant", "one two " * 40, (ToolCall("f", '{"a": "' + "z" * 60 + '"}'),), images=(Image("u"),))
    found = read(Conversation("c", (said,)), 90)
    assert len(found) > 3
    assert all(piece.message.images for window in found for piece in window.pieces)
    assert any("<tool_call>" in piece.message.content for window in found for piece in window.pieces)


def test_no_room_at_all_is_told():
    with pytest.raises(InputError, match="no room"):
        read(Conversation("c", (Message("user", "hello there"),)), 2)


def verdict(p, unsafe=None, unknown=None, spans=(), dropped=0):
    return Verdict("c", False, p, unsafe, unknown, 0.01, (), (), spans=spans, n_dropped=dropped)


def two():
    return read(Conversation("c", (Message("user", "first second " * 12),)), 60)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=6))
def test_the_whole_is_as_suspicious_as_its_worst_window_times_their_number(p_values):
    parts = [Window.whole(Conversation("c", (Message("user", str(i)),))) for i in range(len(p_values))]
    found = combine([verdict(*each) for each in p_values], parts)
    for column, name in enumerate(("p_value", "p_unsafe", "p_unknown")):
        wanted = min(1, len(p_values) * min(each[column] for each in p_values))
        assert getattr(found, name) == pytest.approx(wanted)


def test_the_corrected_p_value_is_one_whatever_the_dependence():
    """P(p <= t) <= t for uniform p-values of windows: independent, equal, and excluding each other."""
    rng = np.random.default_rng(3)
    n, count = 3000, 4
    parts = [Window.whole(Conversation("c", (Message("user", "x"),)))] * count
    base = rng.random(n)
    shifted = (base[:, None] + np.arange(count) / count) % 1
    for table in (rng.random((n, count)), np.repeat(base[:, None], count, 1), shifted):
        p = np.array([combine([verdict(float(v)) for v in row], parts).p_value for row in table])
        for cut in (0.01, 0.05, 0.2):
            assert np.mean(p <= cut) <= cut + 4 * np.sqrt(cut * (1 - cut) / n)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_window_without_a_score_leaves_the_whole_without_one(missing):
    parts = [Window.whole(Conversation("c", (Message("user", "x"),)))] * 2
    found = combine([verdict(0.5, 0.5, None), verdict(missing, missing, None)], parts)
    assert math.isnan(found.p_value)
    assert math.isnan(found.p_unsafe)
    assert found.p_unknown is None


def test_dropped_tokens_are_summed_and_spans_are_put_where_they_are_in_the_whole():
    found = two()
    last = len(found) - 1
    start = found[last].pieces[0].start
    marked = Span(0, "user", 2, 7, found[last].pieces[0].message.text[2:7], 4.0)
    verdicts = [verdict(0.5, dropped=i) for i in range(last)] + [verdict(0.001, spans=(marked,))]
    whole = combine(verdicts, found)
    assert whole.n_dropped == sum(range(last))
    (moved,) = whole.spans
    assert (moved.message, moved.start, moved.end) == (0, start + 2, start + 7)
    nobody = [msgspec.structs.replace(marked, message=9)]
    assert combine([verdict(0.1, spans=tuple(nobody))], found[:1]).spans == ()


def test_not_one_verdict_a_window_is_refused():
    found = two()
    for wrong in ([], [verdict(0.5)] * (len(found) + 1)):
        with pytest.raises(ValueError, match="verdicts on"):
            combine(wrong, found)
