from typing import get_args

import numpy as np
import pytest

from offmap.detectors._tokens import Over
from offmap.detectors.turn_surprise import TurnSurprise


@pytest.mark.parametrize("over", get_args(Over))
@pytest.mark.parametrize("level", ["turn", "token"])
def test_it_is_the_largest_of_a_loop_over_turns(over, level, talk, chosen, excess, same_alone):
    x = talk(60, seed=3)
    each, wanted = excess(x), []
    for span in chosen(x, over):
        said = [at for at in span if x.tokens.turns[at] >= 0] or span
        keys = said if level == "token" else [int(x.tokens.turns[at]) for at in said]
        means = []
        for key in set(keys):
            values = [each[at] for at, own in zip(said, keys, strict=True) if own == key]
            means.append(sum(values) / len(values))
        wanted.append(max(means, default=np.nan))
    fitted = TurnSurprise(over, level).fit(x)
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-12)
    same_alone(fitted, x)


def test_turns_of_the_same_index_in_neighbouring_rows_stay_apart(token_rows):
    x = token_rows([[("assistant", 1, 0, -1.0, 0.0, 1.0)], [("assistant", 1, 0, -5.0, 0.0, 1.0)]])
    assert TurnSurprise().fit(x).score(x).tolist() == [1.0, 5.0]


def test_one_odd_turn_is_not_diluted_by_a_long_conversation(token_rows):
    calm = [("assistant", turn, 0, -1.0, 1.0, 1.0) for turn in range(50)]
    x = token_rows([[*calm, ("assistant", 50, 0, -5.0, 1.0, 1.0)], calm])
    assert TurnSurprise().fit(x).score(x).tolist() == [4.0, 0.0]


def test_the_template_is_left_out_unless_there_is_nothing_else(token_rows):
    odd = ("template", -1, 0, -9.0, 1.0, 1.0)
    x = token_rows([[odd, ("user", 0, 0, -2.0, 1.0, 1.0), odd], [odd]])
    for level in ("turn", "token"):
        assert TurnSurprise("conversation", level).fit(x).score(x).tolist() == [1.0, 8.0]


def test_no_tokens_at_all_give_no_score(token_rows):
    x = token_rows([[], []])
    assert np.isnan(TurnSurprise().fit(x).score(x)).all()
    assert TurnSurprise().fit(x).score(x.take([])).shape == (0,)


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="level='sentence': wanted 'turn' or 'token'"):
        TurnSurprise(level="sentence")
    with pytest.raises(ValueError, match="over="):
        TurnSurprise("all")
