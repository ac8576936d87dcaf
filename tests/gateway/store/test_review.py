"""The queue: who holds what and for how long, deadlines, verdicts in the chain, a sample that is a fair share."""

import contextlib
import threading
import time

import msgspec
import pytest
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.store import (
    AuditLog,
    Counts,
    LeaseError,
    Review,
    ReviewRules,
    StoreError,
    Ticket,
    chain,
    counts,
    decide,
    enqueue,
    entries,
    expire,
    lease,
    open_store,
    release,
    result,
    verify,
)

NOW = 5000.0


@pytest.fixture
def queue(store, make):
    """Six items, one a second, numbers 0 to 5; odd ones are a sample that nothing waits for."""
    tickets = [Ticket("sample", 0.1) if number % 2 else Ticket("escalated", 1.0, 100.0) for number in range(6)]
    with AuditLog(store) as log:
        for number, ticket in enumerate(tickets):
            log.submit(make(number)).result()
            enqueue(store, make(number), ticket, NOW + number)
    return store


def number_of(held):
    return int(held.item.decision_id.removeprefix("id-"))


def reviews(store):
    with store.read() as connection:
        rows = [entry for entry in entries(connection) if entry.kind == "review"]
    return [
        msgspec.structs.replace(msgspec.json.decode(row.record, type=Review), note=row.kept.note or None)
        for row in rows
    ]


def test_what_waits_for_an_answer_comes_first_and_the_oldest_of_it(queue):
    held = [lease(queue, "anna", 60, NOW + 10) for _ in range(6)]
    assert [number_of(each) for each in held] == [0, 2, 4, 1, 3, 5]
    assert lease(queue, "anna", 60, NOW + 10) is None
    assert counts(queue, NOW + 10) == Counts(waiting=0, leased=6)
    assert len({each.token for each in held}) == 6
    assert held[0].token not in repr(held[0])


def test_a_lease_that_ran_out_goes_to_another_and_its_token_opens_nothing(queue):
    first = lease(queue, "anna", 30, NOW + 10)
    assert number_of(lease(queue, "ben", 30, NOW + 39.9)) == 2
    second = lease(queue, "ben", 30, NOW + 40)
    assert second.item.id == first.item.id
    with pytest.raises(LeaseError, match="not held by this lease"):
        decide(queue, first.item.id, first.token, "safe", NOW + 41, by="anna")
    decide(queue, second.item.id, second.token, "unsafe", NOW + 41, by="ben")
    found = result(queue, "id-000000", NOW + 42)
    assert (found.verdict, found.decided_by, found.decided_at, found.state) == ("unsafe", "ben", NOW + 41, "decided")


def test_a_lease_that_ran_out_settles_nothing_even_if_nobody_else_came(queue):
    held = lease(queue, "anna", 30, NOW + 10)
    with pytest.raises(LeaseError, match="run out"):
        decide(queue, held.item.id, held.token, "safe", NOW + 40, by="anna")
    assert result(queue, "id-000000", NOW + 41).state == "open"
    assert reviews(queue) == []


@pytest.mark.parametrize("token", ["", "x", "\ud800", None])
def test_only_the_holder_decides(queue, token):
    held = lease(queue, "anna", 30, NOW + 10)
    wrong = lease(queue, "ben", 30, NOW + 10).token if token is None else token
    for settle in (
        lambda: decide(queue, held.item.id, wrong, "safe", NOW + 11, by="anna"),
        lambda: release(queue, held.item.id, wrong, NOW, by="anna"),
    ):
        with pytest.raises(LeaseError):
            settle()
    with pytest.raises(LeaseError):
        decide(queue, 999, held.token, "safe", NOW + 11, by="anna")
    free = next(number for number in range(1, 7) if number not in (held.item.id, held.item.id + 2))
    with pytest.raises(LeaseError):
        decide(queue, free, "", "safe", NOW + 11, by="anna")
    assert reviews(queue) == []


def test_a_verdict_is_one_of_three(queue):
    held = lease(queue, "anna", 30, NOW + 10)
    with pytest.raises(InputError, match="found 'allow', wanted one of safe, unsafe, unsure"):
        decide(queue, held.item.id, held.token, "allow", NOW + 11, by="anna")


def test_an_item_is_settled_once(queue):
    held = lease(queue, "anna", 30, NOW + 10)
    decide(queue, held.item.id, held.token, "safe", NOW + 11, by="anna")
    with pytest.raises(LeaseError, match="settled already"):
        decide(queue, held.item.id, held.token, "unsafe", NOW + 12, by="anna")
    assert [each.verdict for each in reviews(queue)] == ["safe"]


