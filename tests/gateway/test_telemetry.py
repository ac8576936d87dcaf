import itertools
from dataclasses import dataclass, field

import pytest
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, NoOpTracer, get_current_span
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT
from prometheus_client.parser import text_string_to_metric_families

from offmap.gateway.decision import Decision, Finding
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.telemetry import BUCKETS, Telemetry, result

CONTRACT = {"guardrail", "kind", "phase", "result", "error_type"}


def samples(client, headers=None):
    text = client.get("/metrics", headers=headers).text
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if not each.name.endswith("_created")
    }


def total(client, name, **labels):
    wanted = set(labels.items())
    return sum(value for (each, given), value in samples(client).items() if each == name and wanted <= set(given))


def moderate(client, *texts):
    assert client.post("/v1/moderations", json={"input": list(texts)}).status_code == 200


def test_decisions_are_counted_by_what_was_done(client):
    moderate(client, "hello", "hello", "bomb", "<timeout>", "quux")
    count = "offmap_guardrail_latency_seconds_count"
    assert total(client, count, guardrail="input", result="allowed") == 2
    assert total(client, count, guardrail="input", result="blocked") == 3
    assert total(client, count, guardrail="fake", kind="monitor", phase="input") == 5
    assert total(client, count, guardrail="fake", error_type="timeout") == 1
    assert total(client, "offmap_guardrail_decisions_total", action="error", rule="input.timeout") == 1
    assert total(client, "offmap_gateway_pending") == 0
    labels = {frozenset(dict(given)) for name, given in samples(client) if name == count}
    assert labels == {frozenset(CONTRACT)}


def test_shadow_and_fail_open_are_apart(serve):
    shadow = serve(mode="shadow")
    moderate(shadow, "bomb", "hello")
    assert total(shadow, "offmap_guardrail_latency_seconds_count", guardrail="input", result="would_block") == 1
    assert total(shadow, "offmap_guardrail_bypasses_total") == 0
    open_ = serve(on_error="allow", reason="trial")
    moderate(open_, "<failed>")
    assert total(open_, "offmap_guardrail_bypasses_total", reason="input.failed") == 1
    assert total(open_, "offmap_guardrail_latency_seconds_count", guardrail="input", result="bypassed") == 1


def test_what_is_turned_away_is_counted(client):
    client.post("/v1/moderations", content=b"[" * 99, headers={"content-type": "application/json"})
    client.service.draining = True
    client.post("/v1/moderations", json={"input": "hi"})
    assert total(client, "offmap_gateway_refused_total", status="400") == 1
    assert total(client, "offmap_gateway_refused_total", status="503") == 1


def test_no_content_no_key_no_id_in_metrics(serve):
    key, record = new_key("robot", "admin")
    client = serve(keys=Keys((record,)))
    headers = {"x-api-key": key}
    body = {"stage": "conversation", "conversation_id": "zebra-id"}
    body["conversation"] = {"messages": [{"role": "user", "content": "zebra bomb"}]}
    answer = client.post("/v1/decisions", json=body, headers=headers)
    text = client.get("/metrics", headers=headers).text
    assert "conversation.unsafe" in text
    for secret in ("zebra", key, answer.json()["id"]):
        assert secret not in text


@dataclass
class Spans(NoOpTracer):
    """A tracer that keeps what it is told."""

    told: list = field(default_factory=list)

    def start_span(self, name, *_, **__):
        kept = self.told

        class Span(NonRecordingSpan):
            def set_attributes(self, attributes):
                kept.append((name, dict(attributes)))

            def add_event(self, name, attributes=None, timestamp=None):
                kept.append((name, dict(attributes)))

            def is_recording(self):
                return True

            def end(self, end_time=None):
                kept.append("ended")

        return Span(INVALID_SPAN_CONTEXT)


def decided(action="block", status="enforced", would=None):
    finding = Finding("fake", "1", "scored", 0.25, 0.25, 0.5, fired=("zebra",))
    return Decision(
        "id", 0.0, "response", action, would or action, status, "response.unsafe", "p@1", "c", "me", "h", (finding,)
    )


def test_spans_have_the_names_of_the_contract(configured):
    tracer = Spans()
    with Telemetry(configured(), tracer).deciding("response") as tell:
        assert get_current_span() is not INVALID_SPAN
        tell(decided())
    (name, attributes), (event, same), (evaluation, found), ended = tracer.told
    assert ended == "ended"
    assert get_current_span() is INVALID_SPAN
    assert (name, event) == ("apply_guardrail response", "gen_ai.guardrail.result")
    assert attributes == same
    assert {each.removeprefix("gen_ai.guardrail.") for each in attributes} == set(
        "component.name policy.id policy.version policy.rule.id result.type result.value result.reason source "
        "risk.score risk.category".split()
    )
    assert attributes["gen_ai.guardrail.risk.category"] == "unsafe"
    assert evaluation == "gen_ai.evaluation.result"
    assert {key.removeprefix("gen_ai.evaluation."): value for key, value in found.items()} == {
        "name": "fake",
        "score.value": 0.75,
        "score.label": "scored",
    }
    assert attributes["gen_ai.guardrail.risk.score"] == 0.75
    assert not {"id", "c", "me", "h", "zebra"} & {str(value) for value in attributes.values()}
    assert not get_current_span().is_recording()


def test_for_a_span_that_nobody_records_nothing_is_made(configured, monkeypatch):
    monkeypatch.setattr("offmap.gateway.telemetry._attributes", lambda _: pytest.fail("made"))
    telemetry = Telemetry(configured())
    with telemetry.deciding("response") as tell:
        tell(decided())
    assert b'offmap_guardrail_decisions_total{action="block"' in telemetry.text()


def test_a_decision_that_fails_leaves_no_pending_one(configured):
    telemetry = Telemetry(configured())
    with pytest.raises(RuntimeError), telemetry.deciding("input"):
        raise RuntimeError
    assert b"offmap_gateway_pending 0.0" in telemetry.text()


@pytest.mark.parametrize(
    ("action", "status", "would", "word"),
    [
        ("allow", "enforced", "allow", "allowed"),
        ("modify", "enforced", "modify", "modified"),
        ("escalate", "enforced", "escalate", "blocked"),
        ("block", "enforced", "block", "blocked"),
        ("error", "enforced", "error", "blocked"),
        ("allow", "shadow", "allow", "allowed"),
        ("allow", "shadow", "error", "would_block"),
        ("allow", "fail_open", "error", "bypassed"),
        ("modify", "fail_open", "error", "bypassed"),
    ],
)
def test_the_word_for_each_kind_of_decision(action, status, would, word):
    assert result(decided(action, status, would)) == word


def test_buckets_are_those_of_the_convention():
    assert (BUCKETS[0], BUCKETS[-1]) == (0.01, 81.92)
    assert all(after == 2 * before for before, after in itertools.pairwise(BUCKETS))
