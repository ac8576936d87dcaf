"""The contract that every detector and backbone keeps, as a check that anyone can run on their own.

``check_detector(MyDetector())`` and ``check_backbone(my_backbone, conversations, spec)`` raise AssertionError with the
clause that was broken. Detectors are checked on made-up features (``make_features``); no model is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap.backbones.base import Backbone
from offmap.conversation import Conversation
from offmap.detectors.base import Detector, Explained, Fitted
from offmap.features import Features, FeatureSpec, FloatArray, Pool, TokenColumns, TokenStat
from offmap.registry import configure, options_of
from offmap.synthetic import make_features

__all__ = ["EVERYTHING", "check_backbone", "check_detector", "make_features"]

R = TypeVar("R")
EVERYTHING = FeatureSpec(frozenset((layer, pool) for layer in (-1, -2) for pool in Pool), frozenset(TokenStat))
"""Two layers with every pool, and every token statistic."""
_ROWS = 240
_SAME = 1e-9
"""How far equal scores may lie apart, as a share of the batch's largest: BLAS may differ in the last bits."""


def check_detector(detector: Detector, *, seed: int = 0) -> None:
    """Hold a detector to the contract, on made-up features.

    It is a frozen dataclass whose options survive JSON; fitting and scoring are deterministic, mutate nothing, and read
    only what ``needs()`` names; a row's score depends on that row alone, is float64, finite, and higher for rows
    that lie further out (or, where the question is "unsafe", for rows like the unsafe ones); the fitted
    state is plain arrays, from which ``restore`` gives the same scores to the last bit; its ``parts``, if it has any,
    keep the same rules; and fitting on nothing raises ValueError.

    Raises:
        AssertionError: with the clause that was broken.
    """
    _check_configuration(detector)
    case = _Case.make(detector, seed)
    _check_fit(case)
    _check_rows(case)
    _check_parts(case)
    _check_state(case)
    _check_direction(case)
    _check_too_few(case)


def check_backbone(
    backbone: Backbone, conversations: Sequence[Conversation], spec: FeatureSpec = EVERYTHING, tolerance: float = 1e-4
) -> None:
    """Hold a backbone to the contract.

    Rows come in the order given, with exactly the columns asked for and the count of tokens cut from each; a row's
    features depend neither on the other rows of its batch nor on its label; no rows give no rows of the same columns;
    and the fingerprint stays what it is.

    Args:
        backbone: to be checked.
        conversations: at least two, of different lengths.
        spec: columns that it can give.
        tolerance: how far equal features may lie apart, as a share of the column's largest value: padding and
            reduced precision move them a little.

    Raises:
        AssertionError: with the clause that was broken.
        ValueError: fewer than two conversations.
    """
    if len(conversations) < 2:
        raise ValueError(f"{len(conversations)} conversations: wanted at least two")
    name, fingerprint = type(backbone).__name__, backbone.fingerprint
    whole = _backbone_call(backbone, conversations, spec)
    for part in (FeatureSpec(), FeatureSpec(hidden=spec.hidden), FeatureSpec(tokens=spec.tokens)):
        _check_columns(name, _backbone_call(backbone, conversations, part), conversations, part)
    _check_columns(name, whole, conversations, spec)
    single = Features.concat([_backbone_call(backbone, [conversation], spec) for conversation in conversations])
    _same_features(f"{name}: features depend on the other rows of the batch", single, whole, tolerance)
    hidden = [msgspec.structs.replace(row, unsafe=None if row.unsafe else True) for row in conversations]
    backwards = _backbone_call(backbone, hidden[::-1], spec).take(np.arange(len(hidden))[::-1])
    _same_features(f"{name}: features depend on the label or the order of rows", backwards, whole, tolerance)
    empty = _backbone_call(backbone, [], spec)
    _check_columns(name, empty, [], spec)
    _same_features(f"{name}: an empty batch has other columns", Features.concat([empty, whole]), whole, tolerance)
    _require(bool(fingerprint) and backbone.fingerprint == fingerprint, f"{name}: the fingerprint is empty or changes")


