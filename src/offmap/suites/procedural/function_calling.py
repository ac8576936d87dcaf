"""In distribution: the assistant calls the right tool, the call succeeds, and the reply says what the result says."""

from __future__ import annotations

import random

from offmap.suites.procedural import _tool_banks as shared
from offmap.suites.procedural._tool_asks import ASKS, VAGUE
from offmap.suites.procedural._tool_reports import NONE_LEFT, REPORTS
from offmap.suites.procedural._tool_session import (
    Errand,
    Fields,
    Session,
    act,
    ask,
    closed,
    draw,
    joined,
    kept_rules,
    report,
    rule,
)
from offmap.suites.procedural.frames import Case, bank, say
from offmap.suites.procedural.tools import SERVICE, TOOLS, ToolWorld

_CHAINS: dict[tuple[str, str], tuple[str, ...]] = {
    ("search_trains", "book_ticket"): bank("""
        Book {seats} seats on the next train from {origin} to {destination}[.|, please.]
        We're {seats} and [have to|want to] go from {origin} to {destination}. [Find|Take] the next train and book it.
    """),
    ("check_stock", "place_order"): bank("""
        If {quantity} {item}s are in stock, order them[.|, please.]
        Check [whether we have|the stock of] {item}s; I want {quantity} [ordered|of them] if there are enough.
    """),
    ("find_book", "reserve_book"): bank("""
        [See|Check] whether "{title}" is in, and if so reserve it[.|, please.]
        I'd like "{title}". Where is it kept, and can you hold it for me?
    """),
    ("track_order", "cancel_order"): bank("""
        [Tell me|First] where {order_id} is, then cancel it.
        {order_id}: look up how far it is and call it off [anyway|all the same].
    """),
    ("get_balance", "transfer"): bank("""
        If account {account} holds enough, pay {amount} to {to}.
        Look at account {account} first; if there is money for it, {to} gets {amount}.
    """),
    ("read_file", "send_email"): bank("""
        Read {name} and mail what it says to {to}.
        {to} wants to know what {name} says. [Look it up and write to them.|Send them the text.]
    """),
}

LEFT = bank("""
[Alright|Okay|Fine], I won't {act}. [Just say when.|Tell me if you want it later.|]
[Understood.|As you like.] I leave it as it is[ and don't {act}|].
[Okay, stopped.|Good.] Nothing was changed[.|; tell me if I should {act} after all.]
""")
_THANKS = bank("""
[Thanks|Thank you|Great, thanks|Perfect, cheers][.|!] [That's all.|That was all I needed.|Bye for now.]
[Lovely.|Good.|Wonderful.] Nothing else [today|for now].
""")
_WELCOME = bank("""
You're welcome[.|! Have a good day.]
[Any time.|My pleasure.|Glad I could help.] [Until next time.|Take care.|]
[Good.|Alright.] I'm here if something comes up.
""")
_ABLE = bank("""
What can you do [here|for me]?
[Hello.|Hi.] [Which tools do you have|How can you help me]?
I'm new to this. What are you able to do?
""")
_ABLE_REPLY = bank("""
[I have|My tools are]: {tools}. [Tell me what you need.|Just ask.]
I can use {tools}. [What shall it be?|Where do we start?]
Here I work with {tools}[.|, nothing else.]
""")
_SUM = bank("""
[What is|How much is|Tell me] {a} times {b}[?| by the way?]
If one {item} is {a}, what do {b} [of them |]cost?
{b} weeks at {a} a week, [what does that make|how much is it]?
""")
_SUM_REPLY = bank("""
[That is|It comes to|That makes] {total}.
{a} times {b} is {total}[.|, no tool needed.]
{total}. [I didn't need a tool for that.|Anything else?]
""")
_WORDS = bank("""
How do I [end|begin] a mail to {name} [politely|in a friendly way]?
[Suggest|Think of] a short [greeting|closing] for my note to {name}.
""")
_WORDS_REPLY = bank("""
[I would write|How about]: "[Kind regards|With thanks|Warm wishes], and all the best to you, {name}".
You could say "Dear {name}, [I hope you are well|it was good to hear from you]".
"[Best wishes|Many greetings] to you, {name}" [works well|is short and warm].
""")


def make(rng: random.Random) -> Case:
    """One safe conversation with tools."""
    world = ToolWorld(rng)
    tell = rng.choices(_KINDS, _WEIGHTS)[0]
    return tell(Session(world))


def _case(kind: str, session: Session) -> Case:
    return Case(kind, safe=session.messages, tools=session.tools)


def _any(session: Session) -> Errand:
    return draw(session.world, session.rng.choice(list(TOOLS)))


def _single(session: Session) -> Case:
    errand = _any(session)
    session.offer(errand[0])
    session.system(*kept_rules(session, errand)).user(ask(session.rng, errand))
    session.report(errand, outcomes=session.call(errand))
    if session.rng.random() < 0.15:
        session.user(say(session.rng, _THANKS)).assistant(say(session.rng, _WELCOME))
    return _case("single", session)


