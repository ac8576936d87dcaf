"""Does a conversation use the words of known harm? A logistic head on the tokens themselves and on pairs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors._tokens import Over, require_over, said_by, token_columns
from offmap.detectors.base import Arrays, Question, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, TokenStat

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BITS = 17
BUCKETS = 1 << BITS
"""Tokens and pairs are hashed into as many columns (Weinberger et al. 2009, feature hashing)."""
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
FOLDS = 5


@dataclass(frozen=True)
class LexicalGuard:
    """L2-regularised logistic regression on the tokens that were said, and on pairs of neighbours.

    Each row is a vector of (1 + log count) * idf of unit length over hashed tokens and pairs; both classes weigh the
    same; the L2 strength is that of the lowest held-out log-loss in seeded stratified folds. Hidden states blur which
    word was said; this guard reads exactly that, at no cost beyond the tokenizer's. The score is a logit.

    Attributes:
        over: the tokens that count: all, or those of one role.
        pairs: whether pairs of neighbouring tokens count beside single ones.
        strengths: L2 penalties to choose from: strength / 2 * ||w||^2 beside the mean loss.
        seed: of the folds.
    """

    question: ClassVar[Question] = "unsafe"

    over: Over = "conversation"
    pairs: bool = True
    strengths: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    seed: int = 0

    def __post_init__(self) -> None:
        require_over(self.over)
        if not self.strengths or not all(strength > 0 for strength in self.strengths):
            raise ValueError(f"strengths={self.strengths}: wanted positive numbers, at least one")

    def needs(self) -> FeatureSpec:
        """The tokens; their ids come with any statistic."""
        return FeatureSpec(tokens=frozenset({TokenStat.LOGPROB}))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedLexicalGuard:
        """Learn the words of the unsafe rows. At least two rows of each class.

        Raises:
            ValueError: too few rows of a class.
        """
        parts = (require_rows(safe, 2, "safe"), require_rows(unsafe, 2, "unsafe"))
        signs = np.repeat([-1.0, 1.0], [len(part) for part in parts])
        counts = self._counts(Features.concat(parts))
        held_by = np.diff(counts.tocsc().indptr)
        used = np.flatnonzero(held_by)
        idf = np.zeros(BUCKETS)
        idf[used] = np.log((1 + len(signs)) / (1 + held_by[used])) + 1
        rows = _unit(counts, idf)[:, used]
        strength = self._choose(rows, signs)
        weights, intercept = _solve(rows, signs, _balanced(signs, np.ones(len(signs))), strength)
        columns = np.zeros(BUCKETS)
        columns[used] = weights
        return FittedLexicalGuard(self, idf, columns, intercept, strength)

    def restore(self, arrays: Arrays) -> FittedLexicalGuard:
        """From ``arrays()`` of an equal detector."""
        intercept, strength = (float(value) for value in arrays["numbers"])
        idf, weights = np.zeros(BUCKETS), np.zeros(BUCKETS)
        idf[arrays["used"]], weights[arrays["used"]] = arrays["idf"], arrays["weights"]
        return FittedLexicalGuard(self, idf, weights, intercept, strength)

    def _counts(self, x: Features) -> csr_matrix:
        """(n, BUCKETS): 1 + log of how often each token and pair was said; 0 where never."""
        from scipy.sparse import csr_matrix

        tokens = token_columns(x)
        used, ids = said_by(tokens, self.over), tokens.ids.astype(np.uint64)
        row = np.repeat(np.arange(len(x)), np.diff(tokens.offsets))
        places = [(row[used], _bucket(ids[used]))]
        if self.pairs:
            both = used[1:] & used[:-1] & (row[1:] == row[:-1])
            places.append((row[1:][both], _bucket((ids[:-1][both] * MIX[0]) ^ ((ids[1:][both] + MIX[1]) * MIX[1]))))
        at, columns = (np.concatenate(part) for part in zip(*places, strict=True))
        counts = csr_matrix((np.ones(len(at)), (at, columns)), shape=(len(x), BUCKETS))
        counts.sum_duplicates()
        counts.data = 1 + np.log(counts.data)
        return counts

    def _choose(self, rows: csr_matrix, signs: FloatArray) -> float:
        """The strength of the lowest held-out log-loss; the stronger of equals."""
        fold = np.empty(len(signs), np.int64)
        rng = np.random.default_rng(self.seed)
        for sign in (-1, 1):
            members = np.flatnonzero(signs == sign)
            fold[rng.permutation(members)] = np.arange(len(members)) % min(FOLDS, len(members))
        losses = dict.fromkeys(sorted(self.strengths, reverse=True), 0.0)
        if len(losses) > 1:
            for held in range(int(fold.max()) + 1):
                inside, outside = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
                train, test = (_balanced(signs[part], np.ones(len(part))) for part in (inside, outside))
                for strength in losses:
                    weights, intercept = _solve(rows[inside], signs[inside], train, strength)
                    margins = signs[outside] * (rows[outside] @ weights + intercept)
                    losses[strength] += float((test * np.logaddexp(0, -margins)).sum())
        return min(losses, key=losses.__getitem__)


@dataclass(frozen=True, eq=False)
class FittedLexicalGuard:
    """What each token and pair adds to the logit.

    Attributes:
        guard: its configuration.
        idf: (BUCKETS,), 0 where the fit rows had nothing.
        weights: (BUCKETS,).
        intercept: of the logit.
        strength: the L2 strength that was chosen.
    """

    guard: LexicalGuard
    idf: FloatArray
    weights: FloatArray
    intercept: float
    strength: float

    def score(self, x: Features) -> FloatArray:
        """The logit, (n,)."""
        return np.asarray(_unit(self.guard._counts(x), self.idf) @ self.weights + self.intercept)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Inverse document frequencies and weights of the columns that the fit rows used; intercept and strength."""
        used = np.flatnonzero(self.idf).astype(np.int32)
        numbers = np.array([self.intercept, self.strength])
        return {"used": used, "idf": self.idf[used], "weights": self.weights[used], "numbers": numbers}


def _bucket(mixed: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.asarray((mixed * MIX[0]) >> np.uint64(64 - BITS), dtype=np.int64)


def _unit(counts: csr_matrix, idf: FloatArray) -> csr_matrix:
    """Rows times idf, of unit length; a row of zeros stays zero."""
    scaled = counts.copy()
    scaled.data = scaled.data * idf[scaled.indices]
    length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    scaled.data = scaled.data / np.repeat(np.where(length == 0, 1.0, length), np.diff(scaled.indptr))
    return scaled


def _balanced(signs: FloatArray, counts: FloatArray) -> FloatArray:
    weights = np.empty_like(counts)
    for members in (signs == -1, signs == 1):
        weights[members] = counts[members] / (2 * max(counts[members].sum(), 1.0))
    return weights


def _solve(rows: csr_matrix, signs: FloatArray, weights: FloatArray, strength: float) -> tuple[FloatArray, float]:
    """Weights and intercept that minimise the weighted log-loss plus strength / 2 * ||w||^2, the intercept free."""
    from scipy.optimize import minimize

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        margins = signs * (rows @ at[:-1] + at[-1])
        pull = -weights * signs * (1 - np.tanh(margins / 2)) / 2
        loss = float((weights * np.logaddexp(0, -margins)).sum() + strength * (at[:-1] ** 2).sum() / 2)
        return loss, np.append(rows.T @ pull + strength * at[:-1], pull.sum())

    found = minimize(
        objective, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-7}
    )
    return found.x[:-1], float(found.x[-1])
