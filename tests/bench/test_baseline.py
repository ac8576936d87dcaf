"""The bag of words reads whatever a backbone reads."""

import numpy as np
import pytest

from offmap.bench.baseline import bag_of_words
from offmap.conversation import Conversation, Message, Tool, ToolCall


def where(place, word):
    """A conversation that holds ``word`` in one place only."""
    texts = {"system": "be brief", "user": "hello there", "call": "{}", "tool": "weather"} | {place: word}
    messages = (
        Message("system", texts["system"]),
        Message("user", texts["user"]),
        Message("assistant", tool_calls=(ToolCall("look", texts["call"]),)),
    )
    return Conversation(f"{place} {word}", messages, word == "poison", tools=(Tool("look", texts["tool"]),))


@pytest.mark.parametrize("place", ["system", "user", "call", "tool"])
def test_words_are_read_wherever_they_stand(place):
    rows = [where(place, word) for word in ("poison", "garden")] * 4
    first, again = bag_of_words(rows, rows[:2], rows)
    assert first[0] > 0 > first[1]
    np.testing.assert_array_equal(again, np.tile(first, 4))
