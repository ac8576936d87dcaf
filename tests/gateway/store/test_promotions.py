"""Proposals: kept, promoted, gone back on and rejected, each in the chain; of one policy and no other."""

import itertools
import json
import threading

import msgspec
import pytest
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.config import Gateway, MonitorTable, StageTable, Step
from offmap.gateway.policy import bands, policy_id
from offmap.gateway.store import AuditLog, chain, verify
from offmap.gateway.store.promotions import (
    Draft,
    Promotion,
    add_proposal,
    last_promotion,
    promote,
    proposals,
    reject,
    standing,
)

STAGES = {stage: StageTable(("m",)) for stage in ("input", "response")}
FILE = Gateway(monitors={"m": MonitorTable(bundle="pocket")}, stages=STAGES)
POLICY = policy_id(FILE)


def apply(found, proposal):
    """A proposal is a cut in JSON."""
    stages = dict(FILE.stages)
    cuts = {stage: made.new[0].unsafe[0] for stage, made in found.items()}
    for stage, cut in (cuts | ({proposal.stage: json.loads(proposal.proposal)} if proposal else {})).items():
        stages[stage] = StageTable((Step("m", (cut, cut), (cut, cut)),))
    return msgspec.structs.replace(FILE, stages=stages)


def add(store, cut=0.002, stage="response", policy=POLICY, now=5.0):
    return add_proposal(store, Draft(stage, policy, {"m": "v1"}, json.dumps(cut), "{}"), now)


def cut_in_force(store, stage="response"):
    found = standing(store, POLICY).promoted
    return found[stage].new[0].unsafe[0] if stage in found else None


def entries(store):
    with store.read() as connection:
        return list(chain.entries(connection))


def test_nothing_goes_in_force_by_being_proposed(store):
    first, second = add(store), add(store, 0.003)
    own, *others = proposals(store, POLICY)
    assert (own.proposal, own.state, own.seq) == (None, "promoted", 0)
    assert [(each.id, each.state, each.at, each.versions) for each in others] == [
        (first, "proposed", 5.0, {"m": "v1"}),
        (second, "proposed", 5.0, {"m": "v1"}),
    ]
    assert standing(store, POLICY).promoted == {}
    assert last_promotion(store, POLICY) == 0
    assert entries(store) == []


def test_a_promotion_is_in_the_chain_with_who_what_and_both_policies(store, make):
    with AuditLog(store) as log:
        log.submit(make(1)).result()
    number = add(store)
    told = promote(store, number, " anna ", apply, 7.0)
    wanted = apply({}, proposals(store, POLICY)[-1])
    assert cut_in_force(store) == 0.002
    assert (told.old, told.new) == (bands(FILE.stages["response"]), bands(wanted.stages["response"]))
    assert told.old != told.new
    assert (told.policy, told.old_policy, told.new_policy) == (POLICY, POLICY, policy_id(wanted))
    last = entries(store)[-1]
    assert (last.kind, last.decision_id) == ("promotion", f"proposal-{number}")
    assert msgspec.json.decode(last.record, type=Promotion) == told
    assert (told.by, told.at, told.verdict, told.own) == ("anna", 7.0, "promoted", False)
    assert standing(store, POLICY).seq == last_promotion(store, POLICY) == last.seq == 2
    assert verify(store).broken_at is None


def test_going_back_is_promoting_an_earlier_one_or_the_files_own(store):
    first, second = add(store, 0.002), add(store, 0.003)
    own = proposals(store, POLICY)[0].id
    seen = []
    for number in (first, second, first, own, second):
        told = promote(store, number, "anna", apply, 7.0)
        seen.append((cut_in_force(store), told.own, told.new_policy == POLICY))
    assert seen == [(cut, cut is None, cut is None) for cut in (0.002, 0.003, 0.002, None, 0.003)]
    assert len({each.record for each in entries(store)}) == 5
    assert verify(store).n == 5


def test_stages_and_policies_do_not_touch_each_other(store):
    other = add(store, 0.5, policy="other@1")
    for stage, cut in (("input", 0.02), ("response", 0.002)):
        promote(store, add(store, cut, stage), "anna", apply, 7.0)
    assert (cut_in_force(store, "input"), cut_in_force(store)) == (0.02, 0.002)
    before = entries(store)
    with pytest.raises(InputError, match=f"found one for policy other@1, wanted one for {POLICY}"):
        promote(store, other, "anna", apply, 7.0)
    assert entries(store) == before
    assert standing(store, "other@1").promoted == {}


def test_what_cannot_be_decided_changes_nothing(store):
    first, second = add(store), add(store, 0.003)
    own = proposals(store, POLICY)[0].id
    promote(store, first, "anna", apply, 7.0)
    told = reject(store, second, "ben", apply, 8.0)
    assert (told.verdict, told.old, told.old_policy) == ("rejected", told.new, told.new_policy)
    before = entries(store), proposals(store)
    for call, number, by, message in (
        (promote, second, "anna", "found it rejected by ben"),
        (promote, first, "anna", "found it in force"),
        (reject, first, "anna", "found it in force"),
        (reject, own, "anna", "own bands, which cannot be rejected"),
        (promote, 99, "anna", f"found none, wanted one of this policy's: {own}, {first}, {second}"),
        (promote, own, "  ", "wanted the name of who decides"),
        (promote, own, "a\nb", "wanted the name of who decides"),
        (promote, own, "a" * 65, "wanted the name of who decides"),
    ):
        with pytest.raises(InputError, match=message):
            call(store, number, by, apply, 9.0)
    assert (entries(store), proposals(store)) == before
    assert cut_in_force(store) == 0.002


