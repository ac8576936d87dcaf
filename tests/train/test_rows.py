"""Rows, weights, plans and batches, against loops that know nothing of matrices."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.backbones.trained_on import content_hashes
from offmap.conversation import Conversation, Message
from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.features import ROLE_CODE, ROLE_NAMES, Pool
from offmap.rendering import Rendered, Renderer
from offmap.train.batches import WIDTH, collate, plan
from offmap.train.rows import Material, balanced, even_rates, material

POOLS = tuple(Pool)
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=60)


def width(line, lengths):
    return -(-sum(int(lengths[at]) for at in line) // WIDTH) * WIDTH


def flat(batches):
    return [at for batch in batches for line in batch for at in line]


@given(LENGTHS, st.integers(1, 400), st.integers(0, 3), st.booleans())
def test_an_epoch_holds_every_row_once_and_a_batch_what_the_budget_allows(lengths, budget, seed, pack):
    lengths = np.array(lengths)
    batches = plan(lengths, budget, 1.0, seed, pack=pack)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    for batch in batches:
        tokens = len(batch) * max(width(line, lengths) for line in batch)
        assert tokens <= budget or (len(batch) == 1 and len(batch[0]) == 1)
        assert pack or all(len(line) == 1 for line in batch)


@given(LENGTHS, st.integers(40, 400), st.booleans())
def test_the_plan_follows_from_the_seed_and_every_epoch_has_an_order_of_its_own(lengths, budget, pack):
    lengths = np.array(lengths)
    one = plan(lengths, budget, 2.0, 5, pack=pack)
    assert plan(lengths, budget, 2.0, 5, pack=pack) == one
    assert one[: len(plan(lengths, budget, 1.0, 5, pack=pack))] == plan(lengths, budget, 1.0, 5, pack=pack)
    assert Counter(flat(one)) == dict.fromkeys(range(len(lengths)), 2)


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(1, 90, 80)
    epochs = plan(lengths, 128, 2.0, 0)
    half = len(plan(lengths, 128, 1.0, 0))
    assert epochs[:half] != epochs[half:]
    assert plan(lengths, 128, 1.0, 1) != epochs[:half]


@pytest.mark.parametrize(("epochs", "share"), [(0.5, 0.5), (2.25, 2.25), (1e-6, 1 / 20)])
def test_a_part_of_an_epoch_is_a_part_of_its_batches(epochs, share):
    lengths = np.full(40, WIDTH)
    assert len(plan(lengths, 2 * WIDTH, 1.0, 0)) == 20
    batches = plan(lengths, 2 * WIDTH, epochs, 0)
    assert len(batches) == round(20 * share)
    assert max(Counter(flat(batches)).values()) <= np.ceil(share)


def test_packed_rows_share_lines():
    lengths = np.random.default_rng(0).integers(5, 40, 200)
    lines = [line for batch in plan(lengths, 512, 1.0, 0, pack=True) for line in batch]
    assert sum(width(line, lengths) for line in lines) < 1.35 * lengths.sum()
    apart = plan(lengths, 512, 1.0, 0)
    assert sum(len(batch) * max(width(line, lengths) for line in batch) for batch in apart) > 1.35 * lengths.sum()


def test_rows_of_one_length_share_a_batch():
    lengths = np.random.default_rng(0).permutation(np.repeat([10, 300], 30))
    batches = plan(lengths, 1000, 1.0, 0)
    assert sum(len({width(line, lengths) for line in batch}) > 1 for batch in batches) <= 1
    assert len(batches) < 13


@given(st.lists(st.tuples(st.integers(1, 300), st.sampled_from("abc")), min_size=1, max_size=40))
def test_an_even_epoch_expects_as_many_tokens_of_every_domain(rows):
    lengths, domains = [length for length, _ in rows], [domain for _, domain in rows]
    rates = even_rates(lengths, domains)
    expected = Counter()
    for length, domain, rate in zip(lengths, domains, rates, strict=True):
        expected[domain] += length * rate
    assert list(expected.values()) == pytest.approx([sum(lengths) / len(expected)] * len(expected))


def test_a_row_is_drawn_as_often_as_its_rate_says():
    rates = np.array([2.0, 0.25, 1.5, 1.0])
    times = Counter(flat(plan(np.full(4, 10), 64, 400.0, 0, rates=rates)))
    assert (times[0], times[3]) == (800, 400)
    assert times[1] / 400 == pytest.approx(0.25, abs=0.09)
    assert times[2] / 400 == pytest.approx(1.5, abs=0.1)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40
    )
)
def test_labels_weigh_alike_in_every_head_and_within_a_label_the_domains_that_it_drew(rows):
    unsafe, domains = np.array([row[0] for row in rows]), [row[1] for row in rows]
    counts = np.array([row[2:] for row in rows], np.float64)
    weights = balanced(unsafe, domains, counts)
    assert weights.shape == counts.shape
    for head in range(2):
        totals = Counter()
        for label, domain, weight, count in zip(unsafe, domains, weights[:, head], counts[:, head], strict=True):
            assert (weight > 0) == (count > 0)
            if count:
                totals[bool(label), domain] += weight
        present = Counter(label for label, _ in totals)
        for (label, _), total in totals.items():
            assert total == pytest.approx(len(rows) / 2 / present[label])
    with np.errstate(invalid="ignore", divide="ignore"):
        each = weights / counts
    for group in {(row[0], row[1]) for row in rows}:
        members = [at for at, row in enumerate(rows) if row[:2] == group]
        for head in range(2):
            assert len({round(each[at, head], 9) for at in members if counts[at, head]}) <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.booleans())
def test_no_line_is_wider_than_the_model_has_positions(lengths, pack):
    lengths, limit = np.array(lengths), 50
    batches = plan(lengths, 400, 1.0, 0, pack=pack, limit=limit)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    source = data(lengths)
    limited = Material(source.rows, source.unsafe, source.weights, source.keys, POOLS, source.rates, limit=limit)
    for batch in batches:
        found = collate(batch, limited)
        assert found["ids"].shape[1] == min(limit, max(width(line, lengths) for line in batch))
        assert found["positions"].max() < limit


def rendered(length, seed):
    rng = np.random.default_rng(seed)
    roles = rng.integers(0, len(ROLE_NAMES), length)
    turns = np.where(roles == ROLE_CODE["template"], -1, np.sort(rng.integers(0, 4, length)))
    ids = rng.integers(1, 300, length)
    return Rendered(ids.astype(np.int32), roles.astype(np.int8), turns.astype(np.int16), np.zeros(length, np.int32))


def data(lengths, seed=0, heads=2):
    rng = np.random.default_rng(seed)
    rows = [rendered(length, [seed, at]) for at, length in enumerate(lengths)]
    unsafe, weights = rng.random(len(rows)) < 0.5, rng.random((len(rows), heads))
    keys = rng.integers(0, 2**63, len(rows)).astype(np.uint64)
    return Material(rows, unsafe, weights, keys, POOLS, np.ones(len(rows)))


def pooled(row, pool, states):
    """One row's pooled states, by loops."""
    if pool == Pool.LAST:
        return states[-1]
    names = [ROLE_NAMES[code] for code in row.roles]
    role = {Pool.ASSISTANT: "assistant", Pool.USER: "user", Pool.TOOL: "tool", Pool.REPLY: "assistant"}.get(pool)
    chosen = [at for at, name in enumerate(names) if role in (None, name)]
    if pool == Pool.REPLY and chosen:
        last = max(row.turns[at] for at in chosen)
        chosen = [at for at in chosen if row.turns[at] == last]
    return np.mean([states[at] for at in chosen or range(len(row))], axis=0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 9))
