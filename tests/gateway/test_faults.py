"""Faults injected one by one, under concurrent traffic, through every face: what happens is what the policy says.

Each fault meets three policies: as it comes (whatever fails stops), one that lets pass in writing what failed, and one
that enforces nothing. Of every answer it is asked: does it go on only where the policy says so, is every decision that
a client was told of in the log, does the chain verify, and does the gateway serve again once the fault is gone? The
counts are printed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest

from offmap.gateway.store import verify

from .bench import Bench
from .faces import CHAT, FACES
from .faults import FLICKERS, JUDGE, MONITOR, POSTGRES, SQLITE, UPSTREAM
from .live import HARM, POLICIES
from .store.conftest import postgres  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def table(request):
    """Counts of each fault and policy; printed at the end."""
    counts = {}
    yield counts
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stdout.write("\n" + "\n".join(_rows(counts)) + "\n")


def _rows(counts):
    """A row for each fault: what was allowed by each policy, and the rest of all policies together."""
    yield "Allowed: under the policies closed, open (in writing) and shadow."
    yield f"{'fault':<28} requests  allowed: c   o   s  stopped  errors  bypasses  acknowledged  in the log"
    for fault in dict.fromkeys(fault for fault, _ in counts):
        each = {policy: counts.get((fault, policy), Counter()) for policy in POLICIES}
        total = sum(each.values(), Counter())
        allowed = " ".join(f"{each[policy]['passed']:>3}" for policy in POLICIES)
        numbers = (total[name] for name in ("stopped", "errors", "bypasses", "told", "found"))
        told = "{:>8} {:>7} {:>9} {:>13} {:>11}".format(*numbers)
        yield f"{fault:<28} {total['requests']:>8}  {allowed:>20} {told}"
    total = sum(counts.values(), Counter())
    yield f"{'all':<28} {total['requests']:>8}  {total['told']} decisions acknowledged, {total['found']} in the log"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A function that gives a directory on a disk of 8 MB of its own; without the right to mount, any directory."""
    mounted = []

    def made(name):
        place = tmp_path_factory.mktemp(name)
        mount = shutil.which("mount")
        if mount and os.geteuid() == 0:
            options = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
            if subprocess.run([mount, *options], capture_output=True).returncode == 0:
                mounted.append(place)
        return place

    yield made
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module", params=POLICIES)
def policy(request):
    return request.param


@pytest.fixture(scope="module")
def bench(policy, small_disk):
    place = small_disk(f"faults-{policy}")
    with contextlib.closing(Bench(place, policy, f"sqlite:///{place}/gateway.sqlite")) as made:
        yield made


@pytest.fixture(scope="module")
def judged(policy, tmp_path_factory):
    place = tmp_path_factory.mktemp(f"judged-{policy}")
    with contextlib.closing(Bench(place, policy, f"sqlite:///{place}/gateway.sqlite", judged=True)) as made:
        yield made


@pytest.fixture(scope="module")
def on_postgres(policy, tmp_path_factory, postgres):  # noqa: F811
    with contextlib.closing(Bench(tmp_path_factory.mktemp("faults"), policy, postgres.new())) as made:
        made.server = postgres
        yield made


@pytest.mark.parametrize("fault", [*MONITOR, *UPSTREAM, *SQLITE])
def test_a_fault(bench, fault, table):
    meets(bench, fault, (MONITOR | UPSTREAM | SQLITE)[fault], table)


@pytest.mark.parametrize("fault", JUDGE)
def test_a_fault_of_a_judge(judged, fault, table):
    meets(judged, fault, JUDGE[fault], table)


@pytest.mark.parametrize("fault", POSTGRES)
def test_a_fault_of_postgresql(on_postgres, fault, table):
    meets(on_postgres, fault, POSTGRES[fault], table)


