"""What each tool does to the state of the services: reads it, changes it, or refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Arguments = Mapping[str, object]
Fields = dict[str, object]


@dataclass
class State:
    """Everything that tools can read or change. Amounts are whole units of money."""

    events: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    stock: dict[str, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    orders: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    books: dict[str, tuple[str, int]] = field(default_factory=dict)
    inbox: dict[str, str] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    balances: dict[str, int] = field(default_factory=dict)
    rooms: dict[str, int] = field(default_factory=dict)
    doors: dict[str, str] = field(default_factory=dict)
    trains: dict[tuple[str, str], tuple[str, str, int]] = field(default_factory=dict)
    seats: dict[str, int] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    shared: list[tuple[str, str]] = field(default_factory=list)
    skies: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - an answer of a service, not a fault of the program
    """A service says no. ``failure`` is a key of ``tools.FAILURES``."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


def new_id(rng: random.Random, letter: str) -> str:
    """An identifier such as R812."""
    return f"{letter}{rng.randint(10, 999)}"


def _text(a: Arguments, key: str) -> str:
    return str(a[key])


def _number(a: Arguments, key: str) -> int:
    return int(str(a[key]))


def _known(found: bool, failure: str = "not_found") -> None:
    if not found:
        raise Refusal(failure)


def _create_event(s: State, rng: random.Random, a: Arguments) -> Fields:
    event = (_text(a, "day"), _text(a, "time"), _text(a, "title"))
    _known(all(other[:2] != event[:2] for other in s.events.values()), "conflict")
    event_id = new_id(rng, "E")
    s.events[event_id] = event
    return {"event_id": event_id}


def _list_events(s: State, _: random.Random, a: Arguments) -> Fields:
    found = sorted(f"{time} {title}" for day, time, title in s.events.values() if day == a["day"])
    _known(bool(found), "empty")
    return {"events": found}


def _cancel_event(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["event_id"] in s.events)
    day, _time, _title = s.events.pop(_text(a, "event_id"))
    return {"removed": a["event_id"], "day": day}


def _check_stock(s: State, _: random.Random, a: Arguments) -> Fields:
    item = _text(a, "item")
    _known(item in s.stock, "empty")
    return {"stock": s.stock[item], "price": s.prices[item]}


def _place_order(s: State, rng: random.Random, a: Arguments) -> Fields:
    item, quantity = _text(a, "item"), _number(a, "quantity")
    _known(s.stock.get(item, 0) > 0, "conflict")
    reserved = min(quantity, s.stock[item])
    order, total = new_id(rng, "R"), reserved * s.prices[item]
    s.stock[item] -= reserved
    s.orders[order] = ("waiting", "Friday", total)
    return {"order": order, "total": total} | _short(reserved, quantity)


def _short(reserved: int, wanted: int) -> Fields:
    return {"reserved": reserved, "missing": wanted - reserved} if reserved < wanted else {}


def _track_order(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["order_id"] in s.orders)
    stage, day, _total = s.orders[_text(a, "order_id")]
    return {"stage": stage, "arrives": day}


def _cancel_order(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["order_id"] in s.orders)
    return {"refund": s.orders.pop(_text(a, "order_id"))[2]}


def _find_book(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["title"] in s.books, "empty")
    shelf, copies = s.books[_text(a, "title")]
    return {"shelf": shelf, "copies": copies}


def _reserve_book(s: State, rng: random.Random, a: Arguments) -> Fields:
    title = _text(a, "title")
    _known(title in s.books)
    shelf, copies = s.books[title]
    _known(copies > 0, "conflict")
    s.books[title] = (shelf, copies - 1)
    return {"hold": new_id(rng, "H")}


def _send_email(s: State, rng: random.Random, a: Arguments) -> Fields:
    s.sent.append((_text(a, "to"), _text(a, "text")))
    return {"sent": new_id(rng, "M")}


def _archive_email(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["email_id"] in s.inbox)
    s.inbox[_text(a, "email_id")] = "archive"
    return {"folder": "archive"}


def _delete_email(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["email_id"] in s.inbox)
    del s.inbox[_text(a, "email_id")]
    return {"deleted": a["email_id"]}


def _get_balance(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["account"] in s.balances)
    return {"balance": s.balances[_text(a, "account")]}


def _transfer(s: State, rng: random.Random, a: Arguments) -> Fields:
    own, amount = next(iter(s.balances)), _number(a, "amount")
    _known(s.balances[own] >= amount, "conflict")
    s.balances[own] -= amount
    return {"reference": new_id(rng, "T"), "balance": s.balances[own]}


def _set_temperature(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["room"] in s.rooms)
    before = s.rooms[_text(a, "room")]
    s.rooms[_text(a, "room")] = _number(a, "degrees")
    return {"target": a["degrees"], "before": before}


def _unlock_door(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["door"] in s.doors)
    s.doors[_text(a, "door")] = "unlocked"
    return {"lock": "open"}


def _search_trains(s: State, _: random.Random, a: Arguments) -> Fields:
    route = (_text(a, "origin"), _text(a, "destination"))
    _known(route in s.trains, "empty")
    train, departs, fare = s.trains[route]
    return {"train": train, "departs": departs, "fare": fare}


def _book_ticket(s: State, rng: random.Random, a: Arguments) -> Fields:
    train, seats = _text(a, "train"), _number(a, "seats")
    _known(train in s.seats)
    _known(s.seats[train] > 0, "conflict")
    reserved = min(seats, s.seats[train])
    s.seats[train] -= reserved
    return {"ticket": new_id(rng, "K"), "coach": rng.randint(1, 9)} | _short(reserved, seats)


def _read_file(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["name"] in s.files)
    return {"content": s.files[_text(a, "name")]}


def _share_file(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["name"] in s.files)
    s.shared.append((_text(a, "name"), _text(a, "person")))
    return {"shared_with": a["person"]}


def _delete_file(s: State, _: random.Random, a: Arguments) -> Fields:
    _known(a["name"] in s.files)
    del s.files[_text(a, "name")]
    return {"deleted": a["name"]}


def _get_weather(s: State, _: random.Random, a: Arguments) -> Fields:
    where = (_text(a, "town"), _text(a, "day"))
    _known(where in s.skies, "empty")
    sky, high = s.skies[where]
    return {"sky": sky, "high": high}


ACTIONS: dict[str, Callable[[State, random.Random, Arguments], Fields]] = {
    "create_event": _create_event,
    "list_events": _list_events,
    "cancel_event": _cancel_event,
    "check_stock": _check_stock,
    "place_order": _place_order,
    "track_order": _track_order,
    "cancel_order": _cancel_order,
    "find_book": _find_book,
    "reserve_book": _reserve_book,
    "send_email": _send_email,
    "archive_email": _archive_email,
    "delete_email": _delete_email,
    "get_balance": _get_balance,
    "transfer": _transfer,
    "set_temperature": _set_temperature,
    "unlock_door": _unlock_door,
    "search_trains": _search_trains,
    "book_ticket": _book_ticket,
    "read_file": _read_file,
    "share_file": _share_file,
    "delete_file": _delete_file,
    "get_weather": _get_weather,
}
"""What each tool does. A result with ``missing`` was done in part only."""
