import asyncio
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from offmap.conversation import Conversation, Message
from offmap.errors import EndpointError, InputError
from offmap.gateway.config import Gateway, Limits, MonitorTable, StageTable
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.tuning.findings import Findings, Kept
from offmap.gateway.tuning.scoring import Asking, left_to_ask, score_rows
from offmap.monitor import Verdict


@dataclass
class Scorer:
    """p from the number that the text begins with; nothing for "?", and fails about "!"."""

    asked: list = field(default_factory=list)

    def score(self, rows):
        texts = [row.messages[0].content.split()[0] for row in rows]
        self.asked += texts
        if "!" in texts:
            raise RuntimeError("kaputt")
        p = [None if text == "?" else float(text) for text in texts]
        return [Verdict("", False, each, each, each and each / 2, 0.01, (), ()) for each in p]


def row(text, unsafe=None, name=""):
    return Conversation(name or text, (Message("user", text),), unsafe=unsafe)


def gateway_of(*names, **limits):
    monitors = {name: MonitorTable(bundle="pocket") for name in names}
    return Gateway(monitors=monitors, stages={"response": StageTable(names)}, limits=Limits(max_wait_ms=0, **limits))


ROWS = [row("0.1", True), row("0.5", False), row("?"), row("! boom"), row("0.9", False)]


def scored(place, rows=ROWS, names=("a", "b"), scorers=None, **asking):
    scorers = scorers or {name: Scorer() for name in names}
    opened = {name: Opened(scorers[name], f"{name}-1") for name in names}
    with Findings(place / "findings.jsonl") as findings:
        left = left_to_ask(gateway_of(*names), "response", rows, opened, findings)
        return score_rows(gateway_of(*names), "response", rows, opened, findings, Asking(**asking)), left, scorers


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_every_monitor_is_asked_about_every_row(tmp_path, at_once):
    ticks = []
    traffic, left, _ = scored(tmp_path, at_once=at_once, progress=ticks.append)
    assert left == {"a": 5, "b": 5}
    assert sum(ticks) == 10
    assert (traffic.monitors, traffic.versions, traffic.ids) == (("a", "b"), ("a-1", "b-1"), tuple(r.id for r in ROWS))
    nan = np.nan
    for k in (0, 1):
        np.testing.assert_array_equal(traffic.p_unsafe[:, k], [0.1, 0.5, nan, nan, 0.9])
        np.testing.assert_array_equal(traffic.p_unknown[:, k], [0.05, 0.25, nan, nan, 0.45])
        assert traffic.asked[:, k].tolist() == [True, True, True, False, True]
    np.testing.assert_array_equal(traffic.unsafe, [1, 0, nan, nan, 0])
    assert (traffic.seconds[traffic.asked] > 0).all()
    assert np.isnan(traffic.seconds[3]).all()
    assert traffic.weight.tolist() == [1] * 5


def test_answers_are_kept_and_asked_for_once(tmp_path):
    first, _, _ = scored(tmp_path)
    again, left, scorers = scored(tmp_path, [*ROWS, row("0.1", name="twin"), row("0.7")])
    assert left == {"a": 2, "b": 2}  # the row that failed and the new one; a twin is known
    assert sorted(scorers["a"].asked) == ["!", "0.7"]
    np.testing.assert_array_equal(again.p_unsafe[:5], first.p_unsafe)
    np.testing.assert_array_equal(again.seconds[:5], first.seconds)
    assert again.p_unsafe[5, 0] == 0.1
    assert b"boom" not in (tmp_path / "findings.jsonl").read_bytes()


def test_another_version_or_window_is_another_answer(tmp_path):
    scored(tmp_path, names=("a",))
    with Findings(tmp_path / "findings.jsonl") as findings:
        for version, window, wanted in (("a-1", 0, 1), ("a-2", 0, 5), ("a-1", 40, 5)):
            gateway = gateway_of("a")
            table = msgspec.structs.replace(gateway.monitors["a"], window_tokens=window)
            gateway = msgspec.structs.replace(gateway, monitors={"a": table})
            assert left_to_ask(gateway, "response", ROWS, {"a": Opened(Scorer(), version)}, findings) == {"a": wanted}


def test_a_line_that_was_cut_short_does_not_count_and_another_file_is_refused(tmp_path):
    scored(tmp_path, names=("a",))
    path = tmp_path / "findings.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Findings(path) as findings:
        assert len(findings.known) == 3
        findings.add(Kept("x", 0.1, None, 1.0))
    assert len(path.read_bytes().splitlines()) == 4
    with Findings(path) as findings:
        assert findings.known["x"].row[0] == 0.1
    path.write_text('{"other": 1}\n')
    with pytest.raises(InputError, match=r"findings\.jsonl:1: no finding"):
        Findings(path)
    with pytest.raises(InputError, match="cannot be read"):
        Findings(tmp_path)


def test_a_monitor_that_is_out_of_order_ends_it_and_what_was_found_is_kept(tmp_path):
    rows = [row(f"0.{n}1") for n in range(1, 9)] + [row(f"! {n}") for n in range(200)]
    with pytest.raises(EndpointError, match="monitor 'a' failed about 10 conversations in a row"):
        scored(tmp_path, rows, names=("a",))
    with Findings(tmp_path / "findings.jsonl") as findings:
        assert len(findings.known) == 8


def test_rows_that_a_monitor_was_trained_on_are_refused(tmp_path):
    from offmap.backbones.trained_on import content_hashes

    class Trained(Scorer):
        class backbone:  # noqa: N801
            trained_on = np.unique(content_hashes(ROWS[:2]))

    with pytest.raises(InputError, match="2 of 5 tuning rows"):
        scored(tmp_path, names=("a",), scorers={"a": Trained()})


def test_it_is_what_the_gateway_itself_finds(tmp_path):
    """Long conversations are read in windows, and too long ones get no score."""

    class Read:
        def __init__(self, n):
            self.n = n

        def __len__(self):
            return min(self.n, 30)

        @property
        def n_dropped(self):
            return max(self.n - 30, 0)

    def render(batch):
        return [Read(sum(len(m.text.split()) + 1 for m in each.messages)) for each in batch]

    rows = [row("0.01 " + "word " * n, name=str(n)) for n in (5, 40, 400)]
    gateway, opened = gateway_of("a", max_windows=4), {"a": Opened(Windowed(), "1", None, render)}

    async def live():
        running = Running("a", opened["a"], limits=gateway.limits)
        found = [await running.ask(each) for each in rows]
        await running.drain()
        return found

    with Findings(tmp_path / "findings.jsonl") as findings:
        traffic = score_rows(gateway, "response", rows, opened, findings)
    wanted = asyncio.run(live())
    assert [each.outcome for each in wanted] == ["scored", "scored", "unscored"]
    assert wanted[1].windows > 1
    found = [None if np.isnan(p) else p for p in traffic.p_unsafe[:, 0]]
    assert found == [each.p_unsafe for each in wanted]
    assert traffic.asked.all()


class Windowed:
    def score(self, rows):
        p = [0.01 if "0.01" in each.messages[0].text else 0.4 for each in rows]
        return [Verdict("", False, each, each, each, 0.01, (), ()) for each in p]
