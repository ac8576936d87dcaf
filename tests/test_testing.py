"""The contract rejects what breaks it: each detector and backbone below breaks one clause."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest

from offmap.conversation import Conversation, Message
from offmap.features import Features, FeatureSpec, Pool, TokenColumns, TokenStat
from offmap.testing import EVERYTHING, check_backbone, check_detector, make_features

KEY = (-1, Pool.MEAN)


@dataclass(frozen=True)
class Good:
    """Distance to the mean of the safe rows, along every axis."""

    question: ClassVar[str] = "unknown"
    power: float = 2.0

    def needs(self):
        return FeatureSpec(hidden=frozenset({KEY}), scalars=frozenset({"grade"}))

    def fit(self, safe, unsafe=None):
        if not len(safe):
            raise ValueError("0 safe rows to fit on")
        return self.restore({"mean": safe.hidden[KEY].astype(np.float64).mean(axis=0)})

    def restore(self, arrays):
        return GoodFitted(self, dict(arrays))

    def measure(self, arrays, x):
        return (np.abs(x.hidden[KEY] - arrays["mean"]) ** self.power).sum(axis=1) + x.scalars["grade"]


@dataclass(frozen=True)
class GoodFitted:
    detector: Good
    state: dict = field(hash=False)

    def score(self, x):
        return self.detector.measure(self.state, x)

    def arrays(self):
        return self.state


class Mutating(Good):
    def measure(self, arrays, x):
        rows = x.hidden[KEY]
        rows -= arrays["mean"].astype(np.float32)
        return (rows.astype(np.float64) ** 2).sum(axis=1)


class StealthilyMutating(Good):
    def measure(self, arrays, x):
        if x.n_tokens.flags.owndata:
            x.n_tokens.setflags(write=True)
            x.n_tokens[:] += 1
        return super().measure(arrays, x)


class MutatingInFit(Good):
    def fit(self, safe, unsafe=None):
        np.clip(safe.hidden[KEY], -1, 1, out=safe.hidden[KEY])
        return super().fit(safe)


class BatchDependent(Good):
    def measure(self, arrays, x):
        scores = super().measure(arrays, x)
        return scores - scores.mean() if len(x) else scores


class NeighbourDependent(Good):
    def measure(self, arrays, x):
        scores = super().measure(arrays, x)
        return scores + 1e-3 * np.roll(scores, 1)


class SingleDependent(Good):
    def measure(self, arrays, x):
        return super().measure(arrays, x) * (1.01 if len(x) == 1 else 1.0)


class SinglePrecision(Good):
    def measure(self, arrays, x):
        return super().measure(arrays, x).astype(np.float32)


class Column(Good):
    def measure(self, arrays, x):
        return super().measure(arrays, x)[:, None]


class NotFinite(Good):
    def measure(self, arrays, x):
        return np.where(x.scalars["grade"] > 1, np.nan, super().measure(arrays, x))


class Unseeded(Good):
    def fit(self, safe, unsafe=None):
        fitted = super().fit(safe)
        return self.restore({"mean": fitted.state["mean"] + np.random.default_rng().normal()})


class UnseededScore(Good):
    def measure(self, arrays, x):
        return super().measure(arrays, x) + np.random.default_rng().normal()


class UpsideDown(Good):
    def measure(self, arrays, x):
        return -super().measure(arrays, x)


class UpsideDownGuard(UpsideDown):
    question = "unsafe"


class Forgetful(Good):
    def restore(self, arrays):
        return GoodFitted(self, {"mean": arrays["mean"].astype(np.float32).astype(np.float64)})

    def fit(self, safe, unsafe=None):
        return GoodFitted(self, {"mean": safe.hidden[KEY].astype(np.float64).mean(axis=0)})


class ObjectState(Good):
    def fit(self, safe, unsafe=None):
        return self.restore({**super().fit(safe).state, "names": np.array(safe.ids, dtype=object)})


class ListState(Good):
    def fit(self, safe, unsafe=None):
        return self.restore({**super().fit(safe).state, "n": [len(safe)]})


class SilentOnNothing(Good):
    def fit(self, safe, unsafe=None):
        return super().fit(safe) if len(safe) else self.restore({"mean": np.zeros(24)})


class WrongErrorOnNothing(Good):
    def fit(self, safe, unsafe=None):
        return super().fit(safe) if len(safe) else self.restore({})[0]


class Greedy(Good):
    def measure(self, arrays, x):
        return super().measure(arrays, x) + sum(rows[:, 0] for rows in x.hidden.values())


class Undeclared(Good):
    def measure(self, arrays, x):
        return x.hidden[-2, Pool.LAST].sum(axis=1)


class StillLearning(Good):
    def measure(self, arrays, x):
        scores = super().measure(arrays, x)
        arrays["mean"] = arrays["mean"] + 1e-12
        return scores


class NoQuestion(Good):
    question = "odd"


class UnsafeOnly(Good):
    def fit(self, safe, unsafe=None):
        return super().fit(safe) if len(unsafe) else None


@dataclass
class Thawed:
    question: ClassVar[str] = "unknown"
    needs, fit, restore, measure = Good.needs, Good.fit, Good.restore, Good.measure


@dataclass(frozen=True)
class Unserialisable(Good):
    how: object = np.float64(1)


@dataclass(frozen=True)
class Lossy(Good):
    layers: tuple = (1, 2)
    keys: frozenset[int] | tuple[int, ...] | None = None


@dataclass(frozen=True)
class Unhashable(Good):
    layers: Mapping[str, int] = field(default_factory=dict)


BROKEN = [
    (Mutating(), "score of read-only features raised ValueError"),
    (StealthilyMutating(), "score must not mutate"),
    (MutatingInFit(), "fit on read-only features raised ValueError"),
    (BatchDependent(), "split batches"),
    (NeighbourDependent(), "order of rows"),
    (SingleDependent(), "other rows of the batch"),
    (SinglePrecision(), "must be float64 of shape (240,), found ndarray float32 (240,)"),
    (Column(), "found ndarray float64 (240, 1)"),
    (NotFinite(), "scores must be finite"),
    (Unseeded(), "fitting twice on the same rows"),
    (UnseededScore(), "to the last bit"),
    (UpsideDown(), "rows far from the safe ones score lower"),
    (UpsideDownGuard(), "rows like the unsafe ones score lower"),
    (Forgetful(), "arrays -> safetensors -> restore"),
    (ObjectState(), "arrays()['names'] must be a plain numeric array"),
    (ListState(), "arrays()['n'] must be a plain numeric array, found list"),
    (SilentOnNothing(), "fit on no safe rows must raise ValueError"),
    (WrongErrorOnNothing(), "fit on no safe rows must raise ValueError, raised TypeError"),
    (Greedy(), "columns outside needs()"),
    (Undeclared(), "raised KeyError"),
    (StillLearning(), "to the last bit"),
    (NoQuestion(), "question is 'odd'"),
    (UnsafeOnly(), "fit without unsafe rows must work or raise ValueError"),
    (Thawed(), "must be a frozen dataclass"),
    (Unserialisable(how=range(3)), "the options in JSON raised"),
    (Lossy(layers=((1, 2), (3, 4))), "must survive JSON"),
    (Unhashable(), "hash() raised TypeError"),
]


def test_what_the_broken_ones_derive_from_keeps_the_contract():
    check_detector(Good())
    check_detector(Good(power=1.0), seed=5)


@pytest.mark.parametrize(("detector", "clause"), BROKEN, ids=lambda value: type(value).__name__)
def test_each_broken_detector_is_rejected_by_its_clause(detector, clause):
    with pytest.raises(AssertionError) as caught:
        check_detector(detector)
    assert clause in str(caught.value)
    assert type(detector).__name__ in str(caught.value)


def test_made_up_rows_are_alike_over_seeds_and_move_with_the_shift():
    spec = EVERYTHING | FeatureSpec(scalars=frozenset({"grade"}))
    one, two, far = (make_features(spec, 400, seed, shift) for seed, shift in ((0, 0.0), (1, 0.0), (2, 4.0)))
    rows, other, moved = (x.hidden[KEY] for x in (one, two, far))
    spread = rows.std(axis=0)
    assert np.abs((rows.mean(axis=0) - other.mean(axis=0)) / spread).max() < 0.5
    assert np.abs((moved.mean(axis=0) - rows.mean(axis=0)) / spread).max() > 2
    assert far.tokens.stats[TokenStat.LOGPROB].mean() < one.tokens.stats[TokenStat.LOGPROB].mean() - 3
    assert far.scalars["grade"].mean() > 3
    assert len(one.tokens) == 400
    np.testing.assert_array_equal(np.diff(one.tokens.offsets), one.n_tokens - 1)
    alone = make_features(FeatureSpec(hidden=frozenset({KEY})), 400, 0)
    np.testing.assert_array_equal(alone.hidden[KEY], rows)
    assert alone.tokens is None


@dataclass(frozen=True)
class Hashing:
    """A backbone whose features are hashes of the text."""

    flaw: str = ""
    calls: list = field(default_factory=list)

    @property
    def fingerprint(self):
        return f"hashing-{len(self.calls)}" if self.flaw == "fingerprint" else "hashing"

    def __call__(self, batch, spec):
        self.calls.append(len(batch))
        batch = batch[::-1] if self.flaw == "order" else batch
        rows = [self.row(conversation, spec) for conversation in batch]
        if not rows:
            full = self.row(Conversation("", (Message("user", "a"),)), spec)
            return replace(full, hidden={}) if self.flaw == "empty" else full.take([])
        whole = Features.concat(rows)
        if self.flaw == "batch":
            return replace(whole, hidden={key: rows - rows.mean(axis=0) for key, rows in whole.hidden.items()})
        return whole

    def row(self, conversation, spec):
        text = conversation.messages[0].content + ("!" if self.flaw == "label" and conversation.unsafe else "")
        wide = np.float64 if self.flaw == "float64" else np.float32
        hidden = {key: self.draw(text, str(key), 4)[None].astype(wide) for key in sorted(spec.hidden)}
        if self.flaw == "columns":
            hidden[-9, Pool.LAST] = np.zeros((1, 4), np.float32)
        n = len(text)
        sign = -1 if self.flaw != "positive" else 1
        stats = {stat: sign ** (stat is TokenStat.LOGPROB) * self.draw(text, stat, n - 1) for stat in spec.tokens}
        short = n - (self.flaw == "length")
        columns = [np.zeros(short - 1, kind) for kind in (np.int32, np.int8, np.int16, np.int32)]
        stats = {stat: column[: short - 1].astype(np.float32) for stat, column in stats.items()}
        tokens = TokenColumns(np.array([0, short - 1]), *columns, stats) if spec.tokens else None
        cut = np.array([-1 if self.flaw == "cut" else 0], np.int64 if self.flaw == "wide" else np.int32)
        turns, tools = np.array([len(conversation.messages)], np.int32), np.array([conversation.has_tools])
        counts = np.array([n], np.int32), cut, turns, tools
        return Features((conversation.id,), (conversation.domain,), *counts, hidden, tokens)

    def draw(self, text, name, size):
        return np.random.default_rng(zlib.crc32(f"{name} {text}".encode())).random(size) + 0.01


ROWS = [Conversation(str(i), (Message("user", "abc" * (i + 1)),), unsafe=i % 2 == 0, domain="d") for i in range(4)]


def test_a_good_backbone_keeps_the_contract():
    check_backbone(Hashing(), ROWS)
    check_backbone(Hashing(), ROWS, FeatureSpec(hidden=frozenset({KEY})))


@pytest.mark.parametrize(
    ("flaw", "clause"),
    [
        ("order", "ids must be those of the batch, in its order"),
        ("batch", "depend on the other rows"),
        ("label", "depend on the label"),
        ("columns", "hidden holds"),
        ("float64", "must be finite float32"),
        ("positive", "log-probabilities at most 0"),
        ("length", "a row of L tokens predicts L - 1"),
        ("cut", "n_dropped must be int32 of shape"),
        ("wide", "n_dropped must be int32 of shape"),
        ("empty", "0 conversations"),
        ("fingerprint", "fingerprint is empty or changes"),
    ],
)
def test_each_broken_backbone_is_rejected_by_its_clause(flaw, clause):
    with pytest.raises(AssertionError) as caught:
        check_backbone(Hashing(flaw), ROWS)
    assert clause in str(caught.value)


def test_small_differences_are_tolerated_where_asked():
    @dataclass(frozen=True)
    class Padded(Hashing):
        def __call__(self, batch, spec):
            x = Hashing.__call__(self, batch, spec)
            return replace(x, hidden={key: rows * np.float32(1 + 1e-3 * len(batch)) for key, rows in x.hidden.items()})

    check_backbone(Padded(), ROWS, tolerance=1e-2)
    with pytest.raises(AssertionError, match="depend on the other rows"):
        check_backbone(Padded(), ROWS)


def test_a_backbone_is_checked_on_two_conversations_at_least():
    with pytest.raises(ValueError, match="1 conversations: wanted at least two"):
        check_backbone(Hashing(), ROWS[:1])