def test_what_is_given_back_is_the_next(queue):
    held = lease(queue, "anna", 30, NOW + 10)
    release(queue, held.item.id, held.token, NOW + 11, by="anna")
    assert lease(queue, "ben", 30, NOW + 12).item.id == held.item.id
    with pytest.raises(LeaseError):
        decide(queue, held.item.id, held.token, "safe", NOW + 13, by="anna")


def test_a_deadline_settles_by_default_and_is_told_apart_from_a_person(queue):
    held = lease(queue, "anna", 1000, NOW + 10)
    decide(queue, held.item.id, held.token, "safe", NOW + 11, note="fine, call +4915112345678", by="anna")
    late = lease(queue, "anna", 1000, NOW + 12)
    assert result(queue, "id-000002", NOW + 101.9).state == "open"
    found = result(queue, "id-000002", NOW + 102)
    assert (found.state, found.default, found.verdict, found.decided_by) == ("timed_out", "block", None, None)
    with pytest.raises(LeaseError, match="settled already"):
        decide(queue, late.item.id, late.token, "safe", NOW + 103, by="anna")
    assert counts(queue, NOW + 104) == Counts(waiting=3, decided=1, timed_out=2)
    assert [each.decision_id for each in expire(queue, NOW + 104)] == ["id-000004"]
    assert expire(queue, NOW + 10_000) == []
    person, first, second = reviews(queue)
    assert person == Review(1, "id-000000", "decided", NOW + 11, "safe", "anna", "fine, call [phone]")
    assert first == Review(3, "id-000002", "timed_out", NOW + 102, action="block")
    assert second.decision_id == "id-000004"
    assert verify(queue).n == 9


def test_what_is_overdue_is_not_leased(queue):
    assert number_of(lease(queue, "anna", 10, NOW + 103)) == 4
    assert counts(queue, NOW + 103) == Counts(waiting=3, leased=1, timed_out=2)


def test_what_is_not_in_the_chain_or_there_already_is_not_enqueued(queue, make):
    with pytest.raises(StoreError, match="not in the audit chain"):
        enqueue(queue, make(77), Ticket("escalated"), NOW)
    with pytest.raises(StoreError, match=r"(?i)unique"):
        enqueue(queue, make(1), Ticket("escalated"), NOW)
    assert counts(queue, NOW).waiting == 6
    assert result(queue, "id-000077", NOW) is None


