"""Does a conversation look like known harm? Logistic heads on the hidden states of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from offmap.detectors.base import Arrays, Question, hidden_keys, hidden_rows, require_rows
from offmap.features import Features, FeatureSpec, FloatArray, Pool
from offmap.linalg import blocks

FOLDS = 5
CHOOSING, FINAL = 1e-4, 1e-7
"""Largest gradient left in the heads that choose the strength and in those kept; unknowns scaled as in ``_solve``."""
STEPS, ROUNDS = 30, 40
"""Steps of the solver before the curvature is measured anew, and how often it is."""


@dataclass(frozen=True)
class GuardProbe:
    """L2-regularised logistic heads on pooled hidden states of several layers, safe against unsafe rows.

    The states are joined, standardised by the moments of all rows that it is fitted on, and scaled so that a row has
    unit mean squared length. Both classes weigh the same. One L2 strength, that of the lowest held-out log-loss in
    seeded stratified folds of the same rows, serves ``heads`` heads, each on a bootstrap of the rows within its class;
    a single head sees the rows themselves.

    The score is the heads' mean logit plus ``beta`` times their standard deviation: heads disagree where few rows were
    seen, and the disagreement must raise suspicion, never lower it. It is a logit, not a calibrated probability.

    Attributes:
        layers: hidden layers, joined with every pool.
        pools: how tokens become one vector.
        heads: bootstrapped heads.
        beta: standard deviations added to the mean.
        strengths: L2 penalties to choose from: strength / 2 * ||w||^2 beside the mean loss.
        seed: of folds and bootstraps.
    """

    question: ClassVar[Question] = "unsafe"

    layers: tuple[int, ...] = (-1, -3)
    pools: tuple[Pool, ...] = (Pool.ASSISTANT, Pool.MEAN, Pool.LAST)
    heads: int = 8
    beta: float = 1.0
    strengths: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    seed: int = 0

    def __post_init__(self) -> None:
        hidden_keys(self.layers, self.pools)
        if self.heads < 1:
            raise ValueError(f"heads={self.heads}: wanted at least 1")
        if not self.beta >= 0:
            raise ValueError(f"beta={self.beta}: wanted 0 or more, for disagreement never lowers suspicion")
        if not self.strengths or not all(strength > 0 for strength in self.strengths):
            raise ValueError(f"strengths={self.strengths}: wanted positive numbers, at least one")

    def needs(self) -> FeatureSpec:
        """Every layer with every pool."""
        return FeatureSpec(hidden=frozenset(hidden_keys(self.layers, self.pools)))

    def fit(self, safe: Features, unsafe: Features | None = None) -> FittedGuardProbe:
        """Learn the heads. At least two rows of each class.

        Raises:
            ValueError: too few rows of a class.
        """
        parts = (require_rows(safe, 2, "safe"), require_rows(unsafe, 2, "unsafe"))
        rows = np.concatenate([self.join(part) for part in parts])
        signs = np.repeat([-1.0, 1.0], [len(part) for part in parts])
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        scale = np.sqrt(rows.shape[1]) * np.where(spread == 0, 1.0, spread)
        rotated, basis = _rotate((rows - mean) / scale)
        fold, counts = self._draws(signs > 0)
        strength = _choose(rotated, signs, self.strengths, fold)
        heads, intercepts = _solve(rotated, signs, _balanced(signs, counts), np.full(self.heads, strength), FINAL)
        return FittedGuardProbe(self, mean, (basis @ heads) / scale[:, None], intercepts, strength)

    def counts(self, unsafe: NDArray[np.bool_]) -> FloatArray:
        """(n, heads) how often each row was drawn for each head, given the labels (n,) of the rows.

        ``fit`` draws the same for as many rows of each label in their order, however the labels are mixed.
        """
        return self._draws(np.asarray(unsafe, bool))[1]

    def restore(self, arrays: Arrays) -> FittedGuardProbe:
        """From ``arrays()`` of an equal detector."""
        mean, heads, intercepts = (np.array(arrays[name]) for name in ("mean", "heads", "intercepts"))
        return FittedGuardProbe(self, mean, heads, intercepts, float(arrays["strength"][0]))

    def join(self, x: Features) -> FloatArray:
        """The states that the heads read, (n, d) float64: layers outermost, then pools."""
        keys = hidden_keys(self.layers, self.pools)
        return np.concatenate([hidden_rows(x, key) for key in keys], axis=1, dtype=np.float64)

    def _draws(self, unsafe: NDArray[np.bool_]) -> tuple[NDArray[np.int64], FloatArray]:
        """A fold for each row where there is a strength to choose, else none; and the counts of the bootstraps."""
        rng, classes = np.random.default_rng(self.seed), [np.flatnonzero(unsafe == label) for label in (False, True)]
        fold = _deal(classes, rng) if len(self.strengths) > 1 else np.zeros(0, np.int64)
        return fold, _bootstraps(classes, self.heads, rng)


@dataclass(frozen=True, eq=False)
class FittedGuardProbe:
    """Heads in the coordinates of the joined states.

    Attributes:
        probe: its configuration.
        mean: (d,) of the rows it was fitted on.
        heads: (d, heads) weights.
        intercepts: (heads,).
        strength: the L2 strength that was chosen.
    """

    probe: GuardProbe
    mean: FloatArray
    heads: FloatArray
    intercepts: FloatArray
    strength: float

    def score(self, x: Features) -> FloatArray:
        """Mean logit of the heads plus ``beta`` times their standard deviation."""
        logits = self.logits(x)
        return np.asarray(logits.mean(axis=1) + self.probe.beta * logits.std(axis=1))

    def logits(self, x: Features) -> FloatArray:
        """What each head says, (n, heads); higher is more suspicious."""
        parts = blocks(np.arange(len(x)))
        return np.concatenate([self._logits(x.take(part.astype(np.intp))) for part in parts])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Mean, heads, intercepts and the chosen strength."""
        strength = np.array([self.strength])
        return {"mean": self.mean, "heads": self.heads, "intercepts": self.intercepts, "strength": strength}

    def _logits(self, x: Features) -> FloatArray:
        return np.asarray((self.probe.join(x) - self.mean) @ self.heads + self.intercepts)


