"""TOML as frozen structs, level by level: what does not fit is told in the file's own words. Knows no table."""

from __future__ import annotations

import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from offmap.errors import InputError

_UNIONS = (typing.Union, types.UnionType)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, decoded.

    Raises:
        InputError: it cannot be read, or is no TOML: "gateway.toml: no TOML: what is wrong (at line 3, column 8)".
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        told = "it is nested too deep"
    except UnicodeDecodeError as error:
        told = f"found bytes that are no UTF-8 ({_place(raw[: error.start])})"
    except ValueError as error:
        # tomllib gives no line where the file ends too soon.
        told = str(error).replace("(at end of document)", f"({_place(raw)}, its end)")
    raise InputError(f"{path}: no TOML: {told}")


def build(value: Any, kind: Any, at: str = "") -> Any:
    """``value`` as a ``kind``; ``at`` is its place. A type's ``Meta(description=...)`` says what is wanted.

    Raises:
        InputError: "table.field: found X, wanted Y".
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, dict):
        kind = next((each for each in inner if _is_table(each)), kind) if origin in _UNIONS else kind
        if _is_table(kind):
            return _table(value, kind, at)
        if origin is dict:
            names = typing.get_args(inner[0]) or value
            _require_known(value, names, at)
            return {name: build(each, inner[1], _dotted(at, name)) for name, each in value.items()}
    if isinstance(value, list) and origin is tuple and inner[-1] is ...:
        return tuple(build(each, inner[0], f"{at}[{index}]") for index, each in enumerate(value))
    return _leaf(value, kind, at)


def _place(before: bytes) -> str:
    """Where what comes after these bytes stands."""
    lines = before.decode(errors="replace").split("\n")
    return f"at line {len(lines)}, column {len(lines[-1]) + 1}"


def _table(value: dict[str, Any], kind: Any, at: str) -> Any:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    _require_known(value, fields, at)
    missing = next((name for name, field in fields.items() if field.required and name not in value), None)
    if missing:
        raise InputError(f"{_dotted(at, missing)}: found none, wanted a value")
    return kind(**{name: build(each, fields[name].type, _dotted(at, name)) for name, each in value.items()})


def _leaf(value: Any, kind: Any, at: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{at}: found {value!r}, wanted a finite number")
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        wanted = re.sub(r"^Expected |, got .*| - at .*|`", "", str(error))
    if typing.get_origin(kind) is Literal:
        wanted = _suggested(str(value), typing.get_args(kind))
    elif told := _described(kind):
        wanted = told
    elif _is_table(kind) or typing.get_origin(kind) is dict:
        wanted = "a table"
    elif any(map(_is_table, typing.get_args(kind))):
        wanted = "a name or a table" if str in typing.get_args(kind) else "a table"
    raise InputError(f"{at}: found {value!r}, wanted {wanted}")


def _described(kind: Any) -> str:
    """What a type says is wanted, or one of those that it may be; "" where it says nothing."""
    for each in (kind, *typing.get_args(kind)):
        notes = typing.get_args(each)[1:] if typing.get_origin(each) is Annotated else ()
        told = next((note.description for note in notes if isinstance(note, msgspec.Meta) and note.description), "")
        if told:
            return str(told)
    return ""


def _require_known(value: dict[str, Any], names: Iterable[str], at: str) -> None:
    for name in value:
        if name not in names:
            raise InputError(f"{_dotted(at, name)}: found an unknown name, wanted {_suggested(name, names)}")


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _dotted(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _suggested(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"one of {', '.join(known)}" + (f"; did you mean {close[0]!r}?" if close else "")
