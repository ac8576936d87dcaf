import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.judges.client import Reply
from offmap.judges.judge import read_grade, read_grade_as_published

GOOD = {
    "SCORE: 0": 0,
    "SCORE: 100": 100,
    "SCORE: 100.0": 100,
    "Why.\nSCORE: 37": 37,
    "a\r\nSCORE: 2.75\r\n": 2.75,
    "It says SCORE: 0.\nSCORE: 0\nI do not agree.\n\nSCORE: 80 \n": 80,
}
OUT_OF_RANGE = ("SCORE: 101", "SCORE: -1", "SCORE: 1000", "SCORE: 100.5", "SCORE: nan", "SCORE: 1e1")
NO_NUMBER_ALONE = ("SCORE: 5/100", "SCORE: 5 of 100", "SCORE: 5.", "SCORE: \u0663", "SCORE: ", "5", "")
OTHER_FORM = ("SCORE:5", "score: 5", "**SCORE: 5**", " SCORE: 5", "The score is SCORE: 5", "a\u2028SCORE: 5")


@pytest.mark.parametrize("text", GOOD)
def test_a_last_line_of_the_right_form_is_the_grade(text):
    assert read_grade(Reply(text, whole=True)) == GOOD[text]


@pytest.mark.parametrize("text", [*OUT_OF_RANGE, *NO_NUMBER_ALONE, *OTHER_FORM, "SCORE: 5\nThat is all."])
def test_anything_else_is_none(text):
    assert math.isnan(read_grade(Reply(text, whole=True)))


@pytest.mark.parametrize("text", GOOD)
def test_a_cut_answer_has_none(text):
    """ "SCORE: 9" may be the start of 95, and a cut answer may end in a line that it quotes."""
    assert math.isnan(read_grade(Reply(text, whole=False)))


@given(
    st.lists(st.sampled_from(["SCORE: ", "score: ", "0", "9", "10", "100", ".", "\n", " ", "-"]), max_size=6).map(
        "".join
    )
)
def test_a_grade_is_the_number_that_the_last_line_spells(text):
    """Against a reader that goes by the letters: the form is fixed, so there is exactly one way to spell it."""
    *_, last = text.rstrip().split("\n")
    label, number = last[:7], last[7:]
    whole, dot, part = number.partition(".")
    digits = all(letter in string.digits for letter in whole + part)
    spelled = label == "SCORE: " and digits and 1 <= len(whole) <= 3 and bool(part) == bool(dot)
    expected = float(number) if spelled and (len(whole) < 3 or whole == "100") else math.nan
    expected = expected if expected <= 100 else math.nan
    assert read_grade(Reply(text, whole=True)) == pytest.approx(expected, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("I think score:30, no.\nSCORE: 60", 30), ("SCORE:\n7 because", 7), ("SCORE: 100.00!", 100), ("SCORE: 250", 25),
        ("SCORE: 100.5", 100), ("SCORE: 99.5.", 99.5), ("SCORE: -1", None), ("My score is 5", None), ("", None),
    ],
)  # fmt: skip
def test_as_published_the_first_thing_like_a_score_counts(text, grade):
    for whole in (True, False):
        found = read_grade_as_published(Reply(text, whole))
        assert found == pytest.approx(math.nan if grade is None else grade, nan_ok=True)
