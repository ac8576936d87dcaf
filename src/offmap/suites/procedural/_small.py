"""What conversations hold beside their matter: placeholders, made-up words, system prompts, greetings and thanks."""

from __future__ import annotations

import random

from offmap.conversation import Message
from offmap.suites.procedural.frames import Talk, bank, say, words

SYSTEMS = bank("""
You are a helpful assistant.
You are a [helpful|friendly|careful|patient] assistant. [Answer briefly.|Keep answers short.|Answer in plain words.]
Answer the user's questions as well as you can.
You are {bot}, [an assistant|a chat assistant|a guide] for [everyday questions|people in {town}|home and work].
You are chatting with [a member of the public|a customer|a visitor]. Be [polite|clear|warm] and honest.
""")
GREETINGS = bank("""
Hi! [Are you there?|Got a minute?|Can I ask you something?]
[Hello.|Good morning.|Good evening.|Hey.] I have a question.
Hey, how are you [today|doing]?
I'm {who}, nice to meet you.
""")
GREETED = bank("""
[Hello!|Hi!|Hi there!] [What can I do for you?|How can I help?|What is it about?|What's on your mind?]
[Of course.|Yes, I'm here.|Sure.] [Go ahead.|Ask away.|What would you like to know?]
Good, thanks. And you? What [shall we talk about|brings you here]?
""")
THANKS = bank("""
[Thanks|Thank you|Cheers|Ok thanks]. [That's all.|That's all for now.|Bye!|Talk later.|]
[Ok|Okay|Right|Alright]. [Got it.|I see.|Fine.|Let me think about it.]
Hm. [I'll think about it.|Not what I expected.|Good to know.]
""")
WELCOME = bank("""
You're welcome. [Come back any time.|Have a good day.|Bye!|]
[Alright.|Any time.|Sure.] [Let me know if anything else comes up.|I'm here if you need me.|Take care.]
[Okay.|All right.] [Is there anything else?|Anything else today?]
""")
GAPS = bank("""
that [stuff|thing|bit|part]
the [usual|right|special|other|small|old] [stuff|thing|one|tool|kind|part|bottle|packet]
[something|what you need] from the [shop|shed|cupboard|garage|internet|cellar]
[you-know-what|the needful|whatever works|the thing I mentioned|a thing or two]
[the X part|item B|part two|piece K|step Q|number four]
""")
MARKS = ("[withheld]", "[left out]", "[...]", "[not shown]", "[removed]", "[blank]", "[item]", "[see note]", "[x]")
DASHES = ("...", "____", "---", "***", "(cut)", "(left out)", "<gap>", "xxx", "#####")
_HEADS = words("bl br cr d dr f fl gl gr j k kl m n p pl qu r s sk sl sn t tr v w z")
_TAILS = words("abble agget arrow ellin ibbet iddle imper obbin oggle omple orrel ottle uffin umbat unter uzzle")


def nonsense(rng: random.Random) -> str:
    """A noun that means nothing."""
    return rng.choice(_HEADS) + rng.choice(_TAILS)


def gap(rng: random.Random) -> str:
    """A noun phrase that stands for a detail that is not given: vague words, a mark, dashes or a made-up noun."""
    form = rng.random()
    if form < 0.45:
        return say(rng, GAPS)
    if form < 0.62:
        return rng.choice(MARKS)
    if form < 0.75:
        return rng.choice(DASHES)
    return f"{rng.choice(('the', 'a', 'some', 'your'))} {nonsense(rng)}"


def framed(rng: random.Random, turns: tuple[Message, ...], *, who: str, town: str) -> tuple[Message, ...]:
    """The turns, at times after a system prompt or a greeting and before a word of thanks."""
    before: tuple[Message, ...] = ()
    after: tuple[Message, ...] = ()
    if rng.random() < 0.2:
        before = (Talk.system(say(rng, SYSTEMS, bot=nonsense(rng).title(), town=town)),)
    if rng.random() < 0.12:
        before += (Talk.user(say(rng, GREETINGS, who=who)), Talk.assistant(say(rng, GREETED)))
    if rng.random() < 0.12:
        after = (Talk.user(say(rng, THANKS)), Talk.assistant(say(rng, WELCOME)))
    return before + turns + after


BANKS: tuple[tuple[str, ...], ...] = (SYSTEMS, GREETINGS, GREETED, THANKS, WELCOME, GAPS)