def test_bands_that_the_policy_cannot_have_are_not_recorded(store):
    number = add(store)

    def refusing(found, proposal):
        if proposal:
            raise InputError("no such bands")
        return FILE

    with pytest.raises(InputError, match="no such bands"):
        promote(store, number, "anna", refusing, 7.0)
    assert (entries(store), cut_in_force(store)) == ([], None)


def test_of_many_promotions_at_once_one_is_last_and_all_are_in_the_chain(store):
    numbers = [add(store, (place + 1) / 1000) for place in range(6)]
    threads = [threading.Thread(target=promote, args=(store, each, "anna", apply, 7.0)) for each in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [msgspec.json.decode(each.record, type=Promotion) for each in entries(store)]
    assert sorted(each.proposal for each in told) == numbers
    assert standing(store, POLICY).promoted["response"].proposal == told[-1].proposal
    for before, after in itertools.pairwise(told):
        assert (after.old, after.old_policy) == (before.new, before.new_policy)
    assert verify(store).n == 6


def test_a_change_of_who_promoted_breaks_the_chain(store):
    promote(store, add(store), "anna", apply, 7.0)
    with store.write() as connection:
        connection.execute(sa.text("UPDATE audit SET record = replace(record, 'anna', 'carl')"))
    assert verify(store).broken_at == 1


FORGED = (
    "INSERT INTO proposal (id, at, stage, policy, versions, proposal, comparison, state, decided_by, decided_at, seq) "
    "VALUES (99, 5.0, 'response', :policy, '{}', '0', '{}', 'promoted', 'anna', 7.0, :seq)"
)


@pytest.mark.parametrize("seq", [999, 1, None])
def test_a_proposal_that_only_its_table_calls_promoted_is_not_in_force(store, seq):
    number = add(store)
    promote(store, number, "anna", apply, 7.0)
    before = last_promotion(store, POLICY)
    with store.write() as connection:
        connection.execute(sa.text(FORGED), {"policy": POLICY, "seq": seq})
    found = standing(store, POLICY)
    assert (found.seq, cut_in_force(store)) == (before, 0.002)
    assert "Proposal 99 is called promoted and is NOT in force" in found.amiss[0]
    told = verify(store)
    assert told.broken_at == 2
    assert told.reason.startswith("proposal 99: found 'promoted' where the chain says 'proposed' (no row of the chain")


def test_bands_in_force_are_those_of_the_chain_and_a_row_that_does_not_fit_its_hash_counts_for_nothing(store):
    promote(store, add(store), "anna", apply, 7.0)
    with store.write() as connection:
        connection.execute(sa.text("UPDATE proposal SET proposal = '0.9' WHERE proposal IS NOT NULL"))
    assert cut_in_force(store) == 0.002
    with store.write() as connection:
        connection.execute(sa.text("UPDATE audit SET record = replace(record, '0.002', '0.9')"))
    assert cut_in_force(store) is None
    assert len(standing(store, POLICY).amiss) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE proposal SET state = 'proposed' WHERE seq = 2", "proposal 3: found 'proposed' where the chain says"),
        ("UPDATE proposal SET seq = 9 WHERE seq = 2", "proposal 3: found 9 where the chain says 2 (row 2 of the"),
        ("UPDATE proposal SET decided_by = 'ben' WHERE seq = 1", "proposal 2: found 'ben' where the chain says 'anna'"),
        ("UPDATE proposal SET versions = '{}' WHERE seq = 1", "proposal 2: found {} where the chain says {'m': 'v1'}"),
        ("UPDATE proposal SET stage = 'input' WHERE seq = 1", "proposal 2: found 'input' where the chain"),
        ("DELETE FROM proposal WHERE seq = 2", "row 2 of the chain is about a proposal that is gone"),
    ],
)
def test_verifying_compares_proposals_with_the_chain(store, change, reason):
    for cut in (0.002, 0.003):
        promote(store, add(store, cut), "anna", apply, 7.0)
    reject(store, add(store, 0.004), "anna", apply, 7.0)
    add(store, 0.005)
    assert verify(store).broken_at is None
    with store.write() as connection:
        connection.execute(sa.text(change))
    found = verify(store)
    assert (found.n, found.broken_at) == (3, 4)
    assert found.reason.startswith(reason)


def test_who_has_not_seen_what_is_in_force_promotes_nothing(store):
    first, second, third = (add(store, cut) for cut in (0.002, 0.003, 0.004))
    promote(store, first, "anna", apply, 7.0, seen=0)
    seen = standing(store, POLICY).seq
    promote(store, second, "ben", apply, 7.0, seen=seen)
    with pytest.raises(InputError, match="somebody else has promoted or rejected"):
        promote(store, third, "anna", apply, 7.0, seen=seen)
    assert (cut_in_force(store), verify(store).n) == (0.003, 2)