def test_a_batch_is_its_rows_side_by_side(shape, seed):
    places = iter(range(sum(map(len, shape))))
    lines = [[next(places) for _ in line] for line in shape]
    lines = [line[::-1] for line in lines[::-1]]
    source = data([length for line in shape for length in line], seed)
    batch = collate(lines, source)
    lengths = source.lengths
    assert batch["ids"].shape == (len(lines), max(width(line, lengths) for line in lines))
    states = np.random.default_rng(seed).normal(size=(*batch["ids"].shape, 3)).astype(np.float32)
    most = max(map(len, lines))
    assert batch["pools"].shape == (len(lines), most, len(POOLS), batch["ids"].shape[1])
    pools, place = np.einsum("lrpw,lwd->lrpd", batch["pools"].numpy(), states), 0
    for number, line in enumerate(lines):
        start = 0
        for beside, at in enumerate(line):
            row, part = source.rows[at], slice(start, start + len(source.rows[at]))
            np.testing.assert_array_equal(batch["ids"][number, part], row.ids)
            np.testing.assert_array_equal(batch["positions"][number, part], np.arange(len(row)))
            np.testing.assert_array_equal(batch["spoken"][number, part], source.spoken(at))
            for k, pool in enumerate(POOLS):
                np.testing.assert_allclose(pools[number, beside, k], pooled(row, pool, states[number, part]), atol=1e-5)
            assert batch["unsafe"][place] == source.unsafe[at]
            np.testing.assert_allclose(batch["weights"][place], source.weights[at], rtol=1e-6)
            start, place = part.stop, place + 1
        assert not batch["spoken"][number, start:].any()
        assert not batch["pools"][number, len(line) :].any()
        assert bool((batch["positions"][number, start:] > 0).all())


