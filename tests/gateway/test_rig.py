"""The load rig's arithmetic: schedules, quantiles, pairs, slopes against loops; and one short run of the real thing."""

import asyncio
import json
import math
import os
import sys
import time
from itertools import combinations, pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # the rig's modules import each other from there
from gateway_rig import figures, host, phases, rounds, show, traffic
from gateway_rig.load import Answer, Client, Target, closed_loop, lag, open_loop
from gateway_rig.setting import Plan

from offmap.gateway.wire.chat_messages import read_replies, read_request

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def rows():
    return traffic.exchanges(30, seed=1)


def test_arrivals_are_a_poisson_process():
    due = figures.arrivals(50.0, 200.0, seed=3)
    assert np.all(np.diff(due) > 0)
    assert due[0] > 0
    assert due[-1] < 200
    assert abs(len(due) - 10_000) < 5 * math.sqrt(10_000)
    assert kstest(np.diff(due), "expon", args=(0, 1 / 50)).pvalue > 1e-3


def test_arrivals_are_the_same_for_one_seed_and_no_shorter_for_a_longer_time():
    short, long = figures.arrivals(20.0, 3.0, seed=7), figures.arrivals(20.0, 9.0, seed=7)
    assert np.array_equal(long[: len(short)], short)
    assert len(long) == len(short) or long[len(short)] >= 3.0
    with pytest.raises(ValueError, match="wanted both above 0"):
        figures.arrivals(0.0, 1.0, seed=0)


