"""A gateway killed with -9 under load, again and again on one store: nothing that it acknowledged is lost.

The moments are random, from a seed, and lie in requests, in commits and in streams. Of every answer that came: nothing
harmful went on, what was cut was not taken for whole, and each decision that a client was told of is in the log. After
each death the chain verifies and the next gateway serves on the same store. The counts are printed.
"""

import contextlib
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from offmap.gateway.store import entries, open_store, verify

from ..gateway import behind
from ..gateway.faces import CHAT, FACES, Case, Faces
from ..gateway.live import HARM
from ..gateway.nursery import Nursery
from ..gateway.store.conftest import postgres  # noqa: F401 - a fixture
from .test_gateway_clients import Gateway

AT_ONCE = 8
HARMS = ("", "", "question", "reply")
NUMBERS = itertools.count()


def drips(handler, body):
    """A reply that takes its time, so that a stream is cut in its middle."""
    if not body.get("stream"):
        return behind.chats(handler, body)
    handler.begin("text/event-stream")
    for piece in behind.pieces(behind.reply_of(body)):
        handler.wfile.write(piece)
        time.sleep(0.003)
    handler.wfile.write(behind.frame({}, "stop") + behind.DONE)
    return None


@pytest.fixture(scope="module")
def upstream():
    with contextlib.closing(behind.Behind(drips)) as made:
        yield made


@pytest.fixture(scope="module")
def nursery():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with contextlib.closing(Nursery()) as made:
        yield made


class Load:
    """Clients of every face that ask until the gateway is gone."""

    def __init__(self, address, seed):
        self.answers, self.over, self.random = [], False, random.Random(seed)
        self.http = httpx2.Client(base_url=address, timeout=20, trust_env=False, verify=False)
        self.faces = Faces(self.http, address)
        self.pool = ThreadPoolExecutor(AT_ONCE)
        self.asking = [self.pool.submit(self._ask, self.random.random()) for _ in range(AT_ONCE)]

    def _ask(self, seed):
        choice = random.Random(seed).choice
        while not self.over:
            answer = self.faces.ask(choice(tuple(FACES)), Case(next(NUMBERS), choice(HARMS)))
            self.answers.append(answer)
            if not answer.code or answer.verdict == "cut":
                return

    def wait_for(self, count):
        end = time.monotonic() + 30
        while len(self.answers) < count:
            assert time.monotonic() < end, f"{len(self.answers)} answers, waited for {count}"
            time.sleep(0.001)

    def close(self):
        self.over = True
        for each in self.asking:
            each.result(30)
        self.pool.shutdown()
        self.faces.close()
        self.http.close()
        return self.answers


def killed_again_and_again(nursery, url, upstream, kills, seed):
    """All answers; the gateway is killed ``kills`` times, and ends as it should at the end."""
    moments, answers = random.Random(seed), []
    for life in range(kills + 1):
        server = nursery.start(url=url, upstream=upstream.url)
        load = Load(f"http://127.0.0.1:{server['port']}", f"{seed} {life}")
        load.wait_for(moments.randrange(1, 40))
        time.sleep(moments.uniform(0, 0.05))
        if life == kills:
            load.close()
        os.kill(server["pid"], signal.SIGTERM if life == kills else signal.SIGKILL)
        answers += load.close() if life < kills else load.answers
        assert nursery.ended() == (0 if life == kills else -9)
        with contextlib.closing(open_store(url)) as store:
            found = verify(store)
            assert (found.broken_at, found.reason) == (None, ""), f"after kill {life + 1}"
    return answers


def check(answers, url):
    """Everything that was acknowledged is there, nothing harmful went on; how many of each there are."""
    with contextlib.closing(open_store(url)) as store, store.read() as connection:
        kept = {row.decision_id: row.decision for row in entries(connection) if row.kind == "decision"}
    hashes = {each.content_sha256 for each in kept.values()}
    told = [name for each in answers for name in each.told]
    hashed = [name for each in answers for name in each.contents]
    counts = Counter(each.verdict for each in answers)
    for each in answers:
        assert each.verdict != "passed" or not each.case.harm, (each.face, each.case)
        if each.face in CHAT:
            assert each.case.reply.startswith(each.text)
            assert each.verdict != "passed" or each.text == each.case.reply
            assert HARM not in each.text
    return counts | {
        "lost": len({*told} - {*kept}) + len({*hashed} - hashes),
        "acknowledged": len(told) + len(hashed),
        "cut in a stream": sum(bool(each.text) for each in answers if each.verdict == "cut"),
        "in the log": len(kept),
    }


@pytest.mark.parametrize(("data_base", "kills"), [("sqlite", 50), ("postgresql", 10)])
def test_kill_9_under_load(request, nursery, upstream, tmp_path, capsys, data_base, kills):
    on_file = data_base == "sqlite"
    url = f"sqlite:///{tmp_path}/store.sqlite" if on_file else request.getfixturevalue("postgres").new()
    answers = killed_again_and_again(nursery, url, upstream, kills, seed=7)
    counts = check(answers, url)
    with capsys.disabled():
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        sys.stdout.write(f"\n{data_base}, killed {kills} times under load: {len(answers)} requests: {told}\n")
    assert counts["lost"] == 0
    assert counts["passed"] > 5 * kills
    assert counts["stopped"] > 2 * kills
    assert counts["cut in a stream"] > kills / 5
    assert counts["in the log"] >= counts["acknowledged"] > 10 * kills


def test_kill_9_of_offmap_serve(tmp_path, capsys):
    """The command as it is shipped, with its own monitor: three lives on one store, two of them killed."""
    url, told, moments = f"sqlite:///{tmp_path}/runs/gateway/gateway.sqlite", {}, random.Random(11)
    for life in range(3):
        running = Gateway(tmp_path)
        try:
            told |= _asked_until_killed(running, 40 * life + moments.randrange(1, 40), kill=life < 2)
        finally:
            running.process.kill()
            running.stop()
        with contextlib.closing(open_store(url)) as store, store.read() as connection:
            kept = {row.decision_id: row.decision for row in entries(connection) if row.kind == "decision"}
            assert verify(store).broken_at is None
        assert {name: kept[name].action for name in told} == told
    with capsys.disabled():
        sys.stdout.write(f"\noffmap serve, killed 2 times: {len(told)} decisions acknowledged, all in the log\n")


def _asked_until_killed(running, after, *, kill):
    """Ids and actions of all decisions that were told, by elements of requests of several at once."""
    told, over = {}, threading.Event()

    def ask():
        client = httpx2.Client(base_url=running.address, timeout=60, trust_env=False)
        with client, contextlib.suppress(httpx2.TransportError):
            while not over.is_set():
                inputs = [f"How do I descale kettle {next(NUMBERS)}?" for _ in range(4)]
                answer = client.post("/v1/moderations", json={"input": inputs}).json()
                for each in answer.get("results", ()):
                    assert each["flagged"] == (each["offmap"]["action"] != "allow")
                    told[each["offmap"]["decision"]] = each["offmap"]["action"]

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        end = time.monotonic() + 60
        while len(told) < after:
            assert time.monotonic() < end, "the gateway does not answer"
            time.sleep(0.001)
        over.set() if not kill else running.process.kill()
        for each in asking:
            each.result(60)
    return told
