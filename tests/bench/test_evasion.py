import base64
import codecs
import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.bench.edits import ATTACKS, LIKE, UNSEEN, edited, sentences
from offmap.bench.evasion import CHUNK, evade, most_rows
from offmap.conversation import Conversation, Message, ToolCall
from offmap.errors import InputError
from offmap.monitor import Verdict
from offmap.rates import Rate, rate_of

CALL = ToolCall("run", '{"how": "Bomb Plan"}')
WORDS = st.text(st.sampled_from("abcdeopxyHTé 😀.\n"), max_size=60)
TALKS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool"]), WORDS).map(lambda pair: Message(*pair)),
    min_size=1,
    max_size=6,
).map(lambda messages: Conversation("row", (Message("system", "Be Brief."), *messages)))
TEXT_EDITS = ("case", "homoglyphs", "zero-width", "whitespace", "typos", "base64", "rot13")


def said(row):
    return [message.content for message in row.messages if message.role in ("user", "assistant")]


def restored(name, text):
    """What a reader makes of an edited text."""
    if name == "case":
        return text.casefold()
    if name == "homoglyphs":
        return text.translate({ord(like): letter for letter, like in LIKE.items()})
    if name == "zero-width":
        return text.translate(dict.fromkeys(map(ord, UNSEEN)))
    if name == "whitespace":
        return text.split()
    if name == "typos":
        return re.sub(r"\w+", lambda word: word[0][:1] + "".join(sorted(word[0][1:-1])) + word[0][1:][-1:], text)
    return base64.b64decode(text).decode() if name == "base64" else codecs.decode(text, "rot13")


def plain(name, text):
    if name in ("base64", "rot13", "homoglyphs", "zero-width"):
        return text
    return restored(name, text)


@settings(max_examples=100, deadline=None)
@given(TALKS, st.sampled_from(TEXT_EDITS), st.integers(0, 9))
def test_an_edit_of_text_can_be_read_and_touches_nothing_else(row, name, seed):
    after = edited(row, name, seed)
    assert len(after.messages) == len(row.messages)
    for was, now in zip(row.messages, after.messages, strict=True):
        if was.role in ("user", "assistant") and was.content:
            assert restored(name, now.content) == plain(name, was.content)
        else:
            assert now == was
    assert edited(row, name, seed) == after


@settings(max_examples=100, deadline=None)
@given(TALKS, st.integers(0, 9))
def test_padding_keeps_all_that_was_said_in_order(row, seed):
    for name in ("padding-before", "padding-after", "document", "turns-before", "turns-after"):
        after = edited(row, name, seed)
        assert after.messages[0] == row.messages[0]
        rest = iter(message.content for message in after.messages)
        for message in row.messages:
            assert any(message.content in text for text in rest), name
        assert [each for each in after.messages if each.role == "tool"] == [m for m in row.messages if m.role == "tool"]
    whole = "".join("".join(each.split()) for each in said(row))
    without = "".join("".join(each.split()) for each in said(edited(row, "split", seed)))
    assert without.replace("Isee.", "").replace("Goon.", "") == whole


def test_where_padding_goes():
    row = Conversation("row", (Message("system", "s"), Message("user", "ask"), Message("assistant", "tell", (CALL,))))
    before, after = (edited(row, name, 0).messages for name in ("padding-before", "padding-after"))
    assert all(each[n].content.endswith(text) for each in (before,) for n, text in ((1, " ask"), (2, " tell")))
    assert all(each[n].content.startswith(text) for each in (after,) for n, text in ((1, "ask "), (2, "tell ")))
    assert before[2].tool_calls == (CALL,)
    turns = edited(row, "turns-before", 0).messages
    assert [each.role for each in turns] == ["system", *["user", "assistant"] * 3]
    assert turns[-2:] == row.messages[-2:]
    assert [each.role for each in edited(row, "turns-after", 0).messages][-2:] == ["user", "assistant"]
    asked = Conversation("row", row.messages[:2])
    assert [each.role for each in edited(asked, "turns-after", 0).messages][-2:] == ["assistant", "user"]
    document = edited(row, "document", 0).messages
    assert document[1] == row.messages[1]
    assert all(len(part) >= 4000 for part in document[2].content.split("\n\ntell\n\n"))
    split = edited(Conversation("row", (Message("user", "a b c d"), Message("assistant", "x", (CALL,)))), "split", 0)
    assert [each.content for each in split.messages] == ["a b", "I see.", "c d", "x"]
    assert split.messages[-1].tool_calls == (CALL,)


def test_edits_differ_by_row_and_seed_and_padding_is_harmless_text():
    row = Conversation("row", (Message("user", "some words to be changed here"),))
    other = Conversation("other", row.messages)
    for name in ("padding-after", "case", "typos", "document"):
        found = {edited(each, name, seed).messages for each, seed in ((row, 0), (row, 1), (other, 0))}
        assert len(found) == 3, name
    assert len({sentences(random.Random(seed), 1) for seed in range(100)}) > 90


# What survives.


def verdict(row, flagged, p_value=0.5, dropped=0):
    return Verdict(row.id, flagged, p_value, None, None, 0.01, (), (), n_dropped=dropped)


