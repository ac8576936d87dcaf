from typing import get_args

import numpy as np
import pytest

from offmap.detectors._tokens import Over
from offmap.detectors.excess import Excess
from offmap.features import FeatureSpec, TokenStat
from offmap.testing import make_features


@pytest.mark.parametrize("over", get_args(Over))
def test_excess_is_a_loop_over_the_tokens_that_are_chosen(over, talk, chosen, same_alone):
    x = talk(60, seed=1)
    logprob, entropy = (x.tokens.stats[stat].tolist() for stat in (TokenStat.LOGPROB, TokenStat.ENTROPY))
    wanted = [
        sum(-logprob[at] - entropy[at] for at in span) / len(span) if span else np.nan for span in chosen(x, over)
    ]
    fitted = Excess(over).fit(x)
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-12, atol=1e-12)
    same_alone(fitted, x)


def test_each_choice_of_tokens_reads_others(talk):
    x = talk(60, seed=1)
    scores = [Excess(over).fit(x).score(x)[1:] for over in get_args(Over)]
    assert all((a != b).any() for i, a in enumerate(scores) for b in scores[:i])


def test_text_that_the_model_would_write_itself_scores_zero(token_rows):
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.2])
    entropy = float(-(p * np.log(p)).sum())
    x = token_rows([[("assistant", 0, 0, np.log(p[i]), entropy, 1.0) for i in rng.choice(3, 40_000, p=p)]])
    assert abs(Excess().fit(x).score(x)[0]) < 4 * np.sqrt((p * np.log(p) ** 2).sum() - entropy**2) / 200


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match=r"over='replies': wanted 'assistant', .* or 'conversation'"):
        Excess("replies")
    x = make_features(FeatureSpec(tokens=frozenset({TokenStat.LOGPROB})), 3, 0)
    with pytest.raises(ValueError, match="lack the token statistic 'entropy'"):
        Excess().fit(x).score(x)
    with pytest.raises(ValueError, match="0 safe rows"):
        Excess().fit(x.take([]))