def test_the_language_model_learns_what_safe_assistants_say_and_something_stands_before(shapes):
    from offmap.backbones.loading import load_model
    from offmap.backbones.source import BackboneSource

    tokenizer = load_model(BackboneSource(shapes["llama"]), "cpu").tokenizer
    turns = (("system", "x"), ("user", "hi"), ("assistant", "one"), ("tool", "t"), ("assistant", "two"))
    messages = tuple(Message(role, text) for role, text in turns)
    rows = [Conversation("s", messages, unsafe=False), Conversation("u", messages, unsafe=True)]
    learned = material(rows, Renderer(tokenizer), POOLS)
    ids, spoken = learned.rows[0].ids, learned.spoken(0)
    names = tokenizer.convert_ids_to_tokens(ids[spoken])
    assert names == ["o", "n", "e", "<|end|>", "t", "w", "o", "<|end|>"]
    assert not learned.spoken(1).any()
    assert learned.n_spoken == len(names)
    lone = Rendered(*(np.full(3, fill, kind) for fill, kind in ((7, np.int32), (ROLE_CODE["assistant"], np.int8))),
                    np.zeros(3, np.int16), np.zeros(3, np.int32))  # fmt: skip
    bare = Material([lone], np.array([False]), np.ones((1, 1)), np.zeros(1, np.uint64), POOLS, np.ones(1))
    assert bare.spoken(0).tolist() == [False, True, True]


@pytest.fixture(scope="module")
def render(shapes):
    from transformers import AutoTokenizer

    return Renderer(AutoTokenizer.from_pretrained(shapes["llama"]))


def test_each_head_learns_from_the_draw_that_it_is_given(talks, render):
    rows = talks(60)
    unsafe, domains = np.array([row.unsafe for row in rows]), [row.domain for row in rows]
    counts = GuardProbe(heads=3, seed=4).counts(unsafe)
    many = material(rows, render, POOLS, counts=counts)
    np.testing.assert_allclose(many.weights, balanced(unsafe, domains, counts))
    np.testing.assert_allclose(many.weights.mean(axis=0), 1)
    np.testing.assert_array_equal(many.keys, content_hashes(rows))
    assert (many.weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.1)
    np.testing.assert_array_equal(material(rows, render, POOLS, counts=counts, plain=True).weights, np.ones((60, 3)))


def test_a_lone_head_sees_every_row_once(talks, render):
    rows = talks(30)
    lone = material(rows, render, POOLS)
    wanted = balanced(lone.unsafe, [row.domain for row in rows], np.ones((30, 1)))
    np.testing.assert_allclose(lone.weights, wanted)
    np.testing.assert_array_equal(lone.rates, np.ones(30))


def test_rows_met_more_often_weigh_less(talks, render):
    rows = [
        msgspec.structs.replace(row, messages=(*row.messages, Message("user", "x" * (60 * (row.domain == "d1")))))
        for row in talks(40)
    ]
    plain, even = (material(rows, render, POOLS, even=even) for even in (False, True))
    np.testing.assert_allclose(even.rates, even_rates(plain.lengths, [row.domain for row in rows]))
    assert np.ptp(even.rates) > 0.3
    np.testing.assert_allclose(even.weights[:, 0] * even.rates, plain.weights[:, 0])


def test_long_rows_are_cut_and_counted_or_named_and_refused(talks, shapes):
    from transformers import AutoTokenizer

    limited = Renderer(AutoTokenizer.from_pretrained(shapes["llama"]), 40)
    rows = [*talks(6, lengths=(3, 4)), *talks(4, start=6, lengths=(50, 60))]
    kept = material(rows, limited, POOLS)
    assert [bool(row.n_dropped) for row in kept.rows] == [False] * 6 + [True] * 4
    assert kept.lengths.max() == 40
    with pytest.raises(InputError, match=r"found 4 rows over the limit of 40 tokens, such as 'r6', 'r7', 'r8'; wanted"):
        material(rows, limited, POOLS, long_rows="refuse")
    assert len(material(rows[:6], limited, POOLS, long_rows="refuse")) == 6


def test_rows_that_cannot_be_learned_from_are_named(talks, render):
    rows = talks(6)
    with pytest.raises(InputError, match="row 'r3': field unsafe: found no label, wanted true or false"):
        material([*rows[:3], msgspec.structs.replace(rows[3], unsafe=None)], render, POOLS)
    for kind, wanted in (("unsafe", False), ("safe", True)):
        with pytest.raises(InputError, match=f"found no {kind} row among 3; wanted both kinds"):
            material([row for row in rows if row.unsafe is wanted], render, POOLS)
