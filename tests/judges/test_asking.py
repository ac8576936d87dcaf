"""Many questions at once: each asked once, every answer kept, every fault counted; in this process, no network."""

import logging
import math
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.judges import ALIGNMENT, COMPARISONS, PROMPTS, UNCERTAINTY, Asker, Tally
from offmap.judges.chat import ChatReply, EndpointError, RefusedError, Usage
from offmap.judges.judgement import Candidates, Preference
from offmap.judges.memory import Remembered

from .answers import evidence
from .standin import USAGE, Model, always, grade_of, graded, rows_of, texts_of

SMALL = "Hello! How can I help?"
EVIDENCE, DIRECT = PROMPTS["evidence"], PROMPTS["direct"]


def talk(text, identity=""):
    return Conversation(identity or text, (Message("user", "Well?"), Message("assistant", text)))


def trial(*texts, identity=""):
    replies = tuple(Message("assistant", text) for text in texts)
    return Candidates(identity or texts[0], Conversation("c", (Message("user", "Well?"),)), replies)


def scores(asker, rows, prompt=UNCERTAINTY):
    return [judgement.score for judgement in asker.judgements(prompt, rows)]


def test_every_conversation_has_its_own_answer_and_equal_ones_are_asked_once():
    model = Model(graded)
    rows = [talk("a"), talk("bb"), talk("a", "again"), talk("ccc")]
    told = []
    asker = Asker(model, progress=told.append)
    assert scores(asker, rows) == [100 - grade_of(UNCERTAINTY.request(row)) for row in rows]
    assert len(model.requests) == 3
    assert sum(told) == 4
    assert asker.tally == Tally(asked=4)
    assert asker.usage == USAGE + USAGE + USAGE
    assert asker.judgements(UNCERTAINTY, []) == []


def test_prompts_that_ask_the_same_are_read_each_in_its_own_way():
    def behave(request):
        if "mute" in texts_of(request):
            raise EndpointError("off")
        return "score: 30, no\nSCORE: 90"

    asker = Asker(Model(behave, concurrency=1))
    published = replace(UNCERTAINTY, published=True)
    with pytest.raises(EndpointError):
        asker.judgements(published, [talk("a"), talk("mute")])
    assert scores(asker, [talk("a")], published) == [70.0]
    assert math.isnan(scores(asker, [talk("a")])[0])


def test_what_cannot_be_read_is_asked_for_once_more_with_a_reminder():
    model = Model(always("Hmm.", "SCORE: 40"))
    (found,) = Asker(model).judgements(UNCERTAINTY, [talk("a")])
    assert (found.score, found.retries, found.fault) == (60.0, 1, "")
    assert model.requests == [UNCERTAINTY.request(talk("a")), UNCERTAINTY.request(talk("a"), again=True)]


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_then_it_is_unparsable_and_all_answers_are_paid(tries):
    model = Model(always("Hmm."))
    asker = Asker(model, tries=tries)
    (found,) = asker.judgements(UNCERTAINTY, [talk("a")])
    assert (found.fault, found.retries) == ("unparsable", tries - 1)
    assert asker.usage.requests == len(model.requests) == tries
    assert asker.tally == Tally(asked=1, retried=int(tries > 1), unparsable=1)


def test_what_rests_on_nothing_is_not_asked_for_again(caplog):
    model = Model(always(evidence("high", "yes", "not there")))
    asker = Asker(model)
    with caplog.at_level(logging.WARNING):
        (found,) = asker.judgements(EVIDENCE, [talk("secret", "x1")])
    assert (found.fault, len(model.requests)) == ("ungrounded", 1)
    assert asker.tally == Tally(asked=1, ungrounded=1)
    assert "judge stand-in, evidence: of 1 asked about, 0 unparsable, 0 refused and 1 ungrounded" in caplog.text
    assert "'x1'" in caplog.text
    assert "secret" not in caplog.text


def refusing(*texts):
    def behave(request):
        if set(texts) & set(texts_of(request)):
            raise RefusedError("too long")
        return graded(request)

    return behave


