"""``offmap recalibrate``: thresholds proposed from reviewers' labels, and promoted or rejected by a person."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from offmap.cli.checks import printable, require_share
from offmap.cli.stores import opened_store
from offmap.errors import InputError

if TYPE_CHECKING:
    from offmap.gateway.live import Live
    from offmap.gateway.store.promotions import Promotion, StoredProposal
    from offmap.gateway.tuning.compare import Comparison
    from offmap.gateway.tuning.recalibration import Recalibration
    from offmap.rates import Rate

DAY = 86400.0
MOST_DAYS = 36_500


def recalibrate(
    *,
    config: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    stage: Literal["input", "response", "tool_call", "conversation"] = "response",
    alpha: float | None = None,
    days: float | None = None,
    promote: int | None = None,
    reject: int | None = None,
    by: str = "",
    listed: Annotated[bool, Parameter(name="--list")] = False,
) -> None:
    """Propose thresholds for a stage from what reviewers said of its past traffic; put them in force when you say so.

    The proposal is compared with what is in force on past traffic and kept in the gateway's store. Nothing goes live
    without --promote and a name; then every gateway on that store decides by it within seconds. --list names all
    proposals of this policy, and to go back is to promote an earlier one, or the file's own bands.

    Parameters
    ----------
    config
        The gateway.toml that is served.
    stage
        Which stage.
    alpha
        The share of safe traffic that may be stopped or held; the tier's without it.
    days
        Only decisions of so many days before now; all of them without it.
    promote
        Number of a proposal to put in force.
    reject
        Number of a proposal that shall never be in force.
    by
        Who answers for that; it is written into the audit log.
    listed
        Only name the proposals.
    """
    require_share("--alpha", alpha)
    if days is not None and not 0 < days <= MOST_DAYS:
        raise InputError(f"--days is {days:g}; wanted a number above 0, at most {MOST_DAYS}")
    _require_one(promote, reject, listed)
    from offmap.gateway.config import read_gateway

    gateway = read_gateway(config)
    with opened_store(gateway.store.url) as store:
        from offmap.gateway.live import Live

        live = Live(store, gateway)
        if promote is not None or reject is not None:
            lines = _decided(live, promote, reject, by)
        elif listed:
            lines = _list(live)
        else:
            from offmap.gateway.tuning.recalibration import recalibrate as propose

            since = -float("inf") if days is None else time.time() - days * DAY
            lines = _proposed(live, propose(live, stage, alpha, since=since), config)
        _write(lines)


def _require_one(promote: int | None, reject: int | None, listed: bool) -> None:
    for name, number in (("--promote", promote), ("--reject", reject)):
        if number is not None and not 0 < number < 1 << 31:
            raise InputError(f"{name} is {number}; wanted the number of a proposal, as --list tells it")
    if sum((promote is not None, reject is not None, listed)) > 1:
        raise InputError("--promote, --reject and --list: wanted one of them at most")


def _write(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(printable(line) + "\n")


def _decided(live: Live, promote: int | None, reject: int | None, by: str) -> Iterator[str]:
    if not by.strip():
        raise InputError("--by: found no name, wanted that of the person who decides")
    made: Promotion = live.promote(promote, by) if promote is not None else live.reject(reject or 0, by)
    if made.verdict == "rejected":
        yield f"Proposal {made.proposal} is rejected by {made.by}; nothing else has changed."
        return
    from offmap.gateway.live import told_bands

    what = "The file's own bands are" if made.own else f"Proposal {made.proposal} is"
    yield f"{what} in force for stage {made.stage}, promoted by {made.by}. It stands in the audit log."
    for step in made.new:
        yield f"  {told_bands(live.file.stages[made.stage], step)}"
    yield f"Policy {made.old_policy} became {made.new_policy}; a running gateway decides by it within seconds."
    yield "Its log says if it cannot, since its monitors are other versions or could not reach such p-values."


def _list(live: Live) -> Iterator[str]:
    from offmap.gateway.live import proposed_bands, told_bands
    from offmap.gateway.store.promotions import proposals, standing

    found, last = proposals(live.store, live.policy), standing(live.store, live.policy)
    yield f"Policy of the file: {live.policy}; in force: {live.read().policy}."
    yield from (f"{each}." for each in last.amiss)
    for each in found:
        yield f"{each.id}: {_what(each)}, {_state(each, last.holds(each))}"
        for step in proposed_bands(live.file, each):
            yield f"  {told_bands(live.file.stages[each.stage], step)}"
    if not found:
        yield "No proposals yet."


def _what(stored: StoredProposal) -> str:
    made = "the file's own bands" if stored.proposal is None else f"proposed {_time(stored.at)}"
    return f"stage {stored.stage}, {made}"


def _state(stored: StoredProposal, last: bool) -> str:
    said = "in force" if last else {"promoted": "promoted before"}.get(stored.state, stored.state)
    if stored.decided_by is None or stored.decided_at is None:
        return said
    return f"{said} ({stored.state} by {stored.decided_by} {_time(stored.decided_at)})"


def _proposed(live: Live, made: Recalibration, config: Path) -> Iterator[str]:
    import numpy as np

    from offmap.gateway.tuning.wording import COUNTED

    traffic, proposal = made.logged.traffic, made.proposal
    n_labelled = int(np.sum(~np.isnan(traffic.unsafe)))
    yield (
        f"Stage {proposal.stage} of {live.policy}: {len(traffic)} decisions, {n_labelled} with a label that counts, "
        f"{made.logged.sampled} of these of the random sample."
    )
    yield (
        f"Wanted: at most {_percent(proposal.alpha)} of safe traffic {COUNTED[proposal.counted]}; set on "
        f"{proposal.n} rows."
    )
    yield from _bands(made)
    yield from _rates(made.comparison)
    yield from _changes(made.comparison)
    yield from (f"Note: {note}." for note in proposal.notes)
    yield f"Kept as proposal {made.id}; nothing is in force yet. To put it in force:"
    yield f"  offmap recalibrate --config {config} --promote {made.id} --by NAME"


def _bands(made: Recalibration) -> Iterator[str]:
    from offmap.gateway.policy import bands, heard

    yield from _table(
        ("monitor", "question", "acts at p, in force", "acts at p, proposed"),
        [
            (after.monitor, question, _band(band), _band(getattr(after, question)))
            for before, after in zip(bands(made.old), bands(made.new), strict=True)
            for question, band in heard(made.old, before).items()
        ],
    )


def _rates(comparison: Comparison) -> Iterator[str]:
    from offmap.gateway.tuning.recalibration import RATES

    rows = [
        (what, _rate(getattr(comparison.old, name)), _rate(getattr(comparison.new, name)))
        for name, what in RATES.items()
    ]
    yield from _table(("share, 95 % interval", "in force", "proposed"), rows)


def _changes(comparison: Comparison) -> Iterator[str]:
    changed = [each for each in comparison.changes if each.was != each.becomes]
    same = sum(each.rows for each in comparison.changes) - sum(each.rows for each in changed)
    yield f"Of {comparison.rows} past decisions {same} stay as they are."
    for each in changed:
        yield f"  {each.rows}: {each.was} -> {each.becomes}"
    if comparison.unknown:
        yield f"  {comparison.unknown} of them cannot be known, since a monitor was not asked."


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for cells in (head, *rows):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield f"  {'  '.join(padded)}".rstrip()


def _band(band: tuple[float, float]) -> str:
    return f"{band[0]:.3g}" + (f" (in doubt to {band[1]:.3g})" if band[1] > band[0] else "")


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return "not known"
    interval = "" if rate.low is None or rate.high is None else f" ({100 * rate.low:.3g} to {100 * rate.high:.3g})"
    return f"{_percent(rate.value)}{interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
