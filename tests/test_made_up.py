"""Made-up shifts: how far states move, where the unexpected run lies, and that the rows themselves stay as they are."""

from dataclasses import replace

import numpy as np
import pytest

from offmap.features import Features, FeatureSpec, Pool, TokenColumns, TokenStat
from offmap.made_up import MOVES, NATS, RUN, made_up_shifts
from offmap.synthetic import make_features

KEY, OTHER = (-1, Pool.LAST), (-3, Pool.MEAN)
MOVED = [f"states moved, {number}" for number in (1, 2, 3)]


def states(rows, copies=1):
    """Features with these hidden states and nothing else; a second key holds ``copies`` times as much."""
    n, none = len(rows), np.zeros(len(rows), np.int32)
    hidden = {KEY: rows.astype(np.float32), OTHER: (copies * rows).astype(np.float32)}
    return Features(tuple(map(str, range(n))), ("",) * n, none, none, none, none.astype(bool), hidden)


def runs(*lengths, stats=(TokenStat.LOGPROB, TokenStat.ENTROPY)):
    """Features whose rows predict so many tokens."""
    n, total, none = len(lengths), sum(lengths), np.zeros(len(lengths), np.int32)
    whole = [np.arange(total).astype(kind) for kind in (np.int32, np.int8, np.int16, np.int32)]
    columns = {stat: -np.random.default_rng(0).gamma(2.0, size=total).astype(np.float32) for stat in stats}
    tokens = TokenColumns(np.cumsum([0, *lengths]).astype(np.int64), *whole, columns)
    return Features(tuple(map(str, range(n))), ("",) * n, none, none, none, none.astype(bool), {}, tokens)


def shifted(rows, seed=0):
    return dict(made_up_shifts(rows, seed))


def movement(rows, moved, key=KEY):
    """The one vector that every state has moved by."""
    moves = moved.hidden[key].astype(np.float64) - rows.hidden[key]
    np.testing.assert_allclose(moves, np.broadcast_to(moves[0], moves.shape), atol=1e-5)
    return moves.mean(axis=0)


def test_states_move_by_a_standard_deviation_in_every_direction():
    """The movement's covariance is the rows': as far, on average, in every direction at once."""
    rng = np.random.default_rng(1)
    rows = states(7 + rng.normal(size=(60, 3)) @ np.array([[2.0, 0, 0], [1.0, 0.5, 0], [0, 0.2, 0.1]]))
    moves = np.array([movement(rows, x) for seed in range(500) for x in shifted(rows, seed).values()])
    assert len(moves) == 500 * MOVES
    covariance = np.cov(rows.hidden[KEY], rowvar=False, bias=True)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    # Of 1,500 draws each entry of the whitened second moment has a standard error of at most sqrt(2 / 1500).
    second = whiten @ (moves.T @ moves / len(moves)) @ whiten.T
    np.testing.assert_allclose(second, np.eye(3), atol=4 * np.sqrt(2 / 1500))
    np.testing.assert_allclose(whiten @ moves.mean(axis=0), 0, atol=4 / np.sqrt(1500))


def test_all_layers_move_together_and_each_move_is_another():
    rows = states(np.random.default_rng(2).normal(size=(30, 5)), copies=3)
    moves = [movement(rows, x) for x in shifted(rows).values()]
    for move, moved in zip(moves, shifted(rows).values(), strict=True):
        np.testing.assert_allclose(movement(rows, moved, OTHER), 3 * move, atol=1e-5)
    assert min(np.abs(one - other).max() for one, other in zip(moves, moves[1:] + moves[:1], strict=True)) > 0.1


@pytest.mark.parametrize("seed", [0, 5])
def test_a_run_of_tokens_becomes_less_likely_and_a_shorter_row_as_a_whole(seed):
    rows = runs(40, 5, 0, RUN, 1, 200)
    (name, found), *others = shifted(rows, seed).items()
    assert (name, others) == ("unexpected run", [])
    fallen = rows.tokens.stats[TokenStat.LOGPROB] - found.tokens.stats[TokenStat.LOGPROB]
    for start, end in zip(rows.tokens.offsets[:-1], rows.tokens.offsets[1:], strict=True):
        at = np.flatnonzero(fallen[start:end])
        assert len(at) == min(RUN, end - start)
        assert (np.diff(at) == 1).all()
        np.testing.assert_allclose(fallen[start:end][at], NATS, rtol=1e-6)


def test_a_run_may_begin_anywhere_that_it_fits():
    rows, begun = runs(RUN + 3, RUN + 3), []
    for seed in range(200):
        fallen = rows.tokens.stats[TokenStat.LOGPROB] - shifted(rows, seed)["unexpected run"].tokens.stats["logprob"]
        begun.append([int(np.flatnonzero(row)[0]) for row in fallen.reshape(2, -1)])
    places, counts = np.unique(begun, return_counts=True)
    assert places.tolist() == [0, 1, 2, 3]
    assert counts.min() > 60  # 100 expected, with a standard deviation of 9
    assert any(one != other for one, other in begun)


def test_nothing_else_changes_and_the_rows_themselves_do_not():
    spec = FeatureSpec(frozenset({KEY}), frozenset(TokenStat), frozenset({"grade"}))
    rows, copy = make_features(spec, 30, 0), make_features(spec, 30, 0)
    for array in (*rows.hidden.values(), *rows.tokens.stats.values()):
        array.flags.writeable = False
    found = shifted(rows)
    assert list(found) == [*MOVED, "unexpected run"]
    np.testing.assert_array_equal(rows.hidden[KEY], copy.hidden[KEY])
    np.testing.assert_array_equal(rows.tokens.stats[TokenStat.LOGPROB], copy.tokens.stats[TokenStat.LOGPROB])
    for name, x in found.items():
        assert (x.ids, x.groups) == (rows.ids, rows.groups)
        assert x.scalars is rows.scalars
        assert x.hidden[KEY].dtype == np.float32
        assert x.tokens.stats[TokenStat.LOGPROB].dtype == np.float32
        assert (x.tokens is rows.tokens) == (name in MOVED)
        assert (x.hidden is rows.hidden) == (name not in MOVED)
        for stat in (TokenStat.ENTROPY, TokenStat.SPREAD):
            assert x.tokens.stats[stat] is rows.tokens.stats[stat]


def test_the_seed_decides():
    rows = make_features(FeatureSpec(frozenset({KEY}), frozenset({TokenStat.LOGPROB})), 30, 0)
    first, again, other = (shifted(rows, seed) for seed in (0, 0, 1))
    for name in MOVED:
        np.testing.assert_array_equal(first[name].hidden[KEY], again[name].hidden[KEY])
        assert not np.array_equal(first[name].hidden[KEY], other[name].hidden[KEY])
    a, b, c = (x["unexpected run"].tokens.stats[TokenStat.LOGPROB] for x in (first, again, other))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_the_features_lack_is_not_made_up():
    rows = make_features(FeatureSpec(frozenset({KEY}), frozenset(TokenStat), frozenset({"grade"})), 10, 0)
    assert list(shifted(replace(rows, tokens=None))) == MOVED
    assert list(shifted(replace(rows, hidden={}))) == ["unexpected run"]
    assert shifted(replace(rows, hidden={}, tokens=None)) == {}
    assert shifted(runs(20, 30, stats=(TokenStat.ENTROPY,))) == {}
