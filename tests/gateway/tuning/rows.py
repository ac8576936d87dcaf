"""Traffic made of p-values."""

import numpy as np

from offmap.gateway.config import Actions, StageTable, Step
from offmap.gateway.tuning.traffic import Traffic

ONE = Actions(unknown="allow", uncertain="escalate")
"""A stage that hears one question."""


def traffic_of(unsafe, unknown=None, *, label=np.nan, weight=None, seconds=None, asked=None):
    """Traffic of (n, K) p-values; rows are named by their number."""
    unsafe = np.asarray(unsafe, np.float64)
    n, k = unsafe.shape
    return Traffic(
        stage="response",
        monitors=tuple("abcd"[:k]),
        versions=("1",) * k,
        ids=tuple(map(str, range(n))),
        p_unsafe=unsafe,
        p_unknown=np.full((n, k), np.nan) if unknown is None else np.asarray(unknown, np.float64),
        asked=np.ones((n, k), bool) if asked is None else asked,
        unsafe=np.broadcast_to(np.asarray(label, np.float64), (n,)).copy(),
        weight=np.ones(n) if weight is None else weight,
        seconds=np.full((n, k), 0.001) if seconds is None else seconds,
    )


def table_of(k, actions=ONE, **options):
    """A stage of ``k`` monitors."""
    return StageTable(tuple(map(Step, "abcd"[:k])), actions=actions, **options)


def dependent(n, rng, k=2, honest=True):
    """(n, k) dependent p-values; where they are not honest, the small ones are too small."""
    from scipy.special import ndtr

    common = rng.normal(size=(n, 1))
    p = ndtr(-(0.7 * common + np.sqrt(1 - 0.49) * rng.normal(size=(n, k))))
    return p if honest else p**1.7
