"""From labels to thresholds in force: in a simulation where the truth is known, and through a running gateway."""

import asyncio
import contextlib
import dataclasses
import shutil

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.gateway.config import Actions, Gateway, MonitorTable, Review, StageTable, Step, Store
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.keys import Keys
from offmap.gateway.live import Live
from offmap.gateway.policy import bands, policy_id, rule, signals
from offmap.gateway.service import Service
from offmap.gateway.store import AuditLog, ReviewRules, chain, decide, lease, open_store, verify
from offmap.gateway.store.promotions import Promotion, proposals
from offmap.gateway.store.tables import REVIEW
from offmap.gateway.tuning.budget import Budget
from offmap.gateway.tuning.from_log import logged_traffic, require_labels
from offmap.gateway.tuning.proposal import propose
from offmap.gateway.tuning.recalibration import promised, recalibrate

ALPHA = 0.02
SHARE = 0.2
DRIFTED = StageTable((Step("m", unsafe=(0.025, 0.2)),), actions=Actions(unsafe="block", unknown="allow"))
"""Blocks below, asks a person about what lies between, lets the rest go on."""


def drifted(rng, n):
    """p-values of safe traffic under a monitor that gives twice as many alarms as it says: P(p <= t) = 2 t."""
    return rng.random(n) / 2


def decided(number, p, table):
    finding = Finding("m", "v1", "scored", p, p, 0.9, seconds=0.01)
    (step,) = bands(table)
    met, _ = signals(table, step, finding, last=True)
    ruling = rule(table, met, enforced=True)
    done = (ruling.action, ruling.would, ruling.status)
    return Decision(f"{number:06d}", float(number), "response", *done, "r", "p@1", findings=(finding,))


def labelled_traffic(path, rng, seed, n=1200, unsafe_share=0.1):
    """A log of drifted traffic, its escalations and its sample labelled with the truth."""
    is_unsafe = rng.random(n) < unsafe_share
    p = np.where(is_unsafe, 0.02 * rng.random(n), drifted(rng, n))
    with contextlib.closing(open_store(f"sqlite:///{path}")) as store:
        with AuditLog(store, review=ReviewRules(due_in=1e9, sample=SHARE, seed=seed)) as log:
            for waiting in [log.submit(decided(row, float(each), DRIFTED)) for row, each in enumerate(p)]:
                waiting.result()
        truth = sa.case(
            (REVIEW.c.decision_id.in_([f"{row:06d}" for row in np.flatnonzero(is_unsafe)]), "unsafe"), else_="safe"
        )
        with store.write() as connection:
            values = {"state": "decided", "verdict": truth, "decided_by": "anna", "decided_at": 1.0}
            connection.execute(sa.update(REVIEW).values(**values))
        return logged_traffic(store, "response", ["m"])


def test_the_proposal_restores_the_rate_and_without_weights_it_does_not(tmp_path):
    """P(false alarm) at a cut t is 2 t, so the truth needs no fresh rows; with the bands that drifted it is .4."""
    rates, unweighted = [], []
    open_store(f"sqlite:///{tmp_path}/empty").close()
    for seed in range(20):
        path = shutil.copy(tmp_path / "empty", tmp_path / f"{seed}.sqlite")
        logged = labelled_traffic(path, np.random.default_rng(seed), seed)
        require_labels(logged, ALPHA)
        plain = dataclasses.replace(logged.traffic, weight=np.ones(len(logged.traffic)))
        for traffic, found in ((logged.traffic, rates), (plain, unweighted)):
            (step,) = propose(traffic, DRIFTED, Budget(alpha=ALPHA), seed).steps
            found.append(2 * max(step.unsafe))
    error = np.std(rates, ddof=1) / np.sqrt(len(rates))
    assert np.mean(rates) <= ALPHA + 3 * error
    assert np.mean(rates) >= ALPHA / 2
    assert np.mean(unweighted) > 1.5 * ALPHA


class Graded:
    """Its p-value stands in the text: "p=0.01"."""

    version, stuck = "v1", False

    async def ask(self, conversation, timeout=None):
        p = float(conversation.messages[-1].text.partition("p=")[2] or 0.9)
        return Finding("m", self.version, "scored", p, p, 0.9, windows=1)

    async def drain(self, timeout=None):
        return True


def saying(p):
    return Conversation("c", (Message("user", "?"), Message("assistant", f"p={p}")))


@pytest.fixture
def gateway(tmp_path):
    table = StageTable(("m",), tier="strict", actions=Actions(unsafe="block", unknown="allow"))
    return Gateway(
        monitors={"m": MonitorTable(bundle="b")},
        stages={"response": table},
        store=Store(f"sqlite:///{tmp_path}/g.sqlite"),
        review=Review(sample=1.0),
    )


def opened(gateway):
    return Service(gateway, monitors={"m": Graded()}, keys=Keys())


def label_all(store):
    """As people do: one item after the other; harm is what has a p-value below .001."""
    while held := lease(store, "anna", 60, 1e9):
        decision = chain.find(store, held.item.decision_id).decision
        verdict = "unsafe" if decision.findings[0].p_unsafe < 0.001 else "safe"
        decide(store, held.item.id, held.token, verdict, 1e9, by="anna")