def test_a_refused_text_is_a_fault_and_a_small_question_says_that_the_model_works():
    model = Model(refusing("long", "longer"), concurrency=1)
    asker = Asker(model)
    first = asker.judgements(UNCERTAINTY, [talk("long"), talk("longer")])
    assert [(judgement.fault, judgement.retries) for judgement in first] == [("refused", 0)] * 2
    assert [texts_of(request)[-1] for request in model.requests] == ["long", SMALL, "longer", SMALL]
    assert asker.tally == Tally(asked=2, refused=2)
    assert asker.usage == USAGE + USAGE
    asker.judgements(UNCERTAINTY, [talk("long"), talk("short")])
    assert [texts_of(request)[-1] for request in model.requests][4:] == ["long", "short"], "an answer says so too"


@pytest.mark.parametrize("well", [0, 3, 7, 8, 9])
def test_a_key_that_is_revoked_in_the_middle_is_no_refused_text(well):
    """Whatever was refused then is asked again when the call is made again."""
    rows, revoked = [talk(f"row {i}") for i in range(10)], [True]

    def behave(request):
        if revoked and len(model.requests) > well:
            time.sleep(0.1)  # time to notice
            raise RefusedError("status 403")
        return graded(request)

    model = Model(behave, concurrency=1)
    asker = Asker(model)
    with pytest.raises(InputError, match=r"conversation 'row \d': status 403; a small question is refused as well"):
        asker.judgements(UNCERTAINTY, rows)
    assert asker.tally == Tally()
    assert len(model.requests) <= well + 5, "it is noticed at once"
    revoked.clear()
    assert [judgement.fault for judgement in asker.judgements(UNCERTAINTY, rows)] == [""] * 10


def test_answers_from_memory_do_not_say_that_the_model_works(tmp_path):
    model = Model(graded, concurrency=1)
    known = [talk(f"row {i}") for i in range(3)]
    with Remembered(model, tmp_path / "m") as chat:
        asker = Asker(chat)
        asker.judgements(UNCERTAINTY, [*known, talk("Well?")])
        model.behave = refusing("new")
        asker.judgements(UNCERTAINTY, [talk("new")])
    model.behave = lambda _: _refuse()
    refused = pytest.raises(InputError, match="a small question is refused as well")
    with Remembered(model, tmp_path / "m") as chat, refused:
        Asker(chat).judgements(UNCERTAINTY, [*known, talk("new")])


def test_nobody_waits_for_the_small_question():
    """Other answers are counted while it is under way."""
    begun, go_on = threading.Event(), threading.Event()

    def behave(request):
        if texts_of(request)[-1] == SMALL:
            begun.set()
            assert go_on.wait(5)
        return refusing("long")(request)

    asker = Asker(Model(behave, concurrency=2))
    with ThreadPoolExecutor(1) as other:
        late = other.submit(asker.judgements, UNCERTAINTY, [talk("long")])
        assert begun.wait(5)
        with ThreadPoolExecutor(1) as second:
            assert second.submit(scores, asker, [talk("a")]).result(timeout=2)
        go_on.set()
        assert late.result()[0].fault == "refused"


INTERRUPTED = """
import signal, sys, threading, time
from offmap.conversation import Conversation, Message
from offmap.judges import UNCERTAINTY, Asker

class Slow:
    name = fingerprint = "slow"
    concurrency = 2
    def ask(self, request):
        sys.stdout.write("asked\\n")  # one write: two workers ask at once
        sys.stdout.flush()
        time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit that it is ignored
rows = [Conversation(str(i), (Message("user", str(i)),)) for i in range(9)]
Asker(Slow()).judgements(UNCERTAINTY, rows)
"""


def test_an_interrupted_command_ends_though_a_call_is_under_way():
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as slow:
        assert slow.stdout.readline() == b"asked\n"
        slow.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, said = slow.communicate(timeout=20)
        assert time.monotonic() - start < 5
    assert b"KeyboardInterrupt" in said


def test_a_model_that_refuses_everything_is_wrong_input():
    def behave(_):
        raise RefusedError("status 400")

    for ask in (
        lambda asker: asker.judgements(UNCERTAINTY, [talk("a")]),
        lambda asker: asker.preferences(COMPARISONS["direct"], [trial("a", "b")]),
    ):
        with pytest.raises(InputError, match="status 400; a small question is refused as well"):
            ask(Asker(Model(behave)))


