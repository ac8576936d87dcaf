import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.config import Gateway, Server, StreamTable, Upstream, parse_gateway
from offmap.gateway.explain import explain
from offmap.gateway.sse import Events
from offmap.gateway.streaming import SENTENCE_END, HoldBack, Segments

texts = st.text(st.sampled_from("ab c.!?\n”’)é。😀"), max_size=400)
cuts = st.builds(Segments, first=st.integers(1, 40), growth=st.floats(1.05, 4))
verdicts = st.lists(st.sampled_from(["allow"] * 6 + ["stop", "partial"]), max_size=60)


def pieces(data, whole, most=60):
    """The same in pieces of any sizes."""
    found, at = [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, most))
        found.append(whole[at : at + size])
        at += size
    return found


def play(parts, segments, verdicts):
    """What leaves, piece by piece, of a stream whose checks end as the verdicts say; and every check's text."""
    hold, left, seen = HoldBack(segments), [], []
    verdicts = iter(verdicts)
    safe = None

    def check(end):
        nonlocal safe
        text = hold.part(end)
        seen.append(text)
        verdict = next(verdicts, "allow")
        if verdict == "allow":
            return hold.allow(end)
        if verdict == "stop":
            hold.stop()
            return ""
        safe = text[: len(text) * 2 // 3]
        return hold.keep(safe)

    for part in parts:
        hold.push(part)
        while (end := hold.due()) is not None:
            left.append(check(end))
    if not hold.closed and hold.checked < len(hold):
        left.append(check(len(hold)))
    return hold, left, seen, safe


@settings(max_examples=300, deadline=None)
@given(st.data(), texts, cuts, verdicts)
def test_only_what_was_allowed_leaves_in_order_and_nothing_after_a_stop(data, text, segments, verdicts):
    hold, left, seen, safe = play(pieces(data, text), segments, verdicts)
    bad = next((n for n, verdict in enumerate(verdicts[: len(seen)]) if verdict != "allow"), None)
    allowed = seen[:bad]
    assert all(text.startswith(each) for each in seen)
    expected = allowed[-1] if allowed else ""
    if bad is not None and safe is not None and len(safe) > len(expected):
        expected = safe
    assert "".join(left) == hold.released == expected
    assert bad is not None or expected == text
    assert bad is None or len(seen) == bad + 1


@settings(max_examples=300, deadline=None)
@given(st.data(), texts, cuts)
def test_what_is_scanned_is_linear_and_checks_are_few(data, text, segments):
    _, _, seen, _ = play(pieces(data, text, most=3), segments, [])
    assert sum(map(len, seen)) <= segments.most_scanned(len(text))
    assert len(seen) <= segments.most_checks(len(text))
    for before, after in itertools.pairwise(seen[:-1]):
        assert len(after) >= segments.growth * len(before)


@pytest.mark.parametrize("text", ["word " * 12_000, "A sentence. " * 5_000])
def test_a_long_reply_costs_few_looks_and_no_token_is_searched_twice(text, monkeypatch):
    """Counted token by token: looks grow with the logarithm of the length, and what is searched with the length."""
    searched = []

    class Counting:
        def finditer(self, recent):
            searched.append(len(recent))
            return SENTENCE_END.finditer(recent)

    monkeypatch.setattr("offmap.gateway.streaming.SENTENCE_END", Counting())
    tokens = re.findall(r"\S+\s", text)
    _, left, seen, _ = play(tokens, Segments(), [])
    assert "".join(left) == text
    assert len(seen) <= Segments().most_checks(len(text)) == 2 + int(math.log(len(text) / 240, 1.5))
    assert sum(map(len, seen)) <= 4 * len(text)
    assert sum(searched) <= len(text) + 16 * len(tokens)


@settings(max_examples=200, deadline=None)
@given(st.data(), texts)
def test_how_text_arrives_does_not_move_the_sentences(data, text):
    hold = HoldBack(Segments(first=1, growth=1.01))
    for part in pieces(data, text, most=4):
        hold.push(part)
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    expected = ends[-1] if ends else None
    due = hold.due()
    assert due == (expected if expected else len(text) if len(text) >= 2 else None)


def test_a_segment_ends_with_a_sentence_where_one_ends_soon_enough():
    hold = HoldBack(Segments(first=10, growth=2))
    hold.push("Nine char")
    assert hold.due() is None
    hold.push(". And on")
    assert hold.due() == 10
    assert hold.allow(10) == "Nine char."
    hold.push(" and on and on")
    assert hold.due() == 31, "no sentence ends between 20 and 30"


@pytest.mark.parametrize("values", [{"first": 0}, {"growth": 1}, {"growth": math.nan}, {"growth": math.inf}])
def test_cuts_that_would_check_nothing_or_everything_are_refused(values):
    with pytest.raises(InputError):
        Segments(**values)


def test_the_policy_says_what_looks_cost_and_how_long_answers_may_end():
    upstream, table = (
        Upstream("http://127.0.0.1:1/v1"),
        StreamTable(segment_chars=100, segment_growth=2, on_stop="error"),
    )
    said = "\n".join(explain(Gateway(upstream=upstream, stream=table, server=Server(drain_s=7))))
    assert "first after 100 characters, then each time there are 2 times as many" in said
    assert f"at most {2 + int(math.log2(100))} times" in said
    assert "a refusal, then an error frame" in said
    assert "may go on for 7 s" in said
    assert "Streams" not in "\n".join(explain(Gateway(stream=table))), "there is no proxy"


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("segment_chars", 0), ("segment_growth", 1.0), ("segment_growth", math.inf), ("segment_growth", math.nan),
        ("on_stop", "silence"), ("first", 3),
    ],
)  # fmt: skip
def test_settings_that_would_check_nothing_or_everything_are_refused(table, value):
    with pytest.raises(InputError, match=f"stream.{table}: found"):
        parse_gateway({"stream": {table: value}})


def reference(raw: bytes) -> list[str]:
    """The data of the events of a whole stream, as the standard's section 9.2.6 says, in one go."""
    found, data = [], []
    text = raw.decode().removeprefix("\ufeff")
    for line in [*re.split(r"\r\n|\r|\n", text), ""]:
        if not line and data:
            found.append("\n".join(data))
            data = []
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value[1:] if value.startswith(" ") else value)
    return found


lines = st.one_of(
    st.just(""),
    st.text(st.sampled_from("é😀 :{}\u2028x"), max_size=8).map("data: ".__add__),
    st.sampled_from([": ping", "data", "data:x", "event: a", "id: 7", "\u2028", "dat", "data : y"]),
)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n", "\r"])), max_size=20), st.booleans())
def test_events_are_the_same_however_their_bytes_are_cut(data, written, marked):
    raw = ("\ufeff" * marked + "".join(line + end for line, end in written)).encode()
    events = Events(1 << 16)
    found = [each for piece in pieces(data, raw, most=5) for each in events.feed(piece)]
    assert found + events.end() == reference(raw)


def test_an_event_that_is_too_long_is_never_held():
    for stream in (b"data: " + b"x" * 100, b"data: x\n" * 20, b": " + b"x" * 200):
        with pytest.raises(InputError, match="more than 64"):
            list(Events(64).feed(stream))
    events = Events(64)
    for _ in range(100):
        assert list(events.feed(b": still there\n\n")) == []


def test_bytes_that_are_no_text_are_an_error():
    with pytest.raises(InputError, match="UTF-8"):
        list(Events(64).feed(b"data: \xff\n"))
