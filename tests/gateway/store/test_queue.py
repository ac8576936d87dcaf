"""What people see of the queue: the whole of one item, lists in their order, and leases of a given item."""

from itertools import pairwise

import msgspec
import pytest
import sqlalchemy as sa

from offmap.conversation import Conversation, Message
from offmap.evidence import Span
from offmap.gateway.decision import Finding
from offmap.gateway.store import AuditLog, LeaseError, Review, Ticket, decide, entries, lease, purge, release
from offmap.gateway.store.queue import look, open_items, settle_overdue, settled_items
from offmap.gateway.store.review import renew
from offmap.gateway.store.tables import AUDIT, REVIEW

NOW = 5000.0
TALK = Conversation("c", (Message("user", "a bomb"),))
FINDING = Finding("pocket", "v1", "scored", 0.1, spans=(Span(0, "user", 2, 6, "bomb", 3.0),))


def rules(decision):
    number = int(decision.id.removeprefix("id-"))
    return Ticket("sample", 0.1) if number % 2 else Ticket("escalated", 1.0, 100.0)


@pytest.fixture
def queue(store, make):
    """Six items, one a second, numbers 0 to 5; odd ones are a sample that nothing waits for."""
    for number in range(6):
        with AuditLog(store, "full", rules, clock=lambda number=number: NOW + number) as log:
            log.submit(make(number, "escalate", findings=(FINDING,)), TALK).result()
    return store


def ids(found):
    return [int(each.decision.id.removeprefix("id-")) for each in found]


def test_an_item_is_seen_with_its_decision_and_content(queue, make):
    held = lease(queue, "anna", 60, NOW + 10)
    mine = look(queue, held.item.id, NOW + 20, token=held.token, by="anna")
    assert mine.decision == make(0, "escalate", findings=(FINDING,))
    assert msgspec.json.decode(mine.content, type=Conversation) == TALK
    assert (mine.item, mine.capture, mine.purged) == (held.item, "full", False)
    assert (mine.lease_by, mine.lease_until, mine.held) == ("anna", held.until, True)
    theirs = look(queue, held.item.id, NOW + 20, token="x", by="anna")  # noqa: S106
    assert (theirs.lease_by, theirs.held) == ("anna", False)
    ended = look(queue, held.item.id, held.until, token=held.token, by="anna")
    assert (ended.lease_by, ended.lease_until, ended.held) == (None, None, False)
    assert look(queue, 99, NOW) is None


def test_a_settled_item_is_nobody_s(queue):
    held = lease(queue, "anna", 60, NOW + 10)
    decide(queue, held.item.id, held.token, "unsafe", NOW + 11, note="why", capture="full", by="anna")
    seen = look(queue, held.item.id, NOW + 12, token=held.token, by="anna")
    assert (seen.item.state, seen.item.note, seen.item.action) == ("decided", "why", "block")
    assert (seen.lease_by, seen.held) == (None, False)


def test_looking_at_what_is_overdue_settles_it_once(queue):
    seen = look(queue, lease(queue, "anna", 9999, NOW).item.id, NOW + 100)
    assert (seen.item.state, seen.item.action) == ("timed_out", "block")
    settle_overdue(queue, NOW + 102)
    settle_overdue(queue, NOW + 102)
    look(queue, seen.item.id, NOW + 200)
    with queue.read() as connection:
        rows = [msgspec.json.decode(e.record, type=Review) for e in entries(connection) if e.kind == "review"]
    assert sorted(row.decision_id for row in rows) == ["id-000000", "id-000002"]


def test_lists_are_in_the_order_of_leases_and_of_settlement(queue):
    assert ids(open_items(queue, NOW + 10, 10)) == [0, 2, 4, 1, 3, 5]
    assert ids(open_items(queue, NOW + 10, 2)) == [0, 2]
    assert ids(open_items(queue, NOW + 102, 10)) == [4, 1, 3, 5]
    for at in (20, 30):
        held = lease(queue, "anna", 60, NOW + at)
        assert open_items(queue, NOW + at, 10)[0].lease_by == "anna"
        decide(queue, held.item.id, held.token, "safe", NOW + at, by="anna")
    assert ids(open_items(queue, NOW + 31, 10)) == [4, 1, 3, 5]
    assert ids(settled_items(queue, NOW + 31, 10)) == [2, 0]
    settle_overdue(queue, NOW + 150)
    assert ids(settled_items(queue, NOW + 150, 10)) == [4, 2, 0]
    assert ids(settled_items(queue, NOW + 150, 1)) == [4]
    assert all(each.content is None for each in settled_items(queue, NOW + 150, 10))


