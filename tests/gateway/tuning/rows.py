"""Traffic made of p-values."""

from dataclasses import replace

import numpy as np

from offmap.gateway.config import Actions, StageTable, Step
from offmap.gateway.policy import bands
from offmap.gateway.tuning.cascade import calibrate_cascade
from offmap.gateway.tuning.routes import with_bands
from offmap.gateway.tuning.shares import Shares
from offmap.gateway.tuning.traffic import Traffic

ONE = Actions(unknown="allow", uncertain="escalate")
"""A stage that hears one question."""
PEOPLE = Actions(unsafe="block", unknown="escalate", uncertain="escalate", unscored="block")
"""One that asks people about the unknown."""


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


def calibrated(p, alpha, actions=ONE, seed=0, unknown=None, **shares):
    """The bands, where nothing else is said with everything handed on that may be."""
    traffic = traffic_of(p, unknown)
    k = traffic.p_unsafe.shape[1]
    table = table_of(k, actions)
    shares["reach"] = shares.get("reach") or (1.0,) * (k - 1)
    found = calibrate_cascade(traffic, table, Shares(alpha, **shares), seed)
    return found, with_bands(table, found.steps)


def replace_bands(table, questions):
    """The stage with these bands, step by step, of both questions."""
    steps = [replace(b, unsafe=u, unknown=o) for b, (u, o) in zip(bands(table), questions, strict=True)]
    return with_bands(table, steps)
