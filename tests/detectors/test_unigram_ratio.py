import math
from collections import Counter

import numpy as np
import pytest

from offmap.detectors.unigram_ratio import UnigramRatio
from offmap.features import TokenStat


@pytest.mark.parametrize("over", ["assistant", "user", "conversation"])
@pytest.mark.parametrize("smoothing", [1.0, 0.1])
def test_the_ratio_is_a_loop_over_counted_words(over, smoothing, talk, chosen, same_alone):
    safe, x = talk(50, seed=4), talk(50, seed=5)
    x.tokens.ids[::7] += 20  # words that the safe rows never said
    seen = Counter(int(safe.tokens.ids[at]) for span in chosen(safe, over) for at in span)
    size = sum(seen.values()) + smoothing * (len(seen) + 1)
    logprob, wanted = x.tokens.stats[TokenStat.LOGPROB].tolist(), []
    for span in chosen(x, over):
        ratios = [math.log((seen[int(x.tokens.ids[at])] + smoothing) / size) - logprob[at] for at in span]
        wanted.append(sum(ratios) / len(ratios) if ratios else math.nan)
    fitted = UnigramRatio(over, smoothing).fit(safe)
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-12)
    same_alone(fitted, x)


def test_a_word_missing_between_counted_ones_has_the_same_share_as_one_beyond(token_rows):
    safe = token_rows([[("assistant", 0, word, -1.0, 1.0, 1.0) for word in (2, 2, 5)]])
    x = token_rows([[("assistant", 0, word, 0.0, 1.0, 1.0)] for word in (2, 5, 3, 0, 99)])
    shares = np.exp(UnigramRatio().fit(safe).score(x))
    np.testing.assert_allclose(shares, np.array([3, 2, 1, 1, 1]) / 6)
    assert shares[:3].sum() == pytest.approx(1)


def test_a_rare_word_that_the_model_foresaw_is_less_suspicious_than_a_common_one_that_it_did_not(token_rows):
    safe = token_rows([[("assistant", 0, 1, -1.0, 1.0, 1.0)] * 99 + [("assistant", 0, 2, -1.0, 1.0, 1.0)]])
    x = token_rows([[("assistant", 0, 2, -2.0, 1.0, 1.0)], [("assistant", 0, 1, -2.0, 1.0, 1.0)]])
    rare, common = UnigramRatio().fit(safe).score(x)
    assert rare < common


def test_wrong_use_is_named(token_rows):
    for smoothing in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="smoothing="):
            UnigramRatio(smoothing=smoothing)
    with pytest.raises(ValueError, match="over="):
        UnigramRatio("all")
    with pytest.raises(ValueError, match="no safe row has a predicted token"):
        UnigramRatio().fit(token_rows([[], []]))
