"""Particles: a directory whose members were trained alike but for their seeds, and that is read as one guard of many.

``particles.json`` says how many there are and is written last: without it the members are what some run has left so
far. Knows nothing of what a member is, a model or an adapter.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from offmap.atomic import write_whole
from offmap.errors import InputError

RECORD = "particles.json"
FORMAT = 1


class Particles(msgspec.Struct, frozen=True):
    """What a directory of particles says of itself.

    Attributes:
        particles: how many there are.
        format: of this file.
    """

    particles: int
    format: int = FORMAT


def particle(directory: str | Path, number: int) -> Path:
    """The directory of one of them; the first is number 1."""
    return Path(directory) / f"particle-{number}"


def count_particles(directory: str | Path) -> int:
    """How many particles a directory holds; 0 where it is not one of particles.

    Raises:
        InputError: a training run that has not ended is there, or the record cannot be read, is another version's, or
            names a particle that is not there.
    """
    path = Path(directory) / RECORD
    if not path.is_file() and not particle(directory, 1).is_dir():
        return 0
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Particles)
    except FileNotFoundError:
        raise InputError(
            f"{directory}: holds particles of a training run that has not ended (no {RECORD}); wanted is that the same "
            "`offmap train` runs again: it goes on where it was"
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    if found.format != FORMAT:
        raise InputError(f"{path}: format {found.format}, this version reads format {FORMAT}")
    if found.particles < 2:
        raise InputError(f"{path}: field particles: found {found.particles}, wanted at least 2")
    members = [particle(directory, number) for number in range(1, found.particles + 1)]
    lost = next((member for member in members if not member.is_dir()), None)
    if lost is not None:
        raise InputError(f"{path}: names {found.particles} particles; found no {lost}")
    return found.particles


def write_particles(directory: Path, count: int) -> None:
    """Say that the first ``count`` particles of a directory are whole."""
    body = msgspec.json.encode(Particles(count))
    write_whole(directory / RECORD, msgspec.json.format(body, indent=2) + b"\n")
