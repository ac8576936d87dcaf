"""Which looks are the first at their conversation: the turns of one are alike, and many looks at it are not many rows.

A conversation is known by the caller's id for it. Without one a request goes on with an earlier one where it begins
with all that was asked there, a user's turn among it, and a reply comes later: so later turns are known by what came
before, and what an application sends before every request (a system prompt alone, or with a user's turn that nobody
answered) is no conversation. Two people who begin with the very same words count as one. Memory is bounded: the
conversation that was not seen for longest is forgotten.
"""

from __future__ import annotations

from offmap.conversation import Conversation
from offmap.gateway.decision import Stage

_KEYS = 64
Keys = tuple[int, ...]


def keys(conversation: Conversation, conversation_id: str, caller: str) -> Keys:
    """What a look is known by: its beginnings that were answered, and at last all that was asked.

    Hashes of this process; empty where no user said anything.
    """
    if conversation_id:
        return (hash((caller, conversation_id)),)
    messages = conversation.messages
    asked = next((n for n in range(len(messages), 0, -1) if messages[n - 1].role != "assistant"), len(messages))
    answered = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=0)
    found, so_far, said = [], hash(caller), False
    for n, message in enumerate(messages[:asked], start=1):
        calls = tuple(call.arguments for call in message.tool_calls)
        so_far = hash((so_far, message.role, message.content, calls))
        said = said or message.role == "user"
        if said and (n <= answered or n == asked):
            found.append(so_far)
    return tuple(found) if len(found) <= 2 * _KEYS else (*found[:_KEYS], *found[-_KEYS:])


class Firsts:
    """The conversations that are known, by stage; ``most`` of them at all stages together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[Stage, int], None] = {}

    def __call__(self, stage: Stage, keys: Keys) -> bool:
        """Whether this is the first look at its conversation at that stage; each is that is known by nothing."""
        if not keys:
            return True
        known = next((key for key in keys if (stage, key) in self._known), None)
        place = stage, keys[-1] if known is None else known
        self._known.pop(place, None)
        self._known[place] = None
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return known is None