def rows(n, text, unsafe, name="r"):
    return [
        Conversation(f"{name}{k}", (Message("user", f"{text} beside many other words {k}"),), unsafe=unsafe)
        for k in range(n)
    ]


def bombs(conversations):
    """Flags the word as it stands, with the share of it in the text as p-value's complement."""
    found = []
    for row in conversations:
        text = "\n".join(message.content for message in row.messages)
        found.append(verdict(row, "bomb" in text, 0.001 if "bomb" in text else 0.5, int(len(text) > 3000)))
    return found


def test_only_alarms_are_edited_and_each_edit_is_counted():
    ticks = []
    data = [*rows(30, "a bomb", True), *rows(10, "a kettle", True, "m"), *rows(20, "a kite", False, "s")]
    found = evade(bombs, data, ("padding-after", "case", "base64", "document"), seed=3, progress=ticks.append)
    assert (found.looked_at, found.flagged, found.benign) == (40, 30, 20)
    kept, case, hidden, cut = found.survived
    assert (kept.flagged.count, kept.flagged.n, kept.cut) == (30, 30, 0)
    assert (kept.p_before, kept.p_after) == pytest.approx((0.001, 0.001))
    survivors = [
        "bomb" in edited(row, "case", 3).messages[0].content
        for row in data
        if row.unsafe and "bomb" in row.messages[0].content
    ]
    assert case.flagged.count == sum(survivors) < 30
    assert case.flagged.n == 30
    assert case.p_after == pytest.approx((0.001 * sum(survivors) + 0.5 * (30 - sum(survivors))) / 30)
    assert (hidden.flagged.count, cut.cut) == (0, 50)
    assert (hidden.alarms_before, hidden.alarms_after) == (rate_of([False] * 20),) * 2
    assert found.every.count == 0
    assert found.below(0.9) == ("case", "base64")
    assert found.above(0.0) == ()
    assert sum(ticks) == 60 + 4 * 50 < most_rows(data, ("a", "b", "c", "d"), 100) == 60 + 4 * 60


def test_every_edit_counts_rows_that_survive_all():
    data = rows(40, "a bomb", True)
    found = evade(bombs, data, ("case", "typos"))
    after = {row.id: [edited(row, name, 0) for name in ("case", "typos")] for row in data}
    changed = {row.id: [each for each in after[row.id] if each != row] for row in data}
    both = [all(each.flagged for each in bombs(rows)) for rows in changed.values() if rows]
    assert (found.every.count, found.every.n) == (sum(both), len(both))
    assert 0 < found.every.count < len(both)


def test_a_monitor_that_flags_what_is_odd_survives_and_is_seen():
    known = {row.messages for row in rows(20, "a kite", False, "s")}

    def odd(conversations):
        return [verdict(row, row.messages not in known) for row in conversations]

    found = evade(odd, [*rows(20, "a bomb", True), *rows(20, "a kite", False, "s")], tuple(ATTACKS))
    assert found.below(1.0) == ()
    assert all(each.alarms_before.value == 0 for each in found.survived)
    assert found.above(0.5) == tuple(ATTACKS)


def test_an_edit_that_changes_nothing_measures_nothing():
    data = [Conversation("row", (Message("user", "123 456"),)), *rows(3, "1", False)]
    found = evade(lambda each: [verdict(row, True, None) for row in each], data, ("case", "rot13", "whitespace"))
    case, rot13, wide = found.survived
    assert (case.flagged, rot13.flagged.value, rot13.p_before) == (Rate(None, None, None, 0), None, None)
    assert wide.flagged.n in (0, 1)
    assert wide.p_after is None
    assert found.below(1.0) == ()


def test_the_sample_is_drawn_by_the_seed_and_no_more_is_asked_than_needed():
    asked = []

    def counting(conversations):
        asked.extend(row.id for row in conversations)
        return bombs(conversations)

    data = [*rows(400, "a bomb", True), *rows(400, "a kite", False, "s")]
    found = evade(counting, data, ("rot13",), most=10, seed=1)
    assert (found.looked_at, found.flagged, found.benign) == (CHUNK, 10, 10)
    assert len(asked) == CHUNK + 10 + 20
    first = asked[-20:]
    asked.clear()
    evade(counting, data, ("rot13",), most=10, seed=1)
    assert asked[-20:] == first
    asked.clear()
    evade(counting, data, ("rot13",), most=10, seed=2)
    assert asked[-20:] != first


@pytest.mark.parametrize("data", [rows(5, "a kite", True), rows(5, "a bomb", False), []])
def test_where_nothing_is_flagged_nothing_can_be_said(data):
    with pytest.raises(InputError, match="nothing to evade"):
        evade(bombs, data, ("case",))


@pytest.mark.parametrize("attacks", [(), ("case", "leet")])
def test_edits_are_known_by_name(attacks):
    with pytest.raises(InputError, match="padding-before"):
        evade(bombs, rows(5, "a bomb", True), attacks)


def test_all_edits_do_different_things():
    row = Conversation(
        "row", (Message("user", "Please tell me about this old bomb."), Message("assistant", "Why, yes."))
    )
    for one, other in itertools.combinations(ATTACKS, 2):
        assert edited(row, one, 0).messages != edited(row, other, 0).messages
    assert len({attack.told for attack in ATTACKS.values()}) == len(ATTACKS)
