"""``offmap key``: a new API key of a gateway."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from offmap.errors import InputError
from offmap.gateway.keys import KEYS_VARIABLE, Role

if TYPE_CHECKING:
    from offmap.gateway.keys import KeyRecord


def key(name: str, /, *, role: Role, file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None) -> None:
    """Make an API key for a gateway and show it, this once; what is kept is a salted hash, from which no key follows.

    With a file the hash is added to it; ``[server] keys`` names such a file. Without one it is printed as the
    environment variable OFFMAP_GATEWAY_KEYS has it. A gateway reads keys when it starts.

    Parameters
    ----------
    name
        Whose key it is, as it stands in records: letters, digits and any of _ . @ -
    role
        A caller asks for decisions, a reviewer reviews, an admin may do all.
    file
        The file that the hash is added to; made if it is not there, and its owner's only.
    """
    from offmap.gateway.keys import as_variable, new_key

    made, record = new_key(name, role)
    if file is None:
        _tell(made, record, f"{KEYS_VARIABLE}={as_variable(record)}")
        return
    _add(file, record)
    _tell(made, record, f"Its hash is in {file}: name that file as keys under [server], and start the gateway again.")


def _add(path: Path, record: KeyRecord) -> None:
    """Add a record to a file of keys, whole or not at all.

    Raises:
        InputError: the file is none of keys, has that name already, or cannot be written.
    """
    from offmap.atomic import whole_file
    from offmap.gateway.keys import as_toml, file_records

    place = path.resolve()  # a link stays one
    there = place.exists()
    if there and any(each.name == record.name for each in file_records(place)):
        raise InputError(f"{path}: the name {record.name!r} is in use, wanted a new one, or that key taken out first")
    try:
        before = place.read_bytes() if there else b""
    except OSError as error:
        raise InputError(f"{path}: the keys file cannot be read: {error.strerror}") from None
    with whole_file(place) as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(before + b"\n" * (bool(before) + (bool(before) and not before.endswith(b"\n"))))
        stream.write(as_toml(record).encode())


def _tell(made: str, record: KeyRecord, kept: str) -> None:
    sys.stdout.write(f"The key of {record.name} ({record.role}), shown only now:\n\n{made}\n\n{kept}\n")