def test_one_item_is_leased_if_nobody_holds_it(queue):
    wanted = open_items(queue, NOW + 10, 10)[2].item.id
    held = lease(queue, "anna", 60, NOW + 10, item=wanted)
    assert held.item.id == wanted
    assert lease(queue, "ben", 60, NOW + 11, item=wanted) is None
    release(queue, wanted, held.token, NOW + 12, by="anna")
    assert lease(queue, "ben", 60, NOW + 13, item=wanted).item.id == wanted
    assert lease(queue, "ben", 60, NOW + 13, item=99) is None


def test_a_lease_is_renewed_while_it_lives(queue):
    held = lease(queue, "anna", 60, NOW + 10)
    assert renew(queue, held.item.id, held.token, 80, NOW + 15, by="anna") == NOW + 95
    assert look(queue, held.item.id, NOW + 94, token=held.token, by="anna").held
    for token, at in (("x", 20), (held.token, 96), (held.token, 100)):
        with pytest.raises(LeaseError):
            renew(queue, held.item.id, token, 60, NOW + at, by="anna")


def test_what_was_purged_and_what_was_never_kept_are_told_apart(queue, make):
    first = open_items(queue, NOW, 1)[0].item.id
    purge(queue, NOW + 1e9, NOW + 10)
    seen = look(queue, first, NOW + 11)
    assert (seen.content, seen.purged, seen.decision.findings[0].spans[0].text) == (None, True, "")
    with AuditLog(queue, "none", rules, clock=lambda: NOW + 9) as log:
        log.submit(make(6, "escalate"), TALK).result()
    bare = look(queue, open_items(queue, NOW + 10, 10)[3].item.id, NOW + 11)
    assert (bare.decision.id, bare.content, bare.purged, bare.capture) == ("id-000006", None, False, "none")


def test_content_that_somebody_spoilt_is_given_as_it_is(queue):
    with queue.write() as connection:
        connection.execute(sa.update(AUDIT).values(content="spoilt"))
    assert look(queue, 1, NOW).content == "spoilt"


def test_a_lease_is_seen_as_held_by_its_holder_alone(queue):
    held = lease(queue, "anna", 60, NOW + 10)
    for by in ("ben", ""):
        assert not look(queue, held.item.id, NOW + 11, token=held.token, by=by).held
        with pytest.raises(LeaseError, match="not held by this lease"):
            renew(queue, held.item.id, held.token, 60, NOW + 11, by=by)


def test_looking_at_one_item_settles_that_item_alone(queue):
    first, second = (each.item.id for each in open_items(queue, NOW, 2))
    assert look(queue, second, NOW + 200).item.state == "timed_out"
    assert ids(settled_items(queue, NOW + 200, 10)) == [2]
    assert look(queue, first, NOW + 200).item.state == "timed_out"


def test_what_is_overdue_is_settled_in_short_transactions_and_the_rest_by_the_next_call(queue, monkeypatch):
    """One item a transaction, two of them a call: no transaction settles more than its batch."""
    monkeypatch.setattr("offmap.gateway.store.queue.BATCH", 1)
    monkeypatch.setattr("offmap.gateway.store.review.BATCH", 1)
    monkeypatch.setattr("offmap.gateway.store.queue._BATCHES", 2)
    commits = []
    sa.event.listen(queue.engine, "commit", lambda connection: commits.append(_timed_out(connection)))
    assert [settle_overdue(queue, NOW + 200) for _ in range(3)] == [2, 1, 0]
    grown = [after - before for before, after in pairwise([0, *commits])]
    assert max(grown) == 1
    assert sum(grown) == 3


def _timed_out(connection):
    counted = sa.select(sa.func.count()).select_from(REVIEW).where(REVIEW.c.state == "timed_out")
    return connection.execute(counted).scalar_one()