def test_reviewers_at_once_never_hold_the_same_item(store, make):
    """Six threads lease, decide, give back or forget 40 items; a living lease is never on an item held by another."""
    rules = ReviewRules(due_in=10_000.0)
    with AuditLog(store, review=rules, clock=lambda: NOW) as log:
        done = [log.submit(make(number, "escalate")) for number in range(40)]
        assert all(each.result() for each in done)
    held, guard, faults, settled = {}, threading.Lock(), [], []

    def review(name):
        try:
            while (mine := lease(store, name, 1000, NOW + 1)) is not None:
                with guard:
                    if mine.item.id in held:
                        faults.append((mine.item.id, name, held[mine.item.id]))
                    held[mine.item.id] = name
                with guard:
                    back = len(settled) % 5 == 0 and held.pop(mine.item.id)
                    settled.append(mine.item.id)
                if back:
                    release(store, mine.item.id, mine.token, NOW + 2, by=name)
                else:
                    decide(store, mine.item.id, mine.token, "safe", NOW + 2, by=name)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=review, args=(f"r{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert counts(store, NOW + 3) == Counts(decided=40)
    assert sorted(each.item for each in reviews(store)) == sorted(set(held))
    assert verify(store).n == 80


def test_two_who_decide_at_once_settle_once(store, make):
    with AuditLog(store, review=ReviewRules()) as log:
        log.submit(make(1, "escalate")).result()
    held = lease(store, "anna", 1e9, NOW)
    start, outcomes = threading.Barrier(4), []

    def settle():
        start.wait()
        try:
            outcomes.append(decide(store, held.item.id, held.token, "safe", NOW, by="anna").state)
        except LeaseError:
            outcomes.append("refused")

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["decided", "refused", "refused", "refused"]
    assert len(reviews(store)) == 1


def test_rules_take_every_escalation_and_a_fair_share_of_the_rest(make):
    rules = ReviewRules(due_in=60.0, default="allow", sample=0.1, seed=3)
    assert rules(make(1, "escalate")) == Ticket("escalated", 1.0, 60.0, "allow")
    drawn = [number for number in range(5000) if rules(make(number, "allow"))]
    assert 400 < len(drawn) < 600  # 500, and five standard deviations of 21
    assert rules(make(drawn[0], "block")) == Ticket("sample", 0.1)
    assert [number for number in range(5000) if ReviewRules(sample=0.1, seed=4)(make(number, "allow"))] != drawn
    assert not any(ReviewRules()(make(number, "allow")) for number in range(100))
    assert all(ReviewRules(sample=1.0)(make(number, "allow")) for number in range(100))


def test_a_note_is_cut_and_kept_whole_only_where_content_is(queue):
    first, second = (lease(queue, "anna", 60, NOW + 10) for _ in range(2))
    assert (
        decide(
            queue, first.item.id, first.token, "unsure", NOW + 11, note="a@b.cd" * 900, capture="full", by="anna"
        ).note
        == ("a@b.cd" * 900)[:2000]
    )
    assert (
        "@" not in decide(queue, second.item.id, second.token, "unsure", NOW + 11, note="mail a@b.cd", by="anna").note
    )


def test_a_token_settles_nothing_in_another_s_name(queue):
    held = lease(queue, "anna", 60, NOW + 10)
    for settle in (
        lambda: decide(queue, held.item.id, held.token, "safe", NOW + 11, by="ben"),
        lambda: release(queue, held.item.id, held.token, NOW + 11, by="ben"),
    ):
        with pytest.raises(LeaseError, match="not held by this lease"):
            settle()
    assert reviews(queue) == []
    assert decide(queue, held.item.id, held.token, "safe", NOW + 11, by="anna").by == "anna"


def test_one_transaction_settles_so_many_and_the_outcome_of_one_settles_that_one(queue, monkeypatch):
    monkeypatch.setattr("offmap.gateway.store.review.BATCH", 1)
    assert result(queue, "id-000004", NOW + 1000).state == "timed_out"
    assert [each.decision_id for each in reviews(queue)] == ["id-000004"]
    assert [len(expire(queue, NOW + 1000)) for _ in range(3)] == [1, 1, 0]


def test_what_is_overdue_is_found_by_its_index(tmp_path):
    """Else each look at the deadlines would read all that is open, the sample too."""
    asked = []
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/gateway.sqlite")) as store:
        sa.event.listen(store.engine, "before_cursor_execute", lambda *each: asked.append(each[2:4]))
        assert expire(store, NOW) == []
        statement, values = next(each for each in asked if "review.due_at <=" in each[0])
        with store.read() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert any("ix_review_state_due_at (state=? AND due_at<?)" in row[-1] for row in plan), plan


@pytest.mark.parametrize("what", ["decide", "expire"])
def test_the_head_of_the_chain_is_taken_before_a_row_of_the_queue(queue, what):
    """As a purge does; in the other order each could wait for what the other holds."""
    held, told = lease(queue, "anna", 60, NOW + 10), []

    def note(connection, cursor, statement, *_):
        if connection.get_execution_options().get("offmap_write"):
            words = " ".join(statement.split())
            told.extend(name for name in ("FROM audit_head", "FROM review") if name in words)

    sa.event.listen(queue.engine, "before_cursor_execute", note)
    if what == "decide":
        decide(queue, held.item.id, held.token, "safe", NOW + 11, by="anna")
    else:
        assert len(expire(queue, NOW + 1000)) == 3
    assert told[:2] == ["FROM audit_head", "FROM review"]


def test_whoever_holds_the_head_may_take_the_row_of_who_decides(request, make):
    """PostgreSQL: a purge holds the head while a verdict is given, then wants the item's row, and has it at once."""
    with contextlib.closing(open_store(request.getfixturevalue("postgres").new())) as store:
        with AuditLog(store, review=ReviewRules(due_in=1e9)) as log:
            log.submit(make(1, "escalate")).result()
        held = lease(store, "anna", 1e9, NOW)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        arguments = held.item.id, held.token, "safe", NOW
        settling = threading.Thread(target=lambda: decide(store, *arguments, by="anna"))
        with store.write() as connection:
            chain.head(connection, hold=True)
            settling.start()
            deadline = time.monotonic() + 4
            while not connection.exec_driver_sql(waiting).scalar() and time.monotonic() < deadline:
                time.sleep(0.01)
            connection.exec_driver_sql("SELECT id FROM review FOR UPDATE NOWAIT").all()
        settling.join()
        assert [each.by for each in reviews(store)] == ["anna"]