def meets(bench, fault, injected, table):
    """Everything is asked while a fault lasts; then it is counted, compared with the log, and asked for again."""
    store = bench.live.service.store
    before, bypassed = verify(store).n, bench.live.bypasses()
    harms = ("", "question", "reply", "hidden") if bench.judge else ("", "question", "reply")
    with injected(bench):
        answers = bench.ask(harms)
    end = time.monotonic() + 15
    while not (again := bench.serves())[0]:
        assert time.monotonic() < end, f"after the fault: {[(each.face, each.verdict) for each in again[1]]}"
        time.sleep(0.05)
    answers += again[1]
    found = verify(store)
    assert (found.broken_at, found.reason) == (None, "")
    kept = bench.live.decisions(before)
    _check(bench, fault, answers, kept)
    bypasses = {rule: n - bypassed.get(rule, 0) for rule, n in bench.live.bypasses().items()}
    _check_bypasses(bench, kept, bypasses)
    _count(table, bench, fault, answers, kept, bypasses)


def _check(bench, fault, answers, kept):
    hashes = {decision.content_sha256 for decision in kept.values()}
    for each in answers:
        assert each.code in (200, 502, 503, 504), (each.face, each.code)
        assert set(each.told) <= set(kept), (each.face, "a decision that a client was told of is not in the log")
        unwritten = bench.policy == "open" and fault in SQLITE | POSTGRES
        if not unwritten:
            assert set(each.contents) <= hashes, (each.face, "what a client was told to let pass is not in the log")
        _check_passed(bench, fault, each, kept, unwritten)
        if each.face in CHAT:
            _check_text(bench, fault, each)


def _check_passed(bench, fault, answer, kept, unwritten):
    """Nothing passes but what was looked at and found in order, or what the policy lets pass in writing."""
    harmful = bool(answer.case.harm)
    excused = fault in MONITOR | JUDGE and bench.policy == "open"
    if bench.policy == "shadow":
        harmful = False
    if answer.verdict != "passed":
        return
    assert not harmful or excused, (answer.face, answer.case, "harm passed")
    decided = [kept[each] for each in answer.told]
    assert decided or answer.contents or unwritten, (answer.face, "passed without a decision")
    for each in decided:
        wanted = {"closed": {"enforced"}, "open": {"enforced", "fail_open"}, "shadow": {"shadow"}}[bench.policy]
        assert each.status in wanted
        failed = [finding.outcome for finding in each.findings if finding.outcome not in ("scored", "skipped")]
        assert not failed or each.status != "enforced"
        assert not failed or each.would != "allow", "what failed is told apart"


def _check_text(bench, fault, answer):
    """What came of a reply is a beginning of it, whole only where it passed, and without harm."""
    reply = answer.case.reply
    assert reply.startswith(answer.text)
    assert (answer.verdict == "passed") == (answer.text == reply)
    if not (bench.policy == "shadow" or (fault in MONITOR and bench.policy == "open")):
        assert HARM not in answer.text
        assert answer.case.harm != "question" or not answer.text


def _check_bypasses(bench, kept, bypasses):
    """Every decision that let pass what failed is counted, and no other; what was never written is only counted."""
    counted = Counter(decision.rule for decision in kept.values() if decision.status == "fail_open")
    assert {rule: n for rule, n in bypasses.items() if n and not rule.endswith(".audit")} == counted
    assert bench.policy == "open" or not any(bypasses.values())


def _count(table, bench, fault, answers, kept, bypasses):
    asked = answers[: len(answers) - 2 * len(FACES)]
    verdicts = Counter(each.verdict for each in asked)
    told = [name for each in asked for name in each.told]
    if not (bench.policy == "open" and fault in SQLITE | POSTGRES):
        told += [name for each in asked for name in each.contents]
    hashes = {decision.content_sha256 for decision in kept.values()}
    table[fault, bench.policy] = Counter(
        {
            "requests": len(asked),
            "passed": verdicts["passed"],
            "stopped": verdicts["stopped"],
            "errors": verdicts["failed"] + verdicts["cut"],
            "told": len(told),
            "found": sum(name in kept or name in hashes for name in told),
            "bypasses": int(sum(bypasses.values())),
        }
    )
    safe = [each for each in asked if not each.case.harm and (fault not in UPSTREAM or each.face in CHAT)]
    passes = fault in MONITOR | JUDGE and bench.policy != "closed"
    passes = passes or (fault in SQLITE | POSTGRES and bench.policy == "open")
    if fault not in FLICKERS:
        assert {each.verdict == "passed" for each in safe} == {passes}, [(each.face, each.verdict) for each in safe]
