import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offmap.errors import InputError
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.pages.session import IDLE_SECONDS, LONGEST_SECONDS, SECRET_VARIABLE, Sessions

KEY, RECORD = new_key("anna", "reviewer")
SECRET = "s" * 32


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions(Keys((RECORD,)), SECRET, clock)


def test_what_was_written_is_read_and_holds_no_key(sessions):
    session = sessions.begin(RECORD)
    cookie = sessions.written(session)
    assert sessions.read(cookie) == session
    said = base64.urlsafe_b64decode(cookie.partition(".")[0] + "==").decode()
    for secret in (KEY, RECORD.sha256, RECORD.salt, SECRET):
        assert secret not in cookie + said
    assert json.loads(said)["name"] == "anna"


def test_a_session_ends_when_nothing_is_sent_and_at_the_latest_after_half_a_day(sessions, clock):
    session = sessions.begin(RECORD)
    cookie = sessions.written(session)
    clock.now += IDLE_SECONDS - 1
    assert sessions.read(cookie)
    renewed = sessions.renewed(session)
    clock.now += 1
    assert sessions.read(cookie) is None
    assert sessions.read(sessions.written(renewed)) == renewed
    clock.now = 1000 + LONGEST_SECONDS - 1
    renewed = sessions.renewed(session)
    assert sessions.read(sessions.written(renewed))
    clock.now += 1
    assert sessions.read(sessions.written(renewed)) is None
    assert sessions.read(sessions.written(sessions.renewed(session))) is None


COOKIE = Sessions(Keys((RECORD,)), SECRET, Clock()).written(Sessions(Keys((RECORD,)), SECRET, Clock()).begin(RECORD))


@given(st.integers(0, len(COOKIE) - 1), st.characters(max_codepoint=0x2FF) | st.just(""))
def test_no_letter_of_a_cookie_may_be_another(at, letter):
    forged = COOKIE[:at] + letter + COOKIE[at + 1 :]
    found = Sessions(Keys((RECORD,)), SECRET, Clock()).read(forged)
    assert (found is None) == (forged != COOKIE)


@given(st.text() | st.binary().map(lambda each: base64.urlsafe_b64encode(each).decode() + ".x"))
def test_any_text_may_be_a_cookie(text):
    assert Sessions(Keys((RECORD,)), SECRET, Clock()).read(text) is None


def test_what_was_signed_and_says_nonsense_is_no_session(sessions):
    for said in ("", "e30", base64.urlsafe_b64encode(b'{"name": 3}').decode(), "~~~~", "é"):
        assert sessions.read(f"{said}.{sessions._signed('session', said)}") is None


def test_another_secret_and_another_key_s_session_do_not_count(sessions, clock):
    cookie = sessions.written(sessions.begin(RECORD))
    assert Sessions(Keys((RECORD,)), "t" * 32, clock).read(cookie) is None
    assert Sessions(Keys((RECORD,)), "", clock).read(cookie) is None
    for other in ((), (new_key("anna", "reviewer")[1],), (new_key("ben", "reviewer")[1],)):
        assert Sessions(Keys(other), SECRET, clock).read(cookie) is None
    promoted = type(RECORD)("anna", "admin", RECORD.salt, RECORD.sha256)
    assert Sessions(Keys((promoted,)), SECRET, clock).read(cookie) is None


def test_processes_that_share_the_secret_share_sessions(clock):
    told = {SECRET_VARIABLE: SECRET}
    one, other = (Sessions.from_environment(Keys((RECORD,)), told) for _ in range(2))
    assert other.read(one.written(one.begin(RECORD)))
    alone = Sessions.from_environment(Keys((RECORD,)), {})
    assert alone.read(one.written(one.begin(RECORD))) is None


def test_a_short_secret_is_refused():
    with pytest.raises(InputError, match=f"{SECRET_VARIABLE}: found 31 characters, wanted 32"):
        Sessions(Keys(), "x" * 31)


def test_who_signed_out_is_out_and_others_are_not(sessions, clock):
    anna, again = sessions.begin(RECORD), sessions.begin(RECORD)
    sessions.end(anna)
    assert sessions.read(sessions.written(anna)) is None
    assert sessions.read(sessions.written(sessions.renewed(anna))) is None
    assert sessions.read(sessions.written(again)) == again
    clock.now += LONGEST_SECONDS
    sessions.end(again)
    assert len(sessions._ended) == 1


def test_tokens_are_each_session_s_own_and_not_its_signature(sessions):
    anna, again = sessions.begin(RECORD), sessions.begin(RECORD)
    assert sessions.is_token(anna, sessions.token(anna))
    assert sessions.is_token(sessions.renewed(anna), sessions.token(anna))
    for wrong in (sessions.token(again), "", "é", sessions.token(anna) + "0", sessions.written(anna).partition(".")[2]):
        assert not sessions.is_token(anna, wrong)
