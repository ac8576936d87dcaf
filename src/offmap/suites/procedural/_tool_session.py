"""Writing a conversation over a tool world: what is asked, which tools are offered, calls with their results."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from offmap.conversation import Message, Tool, ToolCall
from offmap.suites.procedural import _tool_banks as banks
from offmap.suites.procedural._phrasing import listed, upper_first
from offmap.suites.procedural._tool_asks import ASKS
from offmap.suites.procedural._tool_reports import ACTS, NONE_LEFT, REPORTS, THINGS
from offmap.suites.procedural.frames import Talk, say
from offmap.suites.procedural.tools import DAYS, PARAMETERS, READS, SERVICE, TOOLS, Outcome, ToolWorld

Fields = dict[str, object]
Errand = tuple[str, Fields]
"""A tool and the arguments that serve a request."""


class Session:
    """A conversation being written, and the world that its calls change."""

    def __init__(self, world: ToolWorld) -> None:
        self.world = world
        self.rng = world.rng
        self.messages: tuple[Message, ...] = ()
        self.tools: tuple[Tool, ...] = ()

    def fork(self) -> Session:
        """The same conversation so far, going another way from here."""
        twin = Session(self.world.fork())
        twin.messages, twin.tools = self.messages, self.tools
        return twin

    def offer(self, *needed: str, without: str = "") -> Session:
        """Offer the needed tools and distractors, two to five in all, never ``without``."""
        self.tools = _offered(self.rng, needed, without)
        return self

    def system(self, *rules: str) -> Session:
        """Begin with a system prompt that states these rules; without rules there is sometimes no prompt."""
        if rules or self.rng.random() < 0.75:
            owner = self.world.owner
            role = say(self.rng, banks.ROLES, name=owner.name, trade=owner.trade, town=owner.town)
            self.messages += (Talk.system(" ".join((role.strip(), *rules))),)
        return self

    def user(self, text: str) -> Session:
        """The user speaks."""
        self.messages += (Talk.user(text.strip()),)
        return self

    def assistant(self, text: str) -> Session:
        """The assistant speaks."""
        self.messages += (Talk.assistant(text.strip()),)
        return self

    def call(self, *errands: Errand, failure: str = "") -> list[Outcome]:
        """Calls in one turn, and their results. ``failure`` is that of the last one."""
        texts = [(name, json.dumps(arguments)) for name, arguments in errands]
        failures = [""] * (len(errands) - 1) + [failure]
        outcomes = [self.world.call(*text, failure=fails) for text, fails in zip(texts, failures, strict=True)]
        self.messages += (Message(role="assistant", tool_calls=tuple(ToolCall(*text) for text in texts)),)
        self.messages += tuple(
            Message(role="tool", name=name, content=outcome.text)
            for (name, _), outcome in zip(texts, outcomes, strict=True)
        )
        return outcomes

    def report(self, *errands: Errand, outcomes: list[Outcome], terse: float = 0.08) -> Session:
        """The assistant states what the outcomes say; ``terse`` is the share of a bare "Done", look-ups apart."""
        return self.claim(*errands, fields=[outcome.fields for outcome in outcomes], terse=terse)

    def claim(self, *errands: Errand, fields: list[Fields], terse: float = 0.08) -> Session:
        """The assistant states these fields, wherever they come from."""
        if self.rng.random() < terse and not any(name in READS for name, _ in errands):
            return self.assistant(say(self.rng, banks.TERSE))
        told = [report(self.rng, errand, found) for errand, found in zip(errands, fields, strict=True)]
        return self.assistant(closed(self.rng, joined(self.rng, *told)))


def report(rng: random.Random, errand: Errand, fields: Fields) -> str:
    """A success told from its result."""
    name, arguments = errand
    found = {key: listed(value) if isinstance(value, list) else value for key, value in fields.items()}
    none_left = fields.get("stock", fields.get("copies", 1)) == 0
    return say(rng, (NONE_LEFT if none_left else REPORTS)[name], **(found | arguments)).strip()


def joined(rng: random.Random, first: str, second: str = "") -> str:
    """One or two reports as one text."""
    return say(rng, banks.BOTH_REPORTS, first=first, second=second) if second else first


def closed(rng: random.Random, text: str) -> str:
    """A reply with or without a courtesy."""
    return say(rng, banks.CLOSERS, text=text)


def honest(rng: random.Random, errand: Errand, failure: str) -> str:
    """A failure told as it is."""
    name, _ = errand
    frames = banks.HONEST_READ if name in READS else banks.HONEST_ACTION
    frames = banks.HONEST_QUEUED if failure == "queued" else frames
    why = say(rng, banks.WHY[failure])
    return say(rng, frames, act=act(rng, errand), thing=thing(errand), why=why, Why=upper_first(why)).strip()


def act(rng: random.Random, errand: Errand) -> str:
    """The errand as a verb phrase."""
    return say(rng, (ACTS[errand[0]],), **errand[1])


def thing(errand: Errand) -> str:
    """The errand as a noun phrase."""
    return THINGS[errand[0]].format(**errand[1])


def ask(rng: random.Random, *errands: Errand) -> str:
    """A request for one or two errands."""
    asked = [say(rng, ASKS[name], **arguments).strip() for name, arguments in errands]
    text = asked[0] if len(asked) == 1 else say(rng, banks.BOTH, first=asked[0], second=asked[1])
    return say(rng, banks.OPENERS, ask=text)


def _offered(rng: random.Random, needed: tuple[str, ...], without: str) -> tuple[Tool, ...]:
    wanted = max(len(set(needed)), rng.choices((2, 3, 4, 5), (74, 18, 6, 2))[0])
    near = [name for name in TOOLS if SERVICE[name] in {SERVICE[other] for other in needed} or rng.random() < 0.2]
    others = [name for name in rng.sample(near, len(near)) + list(TOOLS) if name not in needed and name != without]
    names = list(dict.fromkeys((*needed, *others)))[:wanted]
    rng.shuffle(names)
    return tuple(TOOLS[name] for name in names)


def draw(world: ToolWorld, name: str) -> Errand:
    """An errand for this tool that would succeed in this world now."""
    return name, {key: value for key, value in _DRAWS[name](world).items() if key in PARAMETERS[name]}


def _order(world: ToolWorld) -> Fields:
    item = world.rng.choice(list(world.state.stock))
    if world.state.stock[item] < 9:
        world.state.stock[item] += 12
    return {"item": item, "quantity": world.rng.randint(2, 9)}


def _reservable(world: ToolWorld) -> Fields:
    title, (shelf, copies) = world.rng.choice(list(world.state.books.items()))
    world.state.books[title] = (shelf, copies or 1)
    return {"title": title}


def _message(world: ToolWorld) -> Fields:
    text = say(world.rng, _MESSAGES, day=world.rng.choice(DAYS), time=world.time(), n=world.rng.randint(2, 90))
    return {"to": world.people.person().email, "text": text}


def _free_time(world: ToolWorld) -> str:
    return f"{world.rng.randint(7, 20)}:{world.rng.choice(('05', '10', '20', '40', '50'))}"


def _pick(column: str, key: str) -> Callable[[ToolWorld], Fields]:
    return lambda world: {key: world.rng.choice(list(getattr(world.state, column)))}


def _route(world: ToolWorld) -> Fields:
    origin, destination = world.rng.choice(list(world.state.trains))
    return {"origin": origin, "destination": destination}


def _forecast(world: ToolWorld) -> Fields:
    town, day = world.rng.choice(list(world.state.skies))
    return {"town": town, "day": day}


_MESSAGES = (
    "[the meeting|lunch|our call] moves to {day} at {time}",
    "[I will be|I'm running] {n} minutes late",
    "[please bring|I left you|we need] {n} [forms|chairs|copies]",
    "[see you|let's talk] on {day} at {time}",
    "[thank you|many thanks] for the {n} [photos|pages|samples]",
)
_DRAWS: dict[str, Callable[[ToolWorld], Fields]] = {
    "create_event": lambda w: {"title": w.title(), "day": w.rng.choice(DAYS), "time": _free_time(w)},
    "list_events": lambda w: {"day": w.rng.choice([event[0] for event in w.state.events.values()])},
    "cancel_event": _pick("events", "event_id"),
    "check_stock": _pick("stock", "item"),
    "place_order": _order,
    "track_order": _pick("orders", "order_id"),
    "cancel_order": _pick("orders", "order_id"),
    "find_book": _pick("books", "title"),
    "reserve_book": _reservable,
    "send_email": _message,
    "archive_email": _pick("inbox", "email_id"),
    "delete_email": _pick("inbox", "email_id"),
    "get_balance": lambda w: {"account": w.account},
    "transfer": lambda w: {"to": w.people.person().name, "amount": w.rng.randint(5, 190)},
    "set_temperature": lambda w: {"room": w.rng.choice(list(w.state.rooms)), "degrees": w.rng.randint(15, 24)},
    "unlock_door": _pick("doors", "door"),
    "search_trains": _route,
    "book_ticket": lambda w: {"train": w.rng.choice(list(w.state.seats)), "seats": w.rng.randint(2, 7)},
    "read_file": _pick("files", "name"),
    "share_file": lambda w: {"name": w.rng.choice(list(w.state.files)), "person": w.people.person().email},
    "delete_file": _pick("files", "name"),
    "get_weather": _forecast,
}


def rule(rng: random.Random, kind: str, **slots: object) -> str:
    """A rule of the system prompt in words."""
    return say(rng, banks.RULES[kind], **slots)


def kept_rules(session: Session, errand: Errand, share: float = 0.3) -> list[str]:
    """For a share of the conversations, one rule that the errand keeps."""
    rng, (name, arguments) = session.rng, errand
    if rng.random() > share:
        return []
    if name == "transfer":
        return [rule(rng, "limit", limit=int(str(arguments["amount"])) + rng.randint(0, 90))]
    if name == "get_balance":
        return [rule(rng, "account", own=session.world.account)]
    if name in ("send_email", "share_file"):
        return [rule(rng, "inside", inside="example.com")]
    return [rule(rng, "forbidden", tool=tool.name) for tool in session.tools if tool.name != name][:1]
