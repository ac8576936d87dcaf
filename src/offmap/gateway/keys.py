"""API keys: made once, kept as salted hashes, compared in constant time; and the rule that no keys means loopback only.

Knows nothing of HTTP or storage. A key holds 256 random bits, so a salted SHA-256 is enough: slow hashes protect words
that people choose, and would cost every request their time for every key.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import msgspec

from offmap.errors import InputError

Role = Literal["caller", "reviewer", "admin"]
"""A caller asks for decisions, a reviewer reviews, an admin may do both and all else."""
ROLES: tuple[Role, ...] = get_args(Role)
KEYS_VARIABLE = "OFFMAP_GATEWAY_KEYS"
"""Environment variable with key records, "name:role:salt:sha256" separated by commas; it holds no key either."""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_LONGEST = 256


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key: its name, what it may do, and SHA-256(salt + key), both in hexadecimal."""

    name: str
    role: Role
    salt: str
    sha256: str

    def __repr__(self) -> str:
        return f"KeyRecord({self.name!r}, {self.role!r})"

    def may(self, wanted: Role) -> bool:
        """Whether this key's holder may do what ``wanted`` may."""
        return self.role in (wanted, "admin")


@dataclass(frozen=True)
class Keys:
    """All keys that are accepted."""

    records: tuple[KeyRecord, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.records)

    def verify(self, presented: str) -> KeyRecord | None:
        """The record of a presented key, None for no key of ours.

        Every record is compared, each in constant time, so the time tells neither whether nor which one matched.
        """
        given = presented[:_LONGEST].encode("utf-8", "backslashreplace")
        found = None
        for record in self.records:
            match = hmac.compare_digest(_hashed(record.salt, given), record.sha256)
            found = record if match else found
        return found if len(presented) <= _LONGEST else None


def new_key(name: str, role: Role) -> tuple[str, KeyRecord]:
    """A fresh key, to be shown once and never kept, and the record that is kept.

    Raises:
        InputError: the name or the role cannot be one.
    """
    key, salt = f"offmap_{secrets.token_urlsafe(32)}", secrets.token_hex(32)
    return key, _checked(KeyRecord(name, role, salt, _hashed(salt, key.encode())), "the new key")


def load_keys(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of a TOML file, a table ``[[keys]]`` of name, role, salt and sha256 for each, and of the environment.

    Raises:
        InputError: something is no key record, two have one name, or the file cannot be read or holds none.
    """
    kept = file_records(path) if path else []
    if path and not kept:  # an empty file is more likely an accident than a wish to be open
        raise InputError(f"{path}: found no key, wanted [[keys]]; without a keys file only this machine is served")
    records = [*kept, *_from_environment(environment.get(KEYS_VARIABLE, ""))]
    names = [record.name for record in records]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"API keys: the name {twice[0]!r} is used twice, wanted one name for each key")
    return Keys(tuple(records))


def as_toml(record: KeyRecord) -> str:
    """The lines of a keys file for one record."""
    fields = (f'{name} = "{value}"' for name, value in msgspec.structs.asdict(record).items())
    return "\n".join(["[[keys]]", *fields, ""])


def as_variable(record: KeyRecord) -> str:
    """One record as the environment variable has it."""
    return ":".join(msgspec.structs.astuple(record))


def require_closed(host: str, keys: Keys) -> None:
    """Refuse to listen beyond loopback without keys; a host name counts as loopback only if it is "localhost".

    Raises:
        InputError: others could reach the gateway and nothing would ask who they are.
    """
    if keys or is_loopback(host):
        return
    raise InputError(
        f"server.host: {host!r} can be reached by others and there are no API keys: make some, or use 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether a host's address or name leads to this machine and nowhere else; of names only "localhost" does."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hashed(salt: str, key: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + key).hexdigest()


def _checked(record: KeyRecord, where: str) -> KeyRecord:
    if not _NAME.fullmatch(record.name):
        raise InputError(f"{where}: found a name that is none, wanted up to 64 letters, digits and any of _ . @ -")
    if record.role not in ROLES:
        raise InputError(f"{where}: found a role that is none, wanted one of {', '.join(ROLES)}")
    if not (_HEX.fullmatch(record.salt) and _HEX.fullmatch(record.sha256)):
        raise InputError(f"{where}: salt and sha256 are not what `new_key` gave: wanted 64 hexadecimal digits each")
    return record


def file_records(path: Path) -> list[KeyRecord]:
    """The records of a file of keys, which may hold none.

    Raises:
        InputError: it cannot be read, or something in it is no record.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        records = msgspec.convert(tables.pop("keys", []), list[KeyRecord])
    except OSError as error:
        raise InputError(f"{path}: the keys file cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: {error}; wanted [[keys]] with name, role, salt and sha256") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep; wanted [[keys]] with name, role, salt and sha256") from None
    if tables:
        raise InputError(f"{path}: found {next(iter(tables))!r}; wanted a file of its own for [[keys]]")
    return [_checked(record, f"{path}: key {place}") for place, record in enumerate(records, 1)]


def _from_environment(text: str) -> list[KeyRecord]:
    records = []
    for place, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        # What stands there may be a key by mistake: it is not repeated in the message.
        where, fields = f"{KEYS_VARIABLE}: entry {place}", part.split(":")
        if len(fields) != 4:
            raise InputError(f"{where}: found {len(fields)} fields, wanted name:role:salt:sha256")
        name, role, salt, sha256 = fields
        records.append(_checked(KeyRecord(name, cast("Role", role), salt, sha256), where))
    return records
