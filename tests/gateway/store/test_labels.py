"""Labels: only what a person settled, with the p-values of the decision and the content that was kept."""

import json

import pytest

from offmap.gateway.store import AuditLog, ReviewRules, decide, labelled, lease, write_labels


@pytest.fixture
def reviewed(store, make):
    with AuditLog(store, "redacted", ReviewRules(due_in=100.0, sample=1.0), clock=lambda: 0.0) as log:
        for number in range(6):
            log.submit(make(number, "escalate" if number < 4 else "allow"), f"row {number} for a@b.cd").result()
    for verdict in ("safe", "unsafe", "unsure"):
        held = lease(store, "anna", 50, 1.0)
        decide(store, held.item.id, held.token, verdict, 2.0 + held.item.id, by="anna")
    held = lease(store, "ben", 50, 200.0)
    decide(store, held.item.id, held.token, "unsafe", 210.0, by="ben")
    return store


def test_labels_are_what_people_said(reviewed, make):
    rows = list(labelled(reviewed))
    assert [(row.decision_id, row.unsafe, row.by) for row in rows] == [
        ("id-000000", False, "anna"),
        ("id-000001", True, "anna"),
        ("id-000004", True, "ben"),
    ]
    assert [(row.reason, row.probability) for row in rows] == [("escalated", 1.0)] * 2 + [("sample", 1.0)]
    assert [row.findings for row in rows] == [make(number).findings for number in (0, 1, 4)]
    assert [row.content for row in rows] == [f'"row {number} for [email]"' for number in (0, 1, 4)]
    assert [(row.at, row.stage, row.policy) for row in rows] == [
        (1000.0 + n, "response", "default@1") for n in (0, 1, 4)
    ]


def test_labels_become_rows_of_a_file(reviewed, tmp_path):
    path = tmp_path / "labels.jsonl"
    assert write_labels(reviewed, path) == 3
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["unsafe"] for row in rows] == [False, True, True]
    assert [row["findings"][0]["p_value"] for row in rows] == [0.0, 0.001, 0.004]


def test_no_labels_is_an_empty_file(store, tmp_path):
    assert write_labels(store, tmp_path / "labels.jsonl") == 0
    assert (tmp_path / "labels.jsonl").read_bytes() == b""
