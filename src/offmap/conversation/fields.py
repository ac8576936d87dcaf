"""The fields of one decoded row: of the wanted kind, or an error that says where, what was found, what is wanted.

Knows nothing of what a field means.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from offmap.errors import InputError

Object = dict[str, object]


def as_object(value: object, at: str) -> Object:
    """An object.

    Args:
        value: a decoded JSON value.
        at: the field it is in; "" for the row itself.

    Raises:
        InputError: it is something else. So it is with the others here.
    """
    if isinstance(value, dict):
        return value
    raise wrong(at, described(value), "an object")


def as_list(value: object, at: str) -> list[object] | tuple[object, ...]:
    """A list."""
    if isinstance(value, list | tuple):
        return value
    raise wrong(at, described(value), "a list")


def required_text(value: object, at: str) -> str:
    """Text, maybe empty; null is none."""
    if value is None:
        raise wrong(at, "nothing", "text")
    return optional_text(value, at)


def optional_text(value: object, at: str, wanted: str = "text") -> str:
    """Text that UTF-8 can hold; null is "". ``wanted`` is what the error asks for."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(at, described(value), wanted)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise wrong(at, "half of a surrogate pair", "text that UTF-8 can hold") from None
    return value


def wrong(at: str, found: str, wanted: str) -> InputError:
    """The error of a field; of the row itself where ``at`` is ""."""
    place = f"field {at}: " if at else ""
    return InputError(f"{place}found {found}, wanted {wanted}")


def described(value: object) -> str:
    """A value in a few words; its beginning only, since rows are private."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}..."
    if isinstance(value, int | float) and abs(value) < 2**64:
        return repr(value)
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the fields {names_of(value)}"
    return f"a value of type {type(value).__name__}"


def names_of(fields: Object) -> str:
    """The names of an object's fields, the first of them where there are many."""
    names = [str(name)[:40] for name in fields][:12]
    return ", ".join(names + ["..."] * (len(fields) > len(names))) or "(none)"


def json_object(text: str) -> dict[str, Any] | None:
    """The object that a JSON text is; None for none, and for one that readers may take for different things.

    Of a name that stands twice some readers take the first value and some the last, so that one of them is unseen.
    """
    try:
        msgspec.json.decode(text)  # no NaN, no half of a character
        found = json.loads(text, object_pairs_hook=_once)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found
