"""What is looked at on the held-out rows, which of two looks is better, and when there have been enough.

Knows nothing of how anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from offmap.features import FloatArray

PLAIN = "plain"
"""Ends the name of a loss that is looked at beside the rescaled one, as it is."""
DIGITS = 4
"""Of a loss that count: rescaled losses are found by a search that ends there, and of separable rows all are 0."""


def guard_measures(logits: FloatArray, unsafe: NDArray[np.bool_], weights: FloatArray) -> dict[str, float]:
    """Measures of what is deployed: the most suspicious of the heads.

    Its loss is what remains after the best scale and shift of the score: scores become p-values, so neither counts, and
    a guard that has grown too sure is no worse.

    Args:
        logits: (n, heads) higher is more unsafe.
        unsafe: (n,) labels.
        weights: (n,) of the rows.
    """
    heard = logits.max(axis=1)
    return {"guard": rescaled_loss(heard, unsafe, weights), "auroc": auroc(heard, unsafe)}


def rescaled_loss(logits: FloatArray, unsafe: NDArray[np.bool_], weights: FloatArray) -> float:
    """The weighted mean log-loss of ``exp(a) * logits + b`` for the a and b that make it least.

    Args:
        logits: (n,) higher is more unsafe.
        unsafe: (n,) labels.
        weights: (n,) of the rows.
    """
    from scipy.optimize import minimize

    z, signs = logits.astype(np.float64), np.where(unsafe, 1.0, -1.0)
    z = (z - z.mean()) / max(float(z.std()), 1e-300)  # the least is the same, the way to it shorter
    share = weights.astype(np.float64) / weights.sum()

    def loss(at: FloatArray) -> float:
        return float(share @ np.logaddexp(0, -signs * (np.exp(min(at[0], 50.0)) * z + at[1])))  # separable: no end

    starts = ([0.0, 0.0], [2.0, 0.0])
    return min(float(minimize(loss, start, method="Nelder-Mead", options={"maxiter": 400}).fun) for start in starts)


def auroc(scores: FloatArray, unsafe: NDArray[np.bool_]) -> float:
    """The share of pairs of an unsafe and a safe row that scores (n,) put in order, half of it where they are equal."""
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(scores[unsafe], scores[~unsafe]).statistic
    return float(found / (unsafe.sum() * (~unsafe).sum()))


def merit(entry: Mapping[str, float], goal: str) -> tuple[float, float]:
    """How good a look was; the less the better: the rounded goal, and among equals the plain loss, where there is one.

    Args:
        entry: of the log.
        goal: what the log calls the loss that says when to stop.
    """
    return round(entry[goal], DIGITS), entry.get(f"{goal}_{PLAIN}", entry[goal])


def looks(log: Sequence[Mapping[str, float]], goal: str) -> list[Mapping[str, float]]:
    """The entries of a log that are looks at held-out rows, in order."""
    return [entry for entry in log if goal in entry]


def is_best(entry: Mapping[str, float], log: Sequence[Mapping[str, float]], goal: str) -> bool:
    """Whether a look is better than every one in the log."""
    return merit(entry, goal) < min((merit(look, goal) for look in looks(log, goal)), default=(math.inf, math.inf))


def enough(log: Sequence[Mapping[str, float]], patience: int, goal: str) -> bool:
    """Whether no look of the last ``patience`` was better than all before."""
    found = [merit(look, goal) for look in looks(log, goal)]
    return bool(found) and len(found) - 1 - found.index(min(found)) >= patience
