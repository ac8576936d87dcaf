import math

import numpy as np
import pytest

from offmap.gateway.pace import Pace


def after(calls):
    pace = Pace()
    for tokens, seconds in calls:
        pace.saw(tokens, seconds)
    return pace


def test_what_a_token_takes_is_told_from_what_every_call_takes():
    pace = after((tokens, 0.02 + 0.0005 * tokens) for tokens in (30, 500, 120, 60))
    assert pace.per_token == pytest.approx(0.0005)
    assert pace.room(0.25) == pytest.approx(500)


def test_nothing_is_known_before_the_first_call():
    assert Pace().room(0.25) == math.inf
    assert after([(0, 1.0)]).room(0.25) == math.inf


def test_calls_of_one_size_are_followed_by_larger_ones_until_it_is_known_what_they_take():
    """What takes .3 s whatever it reads would else be asked about one thing at a time for ever."""
    pace, sizes = Pace(), []
    for _ in range(6):
        sizes.append(min(800, max(100, 100 * int(min(pace.room(0.25), 800) // 100))) if sizes else 100)
        pace.saw(sizes[-1], 0.3)
    assert sizes == [100, 200, 400, 800, 800, 800]


def test_a_call_is_at_most_twice_the_largest_before_it():
    assert after([(30, 0.02), (40, 0.0200001)]).room(0.25) == 80


def test_noise_does_not_hide_what_a_token_takes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 400, 200)
    pace = after((int(size), 0.025 + 0.0005 * size + rng.exponential(0.02)) for size in sizes)
    assert pace.per_token == pytest.approx(0.0005, rel=0.25)


def test_what_was_long_ago_counts_less():
    slow = [(tokens, 0.001 * tokens) for tokens in (50, 100, 200)] * 20
    fast = [(tokens, 0.0001 * tokens) for tokens in (50, 100, 200)] * 20
    assert after(slow + fast).per_token < 0.3 * after(slow).per_token
    assert after(slow + fast[:1]).per_token > 0.5 * after(slow).per_token


def test_a_stall_that_looks_like_more_being_faster_is_no_pace_at_all():
    assert after([(10, 5.0), (100, 0.1)]).per_token == 0.0
