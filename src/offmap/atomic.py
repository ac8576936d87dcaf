"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from offmap.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file at ``path`` when the block ends well; otherwise nothing changes.

    Raises:
        InputError: no file can be made there.
    """
    if path.is_dir():
        raise InputError(f"{path}: found a directory, wanted the name of a file")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("xb")
    except OSError as error:
        raise InputError(f"{path}: the file cannot be written: {error.strerror}") from None
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Raises:
        InputError: no file can be made there.
    """
    with whole_file(path) as stream:
        stream.write(content)
