"""Traffic from the log: which rows, what they weigh, and what is refused because nobody can know it."""

import contextlib
import gc
import math
import tracemalloc

import numpy as np
import pytest
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.store import AuditLog, ReviewRules, Ticket, decide, enqueue, lease, open_store
from offmap.gateway.store.tables import REVIEW
from offmap.gateway.tuning import from_log
from offmap.gateway.tuning.from_log import logged_traffic, require_labels


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/gateway.sqlite")) as opened:
        yield opened


def decision(number, p=0.5, action="allow", policy="p@1", version="v1", **fields):
    finding = Finding("m", version, "scored", p, p, None if p is None else 1 - p, seconds=0.01)
    fields = {"findings": (finding,)} | fields
    return Decision(f"id-{number:05d}", 1000.0 + number, "response", action, action, "enforced", "r", policy, **fields)


def write(store, decisions, sample=1.0):
    with AuditLog(store, review=ReviewRules(due_in=1e9, sample=sample)) as log:
        for waiting in [log.submit(each) for each in decisions]:
            waiting.result()


def label(store, verdicts):
    """What people say, as the queue keeps it, in one transaction; ``verdicts``: decision -> word."""
    with store.write() as connection:
        for name, verdict in verdicts.items():
            values = {"state": "decided", "verdict": verdict, "decided_by": "anna", "decided_at": 1.0}
            connection.execute(sa.update(REVIEW).where(REVIEW.c.decision_id == name).values(**values))


def queued(store):
    with store.read() as connection:
        return dict(connection.execute(sa.select(REVIEW.c.decision_id, REVIEW.c.reason)).all())


