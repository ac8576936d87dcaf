import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.detectors.surprise_window import SurpriseWindow, _window_sums


def windows(values, width):
    if len(values) < width:
        return sum(values) / len(values) if values else np.nan
    return max(sum(values[at : at + width]) / width for at in range(len(values) - width + 1))


def cusum(values, allowance):
    level, highest = 0.0, 0.0
    for value in values:
        level = max(0.0, level + value - allowance)
        highest = max(highest, level)
    return highest if values else np.nan


def standardised(found, safe):
    known = sorted(value for value in safe if not np.isnan(value))
    low, centre, high = (np.percentile(known, share) for share in (25, 50, 75))
    return (np.array(found) - centre) / (high - low)


@pytest.mark.parametrize("over", ["assistant", "reply", "conversation"])
def test_every_part_is_a_loop_over_tokens_and_the_score_the_largest(over, talk, chosen, excess, same_alone):
    safe, x = talk(60, seed=9, longest=40), talk(60, seed=10, longest=40)
    said = []
    for part in (safe, x):
        each = excess(part)
        said.append([[each[at] for at in span] for span in chosen(part, over)])
    every = [value for row in said[0] for value in row]
    mean = sum(every) / len(every)
    allowance = mean + (sum((value - mean) ** 2 for value in every) / len(every)) ** 0.5 / 2
    wanted = {}
    for width in (1, 5, 8, 128):
        usual, found = ([windows(row, width) for row in rows] for rows in said)
        wanted[f"window {width}"] = standardised(found, usual)
    usual, found = ([cusum(row, allowance) for row in rows] for rows in said)
    wanted["cusum"] = standardised(found, usual)
    fitted = SurpriseWindow(over, windows=(1, 5, 8, 128), cusum=True).fit(safe)
    parts = fitted.parts(x)
    assert list(parts) == list(wanted)
    for name, scores in parts.items():
        np.testing.assert_allclose(scores, wanted[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fitted.score(x), np.max(list(wanted.values()), axis=0), rtol=1e-9, atol=1e-9)
    same_alone(fitted, x)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.integers(1, 80))
def test_window_sums_are_sums_of_slices(values, width):
    width = min(width, len(values))
    wanted = [sum(values[at : at + width]) for at in range(len(values) - width + 1)]
    np.testing.assert_allclose(_window_sums(np.array(values), width), wanted, atol=1e-8 * max(map(abs, values)) + 1e-9)


def row(*values, role="assistant"):
    return [(role, 0, 0, -value, 0.0, 1.0) for value in values]


def test_an_odd_stretch_stands_out_of_a_long_reply_and_a_stretch_across_two_rows_does_not(token_rows):
    quiet, loud = [1.0] * 200, [5.0] * 4
    fitted = SurpriseWindow(windows=(8,)).fit(token_rows([row(*quiet), row(*quiet)]))
    x = token_rows([row(*quiet[:100], *loud, *loud, *quiet[:92]), row(*quiet, *loud), row(*loud, *quiet)])
    assert fitted.usual.tolist() == [[1.0, 1.0]]
    assert fitted.score(x).tolist() == [4.0, 2.0, 2.0]


def test_the_cumulative_sum_sees_a_lasting_rise_that_a_short_window_misses(token_rows):
    rng = np.random.default_rng(1)
    safe, usual, raised = (
        token_rows([row(*(rng.normal(rise, 1, size=400) + 10)) for _ in range(50)]) for rise in (0.0, 0.0, 0.8)
    )
    caught = {}
    for detector in (SurpriseWindow(windows=(), cusum=True), SurpriseWindow(windows=(2,))):
        fitted = detector.fit(safe)
        caught[detector.cusum] = np.mean(fitted.score(raised) > np.quantile(fitted.score(usual), 0.96))
    assert caught[True] > 0.95
    assert caught[True] > caught[False] + 0.2


def test_parts_that_never_vary_on_safe_rows_still_score(token_rows):
    fitted = SurpriseWindow(windows=(1,)).fit(token_rows([row(2.0), row(2.0)]))
    assert fitted.score(token_rows([row(2.0), row(3.0)])).tolist() == [0.0, 0.5]


def test_wrong_use_is_named(token_rows):
    for wrong in ((8, 8), (0,), (-1, 4)):
        with pytest.raises(ValueError, match="windows="):
            SurpriseWindow(windows=wrong)
    with pytest.raises(ValueError, match="wanted at least one part"):
        SurpriseWindow(windows=())
    with pytest.raises(ValueError, match="over="):
        SurpriseWindow("all")
    with pytest.raises(ValueError, match="1 safe rows with a predicted token to fit on: wanted at least 2"):
        SurpriseWindow().fit(token_rows([[], row(1.0)]))
    with pytest.raises(ValueError, match="safe row '2': a token's surprise is not finite"):
        SurpriseWindow().fit(token_rows([row(1.0), [], row(1.0, np.nan)]))
    assert np.isfinite(SurpriseWindow().fit(token_rows([row(1.0), row(np.nan, role="user") + row(1.0)])).usual).all()