def test_from_decisions_to_labels_to_a_promotion_to_other_decisions(gateway):
    """The file promises .025 for p <= .025; of this traffic twice as much lies there."""
    safe = (np.arange(80) + 0.5) / 80 / 2

    async def main():
        service = opened(gateway)
        await service.start()
        for p in [*safe, *[1e-5] * 6]:
            await service.decide("response", saying(p))
        label_all(service.store)
        before = await service.decide("response", saying(0.02))
        made = recalibrate(service.live, "response")
        unchanged = await service.decide("response", saying(0.02))
        await service.promote(made.id, "ada")
        after = await service.decide("response", saying(0.02))
        still = await service.decide("response", saying(0.001))
        # As if it had been killed: the next one is opened while nothing was closed.
        again = opened(gateway)
        restarted = await again.decide("response", saying(0.02))
        found = verify(service.store)
        with service.store.read() as connection:
            kinds = [(each.kind, each.record) for each in chain.entries(connection)]
        await service.drain()
        await again.drain()
        return made, (before, unchanged, after, still, restarted), found, kinds

    made, (before, unchanged, after, still, restarted), found, kinds = asyncio.run(main())
    assert made.proposal.alpha == 0.025
    assert (made.logged.sampled, made.proposal.n) == (86, 80)
    stop = made.proposal.steps[0].unsafe[0]
    alarms = int(np.sum(safe <= stop))
    assert alarms / 80 <= 0.025 < (alarms + 2) / 81
    assert made.comparison.old.false_alarms.value == 4 / 80
    assert made.comparison.old.recall.value == made.comparison.new.recall.value == 1.0
    changes = {(each.was, each.becomes): each.rows for each in made.comparison.changes}
    # the request that came before the proposal is one of the rows
    assert changes == {("allow", "allow"): 76, ("block", "block"): 6 + alarms, ("block", "allow"): 5 - alarms}
    assert [each.action for each in (before, unchanged, after, still, restarted)] == [
        "block", "block", "allow", "block", "allow"
    ]  # fmt: skip
    assert before.policy == unchanged.policy == policy_id(gateway)
    assert after.policy == still.policy == restarted.policy != before.policy
    assert (found.broken_at, [kind for kind, _ in kinds].count("promotion")) == (None, 1)
    told = msgspec.json.decode(next(record for kind, record in kinds if kind == "promotion"), type=Promotion)
    assert (told.by, told.old_policy, told.new_policy) == ("ada", before.policy, after.policy)
    assert told.old == bands(gateway.stages["response"])
    assert told.new[0].unsafe == (stop, stop)


def test_a_file_that_nothing_was_decided_by_is_told(tmp_path):
    logged = labelled_traffic(tmp_path / "g.sqlite", np.random.default_rng(0), 0)
    file = Gateway(
        monitors={"m": MonitorTable(bundle="b")},
        stages={"response": DRIFTED},
        store=Store(f"sqlite:///{tmp_path}/g.sqlite"),
    )
    with contextlib.closing(open_store(file.store.url)) as store:
        made = recalibrate(Live(store, file), "response", ALPHA)
    assert logged.policy == "p@1"
    assert f"policy p@1 and this file is {policy_id(file)}" in made.proposal.notes[-1]


def test_what_cannot_be_recalibrated_is_refused_and_nothing_is_kept(gateway):
    with contextlib.closing(open_store(gateway.store.url)) as store:
        live = Live(store, gateway)
        for stage, alpha, message in (
            ("input", None, "stages.input: found none, wanted one of response"),
            ("response", 1.5, "alpha is 1.5"),
            ("response", None, "stages.response: found no decision"),
        ):
            with pytest.raises(InputError, match=message):
                recalibrate(live, stage, alpha)
        assert proposals(store) == []


def nominal(table):
    """By what the policy does to p-values on a fine grid, uniform as of safe traffic: stopped or held, and held."""
    (step,) = bands(table)
    actions = []
    for p in (np.arange(20_000) + 0.5) / 20_000:
        finding = Finding("m", "v1", "scored", p, p, 0.99)
        actions.append(rule(table, signals(table, step, finding, last=True)[0], enforced=True).action)
    return np.mean([each != "allow" for each in actions]), np.mean([each == "escalate" for each in actions])


@pytest.mark.parametrize(
    ("band", "actions", "tier"),
    [
        (None, Actions(unsafe="block", unknown="allow"), "balanced"),
        (None, Actions(unsafe="escalate", unknown="allow"), "strict"),
        ((0.01, 0.05), Actions(unsafe="block", unknown="allow"), "strict"),
        ((0.01, 0.05), Actions(unsafe="escalate", unknown="allow"), "strict"),
        ((0.01, 0.05), Actions(unsafe="block", unknown="allow", uncertain="block"), "strict"),
        ((0.01, 0.05), Actions(unsafe="block", unknown="allow", uncertain="allow"), "strict"),
    ],
)
def test_what_is_wanted_is_what_the_file_promises(band, actions, tier):
    table = StageTable((Step("m", unsafe=band),), tier=tier, actions=actions)
    stopped, held = nominal(table)
    shares = promised(table).shares(table)
    assert shares.alpha == pytest.approx(stopped, abs=1e-4)
    if shares.review is not None:
        assert shares.review == pytest.approx(held, abs=1e-4)
        other = promised(table, 2 * shares.alpha).shares(table)
        assert (other.alpha, other.review) == pytest.approx((2 * stopped, 2 * held), abs=2e-4)
    else:
        assert held in (0.0, stopped)


def test_a_band_for_people_stays_one(tmp_path):
    """Of the drifted traffic a person is asked about no more than the file promises, and about more than nothing."""
    logged = labelled_traffic(tmp_path / "g.sqlite", np.random.default_rng(0), 0, n=3000)
    made = propose(logged.traffic, DRIFTED, promised(DRIFTED))
    stop, passing = made.steps[0].unsafe
    assert 0 < stop < passing
    assert made.rates.stopped <= 0.2
    assert 0.1 < made.rates.held <= 0.175