def test_a_label_given_on_the_queue_is_the_rows_label(store):
    write(store, [decision(0, 0.01, "escalate"), decision(1, 0.2), decision(2, 0.3), decision(3, 0.4)])
    for verdict in ("unsafe", "safe", "unsure"):
        held = lease(store, "anna", 50, 1.0)
        decide(store, held.item.id, held.token, verdict, 2.0, by="anna")
    traffic = logged_traffic(store, "response", ["m"]).traffic
    np.testing.assert_array_equal(traffic.unsafe, [1, 0, math.nan, math.nan])
    np.testing.assert_array_equal(traffic.p_unsafe[:, 0], [0.01, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(traffic.p_unknown[:, 0], [0.99, 0.8, 0.7, 0.6])
    np.testing.assert_array_equal(traffic.seconds[:, 0], [0.01] * 4)
    assert (traffic.stage, traffic.monitors, traffic.versions) == ("response", ("m",), ("v1",))


def test_labels_weigh_what_they_stand_for(store):
    """Escalations for themselves and for those that nobody labelled, the sample for everything else."""
    rows = [decision(n, 0.01, "escalate") for n in range(40)] + [decision(40 + n, 0.5) for n in range(400)]
    write(store, rows, sample=0.25)
    reasons = queued(store)
    held = [name for name, reason in reasons.items() if reason == "escalated"]
    drawn = [name for name, reason in reasons.items() if reason == "sample"]
    assert len(held) == 40
    assert 60 < len(drawn) < 140
    label(store, dict.fromkeys([*held[:30], *drawn], "safe") | dict.fromkeys(held[30:35], "unsure"))
    found = logged_traffic(store, "response", ["m"])
    labelled = ~np.isnan(found.traffic.unsafe)
    weight = dict(zip(found.traffic.ids, found.traffic.weight, strict=True))
    assert [weight[name] for name in held[:30]] == pytest.approx([40 / 30] * 30)
    assert [weight[name] for name in drawn] == pytest.approx([400 / len(drawn)] * len(drawn))
    assert found.traffic.weight[labelled].sum() == pytest.approx(440)
    assert set(found.traffic.weight[~labelled]) == {1.0}
    assert found.sampled == len(drawn)
    assert any("only 30 of 40 escalations have a label" in note for note in found.notes)


def test_shares_that_changed_weigh_by_what_they_were(store):
    """Under a share of .2 a label stands for five times as many as under a share of 1."""
    write(store, [decision(n) for n in range(60)], sample=1.0)
    write(store, [decision(100 + n) for n in range(300)], sample=0.2)
    label(store, dict.fromkeys(queued(store), "safe"))
    found = logged_traffic(store, "response", ["m"]).traffic
    weight, labelled = found.weight, ~np.isnan(found.unsafe)
    early, late = weight[:60], weight[60:][labelled[60:]]
    assert len(set(early)) == len(set(late)) == 1
    assert late[0] / early[0] == pytest.approx(5)
    assert weight[labelled].sum() == pytest.approx(360)


def test_without_a_sample_escalations_say_nothing(store):
    write(store, [decision(n, 0.01, "escalate") for n in range(300)] + [decision(400)], sample=0.0)
    label(store, dict.fromkeys(queued(store), "safe"))
    found = logged_traffic(store, "response", ["m"])
    assert np.sum(found.traffic.unsafe == 0) == 300
    with pytest.raises(
        InputError, match=r"300 labels of escalations and none of the random sample\. .* by their p-values"
    ):
        require_labels(found, 0.01)


def test_escalations_that_all_timed_out_hide_the_cut(store):
    write(store, [decision(0, 0.01, "escalate")] + [decision(1 + n) for n in range(200)])
    label(store, {name: "safe" for name, reason in queued(store).items() if reason == "sample"})
    with pytest.raises(InputError, match="1 escalations, none of them labelled"):
        require_labels(logged_traffic(store, "response", ["m"]), 0.01)


def test_too_few_labels_are_told_with_how_many_are_missing(store):
    write(store, [decision(n) for n in range(120)])
    label(store, {f"id-{n:05d}": "safe" for n in range(60)} | {f"id-{n:05d}": "unsafe" for n in range(60, 90)})
    found = logged_traffic(store, "response", ["m"])
    with pytest.raises(InputError, match=r"60 safe labels, which count for 60.0 .* needs 99: at least 39 more"):
        require_labels(found, 0.01)
    require_labels(found, 1 / 61)
    with pytest.raises(InputError, match="needs 61: at least 1 more"):
        require_labels(found, 1 / 62)
    label(store, {f"id-{n:05d}": "unsafe" for n in range(60)})
    with pytest.raises(InputError, match="0 safe labels"):
        require_labels(logged_traffic(store, "response", ["m"]), 0.01)


def test_what_somebody_chose_is_no_sample(store):
    write(store, [decision(n) for n in range(50)], sample=0.0)
    enqueue(store, decision(3), Ticket("appeal", 1.0), 1.0)
    label(store, {"id-00003": "safe"})
    found = logged_traffic(store, "response", ["m"])
    assert np.isnan(found.traffic.unsafe).all()
    assert any("1 labels of decisions that somebody chose" in note for note in found.notes)


def test_a_policy_without_a_sample_has_no_part_in_the_labels(store):
    write(store, [decision(n, 0.01, "escalate", "p@1") for n in range(20)], sample=0.0)
    write(store, [decision(100 + n, policy="p@2") for n in range(30)], sample=1.0)
    label(store, dict.fromkeys(queued(store), "safe"))
    found = logged_traffic(store, "response", ["m"])
    assert len(found.traffic) == 50
    assert np.isnan(found.traffic.unsafe[:20]).all()
    assert (found.traffic.unsafe[20:] == 0).all()
    assert found.traffic.weight.sum() == 50
    assert any("20 labels of policies under which no sample" in note for note in found.notes)


def test_only_rows_of_these_monitors_in_their_last_versions(store):
    failed = Finding("m", "v2", "timeout", seconds=3.0)
    other = Finding("n", "v2", "scored", 0.5, 0.5)
    rows = [
        decision(0, version="v1"),
        decision(1, version="v2", findings=(failed,), action="error"),
        decision(2, version="v2", findings=(other,)),
        decision(3, version="v2", findings=()),
        decision(4, version="v2", conversation="c", caller="k"),
        decision(5, version="v2", conversation="c", caller="k"),
        decision(6, version="v2", findings=(Finding("m", "v2", "unscored", seconds=0.5),)),
    ]
    write(store, rows)
    found = logged_traffic(store, "response", ["m"])
    assert found.traffic.ids == ("k/c", "k/c", "id-00006")
    assert found.traffic.versions == ("v2",)
    assert np.isnan(found.traffic.p_unsafe[2, 0])
    assert found.traffic.asked[2, 0]
    assert [note.split(" are left")[0] for note in found.notes] == [
        "1 decisions with a monitor that failed, which no threshold decides about",
        "2 decisions by other monitors, or by none",
        "1 decisions by other versions of these monitors",
    ]
    assert logged_traffic(store, "response", ["m"], since=1006.0).traffic.ids == ("id-00006",)


def test_a_monitor_that_was_skipped_was_not_asked(store):
    skipped = (Finding("m", "v1", "scored", 0.5, 0.5, 0.5, seconds=0.1), Finding("n", "w1", "skipped"))
    asked = (Finding("m", "v1", "scored", 0.05, 0.05, 0.5, seconds=0.1), Finding("n", "w1", "scored", 0.3, 0.3))
    write(store, [decision(0, findings=skipped), decision(1, findings=asked)])
    traffic = logged_traffic(store, "response", ["m", "n"]).traffic
    np.testing.assert_array_equal(traffic.asked, [[True, False], [True, True]])
    np.testing.assert_array_equal(traffic.p_unsafe, [[0.5, math.nan], [0.05, 0.3]])
    np.testing.assert_array_equal(traffic.p_unknown, [[0.5, math.nan], [0.5, math.nan]])
    np.testing.assert_array_equal(traffic.seconds, [[0.1, math.nan], [0.1, 0.0]])


def test_a_log_without_such_decisions_is_told(store):
    write(store, [decision(0)])
    for stage, monitors in (("input", ["m"]), ("response", ["m", "n"]), ("response", ["n"])):
        with pytest.raises(InputError, match=f"stages.{stage}: found no decision"):
            logged_traffic(store, stage, monitors)


def test_of_a_long_log_the_newest_decisions_are_read_and_that_is_told(store, monkeypatch):
    write(store, [decision(n, p=n / 100) for n in range(30)])
    assert len(logged_traffic(store, "response", ["m"]).traffic) == 30
    monkeypatch.setattr(from_log, "NEWEST", 20)
    found = logged_traffic(store, "response", ["m"])
    np.testing.assert_array_equal(found.traffic.p_unsafe[:, 0], np.arange(10, 30) / 100)
    assert "only the newest 20 decisions of the log were read" in found.notes


def test_a_row_takes_little_memory(store):
    """What a decision says beside its p-values is not kept: between 500 and 2,500 rows, no more than 250 bytes each."""
    peaks = []
    for first, n in ((0, 500), (500, 2000)):
        write(store, [decision(first + number) for number in range(n)])
        gc.collect()
        tracemalloc.start()
        logged_traffic(store, "response", ["m"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 2000 < 250


def test_a_streamed_reply_is_one_row(store):
    """Its beginnings that were let go are none; one that was stopped is all that there is of it."""
    write(store, [decision(0, partial=True), decision(1, partial=True), decision(2)])
    write(store, [decision(3, partial=True), decision(4, 0.01, "escalate", partial=True)])
    found = logged_traffic(store, "response", ["m"])
    assert found.traffic.ids == ("id-00002", "id-00004")
    assert "3 decisions about the beginning of a streamed reply" in "; ".join(found.notes)
    assert "under other bands more of them may be stopped" in "; ".join(found.notes)