@dataclass(frozen=True)
class _Case:
    """A detector, fitted, with the made-up rows that it is checked on; their arrays are read-only."""

    detector: Detector
    seed: int
    safe: Features
    unsafe: Features
    usual: Features
    fitted: Fitted
    scores: FloatArray

    @staticmethod
    def make(detector: Detector, seed: int) -> _Case:
        spec = _call(detector, "needs()", detector.needs)
        _require(isinstance(spec, FeatureSpec), _of(detector, f"needs() must give a FeatureSpec, found {spec!r}"))
        _require(detector.needs() == spec, _of(detector, "needs() must give the same each time"))
        safe, unsafe, usual = (
            _frozen(make_features(spec, _ROWS, 3 * seed + i, shift)) for i, shift in enumerate((0.0, 3.0, 0.0))
        )
        learnt = _digest(safe), _digest(unsafe)
        fitted = _call(detector, "fit on read-only features", lambda: detector.fit(safe, unsafe))
        _require((_digest(safe), _digest(unsafe)) == learnt, _of(detector, "fit must not mutate its input"))
        scored = _digest(usual)
        scores = _call(detector, "score of read-only features", lambda: fitted.score(usual))
        _require(_digest(usual) == scored, _of(detector, "score must not mutate its input"))
        return _Case(detector, seed, safe, unsafe, usual, fitted, scores)

    def require(self, kept: bool, clause: str) -> None:
        _require(kept, _of(self.detector, clause))

    def score(self, x: Features) -> FloatArray:
        return _call(self.detector, f"score of {len(x)} rows", lambda: self.fitted.score(x))

    def same(self, found: FloatArray, wanted: FloatArray, clause: str) -> None:
        near = found.shape == wanted.shape and bool(np.all(np.abs(found - wanted) <= _SAME * np.abs(self.scores).max()))
        self.require(near, clause)


def _check_configuration(detector: Detector) -> None:
    cls = type(detector)
    parameters = getattr(cls, "__dataclass_params__", None)
    _require(parameters is not None and parameters.frozen, _of(detector, "a detector must be a frozen dataclass"))
    question = getattr(detector, "question", None)
    _require(question in ("unsafe", "unknown"), _of(detector, f"question is {question!r}, not 'unsafe' or 'unknown'"))
    _call(detector, "hash()", lambda: hash(detector))
    options = _call(detector, "the options in JSON", lambda: options_of(detector))
    again = _call(detector, "options read back from JSON", lambda: configure(cls, options, cls.__name__))
    _require(again == detector, _of(detector, f"options must survive JSON: {detector} became {again}"))


def _check_fit(case: _Case) -> None:
    again = _call(case.detector, "a second fit", lambda: case.detector.fit(case.safe, case.unsafe))
    arrays, found = case.fitted.arrays(), again.arrays()
    for name, array in arrays.items():
        plain = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
        case.require(plain, f"arrays()[{name!r}] must be a plain numeric array, found {type(array).__name__}")
    equal = arrays.keys() == found.keys() and all(np.array_equal(arrays[k], found[k], equal_nan=True) for k in arrays)
    equal = equal and np.array_equal(case.scores, again.score(case.usual), equal_nan=True)
    case.require(equal, "fitting twice on the same rows must give the same state and scores to the last bit")


