"""Proposed thresholds, and which of them people put in force: what a promotion's row of the audit chain says.

A proposal is for one stage of one policy, by the policy's id; it is in force for no other. The one whose promotion
stands last in the chain is in force, so going back is to promote an earlier one. A proposal that is called promoted
without such a row, as by who can write to the data base, is not in force: ``Standing.amiss`` names it. Beside a
policy's first proposal for a stage its own bands are kept as a row that holds no proposal, so that there is always
something to go back to. Knows neither what a proposal says nor how it is put into a policy: that is ``live``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
import sqlalchemy as sa

from offmap.errors import InputError
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Stage
from offmap.gateway.policy import Bands, bands, policy_id
from offmap.gateway.store import chain
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.opening import Store
from offmap.gateway.store.tables import AUDIT, PROPOSAL

ProposalState = Literal["proposed", "promoted", "rejected"]
LONGEST_NAME = 64


class Draft(msgspec.Struct, frozen=True):
    """A proposal that is to be kept.

    Attributes:
        stage, policy: what it is for; ``policy_id`` of the file, without any promoted proposal.
        versions: monitor -> version; to other versions' p-values its bands do not apply.
        proposal, comparison: as canonical JSON.
    """

    stage: Stage
    policy: str
    versions: dict[str, str]
    proposal: str
    comparison: str


class StoredProposal(msgspec.Struct, frozen=True):
    """A proposal as it is kept; the fields of ``Draft``, and what became of it.

    Attributes:
        id: its number.
        at: when it was made, seconds since the epoch, UTC.
        proposal, comparison: None for the policy's own bands.
        state: rejected ones are never in force.
        decided_by, decided_at: who promoted or rejected it last, and when; None where nobody did.
        seq: the row of the audit chain that says so, 0 for the policy's own bands that nobody went back to.
    """

    id: int
    at: float
    stage: Stage
    policy: str
    versions: dict[str, str]
    proposal: str | None
    comparison: str | None
    state: ProposalState
    decided_by: str | None
    decided_at: float | None
    seq: int | None


class Promotion(msgspec.Struct, frozen=True):
    """What the audit chain keeps of a promotion or a rejection.

    Attributes:
        proposal, stage: which one, and of which stage.
        verdict, by, at: what was decided, by whom and when.
        policy: id of the file's policy.
        old, new: bands of the stage before and after; the same after a rejection.
        old_policy, new_policy: ids of the policy with what is in force, before and after.
        versions: monitor -> version, of the p-values that ``new`` are for; empty for the file's own bands.
        own: whether ``new`` are the file's own bands.
    """

    proposal: int
    stage: Stage
    verdict: Literal["promoted", "rejected"]
    by: str
    at: float
    policy: str
    old: tuple[Bands, ...]
    new: tuple[Bands, ...]
    old_policy: str
    new_policy: str
    versions: dict[str, str]
    own: bool = False


InForce = Mapping[Stage, Promotion]
"""What is in force for a policy; a stage that has its own bands is left out."""
Apply = Callable[[InForce, StoredProposal | None], Gateway]
"""The policy with that in force, and with a proposal's bands in place of its stage's. Raises InputError where it cannot
be."""


class Standing(msgspec.Struct, frozen=True):
    """What is in force for a policy.

    Attributes:
        seq: the newest promotion's or rejection's row of the chain, 0 for none.
        promoted: by stage.
        amiss: in sentences, what is called promoted and is not by the chain.
    """

    seq: int
    promoted: InForce
    amiss: tuple[str, ...] = ()

    def holds(self, stored: StoredProposal) -> bool:
        """Whether this is what is in force for its stage."""
        current = self.promoted.get(stored.stage)
        return stored.id == current.proposal if current else stored.proposal is None


_COLUMNS = [PROPOSAL.c[name] for name in StoredProposal.__struct_fields__]


def add_proposal(store: Store, draft: Draft, now: float) -> int:
    """Keep a proposal, and beside a policy's first one for a stage its own bands; its number. Nothing goes in force.

    Raises:
        StoreError: see ``Store.write``.
    """
    same = PROPOSAL.c.policy == draft.policy, PROPOSAL.c.stage == draft.stage
    row = {"at": now, **msgspec.structs.asdict(draft), "versions": canonical(draft.versions), "state": "proposed"}
    own = row | {"versions": "{}", "proposal": None, "comparison": None, "state": "promoted", "seq": 0}
    with store.write() as connection:
        chain.head(connection, hold=True)  # so that of two at once one is the first
        if connection.execute(sa.select(PROPOSAL.c.id).where(*same).limit(1)).one_or_none() is None:
            connection.execute(sa.insert(PROPOSAL), own)
        key = connection.execute(sa.insert(PROPOSAL).values(**row)).inserted_primary_key
    return int(key[0]) if key else 0


def proposals(store: Store, policy: str | None = None) -> list[StoredProposal]:
    """All proposals, those of one policy, in the order in which they were made.

    Raises:
        StoreError: see ``Store.read``.
    """
    mine = sa.true() if policy is None else PROPOSAL.c.policy == policy
    with store.read() as connection:
        rows = connection.execute(sa.select(*_COLUMNS).where(mine).order_by(PROPOSAL.c.id)).all()
    return [_stored(row) for row in rows]


def standing(store: Store, policy: str) -> Standing:
    """What is in force for a policy.

    Raises:
        StoreError: see ``Store.read``.
    """
    with store.read() as connection:
        return _standing(connection, policy)


def last_promotion(store: Store, policy: str) -> int:
    """``Standing.seq`` alone: one look-up in an index.

    Raises:
        StoreError: see ``Store.read``.
    """
    with store.read() as connection:
        return _last(connection, policy)


def promote(store: Store, proposal: int, by: str, apply: Apply, now: float, seen: int | None = None) -> Promotion:
    """Put a proposal in force, for the first time or again; the chain says so before anybody can see it.

    Args:
        store: where it is kept.
        proposal: its number.
        by: who answers for it.
        apply: the file's policy with proposals in force.
        now: seconds since the epoch.
        seen: ``Standing.seq`` of what the person who decides has looked at; None: whatever is in force.

    Raises:
        InputError: no such proposal, one of another policy, one that was rejected or is in force, no name, bands that
            the policy cannot have, or somebody promoted or rejected another one since ``seen``.
        StoreError: see ``Store.write``.
    """
    return _decide(store, (proposal, "promoted"), by, apply, now, seen)


def reject(store: Store, proposal: int, by: str, apply: Apply, now: float) -> Promotion:
    """Say that a proposal shall never be in force; see ``promote``. One that is in force cannot be rejected."""
    return _decide(store, (proposal, "rejected"), by, apply, now)


_Verdict = Literal["promoted", "rejected"]


def _decide(
    store: Store, what: tuple[int, _Verdict], by: str, apply: Apply, now: float, seen: int | None = None
) -> Promotion:
    proposal, verdict = what
    name = by.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InputError(f"found {by[:LONGEST_NAME]!r}, wanted the name of who decides, up to {LONGEST_NAME} letters")
    policy = policy_id(apply({}, None))
    with store.write() as connection:
        chain.head(connection, hold=True)
        found = _proposal(connection, proposal, policy)
        standing = _standing(connection, policy)
        if seen is not None and seen != standing.seq:
            raise InputError("somebody else has promoted or rejected a proposal since; look at what is in force now")
        if standing.holds(found):
            raise InputError(f"proposal {proposal}: found it in force, wanted one that is not")
        if verdict == "rejected" and found.proposal is None:
            raise InputError(f"proposal {proposal}: found the policy's own bands, which cannot be rejected")
        policies = apply({}, None), apply(standing.promoted, None), _after(standing.promoted, found, verdict, apply)
        promotion = _promotion(found, (verdict, name, now), policies)
        row = chain.Row("promotion", f"proposal-{proposal}", canonical(promotion), "none")
        seq = chain.append(connection, [row], now)[-1].seq
        decided = {"state": verdict, "decided_by": name, "decided_at": now, "seq": seq}
        connection.execute(sa.update(PROPOSAL).where(PROPOSAL.c.id == proposal).values(**decided))
    return promotion


def _proposal(connection: sa.Connection, proposal: int, policy: str) -> StoredProposal:
    row = connection.execute(sa.select(*_COLUMNS).where(PROPOSAL.c.id == proposal)).one_or_none()
    if row is None:
        known = connection.execute(sa.select(PROPOSAL.c.id).where(PROPOSAL.c.policy == policy).order_by(PROPOSAL.c.id))
        there = ", ".join(str(each) for each in known.scalars()) or "none"
        raise InputError(f"proposal {proposal}: found none, wanted one of this policy's: {there}")
    if row.policy != policy:
        raise InputError(f"proposal {proposal}: found one for policy {row.policy}, wanted one for {policy}")
    if row.state == "rejected":
        raise InputError(f"proposal {proposal}: found it rejected by {row.decided_by}, wanted one that is not")
    return _stored(row)


def _last(connection: sa.Connection, policy: str) -> int:
    # With the chain's row: a number that somebody wrote into the table would hide what is promoted later.
    chained = PROPOSAL.join(AUDIT, (AUDIT.c.seq == PROPOSAL.c.seq) & (AUDIT.c.kind == "promotion"))
    wanted = sa.select(sa.func.max(PROPOSAL.c.seq)).select_from(chained).where(PROPOSAL.c.policy == policy)
    return int(connection.execute(wanted).scalar() or 0)


def _standing(connection: sa.Connection, policy: str) -> Standing:
    mine = PROPOSAL.c.policy == policy, PROPOSAL.c.state == "promoted"
    untouched = (PROPOSAL.c.seq == 0) & PROPOSAL.c.proposal.is_(None)
    columns = PROPOSAL.c.id, PROPOSAL.c.stage, PROPOSAL.c.seq
    latest: dict[Stage, Promotion] = {}
    amiss = []
    for number, stage, seq in connection.execute(sa.select(*columns).where(*mine, ~untouched).order_by(PROPOSAL.c.seq)):
        said = _said(connection, seq)
        if said and (said.proposal, said.stage, said.policy, said.verdict) == (number, stage, policy, "promoted"):
            latest[stage] = said
        else:
            amiss.append(
                f"Proposal {number} is called promoted and is NOT in force: row {seq} of the chain says no such"
            )
    return Standing(
        _last(connection, policy), {stage: each for stage, each in latest.items() if not each.own}, tuple(amiss)
    )


def _said(connection: sa.Connection, seq: int | None) -> Promotion | None:
    """What a row of the chain says of a promotion; None where it says nothing of one, or does not fit its hash."""
    row = chain.at(connection, seq or 0)
    if row is None or row.kind != "promotion" or chain.row_hash(row) != row.hash:
        return None
    try:
        return msgspec.json.decode(row.record, type=Promotion)
    except msgspec.DecodeError:
        return None


def _after(before: InForce, found: StoredProposal, verdict: _Verdict, apply: Apply) -> Gateway:
    if verdict == "rejected":
        return apply(before, None)
    if found.proposal is None:
        return apply({stage: each for stage, each in before.items() if stage != found.stage}, None)
    return apply(before, found)


def _promotion(found: StoredProposal, decided: tuple[_Verdict, str, float], policies: tuple[Gateway, ...]) -> Promotion:
    file, old, new = policies
    return Promotion(
        found.id,
        found.stage,
        *decided,
        policy=policy_id(file),
        old=bands(old.stages[found.stage]),
        new=bands(new.stages[found.stage]),
        old_policy=policy_id(old),
        new_policy=policy_id(new),
        versions=found.versions,
        own=found.proposal is None and decided[0] == "promoted",
    )


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredProposal:
    fields = dict(row._mapping)
    return StoredProposal(**fields | {"versions": msgspec.json.decode(row.versions, type=dict[str, str])})
