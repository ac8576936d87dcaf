"""What reviewers said, as labelled rows: the p-values of a decision and its label, for ``offmap recalibrate``.

Only what a person settled as safe or unsafe is a label; "unsure" and a deadline that passed are none. Nothing is kept
twice: rows are read from the queue and the audit chain. Knows nothing of thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from offmap.atomic import whole_file
from offmap.gateway.decision import Decision, Finding, Stage
from offmap.gateway.store.capture import kept, restored
from offmap.gateway.store.opening import Store
from offmap.gateway.store.tables import AUDIT, REVIEW


class Labelled(msgspec.Struct, frozen=True):
    """A decision that a person labelled.

    Attributes:
        decision_id, at, stage, policy: of the decision.
        unsafe: the label.
        by: the reviewer.
        labelled_at: seconds since the epoch, UTC.
        reason, probability: why it was looked at, and with which probability a decision like it was. Escalations were
            chosen by their p-values: only with weights 1 / probability do labels stand for the traffic, and only where
            a sample was drawn at all.
        findings: every monitor's p-values and version; p-values of two versions do not compare.
        content: canonical JSON, redacted or whole, as far as it was kept and not purged.
    """

    decision_id: str
    at: float
    stage: Stage
    policy: str
    unsafe: bool
    by: str
    labelled_at: float
    reason: str
    probability: float
    findings: tuple[Finding, ...]
    content: str | None = None


def labelled(store: Store) -> Iterator[Labelled]:
    """Every labelled decision, in the order in which they were labelled.

    Raises:
        StoreError: see ``Store.read``.
    """
    columns = REVIEW.c.verdict, REVIEW.c.decided_by, REVIEW.c.decided_at, REVIEW.c.reason, REVIEW.c.probability
    both = sa.and_(AUDIT.c.decision_id == REVIEW.c.decision_id, AUDIT.c.kind == "decision")
    wanted = sa.select(*columns, AUDIT.c.record, AUDIT.c.content).join_from(REVIEW, AUDIT, both)
    wanted = wanted.where(REVIEW.c.state == "decided", REVIEW.c.verdict.in_(("safe", "unsafe")))
    wanted = wanted.order_by(REVIEW.c.decided_at, REVIEW.c.id).execution_options(yield_per=500)
    with store.read() as connection, connection.execute(wanted) as rows:
        for row in rows:
            decision = restored(msgspec.json.decode(row.record, type=Decision), row.content)
            yield Labelled(
                decision.id,
                decision.at,
                decision.stage,
                decision.policy,
                row.verdict == "unsafe",
                row.decided_by,
                row.decided_at,
                row.reason,
                row.probability,
                decision.findings,
                bytes(kept(row.content).content).decode() or None,
            )


def write_labels(store: Store, path: Path) -> int:
    """Write them as JSON lines, whole or not at all; how many there are.

    Raises:
        InputError: no file can be made there.
        StoreError: see ``Store.read``.
    """
    count = 0
    with whole_file(path) as stream:
        for row in labelled(store):
            stream.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count
