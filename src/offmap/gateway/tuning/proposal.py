"""Bands for a cascade, proposed from traffic and a budget, for a person to promote."""

from __future__ import annotations

import msgspec
import numpy as np

from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.gateway.config import Gateway, StageTable
from offmap.gateway.consistency import require_consistent
from offmap.gateway.decision import Stage
from offmap.gateway.policy import Bands, bands, heard
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.cascade import CascadeBands, calibrate_cascade
from offmap.gateway.tuning.routes import with_bands
from offmap.gateway.tuning.shares import LATE, Counted, Shares, rows_needed
from offmap.gateway.tuning.traffic import Traffic, presumed_safe
from offmap.gateway.tuning.wording import notes, shares_in_words


class Rates(msgspec.Struct, frozen=True):
    """Expected of safe traffic, by the rows that the cut-offs were set on.

    Attributes:
        stopped: share that is anything but let through, with the rows that reach a monitor that did not answer.
        held: share that is known to go to a person; a part of ``stopped``.
        reached: share that each monitor is asked about, as far as is known.
        p99_ms: 99 % of rows are decided within it, by the seconds of the traffic; None where that is not known.
        cost_per_day: of calls; None where no cost or no number of requests was given.
    """

    stopped: float
    held: float
    reached: tuple[float, ...]
    p99_ms: float | None = None
    cost_per_day: float | None = None


class Proposal(msgspec.Struct, frozen=True):
    """Bands for a whole cascade.

    Attributes:
        stage: whose cascade.
        steps: the bands of each monitor.
        alpha, counted: the share of safe traffic that is a false alarm, at most; and what counts as one.
        rates: expected.
        n: rows that the cut-offs were set on.
        notes: what holds, what does not, and which budget binds, in words.
        versions: of the monitors whose p-values these bands are for.
        binding: the budgets that are used up: false alarms, reviews, reach (calls), latency.
        seed: of the division of the rows.
    """

    stage: Stage
    steps: tuple[Bands, ...]
    alpha: float
    counted: Counted
    rates: Rates
    n: int
    notes: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    binding: tuple[str, ...] = ()
    seed: int = 0


def propose(traffic: Traffic, stage_table: StageTable, budget: Budget, seed: int = 0) -> Proposal:
    """Bands for the whole cascade of a stage, within a budget.

    They are set on the rows labelled safe, or, where none is, on the rows without a label. Rows labelled unsafe set
    nothing. No monitor may have been calibrated on a row.

    Args:
        traffic: what the monitors of the cascade found; see ``traffic.halves`` for rows that are to tell recall.
        stage_table: the stage.
        budget: what it may cost.
        seed: of the division of the rows, where some of them fix what is handed on.

    Raises:
        InputError: no such rows or too few of them, or a budget that cannot be kept; the message says which.
    """
    names = tuple(step.monitor for step in stage_table.steps)
    traffic = traffic if traffic.monitors == names else traffic.of(names)
    safe = traffic.rows(presumed_safe(traffic))
    shares = budget.shares(stage_table)
    _require_time(safe, budget)
    _require_rows(safe, shares, stage_table)
    found = calibrate_cascade(safe, stage_table, shares, seed)
    _require_open(with_bands(stage_table, found.steps), found)
    return Proposal(
        stage=traffic.stage,
        steps=found.steps,
        alpha=shares.alpha,
        counted=shares.counted,
        rates=_rates(found, stage_table, budget),
        n=len(found.rows),
        notes=notes(traffic, found, shares, budget),
        versions=traffic.versions,
        binding=tuple(sorted(found.binding)),
        seed=seed,
    )


def apply_proposal(gateway: Gateway, proposal: Proposal) -> Gateway:
    """The gateway with the proposed bands; for questions that the stage does not hear they stay as they are.

    Raises:
        InputError: the gateway has no such stage, its cascade asks other monitors, or the policy would contradict
            itself.
    """
    table = gateway.stages.get(proposal.stage)
    if table is None:
        raise InputError(f"stages.{proposal.stage}: found none, wanted the stage that the bands are for")
    found, wanted = ([step.monitor for step in steps] for steps in (table.steps, proposal.steps))
    if found != wanted:
        raise InputError(
            f"stages.{proposal.stage}.cascade: found {', '.join(found)}; the bands are for {', '.join(wanted)}"
        )
    stages = {**gateway.stages, proposal.stage: with_bands(table, proposal.steps)}
    changed = msgspec.structs.replace(gateway, stages=stages)
    require_consistent(changed, "with the proposed bands")
    return changed


def percentile(values: FloatArray, weight: FloatArray, share: float) -> float | None:
    """The smallest value that at least a share of the weight does not exceed; None without values. NaN is left out."""
    there = ~np.isnan(values)
    if not there.any():
        return None
    order = np.argsort(values[there])
    below = np.cumsum(weight[there][order])
    at = int(np.searchsorted(below, share * below[-1] * (1 - 1e-12)))
    return float(values[there][order][at])


def _require_rows(safe: Traffic, shares: Shares, table: StageTable) -> None:
    if not len(safe):
        raise InputError("traffic: found no row labelled safe and none without a label, wanted safe rows")
    if len(safe) < (needed := rows_needed(shares, table)):
        halved = ", half of them to fix what is handed on" if len(table.steps) > 1 and shares.divides else ""
        raise InputError(f"{shares_in_words(shares)} need {needed} safe rows to tune on{halved}; found {len(safe)}")


def _require_time(safe: Traffic, budget: Budget) -> None:
    """Refuse a latency budget that the first monitor alone breaks."""
    if budget.p99_ms is None or not len(safe):
        return
    taken = percentile(safe.seconds[:, 0], safe.weight, 1 - LATE)
    if taken is None:
        raise InputError("p99_ms: found no seconds in the traffic, wanted how long monitors took")
    if 1000 * taken > budget.p99_ms:
        raise InputError(
            f"p99_ms: found {budget.p99_ms:g}, but {safe.monitors[0]!r}, which is asked first, alone takes "
            f"{1000 * taken:.3g} ms for one request of a hundred; wanted more time or a faster monitor"
        )


def _require_open(table: StageTable, found: CascadeBands) -> None:
    """Refuse bands under which a later monitor is never asked."""
    for at, step in enumerate(bands(table)[:-1]):
        if all(low >= high for low, high in heard(table, step).values()):
            later = table.steps[at + 1].monitor
            limits = " and ".join(sorted(found.binding & {"reach", "latency"})) or "what is handed on now"
            raise InputError(
                f"budget: with the limits of {limits} {step.monitor!r} may hand on no more than it stops, so {later!r} "
                "would never be asked; wanted more calls or time, fewer false alarms, or a cascade without it"
            )


def _rates(found: CascadeBands, table: StageTable, budget: Budget) -> Rates:
    rows, ends = found.rows, found.ends

    def share(of: FloatArray) -> float:
        return float(np.average(of, weights=rows.weight))

    reached = tuple(share(np.asarray(ends.reached > at, np.float64)) for at in range(len(table.steps)))
    seconds = percentile(ends.seconds, rows.weight, 1 - LATE)
    return Rates(
        stopped=share(ends.alarms.astype(np.float64)),
        held=share(ends.held.astype(np.float64)),
        reached=reached,
        p99_ms=None if seconds is None else 1000 * seconds,
        cost_per_day=budget.cost_of(table, reached),
    )
