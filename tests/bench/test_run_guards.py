"""A benchmark run over published guards: their own verdict is a detector, and what they cannot serve is left out."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from offmap.backbones import BackboneSource
from offmap.bench import evaluate, run
from offmap.bench.run import MAHALANOBIS, PERPLEXITY
from offmap.bench.scores import DEFAULT, GUARD, REFERENCE
from offmap.conversation import Conversation, Message
from offmap.defaults import PUBLISHED_GUARD
from offmap.features import Features
from offmap.suites import Suite
from offmap.synthetic import make_features

TOKENS = {"excess", "window", "perplexity", "lexical guard", PERPLEXITY}


class Guard:
    """Made-up features that lie apart where a row's text says so; a classifier has no token columns."""

    fingerprint = "made up"

    def __init__(self, family):
        self.source, self.scalars = BackboneSource("made-up", guard=family), frozenset({"guard"})

    def __call__(self, batch, spec):
        assert not (spec.tokens and self.source.guard == "classifier"), "token statistics were asked of a classifier"
        seed = int(hashlib.sha256(batch[0].id.encode()).hexdigest()[:6], 16)
        shifted = Features.concat([make_features(spec, len(batch), seed, shift) for shift in (0.0, 3.0, 4.0)])
        kinds = [("good", "bad", "odd").index(row.messages[-1].content.split()[0]) for row in batch]
        found = shifted.take(np.array(kinds) * len(batch) + np.arange(len(batch)))
        return replace(found, ids=tuple(row.id for row in batch), groups=tuple(row.domain for row in batch))


def rows(part, n, domains):
    made = []
    for i in range(n):
        bad, domain = i % 5 == 0, domains[i % len(domains)]
        text = f"{'odd' if domain == 'odd' else 'bad' if bad else 'good'} {part} {i}"
        asked = Message("user", f"the question of {part} number {i}")
        made.append(Conversation(f"{part}-{i}", (asked, Message("assistant", text)), bad, domain))
    return tuple(made)


@pytest.fixture(scope="module")
def suite():
    return Suite("guards", rows("train", 1400, ("calm", "usual", "plain")), rows("test", 300, ("calm", "odd")), "", "")


@pytest.mark.parametrize("family", ["llama-guard", "classifier"])
def test_a_published_guard_is_benched_by_what_it_gives(suite, family):
    outcome = run(suite, Guard(family), alpha=0.05)
    report = evaluate(outcome.scores, resamples=10)
    names = {monitor.name for monitor in report.monitors}
    assert {GUARD, PUBLISHED_GUARD, MAHALANOBIS, REFERENCE, DEFAULT} <= names
    assert (names & TOKENS == TOKENS) == (family != "classifier")
    assert (names & TOKENS == set()) == (family == "classifier")
    assert PUBLISHED_GUARD in [member.name for member in outcome.monitor.panel.members]
    assert report.monitor(PUBLISHED_GUARD).id_recall > 0.5
    verdict = outcome.monitor.score(suite.test[:1])[0]
    assert np.isfinite(next(found.score for found in verdict.evidence if found.detector == PUBLISHED_GUARD))


def test_where_no_known_harm_is_tested_there_is_no_rule_as_published(suite):
    familiar = set(suite.in_distribution)
    tested = tuple(row for row in suite.test if not (row.unsafe and row.domain in familiar))
    report = evaluate(run(replace(suite, test=tested), Guard("classifier"), alpha=0.05).scores, resamples=10)
    names = {monitor.name for monitor in report.monitors}
    assert {"guard + mahalanobis", REFERENCE, DEFAULT} <= names
    assert not any("as published" in name for name in names)
