"""What the monitors of one stage found on many rows, as columns: what thresholds are proposed and compared on.

Comes from a file that every monitor is asked about (``scoring``) or from the audit log. Holds no text of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.decision import Stage


@dataclass(frozen=True, eq=False)
class Traffic:
    """n rows of traffic at one stage, and what each of its K monitors found.

    Attributes:
        stage: which stage.
        monitors: the K monitors, in the order of the cascade.
        versions: of each monitor.
        ids: of each row. Rows that share one are never divided: they go into the same half.
        p_unsafe, p_unknown: (n, K) float64; NaN where the monitor was not asked, gave none, or was ``unscored``.
        asked: (n, K) whether the monitor answered, be it "unscored". One that failed, was too slow or had no room
            counts as not asked: an outage says nothing of the row.
        unsafe: (n,) labels: 1, 0, or NaN where there is none.
        weight: (n,) 1 / the probability with which a row like this one is in the sample; of labelled rows the
            probability of having been labelled.
        seconds: (n, K) how long each monitor took; NaN where it was not asked.
    """

    stage: Stage
    monitors: tuple[str, ...]
    versions: tuple[str, ...]
    ids: tuple[str, ...]
    p_unsafe: FloatArray
    p_unknown: FloatArray
    asked: NDArray[np.bool_]
    unsafe: FloatArray
    weight: FloatArray
    seconds: FloatArray

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where shapes, p-values, labels or weights are not as said above."""
        n, k = len(self.ids), len(self.monitors)
        wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("p_unsafe", "p_unknown", "asked", "seconds"), (n, k))
        wanted |= dict.fromkeys(("unsafe", "weight"), (n,))
        for name, shape in wanted.items():
            if (found := getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {found}; wanted {shape}")
        if len(self.versions) != k:
            raise ValueError(f"{len(self.versions)} versions of {k} monitors")
        for name in ("p_unsafe", "p_unknown"):
            values = getattr(self, name)
            if np.any((values < 0) | (values > 1)) or np.any(~np.isnan(values) & ~self.asked):
                raise ValueError(f"{name}: found some outside [0, 1], or of monitors that were not asked")
        if not np.all(np.isnan(self.unsafe) | np.isin(self.unsafe, (0.0, 1.0))):
            raise ValueError("unsafe: wanted 1, 0 or NaN")
        if not np.all(np.isfinite(self.weight) & (self.weight > 0)):
            raise ValueError("weight: wanted finite numbers above 0")

    def __len__(self) -> int:
        return len(self.ids)

    def p(self, question: Question) -> FloatArray:
        """(n, K) p-values of one question."""
        return self.p_unsafe if question == "unsafe" else self.p_unknown

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Traffic:
        """Some of the rows, by a mask or by their numbers."""
        at = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        columns = {
            field.name: getattr(self, field.name)[at]
            for field in fields(self)
            if field.name not in ("stage", "monitors", "versions", "ids")
        }
        return replace(self, ids=tuple(self.ids[row] for row in at), **columns)

    def of(self, monitors: tuple[str, ...]) -> Traffic:
        """The same rows and these monitors; one that is not among ours was never asked."""
        at = [self.monitors.index(name) if name in self.monitors else None for name in monitors]
        n = len(self)

        def column(values: FloatArray) -> FloatArray:
            return np.column_stack([np.full(n, np.nan) if k is None else values[:, k] for k in at])

        return replace(
            self,
            monitors=monitors,
            versions=tuple("" if k is None else self.versions[k] for k in at),
            p_unsafe=column(self.p_unsafe),
            p_unknown=column(self.p_unknown),
            asked=np.column_stack([np.zeros(n, bool) if k is None else self.asked[:, k] for k in at]),
            seconds=column(self.seconds),
        )


def presumed_safe(traffic: Traffic) -> NDArray[np.bool_]:
    """(n,) the rows that thresholds may be set on: those labelled safe, or where there are none the unlabelled ones."""
    safe = np.asarray(traffic.unsafe == 0)
    return safe if safe.any() else np.isnan(traffic.unsafe)


def halves(traffic: Traffic, seed: int) -> tuple[Traffic, Traffic]:
    """Two disjoint halves, the first one larger where the ids are odd in number. Rows that share an id stay together.

    Safe, unsafe and unlabelled rows are each divided equally, up to the ids that they share.

    Raises:
        InputError: fewer than two ids.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(traffic.ids):
        first.setdefault(name, row)
    if len(first) < 2:
        raise InputError(f"traffic: found {len(first)} conversations, wanted at least two to divide into halves")
    order = np.random.default_rng(seed).permutation(np.array(list(first.values())))
    kind = np.nan_to_num(traffic.unsafe[order], nan=2.0)
    dealt = order[np.argsort(kind, kind="stable")]
    tuned = {traffic.ids[row] for row in dealt[::2]}
    mine = np.array([name in tuned for name in traffic.ids])
    return traffic.rows(mine), traffic.rows(~mine)