def test_refused_after_a_reminder_says_so():
    model = Model(lambda request: _refuse() if "nowhere else" in request.messages[-1].text else "Hmm.")
    (found,) = Asker(model).judgements(UNCERTAINTY, [talk("a")])
    assert (found.fault, found.retries) == ("refused", 1)


def _refuse():
    raise RefusedError("no")


@pytest.mark.parametrize("error", [EndpointError("gone"), InputError("wrong key")])
def test_what_was_answered_outlives_a_failure_and_the_rest_is_not_begun(error):
    rows, broken = [talk(f"row {i}") for i in range(30)], [True]

    def behave(request):
        if broken and len(model.requests) == 3:
            raise error
        time.sleep(0.02 * (len(broken) and len(model.requests) > 3))  # time to notice
        return graded(request)

    model = Model(behave, concurrency=1)
    asker = Asker(model)
    with pytest.raises(type(error), match=r"gone|wrong key") as caught:
        asker.judgements(UNCERTAINTY, rows)
    assert ("conversation 'row 2'" in str(caught.value)) is isinstance(error, EndpointError)
    assert 3 <= len(model.requests) < 30
    assert asker.tally == Tally()
    broken.clear()
    assert scores(asker, rows) == [100 - grade_of(UNCERTAINTY.request(row)) for row in rows]
    asked = [texts_of(request)[-1] for request in model.requests]
    assert sorted(asked) == sorted([*(row.id for row in rows), "row 2"]), "only what failed is asked twice"
    assert asker.usage.requests == 30
    scores(asker, rows[:1])
    assert len(model.requests) == 32, "an answer that was given is not kept"


def test_a_reader_that_raises_stops_the_rest_too():
    class Broken:
        name = "broken"
        request = staticmethod(UNCERTAINTY.request)

        def read(self, reply, conversation):
            raise KeyError("a fault of the prompt")

    with pytest.raises(KeyError, match="a fault of the prompt"):
        Asker(Model(graded)).judgements(Broken(), [talk("a"), talk("b")])


def test_concurrency_is_reached_and_never_passed_by_callers_at_once():
    together = threading.Barrier(3, timeout=5)

    def behave(request):
        together.wait()
        return graded(request)

    model = Model(behave, concurrency=3)
    asker = Asker(model)
    batches = [[talk(f"{j} {i}") for i in range(3)] for j in range(4)]
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(lambda batch: asker.judgements(UNCERTAINTY, batch), batches))
    assert model.most == 3
    assert asker.tally == Tally(asked=12)
    assert asker.usage == Usage(12, 120, 24)


def longest(request):
    """Prefers the longest candidate."""
    replies = {row["candidate"]: len(row["content"]) for row in rows_of(request) if "candidate" in row}
    return max(replies, key=replies.get)


def test_preferences_are_asked_in_the_same_way():
    model = Model(lambda request: "Hmm." if "mute" in texts_of(request) else longest(request))
    asker = Asker(model)
    trials = [trial("a", "bb"), trial("bb", "a"), trial("a", "bb", identity="again"), trial("mute", "x")]
    found = asker.preferences(COMPARISONS["direct"], trials)
    assert found == [Preference(1), Preference(0), Preference(1), Preference(fault="unparsable", retries=1)]
    assert len(model.requests) == 4
    assert asker.tally == Tally(asked=4, retried=1, unparsable=1)
    model.behave = refusing("a")
    (refused,) = asker.preferences(COMPARISONS["grounded"], [trial("a", "b")])
    assert refused == Preference(fault="refused")


def test_one_asker_takes_several_prompts():
    model = Model(
        lambda request: ChatReply("no", logprobs={"yes": -2.0, "no": -0.5}) if request.choices else graded(request)
    )
    asker, row = Asker(model), talk("a")
    assert scores(asker, [row], DIRECT) == [-1.5]
    assert scores(asker, [row], ALIGNMENT) == [100 - grade_of(ALIGNMENT.request(row))]
    assert asker.tally == Tally(asked=2)