def _check_rows(case: _Case) -> None:
    scores, n = case.scores, len(case.usual)
    form = f"{type(scores).__name__} {getattr(scores, 'dtype', '')} {getattr(scores, 'shape', '')}"
    good = isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.shape == (n,)
    case.require(good, f"score must be float64 of shape ({n},), found {form}")
    case.require(bool(np.isfinite(scores).all()), "scores must be finite")
    case.require(np.array_equal(scores, case.score(case.usual)), "scoring twice must give the same to the last bit")
    order = np.random.default_rng(case.seed).permutation(n)
    case.same(case.score(case.usual.take(order)), scores[order], "a score must not depend on the order of rows")
    parts = [case.usual.take(part) for part in np.split(np.arange(n), [7, 8, n // 2])]
    split = np.concatenate([case.score(part) for part in parts])
    case.same(split, scores, "a score must not depend on the other rows of the batch (split batches)")
    single = np.concatenate([case.score(case.usual.take([row])) for row in range(8)])
    case.same(single, scores[:8], "a score must not depend on the other rows of the batch (single rows)")
    case.require(case.score(case.usual.take([])).shape == (0,), "no rows must give no scores, of shape (0,)")
    wide = make_features(case.detector.needs() | EVERYTHING, n, 3 * case.seed + 2)
    case.same(case.score(wide), scores, "a score must not depend on columns outside needs()")


def _check_parts(case: _Case) -> None:
    if not isinstance(case.fitted, Explained):
        return
    fitted = case.fitted
    parts = _call(case.detector, "parts", lambda: fitted.parts(case.usual))
    single, none = (fitted.parts(case.usual.take(index)) for index in ([3], []))
    restored = case.detector.restore(fitted.arrays())
    again = restored.parts(case.usual) if isinstance(restored, Explained) else {}
    case.require(bool(parts), "parts must name at least one part")
    case.require(parts.keys() == single.keys() == none.keys() == again.keys(), "parts must have the same names always")
    for name, z in parts.items():
        good = z.dtype == np.float64 and z.shape == (len(case.usual),) and none[name].shape == (0,)
        case.require(good and bool(np.isfinite(z).all()), f"part {name!r} must be one finite float64 a row")
        near = abs(single[name][0] - z[3]) <= _SAME * np.abs(z).max()
        case.require(bool(near), f"part {name!r} must not depend on the other rows of the batch")
        case.require(np.array_equal(again[name], z), f"part {name!r} must be the same to the last bit after restore")


def _check_state(case: _Case) -> None:
    from safetensors.numpy import load, save

    arrays = case.fitted.arrays()
    stored = _call(case.detector, "arrays() stored as safetensors", lambda: load(save(arrays)))
    restored = _call(case.detector, "restore", lambda: case.detector.restore(stored))
    found = _call(case.detector, "score after restore", lambda: restored.score(case.usual))
    equal = np.array_equal(found, case.scores)
    case.require(equal, "arrays -> safetensors -> restore must give the same scores to the last bit")


def _check_direction(case: _Case) -> None:
    spec = case.detector.needs()
    guard = case.detector.question == "unsafe"
    far = _call(
        case.detector, "score", lambda: case.score(make_features(spec, _ROWS, 3 * case.seed + 3, 3 if guard else 6))
    )
    what = "rows like the unsafe ones" if guard else "rows far from the safe ones"
    higher = np.median(far) > np.median(case.scores)
    case.require(bool(higher), f"higher must mean more suspicious: {what} score lower than safe ones (medians)")


def _check_too_few(case: _Case) -> None:
    none = case.safe.take([])
    _raises_value_error(case, lambda: case.detector.fit(none, case.unsafe), "no safe rows")
    try:
        case.detector.fit(case.safe, None)
    except ValueError as error:
        case.require(bool(str(error)), "fit without unsafe rows raises ValueError without a message")
    except Exception as error:
        raise AssertionError(
            _of(case.detector, f"fit without unsafe rows must work or raise ValueError: {error!r}")
        ) from error


def _raises_value_error(case: _Case, call: Callable[[], object], what: str) -> None:
    try:
        call()
    except ValueError as error:
        case.require(bool(str(error)), f"fit on {what} raises ValueError without a message")
        return
    except Exception as error:
        raise AssertionError(_of(case.detector, f"fit on {what} must raise ValueError, raised {error!r}")) from error
    case.require(False, f"fit on {what} must raise ValueError")


def _backbone_call(backbone: Backbone, batch: Sequence[Conversation], spec: FeatureSpec) -> Features:
    return _call(backbone, f"{len(batch)} conversations, {spec.canonical()}", lambda: backbone(batch, spec))


def _check_columns(name: str, x: Features, batch: Sequence[Conversation], spec: FeatureSpec) -> None:
    asked = f"{name}, {len(batch)} conversations, {spec.canonical()}"
    _require(x.ids == tuple(row.id for row in batch), f"{asked}: ids must be those of the batch, in its order")
    _require(x.groups == tuple(row.domain for row in batch), f"{asked}: groups must be the domains of the batch")
    _require(x.n_tokens.shape == (len(batch),), f"{asked}: n_tokens must have one value a row")
    _check_dropped(asked, getattr(x, "n_dropped", None), len(batch))
    turns = [len(row.messages) for row in batch]
    _require(getattr(x, "n_turns", np.zeros(0)).tolist() == turns, f"{asked}: n_turns must count each row's messages")
    tools = [row.has_tools for row in batch]
    _require(getattr(x, "has_tools", np.zeros(0)).tolist() == tools, f"{asked}: has_tools must say if tools are used")
    _require(set(x.hidden) == spec.hidden, f"{asked}: hidden holds {sorted(x.hidden)}")
    for key, rows in x.hidden.items():
        good = rows.ndim == 2 and len(rows) == len(batch) and rows.dtype == np.float32 and np.isfinite(rows).all()
        _require(bool(good), f"{asked}: hidden {key} must be finite float32 (n, d), found {rows.dtype} {rows.shape}")
    _require(set(x.scalars) == spec.scalars, f"{asked}: scalars hold {sorted(x.scalars)}")
    for scalar, values in x.scalars.items():
        _require(
            values.dtype == np.float64 and values.shape == (len(batch),),
            f"{asked}: scalar {scalar!r} is not float64 (n,)",
        )
    _require(
        (x.tokens is not None) == bool(spec.tokens), f"{asked}: token columns must be there if asked for, and only then"
    )
    if x.tokens is not None:
        _check_tokens(asked, x.tokens, x.n_tokens, spec)


def _check_dropped(asked: str, dropped: object, n: int) -> None:
    good = isinstance(dropped, np.ndarray) and dropped.dtype == np.int32 and dropped.shape == (n,)
    good = good and bool(np.all(np.asarray(dropped) >= 0))
    _require(good, f"{asked}: n_dropped must be int32 of shape ({n},), zero or more, found {dropped!r}")


def _check_tokens(asked: str, tokens: TokenColumns, n_tokens: NDArray[np.int32], spec: FeatureSpec) -> None:
    _require(set(tokens.stats) == spec.tokens, f"{asked}: token statistics are {sorted(tokens.stats)}")
    lengths = np.diff(tokens.offsets)
    _require(np.array_equal(lengths, np.maximum(n_tokens - 1, 0)), f"{asked}: a row of L tokens predicts L - 1")
    columns: dict[str, NDArray[Any]] = {name: getattr(tokens, name) for name in ("ids", "roles", "turns", "starts")}
    columns |= {str(stat): column for stat, column in tokens.stats.items()}
    for name, column in columns.items():
        _require(column.shape == (tokens.offsets[-1],), f"{asked}: token column {name!r} has shape {column.shape}")
    for stat, column in tokens.stats.items():
        signed = column if stat is TokenStat.LOGPROB else -column
        good = column.dtype == np.float32 and bool(np.all(signed <= 1e-3))
        _require(good, f"{asked}: {stat} must be float32 in nats, log-probabilities at most 0, others at least 0")


def _same_features(clause: str, found: Features, wanted: Features, tolerance: float) -> None:
    for (name, a), (_, b) in zip(_columns(found), _columns(wanted), strict=True):
        near = a.shape == b.shape
        if near and a.size:
            scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
            near = bool(np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True))
        _require(near, f"{clause}: column {name}")


def _columns(x: Features) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "n_tokens", x.n_tokens
    yield "n_dropped", x.n_dropped
    yield "n_turns", x.n_turns
    yield "has_tools", x.has_tools
    yield from ((f"hidden {key[0]}:{key[1]}", x.hidden[key]) for key in sorted(x.hidden))
    yield from ((f"scalar {name}", x.scalars[name]) for name in sorted(x.scalars))
    if x.tokens is not None:
        yield "offsets", x.tokens.offsets
        yield "ids", x.tokens.ids
        yield "roles", x.tokens.roles
        yield "turns", x.tokens.turns
        yield "starts", x.tokens.starts
        yield from ((str(stat), x.tokens.stats[stat]) for stat in sorted(x.tokens.stats))


def _frozen(x: Features) -> Features:
    for _, column in _columns(x):
        column.setflags(write=False)
    return x


def _digest(x: Features) -> str:
    state = hashlib.sha256(repr((x.ids, x.groups)).encode())
    for name, column in _columns(x):
        state.update(name.encode() + np.ascontiguousarray(column).tobytes())
    return state.hexdigest()


def _call(subject: object, what: str, call: Callable[[], R]) -> R:
    try:
        return call()
    except Exception as error:
        raise AssertionError(_of(subject, f"{what} raised {type(error).__name__}: {error}")) from error


def _of(subject: object, clause: str) -> str:
    return f"{type(subject).__name__}: {clause}"


def _require(kept: bool, message: str) -> None:
    if not kept:
        raise AssertionError(message)