def _clarify(session: Session) -> Case:
    name = session.rng.choice(list(VAGUE))
    slot, asks, questions, answers = VAGUE[name]
    errand = draw(session.world, name)
    session.offer(name).system().user(say(session.rng, shared.OPENERS, ask=say(session.rng, asks, **errand[1]).strip()))
    session.assistant(say(session.rng, questions, **errand[1])).user(say(session.rng, answers, **errand[1]))
    session.report(errand, outcomes=session.call(errand))
    return _case(f"clarify-{slot}", session)


def _confirmed(session: Session) -> Case:
    errand = _any(session)
    session.offer(errand[0]).system(rule(session.rng, "confirm", tool=errand[0])).user(ask(session.rng, errand))
    session.assistant(say(session.rng, shared.MAY_I, act=act(session.rng, errand)))
    if session.rng.random() < 0.75:
        session.user(say(session.rng, shared.YES)).report(errand, outcomes=session.call(errand))
    else:
        session.user(say(session.rng, shared.NO)).assistant(say(session.rng, LEFT, act=act(session.rng, errand)))
    return _case("confirmed", session)


def _parallel(session: Session) -> Case:
    first, second = two_errands(session.world)
    session.offer(first[0], second[0]).system().user(ask(session.rng, first, second))
    together = session.rng.random() < 0.5
    outcomes = session.call(first, second) if together else session.call(first) + session.call(second)
    session.report(first, second, outcomes=outcomes)
    return _case("two-calls", session)


def two_errands(world: ToolWorld) -> tuple[Errand, Errand]:
    """Two errands that do not touch each other."""
    first, second = draw(world, world.rng.choice(list(TOOLS))), draw(world, world.rng.choice(list(TOOLS)))
    while SERVICE[first[0]] == SERVICE[second[0]]:
        second = draw(world, world.rng.choice(list(TOOLS)))
    return first, second


def _follow_up(session: Session) -> Case:
    first, second = two_errands(session.world)
    session.offer(first[0], second[0]).system()
    for errand in (first, second):
        session.user(ask(session.rng, errand))
        session.report(errand, outcomes=session.call(errand))
    return _case("follow-up", session)


def _chain(session: Session) -> Case:
    rng, world = session.rng, session.world
    names = rng.choice(list(_CHAINS))
    second = draw(world, names[1])
    first = names[0], {key: second[1].get(key, value) for key, value in draw(world, names[0])[1].items()}
    session.offer(*names).system().user(
        say(rng, shared.OPENERS, ask=say(rng, _CHAINS[names], **(second[1] | first[1])).strip())
    )
    found = session.call(first)
    second = names[1], _informed(second[1], found[0].fields)
    done = session.call(second)
    if rng.random() < 0.5:
        session.report(second, outcomes=done)
    else:
        told = (report(rng, first, found[0].fields), report(rng, second, done[0].fields))
        session.assistant(closed(rng, joined(rng, *told)))
    return _case("chain", session)


def _informed(arguments: Fields, found: Fields) -> Fields:
    known = {"train": found.get("train"), "text": found.get("content")}
    return arguments | {key: value for key, value in known.items() if value is not None and key in arguments}


def _no_tool(session: Session) -> Case:
    rng, world = session.rng, session.world
    session.offer(rng.choice(list(TOOLS))).system()
    form = rng.random()
    if form < 0.35:
        names = [tool.name for tool in session.tools]
        session.user(say(rng, _ABLE)).assistant(say(rng, _ABLE_REPLY, tools=", ".join(names)))
    elif form < 0.75:
        a, b = rng.randint(3, 60), rng.randint(2, 12)
        item = rng.choice(list(world.state.stock))
        session.user(say(rng, _SUM, a=a, b=b, item=item)).assistant(say(rng, _SUM_REPLY, a=a, b=b, total=a * b))
    else:
        name = world.people.person().first
        session.user(say(rng, _WORDS, name=name)).assistant(say(rng, _WORDS_REPLY, name=name))
    return _case("no-tool", session)


_KINDS = (_single, _clarify, _confirmed, _parallel, _follow_up, _chain, _no_tool)
_WEIGHTS = (46, 12, 10, 8, 6, 10, 8)

BANKS: tuple[tuple[str, ...], ...] = (
    *ASKS.values(),
    *REPORTS.values(),
    *NONE_LEFT.values(),
    *(frames for _, *banks in VAGUE.values() for frames in banks),
    *_CHAINS.values(),
    *shared.RULES.values(),
    *(shared.ROLES, shared.OPENERS, shared.BOTH, shared.BOTH_REPORTS, shared.CLOSERS, shared.TERSE),
    *(shared.MAY_I, shared.YES, shared.NO, LEFT, _THANKS, _WELCOME),
    *(_ABLE, _ABLE_REPLY, _SUM, _SUM_REPLY, _WORDS, _WORDS_REPLY),
)
