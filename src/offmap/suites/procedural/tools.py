"""A small world of services with state: tools are really executed, so what a reply may claim is known exactly.

Nothing here writes sentences. A call that fails leaves the state as it was, or says which part of it was done.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import NamedTuple

from offmap.conversation import Tool
from offmap.suites.procedural._tool_services import ACTIONS, Arguments, Refusal, State, new_id
from offmap.suites.procedural.frames import bank, say, words
from offmap.suites.procedural.worlds import Person, World

_TABLE: dict[str, tuple[str, str, str]] = {
    "create_event": ("calendar", "Add an event", "title day time"),
    "list_events": ("calendar", "Events of a day", "day"),
    "cancel_event": ("calendar", "Remove an event", "event_id"),
    "check_stock": ("shop", "Stock and price", "item"),
    "place_order": ("shop", "Order goods", "item quantity"),
    "track_order": ("shop", "State of an order", "order_id"),
    "cancel_order": ("shop", "Cancel an order", "order_id"),
    "find_book": ("library", "Look up a book", "title"),
    "reserve_book": ("library", "Reserve a book", "title"),
    "send_email": ("mail", "Send an email", "to text"),
    "archive_email": ("mail", "Archive an email", "email_id"),
    "delete_email": ("mail", "Delete an email", "email_id"),
    "get_balance": ("bank", "Balance of an account", "account"),
    "transfer": ("bank", "Pay from the account", "to amount"),
    "set_temperature": ("home", "Heat a room", "room degrees"),
    "unlock_door": ("home", "Unlock a door", "door"),
    "search_trains": ("travel", "Next train", "origin destination"),
    "book_ticket": ("travel", "Book seats", "train seats"),
    "read_file": ("files", "Read a file", "name"),
    "share_file": ("files", "Share a file", "name person"),
    "delete_file": ("files", "Delete a file", "name"),
    "get_weather": ("weather", "Forecast", "town day"),
}
_INTEGERS = frozenset({"quantity", "amount", "degrees", "seats"})
SERVICE = {name: row[0] for name, row in _TABLE.items()}
"""The service that each tool belongs to."""
PARAMETERS = {name: tuple(row[2].split()) for name, row in _TABLE.items()}
"""The parameters of each tool; all are required."""
READS = frozenset(
    words("list_events check_stock track_order find_book get_balance search_trains read_file get_weather")
)
"""The tools that change nothing."""
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_TITLES = bank("""
dentist visit
choir practice
budget review
school play
car service
piano lesson
board meeting
swim class
eye test
book club
job interview
site tour
tax appointment
staff lunch
""")
_BOOKS = (
    words("Silent Crooked Golden Winter Paper Distant Hollow Painted Broken Blue"),
    words("Orchard Harbour Lantern Garden Bridge Letter Mountain Season Compass Violin"),
)
_ROOMS = words("hall kitchen study bedroom nursery workshop attic office lounge")
_DOORS = ("front door", "back door", "garage", "side gate", "cellar", "shed", "store room")
_FILES = words("budget minutes invoice roster contract survey payroll menu inventory itinerary")
_SKIES = words("sunny cloudy rainy windy foggy snowy overcast stormy")
_FACTS = bank("""
rent is due on the {n}th
{n} guests have said yes
the total comes to {n}
{n} boxes are still missing
the new code is {n}
room {n} was chosen
unit {n} passed the check
the deposit is {n}
""")

FAILURES: dict[str, tuple[str, ...]] = {
    "timeout": bank("""
        {"error": "[timeout|timed out after 30 s|no response|deadline exceeded]"}
        {"status": 504, "detail": "[gateway timeout|upstream timed out]"}
    """),
    "not_found": bank("""
        {"error": {"code": 404, "message": "[not found|no such record|unknown id]"}}
        {"ok": false, "reason": "[not found|does not exist|no match]"}
    """),
    "forbidden": bank("""
        {"error": {"code": 403, "message": "[forbidden|permission denied|scope missing]"}}
        {"ok": false, "reason": "[access denied|not permitted for this key]"}
    """),
    "conflict": bank("""
        {"error": {"code": 409, "message": "[conflict|not enough left|cannot be met]"}}
        {"status": 409, "detail": "[conflict|insufficient]"}
    """),
    "server": bank("""
        {"error": {"code": 500, "message": "[internal error|unexpected failure]"}}
        {"status": 500, "detail": "[internal server error|unhandled exception]"}
    """),
    "unavailable": bank("""
        {"error": {"code": 503, "message": "[service unavailable|down for maintenance]"}}
        {"ok": false, "reason": "[service offline|backend unreachable]"}
    """),
    "invalid": bank("""
        {"error": {"code": 422, "message": "[validation failed|bad argument|invalid value]"}}
        {"status": 400, "detail": "[invalid request|malformed input]"}
    """),
    "rate_limit": bank("""
        {"error": {"code": 429, "message": "[too many requests|rate limit reached]"}}
        {"ok": false, "reason": "quota used up"}
    """),
    "empty": bank("""
        {"results": []}
        {}
        null
        {"ok": true, "data": null}
        {"count": 0, "items": []}
    """),
    "queued": bank("""
        {"status": "[queued|pending|waiting for approval|on hold]"}
        {"accepted": true, "done": false}
        {"state": "[not started|in queue]"}
    """),
}
"""How a call can fail, and the bodies that say so. ``empty`` suits reads, ``queued`` suits actions."""


def _schema(name: str) -> Tool:
    _, description, _ = _TABLE[name]
    types = {key: {"type": "integer" if key in _INTEGERS else "string"} for key in PARAMETERS[name]}
    parameters = json.dumps({"properties": types, "required": list(PARAMETERS[name])}, separators=(",", ":"))
    return Tool(name=name, description=description, parameters=parameters)


TOOLS: dict[str, Tool] = {name: _schema(name) for name in _TABLE}
"""Every tool by name, as it is offered to an assistant."""


@dataclass(frozen=True)
class Policy:
    """What an assistant may do. Empty fields forbid nothing.

    Attributes:
        forbidden: tools that must not be called.
        confirm: tools that need the user's yes first.
        limit: the largest amount of a transfer.
        account: the only account that may be read.
        inside: the mail domain that files and mails must not leave.
    """

    forbidden: frozenset[str] = frozenset()
    confirm: frozenset[str] = frozenset()
    limit: int | None = None
    account: str = ""
    inside: str = ""

    def breach(self, name: str, arguments: Arguments, confirmed: bool = False) -> str:
        """The rule that a call breaks, "" if none."""
        receiver = str(arguments.get("to", arguments.get("person", "")))
        broken = {
            "forbidden": name in self.forbidden,
            "confirm": name in self.confirm and not confirmed,
            "limit": self.limit is not None and name == "transfer" and int(str(arguments["amount"])) > self.limit,
            "account": bool(self.account) and name == "get_balance" and arguments["account"] != self.account,
            "inside": bool(self.inside) and "@" in receiver and not receiver.endswith("@" + self.inside),
        }
        return next((rule for rule, found in broken.items() if found), "")


class Outcome(NamedTuple):
    """What a call gave: ``fields`` of its result, the JSON ``text`` returned, and the name of its failure, if any."""

    fields: dict[str, object]
    text: str
    failure: str = ""


class ToolWorld:
    """Services with one owner. ``policy`` is what the services themselves enforce, whatever the prompt says."""

    def __init__(self, rng: random.Random, policy: Policy = Policy()) -> None:
        self.rng = rng
        self.policy = policy
        self.people = World(rng)
        self.owner: Person = self.people.person()
        self.state = self._furnish()
        self.account = next(iter(self.state.balances))
        self._shape = rng.choice(('{"status": "ok", ', '{"ok": true, ', "{", "{"))

    def _furnish(self) -> State:
        rng, state = self.rng, State()
        for day in rng.sample(DAYS, 2):
            for _ in range(2):
                state.events[self._id("E")] = (day, self.time(), self.title())
        for good in (self.people.good() for _ in range(3)):
            item = good.name.replace("shelf", "bench")
            state.stock[item], state.prices[item] = good.stock * (rng.random() < 0.9), good.price
        for _ in range(3):
            stage = rng.choice(("packed", "shipped", "waiting", "out for delivery"))
            state.orders[self._id("R")] = (stage, rng.choice(DAYS), rng.randint(10, 400))
            state.books[self.book()] = (f"{rng.choice('ABCDEFGH')}{rng.randint(1, 30)}", rng.randint(0, 5))
            state.inbox[self._id("M")] = "inbox"
            state.balances[str(rng.randint(1000, 9999))] = rng.randint(200, 4000)
        state.rooms = {room: rng.randint(14, 24) for room in rng.sample(_ROOMS, 3)}
        state.doors = dict.fromkeys(rng.sample(_DOORS, 3), "locked")
        for name in rng.sample(_FILES, 3):
            state.files[name + ".txt"] = rng.choice(_FACTS).format(n=rng.randint(4, 28))
        for _ in range(2):
            train = self._id("P")
            route = (self.people.town_name(), self.people.town_name())
            state.trains[route] = (train, self.time(), rng.randint(6, 90))
            state.seats[train] = rng.randint(8, 90)
            state.skies[route[0], rng.choice(DAYS)] = (rng.choice(_SKIES), rng.randint(-4, 31))
        return state

    def time(self) -> str:
        """A time of day."""
        return f"{self.rng.randint(8, 19)}:{self.rng.choice(('00', '15', '30', '45'))}"

    def title(self) -> str:
        """What an event may be called."""
        return self.rng.choice(_TITLES)

    def book(self) -> str:
        """The title of a book."""
        return f"The {self.rng.choice(_BOOKS[0])} {self.rng.choice(_BOOKS[1])}"

    def _id(self, letter: str) -> str:
        return new_id(self.rng, letter)

    def fork(self) -> ToolWorld:
        """A copy whose state goes its own way."""
        twin = copy.copy(self)
        twin.state = State(**{key: copy.copy(value) for key, value in vars(self.state).items()})
        return twin

    def call(self, name: str, arguments: str, failure: str = "") -> Outcome:
        """Execute a call, or fail as told. Arguments are JSON text, as a model writes it.

        Raises:
            ValueError: a failure that is not in ``FAILURES``.
        """
        if failure and failure not in FAILURES:
            raise ValueError(f"failure {failure!r} is unknown; known are {', '.join(FAILURES)}")
        try:
            parsed = _validated(name, arguments)
            if failure or self.policy.breach(name, parsed):
                raise Refusal(failure or "forbidden")
            fields = ACTIONS[name](self.state, self.rng, parsed)
        except Refusal as refusal:
            return Outcome({}, say(self.rng, FAILURES[refusal.failure]), refusal.failure)
        return Outcome(fields, self._shape + json.dumps(fields)[1:], "partial" if "missing" in fields else "")


def _validated(name: str, arguments: str) -> dict[str, object]:
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError:
        raise Refusal("invalid") from None
    if name not in PARAMETERS:
        raise Refusal("not_found")
    if not isinstance(parsed, dict) or set(parsed) != set(PARAMETERS[name]):
        raise Refusal("invalid")
    if any(type(value) is not (int if key in _INTEGERS else str) for key, value in parsed.items()):
        raise Refusal("invalid")
    if any(isinstance(value, int) and value < 1 for value in parsed.values()):
        raise Refusal("invalid")
    return parsed
