from dataclasses import dataclass, replace

import numpy as np
import pytest

from offmap.backbones import Backbone
from offmap.backbones.joined import Joined, gives_tokens
from offmap.backbones.source import BackboneSource
from offmap.conversation import Conversation, Message, Tool
from offmap.errors import InputError
from offmap.feature_store import Cached
from offmap.features import Features, FeatureSpec, Pool, TokenColumns, TokenStat
from offmap.testing import check_backbone

HIDDEN, TOKENS = frozenset({(-1, Pool.MEAN)}), frozenset({TokenStat.LOGPROB})


def row(text, **fields):
    return Conversation(text[:8], (Message("user", text), Message("assistant", text[::-1])), **fields)


BATCH = [row("short"), row("a longer one", domain="d"), row("tools", tools=(Tool("t"),))]


def length(conversation):
    return len(conversation.messages[0].text)


class Reader:
    """Reads as many tokens as there are characters; its vectors hold their count. Gives no scalars, says nothing."""

    fingerprint = "reader"
    source = "where it is from"

    def __init__(self):
        self.asked = []

    def __call__(self, batch, spec):
        self.asked.append(spec)
        lengths = np.array([length(c) for c in batch], np.int32)
        total = int((lengths - 1).sum())
        flat = np.concatenate([np.arange(n - 1) for n in lengths]) if len(batch) else np.zeros(0)
        columns = TokenColumns(
            np.concatenate([[0], np.cumsum(lengths - 1)]).astype(np.int64),
            flat.astype(np.int32), np.zeros(total, np.int8), np.zeros(total, np.int16), flat.astype(np.int32),
            {stat: -flat.astype(np.float32) for stat in spec.tokens},
        )  # fmt: skip
        return Features(
            tuple(c.id for c in batch),
            tuple(c.domain for c in batch),
            lengths,
            np.zeros(len(batch), np.int32),
            np.array([len(c.messages) for c in batch], np.int32),
            np.array([c.has_tools for c in batch], bool),
            {key: np.repeat(lengths[:, None], 3, axis=1).astype(np.float32) for key in spec.hidden},
            columns if spec.tokens else None,
            {name: np.full(len(batch), np.nan) for name in spec.scalars},
        )


class Classifier(Reader):
    """Gives hidden states and the scalar "guard", no tokens; leaves out ``cut`` of them."""

    fingerprint, scalars = "classifier", frozenset({"guard"})

    def __init__(self, source=None, cut=0):
        super().__init__()
        self.source, self.cut = source or BackboneSource("x", guard="classifier"), cut

    def __call__(self, batch, spec):
        assert not spec.tokens
        found = super().__call__(batch, spec)
        lengths, dropped = found.n_tokens - self.cut, found.n_dropped + self.cut
        scalars = {name: lengths.astype(np.float64) for name in spec.scalars}
        return replace(found, scalars=scalars, n_tokens=lengths, n_dropped=dropped)


@dataclass
class Grader(Reader):
    """Gives ``factors``: name -> how many times the length; no tokens."""

    gives_tokens = False

    factors: dict
    turned: bool = False

    def __post_init__(self):
        self.asked, self.fingerprint, self.scalars = [], f"grader {self.factors}", frozenset(self.factors)

    def __call__(self, batch, spec):
        assert not spec.hidden | spec.tokens
        self.asked.append(spec)
        batch = batch[::-1] if self.turned else batch
        none = np.zeros(len(batch), np.int32)
        ids, groups = (tuple(getattr(c, name) for c in batch) for name in ("id", "domain"))
        values = {name: np.array([length(c) * self.factors[name] for c in batch], np.float64) for name in spec.scalars}
        turns, tools = np.array([2] * len(batch), np.int32), np.array([c.has_tools for c in batch], bool)
        return Features(ids, groups, none, none, turns, tools, scalars=values)


def test_columns_come_from_the_first_and_scalars_from_who_gives_them():
    joined = Joined((Reader(), Grader({"a": 2.0}), Grader({"b": 3.0, "c": 5.0})))
    assert isinstance(joined, Backbone)
    assert joined.scalars == {"a", "b", "c"}
    spec = FeatureSpec(HIDDEN, TOKENS, frozenset({"a", "c"}))
    x, alone = joined(BATCH, spec), Reader()(BATCH, FeatureSpec(HIDDEN, TOKENS))
    assert x.scalars["a"].tolist() == [2.0 * length(c) for c in BATCH]
    assert x.scalars["c"].tolist() == [5.0 * length(c) for c in BATCH]
    assert set(x.scalars) == {"a", "c"}
    assert x.n_tokens.tolist() == alone.n_tokens.tolist() == [length(c) for c in BATCH]
    for key, rows in alone.hidden.items():
        assert np.array_equal(x.hidden[key], rows)
    assert np.array_equal(x.tokens.stats[TokenStat.LOGPROB], alone.tokens.stats[TokenStat.LOGPROB])