class Stalling:
    """A server of one thing at a time, which stands still for a while with its first request."""

    def __init__(self, stall):
        self._stall, self._lock, self._first, self.tasks = stall, asyncio.Lock(), True, []

    async def __call__(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return await writer.wait_closed()
            length = next(int(line[15:]) for line in head.decode().split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(length)
            async with self._lock:
                stall, self._first = self._stall * self._first, False
                await asyncio.sleep(stall)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def served(stall, work):
    async def main():
        stalling = Stalling(stall)
        server = await asyncio.start_server(stalling, "127.0.0.1", 0)
        client = Client(Target(server.sockets[0].getsockname()[1]))
        try:
            return await work(client)
        finally:
            await client.aclose()
            server.close()
            await asyncio.gather(*stalling.tasks)

    return asyncio.run(main())


def test_a_stall_is_felt_by_everybody_who_was_due_in_it():
    """Coordinated omission: a sender that waits would send one request in that time and call the others fast."""
    stall, due = 0.4, np.arange(20) * 0.01
    answers = served(stall, lambda client: open_loop(client, [b"{}"] * 20, due))
    for offset, answer in zip(due, answers, strict=True):
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.seconds > 0.95 * (stall - offset)
    waited = served(stall, lambda client: closed_loop(client, [b"{}"] * 20))
    assert sorted(answer.seconds > 0.15 for answer in waited) == [False] * 19 + [True]


def test_a_sender_that_is_late_adds_to_the_time_and_says_so():
    async def blocked(client):
        inner, pauses = client.ask, iter((0.3, 0, 0))

        async def ask(*asked):
            time.sleep(next(pauses))
            return await inner(*asked)

        client.ask = ask
        return await open_loop(client, [b"{}"] * 3, np.array([0.0, 0.1, 0.2]))

    answers = served(0.0, blocked)
    for answer, late, least in zip(answers, lag(answers), (0.3, 0.2, 0.1), strict=True):
        assert late >= least - 1e-6
        assert answer.seconds >= late


@given(NUMBERS, st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_this_share_is_not_above(values, share):
    found = figures.quantile(np.array(values), share)
    assert found in values
    assert sum(each <= found for each in values) >= share * len(values) - 1e-9
    assert sum(each < found for each in values) < share * len(values) + 1e-9


def test_intervals_resample_rounds():
    same, none = [np.arange(10.0)] * 4, [np.arange(10.0)]
    told = figures.quantile_of(same, 0.5)
    assert told.low == told.value == told.high == 4.0
    assert math.isnan(figures.quantile_of(none, 0.5).low)
    # Of two rounds, a quarter of all resamples have only the one, and a quarter only the other.
    told = figures.quantile_of([np.zeros(5), np.ones(5)], 0.5)
    assert (told.low, told.high) == (0.0, 1.0)


def test_what_is_added_is_paired_and_leaves_out_what_has_no_time():
    rng = np.random.default_rng(0)
    bare = [rng.exponential(0.02, 50) for _ in range(3)]
    through = [each + 0.004 for each in bare]
    through[1][7] = np.nan
    found = figures.added(through, bare)
    assert [len(each) for each in found] == [50, 49, 50]
    assert np.allclose(np.concatenate(found), 0.004)
    # Unpaired, the difference of single requests is nowhere near what was added.
    assert np.abs(through[0] - bare[2][::-1] - 0.004).max() > 0.02
    with pytest.raises(ValueError, match="cannot be paired"):
        figures.added(through, bare[:2])


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=25))
def test_the_slope_is_the_median_of_all_pairs(values):
    times = np.arange(len(values)) * 2.0
    found = figures.slope(times, np.array(values))
    pairs = [(b - a) / (t - s) for (s, a), (t, b) in combinations(zip(times, values, strict=True), 2)]
    assert found.value == pytest.approx(np.median(pairs))
    assert found.low <= found.value <= found.high


def test_growth_is_told_from_noise_and_a_day_of_it_counts():
    rng, times = np.random.default_rng(5), np.arange(300.0)
    noise = rng.normal(0, 0.1, 300)
    steady, leak = figures.slope(times, 150 + noise), figures.slope(times, 150 + 0.01 * times + noise)
    assert figures.is_flat(steady, 150)
    assert not figures.is_flat(leak, 150)
    assert leak.low < 0.01 < leak.high
    creep = figures.slope(times, 150 + 0.001 * times + 0.01 * noise)
    assert creep.low > 0
    assert figures.is_flat(creep, 150)  # 86 a day
    with pytest.raises(ValueError, match="at least 3"):
        figures.slope(times[:2], noise[:2])


def test_windows_have_their_own_values_only():
    times, values = np.array([10.0, 11, 12, 19, 20, 41]), np.array([3.0, 1, 2, 9, 5, 7])
    middles, medians = figures.thinned(times, values, 10.0)
    assert middles.tolist() == [15.0, 25.0, 45.0]
    assert medians.tolist() == [2.5, 5.0, 7.0]
    assert figures.thinned(times, values, 10.0, np.min)[1].tolist() == [1.0, 5.0, 7.0]
    assert figures.second_half(times, values)[0].tolist() == [41.0]


def test_every_arm_has_every_place_as_often():
    found = [(number, arm) for number in range(6) for arm in rounds.order(["a", "b", "c"], number)]
    for number in range(6):
        assert sorted(arm for at, arm in found if at == number) == ["a", "b", "c"]
    for place in range(3):
        assert sorted(arm for _, arm in found[place::3]) == ["a", "a", "b", "b", "c", "c"]
    after = {(one, other) for (at, one), (_, other) in pairwise(found) if one != other}
    assert len(after) == 6


def test_what_the_host_took_is_the_kernels_eighth_count(tmp_path):
    (tmp_path / "stat").write_text("cpu  10 1 5 100 2 0 3 250 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert host.taken(tmp_path / "stat") == 250 / os.sysconf("SC_CLK_TCK")


class Hosted:
    """Arms whose answers wait for as long as the host takes of a second: for each turn one entry of what it takes."""

    def __init__(self, monkeypatch, rows, *shares):
        self.rows, self.shares, self.clock, self.stolen = rows, iter(shares), 100.0, 7.0
        self.answers = {row.request(): row.answer() for row in rows}
        monkeypatch.setattr(rounds, "SETTLE", 0)
        monkeypatch.setattr(rounds, "monotonic", lambda: self.clock)
        monkeypatch.setattr(rounds.host, "taken", lambda: self.stolen)
        monkeypatch.setattr(rounds, "open_loop", self.open_loop)
        monkeypatch.setattr(rounds, "closed_loop", self.closed_loop)

    async def closed_loop(self, *_):
        self.clock, self.stolen = self.clock + 3, self.stolen + 2  # of warming up, which counts nowhere

    async def open_loop(self, _, sent, due):
        share = next(self.shares)
        self.clock, self.stolen = self.clock + 4, self.stolen + 4 * share
        told = {"x-offmap-decision": str(share)}
        ends = zip(due, sent, strict=True)
        return [Answer(at, at, at + 0.02 + share, 200, told, ((at, self.answers[body]),)) for at, body in ends]

    def run(self, tmp_path, **plan):
        plan = Plan(tmp_path, rate=20.0, seconds=1.0, **plan)
        found = asyncio.run(rounds.take_turns(plan, {"direct": Target(1), "gateway": Target(2)}, self.rows))
        assert not list(self.shares)
        return found


def test_a_round_that_the_host_disturbed_is_taken_again_by_all_arms(monkeypatch, tmp_path, rows):
    """The second round begins with the gateway: it is disturbed twice, once in either arm."""
    hosted = Hosted(monkeypatch, rows, 0.0, 0.019, 0.3, 0.0, 0.01, 0.5, 0.015, 0.005)
    found = hosted.run(tmp_path, rounds=2, tries=3)
    assert [(each.number, each.counts) for each in found.tries] == [(0, True), (1, False), (1, False), (1, True)]
    assert found.tries[1].taken == pytest.approx({"gateway": 0.3, "direct": 0.0})
    assert found.tries[2].taken == pytest.approx({"gateway": 0.01, "direct": 0.5})
    told = phases.taken_told(found)
    sizes = [len(each) for each in found.counted["gateway"].rounds]
    assert told["host_taken_at_most"] == pytest.approx(0.019)
    added = [19.0] * sizes[0] + [10.0] * sizes[1]
    assert told["arms"]["gateway"]["added_ms"]["p99"]["value"] == pytest.approx(max(added))
    assert told["arms"]["gateway"]["added_ms"]["p50"]["value"] == pytest.approx(figures.quantile(np.array(added), 0.5))
    assert [len(each) for each in found.first["gateway"].rounds] == sizes
    assert told["arms"]["gateway"]["first_tries"]["added_ms"]["p99"]["value"] == pytest.approx(300.0)
    every = sizes[0] + 3 * sizes[1]
    assert told["arms"]["gateway"]["outcomes"] == {rounds.ANSWERED: every}
    assert len(found.every["gateway"].decisions) == every
    assert {*found.every["gateway"].decisions} == {"0.019", "0.3", "0.01", "0.015"}
    assert [each["seconds_ms"]["gateway"]["p50"] for each in told["tries"]] == pytest.approx([39, 320, 30, 35])
    table = "\n".join(show._host(told))
    assert "4 tries of 2 rounds" in table
    assert "it took at most 19." in table
    assert "| gateway | 17, 300 | 1.00 | " in table


def test_a_host_that_never_leaves_the_processors_alone_is_told(monkeypatch, tmp_path, rows):
    hosted = Hosted(monkeypatch, rows, 0.0, 0.5, 0.6, 0.0, 0.0, 0.021)
    found = hosted.run(tmp_path, rounds=1, tries=3)
    assert [each.counts for each in found.tries] == [False, False, True]
    told = phases.taken_told(found)
    assert told["host_taken_at_most"] == pytest.approx(0.021)
    assert told["arms"]["gateway"]["added_ms"]["p50"]["value"] == pytest.approx(21.0)


def test_the_gateway_reads_what_the_rig_writes(rows):
    assert any(row.reply.tool_calls for row in rows)
    assert any(row.asked.tools for row in rows)
    for row in rows:
        asked = read_request(msgspec.json.decode(row.request()))
        assert [m.content for m in asked.conversation.messages] == [m.content for m in row.asked.messages]
        assert [tool.name for tool in asked.conversation.tools] == [tool.name for tool in row.asked.tools]
        (reply,) = read_replies(msgspec.json.decode(row.answer()), 1)
        assert reply.message == row.reply
        assert row.stages()[1].messages[-1] == row.reply
        assert len(row.stages()) == 2 + len(row.reply.tool_calls)


@settings(deadline=None)
@given(data=st.data())
def test_a_stream_is_read_whatever_way_it_is_cut(rows, data):
    row = rows[data.draw(st.integers(0, len(rows) - 1))]
    stream = b"".join(row.pieces())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    pieces = tuple((10.0 + at, part) for at, part in enumerate(parts))
    seen = rounds.Seen()
    rounds.add(seen, [row], [Answer(10.0, 10.0, 10.0 + len(parts), 200, {}, pieces)], stream=True)
    assert seen.outcomes == {rounds.ANSWERED: 1}
    whole = [json.loads(event) for event in stream.decode().replace("data: ", "").split("\n\n") if event[:1] == "{"]
    assert [event for _, event in rounds.events(Answer(0, 0, 0, 200, {}, pieces))] == whole
    speaking = b'"delta":{"content":' if row.reply.content else b'"delta":{"tool_calls":'
    ends = [stream.index(b"\n\n", stream.index(speaking)) + 2, stream.rindex(b"\n\n", 0, -2) + 2]
    first, last = (np.searchsorted(np.cumsum([len(part) for part in parts]), end) for end in ends)
    assert seen.first[0][0] == first
    assert 0 <= seen.held[0][0] <= last - first


def test_what_is_not_the_upstreams_answer_has_no_time(rows):
    row = next(row for row in rows if not row.reply.tool_calls)
    other = msgspec.json.decode(row.answer())
    other["choices"][0]["message"]["content"] = "something else"
    refused = msgspec.json.decode(row.answer())
    refused["choices"][0] |= {"message": {"content": None, "refusal": "no"}, "finish_reason": "content_filter"}
    bodies = [row.answer(), msgspec.json.encode(other), msgspec.json.encode(refused), b""]
    seen, statuses = rounds.Seen(), (200, 200, 200, 0)
    answers = [Answer(1.0, 1.0, 2.0, s, {}, ((2.0, b),)) for s, b in zip(statuses, bodies, strict=True)]
    rounds.add(seen, [row] * 4, answers)
    assert seen.outcomes == {rounds.ANSWERED: 1, rounds.REFUSED: 1, rounds.FAILED: 2}
    assert np.isnan(seen.rounds[0]).tolist() == [False, True, True, True]


def test_goals_are_missed_by_what_misses_them():
    def found(p99, missing, memory={}, taken=0.02, **outcomes):  # noqa: B006 - read only
        added = {"p50": {"value": 4.0}, "p99": {"value": p99}}
        audit = {"holds": True, "missing": missing}
        arm = {"added_ms": added, "outcomes": {"answered": 10, **outcomes}}
        fast = {"added_ms": {"p50": {"value": 4.0}, "p99": {"value": 4.0}}, "outcomes": {"answered": 10, **memory}}
        arms = {"gateway": arm, "gateway, store in memory": fast}
        return {"overhead": {"arms": arms, "host_taken_at_most": taken, "audit": audit}}

    assert all(show.goals(found(15.0, 0)).values())
    for missed in (found(15.1, 0), found(1.0, 1), found(1.0, 0, failed=1), found(1.0, 0, {"failed": 1})):
        assert list(show.goals(missed).values()).count(False) == 1
    disturbed = list(show.goals(found(15.1, 1, taken=0.021)).values())
    assert (disturbed.count(None), disturbed.count(False)) == (4, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_short_run(tmp_path, capsys):
    import gateway

    code = gateway.main([f"--out={tmp_path}", "--rate=10", "--seconds=1", "--phases", "parts"])
    told = json.loads((tmp_path / "gateway.json").read_bytes())["parts"]
    n = told["outcomes"]["answered"]
    assert told["outcomes"] == {"answered": n}
    assert told["audit"]["told"] == n
    assert told["audit"]["missing"] == 0
    assert told["audit"]["rows"] >= 2 * n
    means = {name: spread["mean"] for name, spread in told["parts_ms"].items()}
    inner = ("gate", "read request", "check request", "upstream", "read reply", "check reply", "the rest")
    assert sum(means[name] for name in inner) == pytest.approx(means["whole"])
    assert min(means.values()) > 0
    assert code == 0
    assert "| audit |" in capsys.readouterr().out
    assert not list(tmp_path.glob("work-*"))
