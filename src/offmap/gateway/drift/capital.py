"""How strongly ranks say that a number has grown: a test martingale that bets on small ranks only; and shares.

As in ``offmap.drift`` the rows that come are ranked among n reference rows, and where they are exchangeable with these
their ranks follow Polya's urn: that c of t rows lie below the j-th of n + 1 steps has the likelihood of a share that is
drawn once from Beta(j, n + 1 - j). Here only larger shares are bet on: Jeffreys' prior cut off below the mode of that
Beta, over it. Their ratio never falls with the share, so the capital never falls with c (the posterior moves up with
c): where ranks are too large, as those of tied or corrected p-values are, it is at most what true ranks would give it.
Starting from 1 it reaches 1 / level with probability at most ``level``, however long the traffic (Ville's inequality).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from offmap.drift import SPLITS
from offmap.features import FloatArray

Counts = NDArray[np.int64]


@cache
def steps(n: int) -> tuple[int, ...]:
    """The steps that are bet on, each a share of n + 1: those nearest below ``offmap.drift.SPLITS``, at least one."""
    return tuple(sorted({min(max(1, int(share * (n + 1) * (1 + 1e-12))), n) for share in SPLITS}))


def log_capital(below: Counts, total: Counts, n: int) -> FloatArray:
    """The capital's logarithm, (m,): the mean over the steps is a martingale too, see ``offmap.drift``.

    Args:
        below: (m, K), how many ranks lay below each of ``steps(n)`` so far.
        total: (m,), of how many.
        n: reference rows.
    """
    from scipy.special import betaincc, betaln, logsumexp

    step = np.array(steps(n), np.float64)
    above = total[:, None] - below
    mode, _ = _cut(n)
    with np.errstate(divide="ignore"):  # a share far below the mode leaves nothing of the bet
        bet = betaln(below + 0.5, above + 0.5) + np.log(betaincc(below + 0.5, above + 0.5, mode))
    urn = betaln(step + below, n + 1 - step + above) - betaln(step, n + 1 - step)
    return np.asarray(logsumexp(bet - _cut(n)[1] - urn, axis=1) - np.log(len(step)))


@cache
def _cut(n: int) -> tuple[FloatArray, FloatArray]:
    """Where each step's bets begin, and the logarithm of what Jeffreys' prior has from there on."""
    from scipy.special import betaincc, betaln

    step = np.array(steps(n), np.float64)
    mode = (step - 0.5) / n
    return mode, betaln(0.5, 0.5) + np.log(betaincc(0.5, 0.5, mode))


def p_more(count: int, of: int, before: int, of_before: int) -> float:
    """The probability of ``count`` or more of ``of`` rows where ``before`` of ``of_before`` earlier ones had it too.

    Fisher's exact test: where all rows are exchangeable, whatever the share, the later ones' part of all that have it
    is hypergeometric.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(count - 1, of_before + of, before + count, of))
