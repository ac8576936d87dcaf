"""Several guards that differ by their seeds, in one directory: particles of an ensemble.

Where they agree they have learned the same from the rows; where rows were few they need not, and the most suspicious is
heard. Each is a model of its own: the backbone that they make takes as many passes. Knows nothing of what one is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from offmap.backbones.guard_heads import GuardRecord
from offmap.backbones.particles import RECORD, particle, write_particles
from offmap.backbones.source import BackboneSource
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.train.claim import require_only
from offmap.train.options import TrainOptions
from offmap.train.run import train
from offmap.train.watching import Watch

T = TypeVar("T")
One = Callable[[Path, TrainOptions, Watch | None], T]
"""What trains one, in a directory, as options say."""


def train_particles(
    rows: Sequence[Conversation],
    base: BackboneSource,
    out: Path,
    options: TrainOptions | None = None,
    *,
    particles: int,
    split_seed: int | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> list[GuardRecord]:
    """Train several guards and leave them in ``out``, which is then one backbone.

    Its hidden states and token statistics are the first guard's; its scalars those of all, "guard 1", "guard 2", ...,
    all through. Killed, the same call goes on with the guard that it had come to; more particles can be added to a
    finished run.

    Args:
        rows: as ``train``.
        base: as ``train``.
        out: the directory; the guards are ``particle-1``, ``particle-2``, ... in it.
        options: how the first is trained; the others have the following seeds.
        particles: how many.
        split_seed: as ``train``.
        device: as ``train``.
        watch: told after every step, of the steps of all.

    Returns:
        What each says of itself.

    Raises:
        InputError: as ``train``; fewer than two particles; or ``out`` holds something else or more particles.
    """

    def one(place: Path, settled: TrainOptions, watch: Watch | None) -> GuardRecord:
        return train(rows, base, place, settled, split_seed=split_seed, device=device, watch=watch)

    return each_particle(particles, out, options or TrainOptions(), watch, one)


def each_particle(count: int, out: Path, options: TrainOptions, watch: Watch | None, one: One[T]) -> list[T]:
    """Train them one after another, the seeds counting up from that of ``options``.

    Raises:
        InputError: as ``train_particles``.
    """
    if count < 2:
        raise InputError(f"particles is {count}; at least 2 are wanted")
    places = [particle(out, number) for number in range(1, count + 1)]
    require_only(out, [RECORD, *(place.name for place in places)])
    found = []
    for at, place in enumerate(places):
        found.append(one(place, msgspec.structs.replace(options, seed=options.seed + at), part_of(watch, at, count)))
        gc.collect()  # a trainer and its model refer to each other; the device must be free for the next
    write_particles(out, count)
    return found


def part_of(watch: Watch | None, at: int, count: int) -> Watch | None:
    """``watch`` for one of several runs of like length, that of number ``at``, from 0."""
    return watch and (lambda done, whole, losses: watch(at * whole + done, count * whole, losses))
