import msgspec
from hypothesis import given
from hypothesis import strategies as st

from offmap.conversation import Conversation, Message, Tool, ToolCall
from offmap.evidence import Span
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.pages.evidence import evidence

TALK = Conversation("c", (Message("user", "a bomb, a bomb"), Message("assistant", "no bomb", name="x")))
KEPT = msgspec.json.encode(TALK).decode()


def decided(*spans, monitors=1):
    findings = [Finding(f"m{n}", "v", "scored", fired=("guard",), spans=spans) for n in range(monitors)]
    return Decision("id", 0.0, "response", "escalate", "escalate", "enforced", "r", "p", findings=tuple(findings))


def span(message, start, end, text):
    return Span(message, "user", start, end, text, 1.0)


bounds = st.tuples(st.integers(-2, 20), st.integers(-2, 20))


@given(st.text("ab", max_size=16), st.lists(bounds, max_size=5))
def test_pieces_are_the_text_and_carry_the_marks_of_each_letter(text, places):
    spans = [span(0, low, high, text[max(low, 0) : max(high, 0)]) for low, high in places]
    found = evidence(decided(*spans), msgspec.json.encode(Conversation("c", (Message("user", text),))).decode())
    pieces = found.turns[0].pieces
    assert "".join(piece.text for piece in pieces) == text
    at = 0
    for piece in pieces:
        for letter in range(at, at + len(piece.text)):
            assert set(piece.marks) == {m for m in found.marks if m.start is not None and m.start <= letter < m.end}
        assert set(piece.begins) == {m for m in found.marks if m.start == at and m.end > at}
        at += len(piece.text)
    for mark in found.marks:
        if mark.start is not None:
            assert text[mark.start : mark.end] == mark.span.text != ""
            assert mark.sure == (mark.start == mark.span.start)


def test_marks_are_numbered_as_they_stand_and_those_without_a_place_come_last():
    found = evidence(decided(span(1, 3, 7, "bomb"), span(0, 99, 103, "gone"), span(0, 2, 6, "bomb")), KEPT)
    assert [(m.number, m.turn, m.start, m.sure) for m in found.marks] == [
        (1, 1, 2, True),
        (2, 2, 3, True),
        (3, 1, None, False),
    ]
    assert [(turn.number, turn.role, turn.name, turn.last) for turn in found.turns] == [
        (1, "user", "", False),
        (2, "assistant", "x", True),
    ]
    assert found.marks[0].detectors == ("guard",)


def test_monitors_have_colours():
    found = evidence(decided(span(0, 2, 6, "bomb"), monitors=6), KEPT)
    assert [(m.monitor, m.hue) for m in found.marks] == [(f"m{n}", n % 4) for n in range(6)]


def test_in_redacted_text_a_mark_is_where_its_words_are_nearest():
    found = evidence(decided(span(0, 7, 11, "bomb"), span(0, 3, 8, "bomb"), span(0, 0, 4, "[redacted]")), KEPT)
    placed = [(m.span.start, m.start, m.end, m.sure) for m in found.marks]
    assert placed == [(3, 2, 6, False), (7, 10, 14, False), (0, None, None, False)]


def test_without_content_there_are_marks_and_no_turns():
    found = evidence(decided(span(1, 3, 7, "")), None)
    assert (found.turns, found.raw) == ((), "")
    assert [(m.turn, m.start) for m in found.marks] == [(2, None)]


def test_a_mark_in_a_message_that_is_not_there_has_no_place():
    for message in (-1, 2, 10**6):
        assert evidence(decided(span(message, 0, 4, "bomb")), KEPT).marks[0].start is None


def test_places_count_in_calls_too_and_tools_are_named():
    talk = Conversation("c", (Message("assistant", "x", (ToolCall("run", '{"bomb": 1}'),)),), tools=(Tool("run"),))
    at = talk.messages[0].text.index("bomb")
    found = evidence(decided(span(0, at, at + 4, "bomb")), msgspec.json.encode(talk).decode())
    assert (found.marks[0].start, found.marks[0].sure, found.tools) == (at, True, ("run",))


def test_what_is_no_conversation_is_given_as_it_is():
    for kept in ("[1]", '{"messages": 3}', "not json"):
        found = evidence(decided(span(0, 0, 1, "x")), kept)
        assert (found.raw, found.turns, found.marks[0].start) == (kept, (), None)
