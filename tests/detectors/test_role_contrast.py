import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from offmap.detectors.role_contrast import RoleContrast
from offmap.features import ROLE_NAMES, TokenStat


def loop(x, spans):
    logprob = x.tokens.stats[TokenStat.LOGPROB].tolist()
    return np.array([-sum(logprob[at] for at in span) / len(span) if span else np.nan for span in spans])


def has(x, role_names):
    starts, ends = x.tokens.offsets[:-1], x.tokens.offsets[1:]
    return np.array(
        [any(ROLE_NAMES[code] in role_names for code in x.tokens.roles[a:b]) for a, b in zip(starts, ends, strict=True)]
    )


PROMPT = ("system", "user", "tool")


@pytest.mark.parametrize(("over", "against"), [("reply", "prompt"), ("assistant", "user"), ("tool", "conversation")])
def test_the_plain_difference_is_a_loop_over_tokens(over, against, talk, chosen, same_alone):
    x = talk(60, seed=6)
    fitted = RoleContrast(over, against, plain=True).fit(x)
    wanted = loop(x, chosen(x, over)) - loop(x, chosen(x, against))
    np.testing.assert_allclose(fitted.score(x), wanted, rtol=1e-12, atol=1e-12)
    same_alone(fitted, x)


def related(talk, chosen, seed, share):
    """Rows whose replies surprise by ``share`` times what their prompt did, and some noise."""
    x = talk(300, seed)
    context, noise = loop(x, chosen(x, "prompt")), np.random.default_rng(seed).normal(size=300) / 10
    for row, span in enumerate(chosen(x, "reply")):
        if has(x, PROMPT)[row] and has(x, ["assistant"])[row]:
            x.tokens.stats[TokenStat.LOGPROB][span] = -share * context[row] - 3 + noise[row]
    return x


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_slope_is_scikit_learns_over_rows_that_have_both_parts(share, talk, chosen):
    x = related(talk, chosen, 7, share)
    both = has(x, PROMPT) & has(x, ["assistant"])
    assert 0 < both.sum() < len(x) - 2
    said, context = loop(x, chosen(x, "reply")), loop(x, chosen(x, "prompt"))
    slope = LinearRegression().fit(context[both, None], said[both]).coef_[0]
    fitted = RoleContrast().fit(x)
    assert slope == pytest.approx(share, abs=0.1)
    assert fitted.slope == pytest.approx(slope, rel=1e-9)
    np.testing.assert_allclose(fitted.score(x), said - slope * context, rtol=1e-8)


@pytest.mark.parametrize(("share", "slope"), [(-0.5, 0.0), (1.5, 1.0)])
def test_the_slope_stays_within_nothing_and_the_plain_difference(share, slope, talk, chosen):
    assert RoleContrast().fit(related(talk, chosen, 8, share)).slope == slope


def test_a_hard_topic_cancels(token_rows):
    easy, hard, odd = ([("user", 0, 0, -p, 1.0, 1.0), ("assistant", 1, 0, -r, 1.0, 1.0)] for p, r in
                       ((1, 2), (4, 5), (1, 5)))  # fmt: skip
    x = token_rows([easy, hard, odd])
    assert RoleContrast(plain=True).fit(x).score(x).tolist() == [1.0, 1.0, 4.0]


def test_a_context_that_does_not_vary_or_is_never_there_teaches_no_slope(token_rows):
    reply = [[("assistant", 1, 0, -r, 1.0, 1.0)] for r in (1.0, 2.0, 4.0)]
    same = [[("user", 0, 0, -1.0, 1.0, 1.0), *said] for said in reply]
    for rows in (reply, same):
        assert RoleContrast().fit(token_rows(rows)).slope == 0


def test_wrong_use_is_named(token_rows):
    with pytest.raises(ValueError, match="over and against are both 'reply'"):
        RoleContrast(against="reply")
    with pytest.raises(ValueError, match="against='none'"):
        RoleContrast(against="none")
    with pytest.raises(ValueError, match="1 safe rows with a predicted token"):
        RoleContrast().fit(token_rows([[], [("user", 0, 0, -1.0, 1.0, 1.0)]]))
    with pytest.raises(ValueError, match="safe row '1': a token's surprise is not finite"):
        RoleContrast().fit(token_rows([[], [("user", 0, 0, -np.inf, 1.0, 1.0)], []]))
