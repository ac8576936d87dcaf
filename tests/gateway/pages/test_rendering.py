import html
import math
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from offmap.gateway.pages.rendering import (
    _environment,
    clock_time,
    duration,
    marked_up,
    p_value,
    render,
    shown,
    static_file,
)

UNSEEN = (
    "\u034f\u115f\u1160\u17b4\u3164\uffa0\ufe0f\U000e0001\U000e0100\u200b\u200d\u202e\u2066\u2069\ufeff\xad"
    "\x00\x1b\x7f\u2028\ud800"
)
anything = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from(UNSEEN + "ab<&\"'\\\n\t\r"))


@given(anything)
def test_nothing_is_put_out_that_is_not_seen(text):
    plain = shown(text)
    for letter in plain.replace("\r\n", "\n"):
        assert letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")
        assert letter not in UNSEEN
    assert html.unescape(re.sub(r"</?span[^>]*>", "", marked_up(text))) == plain
    plain.encode()


@given(st.text(st.sampled_from("abc <>&\"'[]|\\\n\täßא漢😀")))
def test_what_is_seen_stays_as_it_is(text):
    assert shown(text) == text


@pytest.mark.parametrize("letter", UNSEEN)
def test_each_of_these_is_an_escape_and_marked_as_one(letter):
    assert shown(letter).startswith("\\")
    assert marked_up(f"a{letter}b") == Markup('a<span class="escape">{}</span>b').format(shown(letter))


def test_every_expression_of_every_template_is_escaped():
    template = _environment().from_string('{{ text }}|{{ text | e }}|<a title="{{ text }}">|{{ [text] | join }}')
    told = template.render(text="<b>\u202e'\"")
    assert told == (
        "&lt;b&gt;\\u202e&#39;&#34;|&lt;b&gt;\u202e&#39;&#34;|"
        '<a title="&lt;b&gt;\\u202e&#39;&#34;">|&lt;b&gt;\\u202e&#39;&#34;'
    )


def test_a_template_that_is_not_given_a_value_is_an_error():
    with pytest.raises(Exception, match="undefined"):
        render("error.html.j2", {})


def test_numbers_and_times():
    assert [p_value(p) for p in (None, math.nan, 0.0, 1e-12, 0.04567)] == ["–", "–", "0", "1e-12", "0.046"]
    assert [duration(s) for s in (-3, 0, 59.9, 60, 725, 3600, 90061)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "12 min 5 s",
        "1 h",
        "1 d 1 h",
    ]
    assert clock_time(0) == "1970-01-01 00:00:00"


def test_only_our_own_files_are_given():
    assert static_file("review.css")
    for name in ("../session.py", "/etc/passwd", "review.css/", "", ".", "base.html.j2"):
        assert static_file(name) is None


def test_no_template_has_anything_inline():
    for name in _environment().list_templates():
        source = _environment().loader.get_source(_environment(), name)[0]
        assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:|https?://", source), name
        assert "|safe" not in source.replace(" ", "")
