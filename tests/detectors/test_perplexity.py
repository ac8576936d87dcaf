import math

import numpy as np
import pytest

from offmap.detectors import Perplexity
from offmap.features import ROLE_CODE, Features, TokenColumns, TokenStat
from offmap.testing import make_features


def rows(*replies):
    """Features of rows given as lists of (role, log-probability)."""
    flat = [token for reply in replies for token in reply]
    total = len(flat)
    tokens = TokenColumns(
        np.cumsum([0, *map(len, replies)]).astype(np.int64),
        np.zeros(total, np.int32),
        np.array([ROLE_CODE[role] for role, _ in flat], np.int8),
        np.zeros(total, np.int16),
        np.zeros(total, np.int32),
        {TokenStat.LOGPROB: np.array([value for _, value in flat], np.float32)},
    )
    n = len(replies)
    lengths = np.array([len(r) + 1 for r in replies], np.int32)
    none = np.zeros(n, np.int32)
    return Features(tuple(map(str, range(n))), ("",) * n, lengths, none, none, none.astype(bool), {}, tokens)


def brute_force(x, over):
    scores = []
    for i in range(len(x)):
        span = range(x.tokens.offsets[i], x.tokens.offsets[i + 1])
        used = [j for j in span if over == "conversation" or x.tokens.roles[j] == ROLE_CODE["assistant"]] or list(span)
        mean = -sum(float(x.tokens.stats[TokenStat.LOGPROB][j]) for j in used) / len(used)
        scores.append(math.exp(mean) if over == "conversation" else mean)
    return scores


@pytest.mark.parametrize("over", ["assistant", "conversation"])
def test_perplexity_is_a_loop_over_tokens(over):
    detector = Perplexity(over)
    x = make_features(detector.needs(), 60, seed=4)
    assert any(ROLE_CODE["assistant"] not in x.take([i]).tokens.roles for i in range(60))
    np.testing.assert_allclose(detector.fit(x).score(x), brute_force(x, over), rtol=1e-12)


def test_the_prompt_counts_only_in_the_published_mode():
    x = rows([("user", -9.0), ("assistant", -1.0)], [("user", -1.0), ("assistant", -1.0)])
    np.testing.assert_allclose(Perplexity().fit(x).score(x), [1.0, 1.0])
    np.testing.assert_allclose(Perplexity("conversation").fit(x).score(x), np.exp([5.0, 1.0]))


def test_an_unusable_prompt_token_does_not_touch_the_reply():
    x = rows([("user", -np.inf), ("assistant", -2.0)])
    assert Perplexity().fit(x).score(x)[0] == 2.0


@pytest.mark.parametrize("over", ["assistant", "conversation"])
def test_a_row_without_predicted_tokens_is_not_scored(over):
    x = rows([("assistant", -1.0)], [], [("user", -3.0)])
    assert np.isnan(Perplexity(over).fit(x).score(x)).tolist() == [False, True, False]


def test_a_score_is_the_same_to_the_last_bit_whatever_the_batch():
    detector = Perplexity()
    x = make_features(detector.needs(), 50, seed=2)
    fitted = detector.fit(x)
    single = [fitted.score(x.take([i]))[0] for i in range(50)]
    np.testing.assert_array_equal(fitted.score(x), single)


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="over='all': wanted 'assistant' or 'conversation'"):
        Perplexity("all")
    with pytest.raises(ValueError, match="lack the token statistic 'logprob'"):
        Perplexity().restore({}).score(make_features(Perplexity().needs().__class__(), 3, 0))
