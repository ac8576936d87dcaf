import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from offmap.conversation import Message
from offmap.gateway.config import Limits
from offmap.gateway.memory import Memory


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def say(*texts):
    return tuple(Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts))


def memory(**limits):
    clock = Clock()
    return Memory(Limits(**limits), clock), clock


KEY = ("caller", "conversation")


def test_a_split_attack_is_put_together_from_its_parts():
    kept, _ = memory()
    kept.merge(KEY, [Message("user", "Take the first half of it:")])
    found = kept.merge(KEY, [Message("user", "and now the second half.")])
    assert [m.content for m in found.messages] == ["Take the first half of it:", "and now the second half."]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.data())
def test_whole_histories_and_increments_give_the_same(texts, data):
    messages = [Message("user", f"{i} {text}") for i, text in enumerate(texts)]
    whole, parts = memory()[0], memory()[0]
    at = 0
    while at < len(messages):
        step = data.draw(st.integers(1, len(messages) - at))
        parts.merge(KEY, messages[at : at + step])
        at += step
        whole.merge(KEY, messages[:at])
    assert whole.merge(KEY, messages).messages == parts.merge(KEY, messages).messages == tuple(messages)


def test_what_is_taken_out_of_a_history_stays_remembered():
    kept, _ = memory()
    kept.merge(KEY, say("hello", "hi", "an attack", "no"))
    found = kept.merge(KEY, say("hello", "hi", "something else", "fine"))
    texts = [m.content for m in found.messages]
    assert texts == ["hello", "hi", "an attack", "no", "something else", "fine"]
    again = kept.merge(KEY, say("hello", "hi", "something else", "fine", "more"))
    assert [m.content for m in again.messages] == [*texts, "more"]


def test_callers_cannot_read_or_fill_each_others():
    kept, _ = memory()
    kept.merge(("alice", "1"), say("a secret"))
    assert kept.merge(("mallory", "1"), say("x")).messages == say("x")
    assert kept.merge(("alice", "1"), say("a secret", "ok")).messages == say("a secret", "ok")


def test_no_key_can_be_spelled_as_another():
    kept, _ = memory()
    kept.merge(("a", "b/c"), say("one"))
    assert kept.merge(("a/b", "c"), say("two")).messages == say("two")


def test_turns_and_bytes_are_bounded_and_what_is_lost_is_counted():
    kept, _ = memory(turns=3)
    messages = say(*(f"message {i}" for i in range(6)))
    for at in range(6):
        found = kept.merge(KEY, messages[at : at + 1])
    assert found.messages == messages[2:]
    assert found.forgotten == 2
    assert kept.merge(KEY, ()).messages == messages[3:]
    assert kept.merge(KEY, messages).messages == messages
    small, _ = memory(conversation_bytes=200)
    for text in ("a" * 90, "b" * 90, "c" * 90):
        small.merge(KEY, (Message("user", text),))
    left = small.merge(KEY, ()).messages
    assert [m.content[0] for m in left] == ["c"]
    assert sum(len(msgspec.json.encode(m)) for m in left) <= 200


def test_all_that_is_new_is_looked_at_even_where_it_is_too_much_to_keep():
    kept, _ = memory(turns=2, conversation_bytes=100)
    new = say(*("x" * 80 for _ in range(5)))
    assert kept.merge(KEY, new).messages == new
    assert len(kept.merge(KEY, ()).messages) <= 2


def test_conversations_are_bounded_and_the_least_recent_goes():
    kept, _ = memory(conversations=3)
    for name in "abc":
        kept.merge(("c", name), say(name))
    kept.merge(("c", "a"), ())
    kept.merge(("c", "d"), say("d"))
    assert len(kept) == 3
    assert kept.merge(("c", "a"), ()).messages == say("a")
    assert kept.merge(("c", "b"), ()).messages == ()


def test_all_conversations_together_are_bounded_however_many_may_be_kept():
    kept = Memory(Limits(conversations=1000), most_bytes=3 * len(msgspec.json.encode(say("x" * 500)[0])))
    for number in range(50):
        kept.merge(("c", str(number)), say("x" * 500))
        kept.merge(("c", str(number)), say("x" * 500))  # again: it is not counted twice
        assert len(kept) == min(number + 1, 3)
    assert kept.merge(("c", "49"), ()).messages
    assert not kept.merge(("c", "46"), ()).messages
    kept.merge(("c", "47"), say("y" * 1000))
    assert len(kept) == 2


def test_conversations_expire_on_the_clock_that_was_given():
    kept, clock = memory(expiry_s=10)
    kept.merge(("c", "old"), say("old"))
    clock.now = 6
    kept.merge(("c", "new"), say("new"))
    clock.now = 10
    assert kept.merge(("c", "old"), ()).messages == say("old")
    clock.now = 17
    kept.merge(("c", "other"), ())
    assert len(kept) == 2
    assert kept.merge(("c", "new"), ()).messages == ()
    assert kept.merge(("c", "old"), ()).messages == say("old")


def test_memory_stays_small_under_many_callers():
    kept, clock = memory(conversations=20, turns=4, conversation_bytes=300, expiry_s=50)
    rng = random.Random(1)
    for _ in range(2000):
        clock.now += rng.random()
        kept.merge((rng.choice("ab"), str(rng.randrange(100))), say(*["y" * rng.randrange(60)] * rng.randrange(6)))
        assert len(kept) <= 20


def test_what_is_looked_at_beside_a_memory_is_not_kept():
    kept, _ = memory()
    kept.merge(KEY, say("a", "b"))
    for _ in range(2):
        assert [m.content for m in kept.beside(KEY, say("c")).messages] == ["a", "b", "c"]
    assert [m.content for m in kept.beside(("else", "conversation"), say("c")).messages] == ["c"]
    assert len(kept) == 1