def _rotate(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The rows (n, d) in their principal axes (n, r), and the axes (d, r), r their rank.

    An L2 penalty does not see a rotation, so the solution stays exact, while the problem gets a diagonal curvature and
    no more unknowns than rows.
    """
    n, d = rows.shape
    values, vectors = np.linalg.eigh(rows.T @ rows if d <= n else rows @ rows.T)
    kept = values > max(values[-1], 0.0) * max(n, d) * np.finfo(np.float64).eps
    basis = np.ascontiguousarray(vectors[:, kept]) if d <= n else rows.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return rows @ basis, basis


def _choose(rows: FloatArray, signs: FloatArray, strengths: tuple[float, ...], fold: NDArray[np.int64]) -> float:
    """The strength of the lowest held-out log-loss; the stronger of equals."""
    if len(strengths) == 1:
        return strengths[0]
    count = int(fold.max()) + 1
    held = fold[:, None] == np.arange(count)
    train, test = (_balanced(signs, mask.astype(np.float64)) for mask in (~held, held))
    grid = np.repeat(strengths, count)
    heads, intercepts = _solve(rows, signs, np.tile(train, (1, len(strengths))), grid, CHOOSING)
    losses = np.logaddexp(0, -signs[:, None] * (rows @ heads + intercepts))
    held_out = (losses * np.tile(test, (1, len(strengths)))).sum(axis=0).reshape(-1, count).mean(axis=1)
    return max(strength for strength, loss in zip(strengths, held_out, strict=True) if loss == held_out.min())


def _deal(classes: list[NDArray[np.intp]], rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold for each row, every fold holding rows of both classes."""
    fold = np.empty(sum(map(len, classes)), np.int64)
    for members in classes:
        # By their number within the class: the draw does not depend on how the classes are mixed.
        fold[members[rng.permutation(len(members))]] = np.arange(len(members)) % min(FOLDS, *map(len, classes))
    return fold


def _bootstraps(classes: list[NDArray[np.intp]], heads: int, rng: np.random.Generator) -> FloatArray:
    """Counts (n, heads): how often each row was drawn, within its class; a lone head sees every row once."""
    counts = np.ones((sum(map(len, classes)), heads))
    if heads > 1:
        for members in classes:
            n = len(members)
            counts[members] = rng.multinomial(n, np.full(n, 1 / n), size=heads).T
    return counts


def _balanced(signs: FloatArray, counts: FloatArray) -> FloatArray:
    """Counts (n, heads) scaled so that either class weighs one half in every head."""
    weights = np.empty_like(counts)
    for members in (signs == -1, signs == 1):
        weights[members] = counts[members] / (2 * counts[members].sum(axis=0))
    return weights


def _solve(
    rows: FloatArray, signs: FloatArray, weights: FloatArray, strengths: FloatArray, tolerance: float
) -> tuple[FloatArray, FloatArray]:
    """Weights (r, heads) and intercepts (heads,) of every head at once, by L-BFGS.

    Each head minimises its weighted mean log-loss plus strength / 2 * ||w||^2, the intercept free. The rows lie in
    their principal axes, so dividing an unknown by the root of its curvature leaves a problem of near-unit curvature;
    as that changes on the way, above all where the classes separate, it is measured anew every few steps.
    """
    from scipy.optimize import minimize

    (r, heads), signed, squares = (rows.shape[1], len(strengths)), signs[:, None], rows**2
    solution = np.zeros((r + 1, heads))
    options = {"maxiter": STEPS, "maxcor": STEPS, "gtol": tolerance, "ftol": 0.0}
    for _ in range(ROUNDS):
        error = _error(signed * (rows @ solution[:-1] + solution[-1]))
        certainty = weights * error * (1 - error)
        curvature = np.concatenate([squares.T @ certainty, certainty.sum(axis=0, keepdims=True)]) + strengths
        unit = 1 / np.sqrt(curvature)

        def objective(scaled: FloatArray, unit: FloatArray = unit) -> tuple[float, FloatArray]:
            at = scaled.reshape(r + 1, heads) * unit
            margins = signed * (rows @ at[:-1] + at[-1])
            loss = float((weights * np.logaddexp(0, -margins)).sum() + (strengths * at[:-1] ** 2).sum() / 2)
            pull = -weights * signed * _error(margins)
            slope = np.concatenate([rows.T @ pull + strengths * at[:-1], pull.sum(axis=0, keepdims=True)])
            return loss, (slope * unit).ravel()

        found = minimize(objective, (solution / unit).ravel(), jac=True, method="L-BFGS-B", options=options)
        solution = found.x.reshape(r + 1, heads) * unit
        if found.nit < STEPS:
            break
    return solution[:-1], solution[-1]


def _error(margins: FloatArray) -> FloatArray:
    """The probability that the model gives to the wrong class."""
    return np.asarray((1 - np.tanh(margins / 2)) / 2)
