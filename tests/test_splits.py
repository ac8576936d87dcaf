"""Splits: disjoint, by group, and independent of what else is there."""

from offmap.conversation import Conversation, Message
from offmap.splits import FRACTIONS, split


def row(number: int, pair: str = "", unsafe: bool = False) -> Conversation:
    asked = Message("user", f"question {number}")
    return Conversation(f"row-{number}", (asked, Message("assistant", "answer")), unsafe=unsafe, pair=pair)


def places(rows, **options):
    dealt = split(rows, **options)
    return {r.id: name for name in ("fit", "calibrate", "threshold") for r in getattr(dealt, name)}


def test_every_row_has_one_place_and_shares_are_as_asked():
    rows = [row(i) for i in range(4000)]
    dealt = split(rows, seed=1)
    parts = [dealt.fit, dealt.calibrate, dealt.threshold]
    assert sorted(r.id for part in parts for r in part) == sorted(r.id for r in rows)
    for part, share in zip(parts, FRACTIONS, strict=True):
        assert abs(len(part) / len(rows) - share) < 0.03


def test_a_place_depends_on_no_other_row():
    rows = [row(i) for i in range(200)]
    whole = places(rows)
    assert places(rows[50:60]) == {r.id: whole[r.id] for r in rows[50:60]}
    assert places(rows[::-1]) == whole


def test_twins_and_equal_questions_stay_together():
    twins = [row(i, pair=f"pair-{i // 2}") for i in range(400)]
    dealt = places(twins)
    assert all(dealt[f"row-{i}"] == dealt[f"row-{i + 1}"] for i in range(0, 400, 2))
    asked = Conversation("again", (Message("user", "question 7"), Message("assistant", "other")), unsafe=True)
    assert len({places([row(7), asked])[name] for name in ("row-7", "again")}) == 1


def test_a_talk_and_its_own_beginning_stay_together():
    for i in range(40):
        asked = Message("user", f"How do I get to the station number {i}?")
        short = Conversation("short", (asked, Message("assistant", "By bus.")), unsafe=False)
        onward = (*short.messages, Message("user", f"And back at {i}?"), Message("assistant", "By tram."))
        dealt = places([short, Conversation("long", (Message("system", "Be brief."), *onward), unsafe=True)])
        assert dealt["short"] == dealt["long"]


def test_what_is_linked_by_pairs_and_openings_stays_together():
    for i in range(40):
        linked = [row(i), row(i, pair=f"pair-{i}"), row(i + 1000, pair=f"pair-{i}"), row(i + 1000)]
        dealt = split([*linked, row(i + 2000)])
        assert sorted(len([r for r in part if r.id != f"row-{i + 2000}"]) for part in
                      (dealt.fit, dealt.calibrate, dealt.threshold)) == [0, 0, 4]  # fmt: skip


def test_rows_that_only_open_alike_are_dealt_one_by_one():
    opening = (Message("user", "hi"), Message("assistant", "Hello! How can I help?"))
    rows = [
        Conversation(f"row-{i}", (*opening, Message("user", f"question {i}"), Message("assistant", "so")), unsafe=False)
        for i in range(60)
    ]
    assert set(places(rows).values()) == {"fit", "calibrate", "threshold"}


def test_another_seed_deals_otherwise():
    rows = [row(i) for i in range(200)]
    assert places(rows, seed=0) != places(rows, seed=1)