def test_the_first_may_give_scalars_too():
    joined = Joined((Grader({"a": 2.0}), Grader({"b": 3.0})))
    x = joined(BATCH, FeatureSpec(scalars=frozenset("ab")))
    assert x.scalars["a"].tolist() == [2.0 * length(c) for c in BATCH]
    assert x.scalars["b"].tolist() == [3.0 * length(c) for c in BATCH]


def test_keeps_the_contract_alone_in_a_cache_and_within_another(tmp_path):
    joined = Joined((Reader(), Grader({"a": 2.0})))
    nested = Joined((joined, Grader({"b": 3.0})))
    for backbone, names in ((joined, "a"), (Cached(joined, tmp_path), "a"), (nested, "ab")):
        check_backbone(backbone, BATCH, FeatureSpec(HIDDEN, TOKENS, frozenset(names)))
        check_backbone(backbone, BATCH, FeatureSpec(scalars=frozenset(names)))


def test_who_is_not_needed_is_not_asked():
    reader, first, second = Reader(), Grader({"a": 2.0}), Grader({"b": 3.0})
    Joined((reader, first, second))(BATCH, FeatureSpec(HIDDEN, scalars=frozenset("b")))
    assert reader.asked == [FeatureSpec(HIDDEN)]
    assert first.asked == []
    assert second.asked == [FeatureSpec(scalars=frozenset("b"))]


def test_identity_names_all_and_the_source_is_the_first_s():
    reader, a, b = Reader(), Grader({"a": 2.0}), Grader({"b": 3.0})
    prints = {Joined(parts).fingerprint for parts in ((reader,), (reader, a), (reader, b), (reader, a, b), (a, reader))}
    assert len(prints) == 5
    assert all(part.fingerprint in Joined((reader, a, b)).fingerprint for part in (reader, a, b))
    assert Joined((reader, a)).source == "where it is from"


def test_tokens_come_from_the_first_that_gives_any():
    guard, grader, lm, other = Classifier(), Grader({"a": 2.0}), Reader(), Reader()
    joined = Joined((guard, grader, lm, other))
    assert [gives_tokens(each) for each in (guard, grader, lm, joined, Joined((guard, grader)))] == [
        False, False, True, True, False,
    ]  # fmt: skip
    spec = FeatureSpec(HIDDEN, TOKENS, frozenset({"guard", "a"}))
    x = joined(BATCH, spec)
    assert guard.asked == [FeatureSpec(HIDDEN, scalars=frozenset({"guard"}))]
    assert (grader.asked, lm.asked, other.asked) == (
        [FeatureSpec(scalars=frozenset("a"))],
        [FeatureSpec(tokens=TOKENS)],
        [],
    )
    alone = Reader()(BATCH, spec)
    assert np.array_equal(x.tokens.offsets, alone.tokens.offsets)
    assert np.array_equal(x.tokens.stats[TokenStat.LOGPROB], alone.tokens.stats[TokenStat.LOGPROB])
    assert x.scalars["guard"].tolist() == [length(c) for c in BATCH]
    check_backbone(joined, BATCH, spec)
    joined(BATCH, FeatureSpec(HIDDEN))
    assert lm.asked[-1] != FeatureSpec(HIDDEN)


def test_the_source_of_two_models_opens_both():
    guard, lm = Classifier(), Reader()
    lm.source = BackboneSource("y")
    pair = Joined((guard, lm))
    assert pair.source == BackboneSource("x", guard="classifier", lm=BackboneSource("y"))
    assert Joined((pair, Grader({"a": 2.0}))).source == pair.source
    assert Joined((lm, guard)).source == lm.source
    assert Joined((guard, Grader({"a": 2.0}))).source == guard.source


def test_tokens_of_a_model_that_read_otherwise_are_refused():
    joined = Joined((Classifier(cut=2), Reader()))
    joined(BATCH, FeatureSpec(HIDDEN))
    with pytest.raises(InputError, match=r"'short'.* \(3 tokens and left out 2, 5 tokens and left out 0\)"):
        joined(BATCH, FeatureSpec(HIDDEN, TOKENS))


def test_what_cannot_be_joined_is_told():
    with pytest.raises(InputError, match="at least one"):
        Joined(())
    with pytest.raises(InputError, match=r"\['a'\]: given by two"):
        Joined((Reader(), Grader({"a": 2.0}), Grader({"a": 3.0, "b": 1.0})))
    with pytest.raises(InputError, match=r"\['z'\]: no backbone gives them; there are \['a'\]"):
        Joined((Reader(), Grader({"a": 2.0})))(BATCH, FeatureSpec(HIDDEN, scalars=frozenset("az")))
    with pytest.raises(InputError, match="there are none"):
        Joined((Reader(),))(BATCH, FeatureSpec(scalars=frozenset("z")))
    with pytest.raises(ValueError, match="gave rows"):
        Joined((Reader(), Grader({"a": 2.0}, turned=True)))(BATCH, FeatureSpec(scalars=frozenset("a")))
