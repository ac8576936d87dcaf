import numpy as np
import pytest

from offmap.detectors.min_k import MinK
from offmap.features import FeatureSpec, TokenStat
from offmap.testing import make_features


@pytest.mark.parametrize("over", ["assistant", "prompt", "conversation"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.29, 1.0])
def test_min_k_is_the_mean_of_a_sorted_list(over, share, talk, chosen, excess, same_alone):
    x = talk(60, seed=2, longest=30)
    each, wanted = excess(x), []
    for span in chosen(x, over):
        lowest = sorted(-each[at] for at in span)[: max(1, int(share * len(span)))]
        wanted.append(-sum(lowest) / len(lowest) if lowest else np.nan)
    fitted = MinK(over, share).fit(x)
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-12)
    same_alone(fitted, x)


def test_one_odd_token_counts_as_far_as_the_share_reaches(token_rows):
    usual = [("assistant", 0, 0, -1.0, 1.0, 1.0)] * 9
    x = token_rows([[*usual, ("assistant", 0, 0, -7.0, 1.0, 2.0)], [*usual, usual[0]]])
    np.testing.assert_allclose(MinK(share=0.1).fit(x).score(x), [3.0, 0.0])
    np.testing.assert_allclose(MinK(share=0.5).fit(x).score(x), [0.6, 0.0])


def test_a_distribution_without_spread_does_not_divide_by_zero(token_rows):
    x = token_rows([[("assistant", 0, 0, -0.5, 0.0, 0.0)]])
    np.testing.assert_allclose(MinK().fit(x).score(x), [50.0])


def test_what_is_not_read_does_no_harm(token_rows):
    x = token_rows([[("user", 0, 0, np.nan, 1.0, 1.0), ("assistant", 1, 0, -2.0, 1.0, 1.0)]])
    assert MinK().fit(x).score(x).tolist() == [1.0]
    assert np.isnan(MinK("conversation").fit(x).score(x)).all()


def test_wrong_use_is_named():
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share="):
            MinK(share=share)
    with pytest.raises(ValueError, match="over="):
        MinK("all")
    x = make_features(FeatureSpec(tokens=frozenset({TokenStat.LOGPROB, TokenStat.ENTROPY})), 3, 0)
    with pytest.raises(ValueError, match="lack the token statistic 'spread'"):
        MinK().fit(x).score(x)
    with pytest.raises(ValueError, match="lack token columns"):
        MinK().fit(x).score(make_features(FeatureSpec(), 3, 0))
