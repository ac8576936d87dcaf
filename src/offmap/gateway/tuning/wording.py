"""What holds of proposed bands, what does not, and which budget binds, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.cascade import CascadeBands
from offmap.gateway.tuning.shares import Counted, Shares, rows_below
from offmap.gateway.tuning.traffic import Traffic

COUNTED: dict[Counted, str] = {"stopped": "stopped or held", "blocked": "stopped and not held for a person"}
_BINDS = {
    "false alarms": "false alarms, which set where traffic is stopped",
    "reviews": "reviewers' time",
    "reach": "the cost of calls, which sets what is handed on",
    "latency": "latency, which sets what is handed on",
}


def notes(traffic: Traffic, found: CascadeBands, shares: Shares, budget: Budget) -> tuple[str, ...]:
    """Everything that is to be said of bands that were calibrated on some of the rows of ``traffic``."""
    said = [*_promise(found, shares), *_labels(traffic, shares), *_missing(traffic, found)]
    return (*said, _binding(found), *_asides(found, shares, budget))


def shares_in_words(shares: Shares) -> str:
    """What is asked of safe rows: "false alarms of 0.01, reviews of 0.003, a p99 of 50 ms"."""
    reviews = "" if shares.review is None else f", reviews of {shares.review:g}"
    late = "" if shares.late_s is None else f", a p99 of {1000 * shares.late_s:g} ms"
    return f"false alarms of {shares.alpha:g}{reviews}{late}"


def _promise(found: CascadeBands, shares: Shares) -> Iterator[str]:
    weighted = not np.all(found.rows.weight == found.rows.weight[0])
    like = "these rows, by their weights" if weighted else "these rows"
    yield (
        f"On average over samples of {len(found.rows)} rows like these, at most {_percent(shares.alpha)} of safe "
        f"traffic is {COUNTED[shares.counted]}; it holds for traffic like {like}, and no longer where traffic changes"
    )
    if not weighted:
        apart = ": the sum of a bound for what goes to people and one for the rest, which is not exact"
        why = apart if len(found.parts) > 1 else ""
        yield f"With this one sample the rate may be up to {_percent(_highest(found))} (95 % confidence{why})"


def _highest(found: CascadeBands) -> float:
    """What the true rate stays below with at least 95 % confidence.

    The rate at one cut-off is Beta(l + 1, n - l) distributed (Vovk 2012), and lower where rows are tied or more than
    one limit holds it; l is the rank that the share fixes before a row is seen, not a count of rows. Of two cut-offs
    each bound fails in half of the 5 %, and by the union bound both rates together stay below their sum.
    """
    from scipy.special import betaincinv

    n, sure = len(found.rows), 1 - 0.05 / len(found.parts)
    ranks = (rows_below(share, n) for share in found.parts)
    return min(1.0, float(sum(betaincinv(rank + 1, n - rank, sure) for rank in ranks)))


def _labels(traffic: Traffic, shares: Shares) -> Iterator[str]:
    if np.any(traffic.unsafe == 0):
        if left := int(np.isnan(traffic.unsafe).sum()):
            yield f"{left} rows without a label set nothing"
        return
    yield (
        "No row is labelled safe, so all rows without a label are taken to be safe. If a share h of them is harm, at "
        f"most alpha / (1 - h) of safe traffic is {COUNTED[shares.counted]}, and that only if harm is never found; "
        "where harm is found at least as often as safe traffic it is at most alpha. Harm among them takes the place of "
        "false alarms, so less of it is caught than could be"
    )


def _missing(traffic: Traffic, found: CascadeBands) -> Iterator[str]:
    if lost := int(np.sum(~found.ends.known)):
        yield (
            f"{lost} rows reach a monitor that did not answer; they count as false alarms, how many of them would "
            "go to people is not known, and no step hands on more than it did"
        )
    for at, name in enumerate(traffic.monitors):
        p = np.concatenate([found.rows.p_unsafe[:, at], found.rows.p_unknown[:, at]])
        step = found.steps[at]
        if not np.any(p <= max(step.unsafe[0], step.unknown[0])):
            yield f"{name!r} stops none of the rows that the cut-offs were set on"


def _binding(found: CascadeBands) -> str:
    return "What binds: " + "; ".join(text for name, text in _BINDS.items() if name in found.binding)


def _asides(found: CascadeBands, shares: Shares, budget: Budget) -> Iterator[str]:
    if shares.review is not None and "reviews" not in found.binding:
        inside = shares.counted == "stopped" and shares.review >= shares.alpha
        why = ": what is held counts as a false alarm here, and there are fewer of those" if inside else ""
        yield f"Reviewers' time is not used up{why}"
    if budget.p99_ms is not None and "latency" not in found.binding:
        yield "The latency budget leaves time"
    yield "Reviews, calls and time are those of safe traffic; harm comes on top"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
