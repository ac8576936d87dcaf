"""What the gateway tells of itself: Prometheus metrics, and OpenTelemetry through its API alone.

Every name that others define stands in ``Names``: OpenTelemetry's conventions for guardrails are not merged yet. No
label holds content, a key, or an id; exporters are the business of whoever runs the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from opentelemetry import context, metrics, trace
from opentelemetry.trace import Span, Tracer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from offmap.combination import QUESTIONS
from offmap.gateway.config import Gateway
from offmap.gateway.decision import Decision, Finding, Stage
from offmap.gateway.drift import Report
from offmap.gateway.policy import ERRORS


class Names:
    """Names of spans, events, metrics, attributes and labels."""

    SPAN = "apply_guardrail {component}"
    EVENT = "gen_ai.guardrail.result"
    DURATION = "gen_ai.client.apply_guardrail.duration"
    COMPONENT = "gen_ai.guardrail.component.name"
    POLICY_ID = "gen_ai.guardrail.policy.id"
    POLICY_VERSION = "gen_ai.guardrail.policy.version"
    RULE = "gen_ai.guardrail.policy.rule.id"
    TYPE = "gen_ai.guardrail.result.type"
    VALUE = "gen_ai.guardrail.result.value"
    REASON = "gen_ai.guardrail.result.reason"
    SOURCE = "gen_ai.guardrail.source"
    CATEGORY = "gen_ai.guardrail.risk.category"
    SCORE = "gen_ai.guardrail.risk.score"
    EVALUATION = "gen_ai.evaluation.result"
    EVALUATION_NAME = "gen_ai.evaluation.name"
    EVALUATION_SCORE = "gen_ai.evaluation.score.value"
    EVALUATION_LABEL = "gen_ai.evaluation.score.label"
    LATENCY = "offmap_guardrail_latency_seconds"
    BYPASSES = "offmap_guardrail_bypasses_total"
    DECISIONS = "offmap_guardrail_decisions_total"
    REFUSED = "offmap_gateway_refused_total"
    PENDING = "offmap_gateway_pending"
    DRIFT_ALARM = "offmap_drift_alarm"
    DRIFT_CAPITAL = "offmap_drift_capital"
    DRIFT_RATE = "offmap_drift_rate"
    LABELS = ("guardrail", "kind", "phase", "result", "error_type")
    DRIFT_LABELS = ("stage", "monitor", "kind")


BUCKETS = tuple(0.01 * 2**n for n in range(14))
"""Seconds: .01 .02 .04 ... 81.92."""
_RESULTS = {"allow": "allowed", "modify": "modified"}


class Telemetry:
    """Counts and spans of one gateway.

    Args:
        gateway: the configuration.
        tracer: in place of OpenTelemetry's global one.

    Attributes:
        registry: of the Prometheus metrics.
    """

    def __init__(self, gateway: Gateway, tracer: Tracer | None = None) -> None:
        self.registry = CollectorRegistry()
        self._gateway = gateway
        self._tracer = tracer or trace.get_tracer("offmap.gateway")
        meter = metrics.get_meter("offmap.gateway")
        self._duration = meter.create_histogram(
            Names.DURATION, "s", "Time of one guardrail", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._latency = Histogram(
            Names.LATENCY, "Time of one guardrail", Names.LABELS, buckets=BUCKETS, registry=self.registry
        )
        self._bypasses = Counter(Names.BYPASSES, "Went on unchecked, by policy", ("reason",), registry=self.registry)
        self._decisions = Counter(
            Names.DECISIONS, "Decisions", ("stage", "action", "status", "rule"), registry=self.registry
        )
        self._refused = Counter(Names.REFUSED, "Turned away undecided", ("status",), registry=self.registry)
        self._pending = Gauge(Names.PENDING, "Decisions under way", registry=self.registry)
        labels = Names.DRIFT_LABELS
        self._drift_alarm = Gauge(Names.DRIFT_ALARM, "1 where drift was found", labels, registry=self.registry)
        self._drift_capital = Gauge(Names.DRIFT_CAPITAL, "Of the martingale, from 1", labels, registry=self.registry)
        self._drifting: set[tuple[str, str, str]] = set()
        self._drift_rate = Gauge(Names.DRIFT_RATE, "Share beyond the cut, last window", labels, registry=self.registry)

    def drift(self, report: Report) -> None:
        """How the drift watch stands; what is not known yet, or not watched any more, is not there."""
        watched: set[tuple[str, str, str]] = {(each.stage, each.monitor, each.kind) for each in report.watched}
        for gone in self._drifting - watched:
            for gauge in (self._drift_alarm, self._drift_capital, self._drift_rate):
                with suppress(KeyError):  # nothing was known of it yet
                    gauge.remove(*gone)
        self._drifting = watched
        for each in report.watched:
            labels = each.stage, each.monitor, each.kind
            self._drift_alarm.labels(*labels).set(each.alarm is not None)
            if each.capital is not None:
                self._drift_capital.labels(*labels).set(each.capital)
            if each.rate is not None:
                self._drift_rate.labels(*labels).set(each.rate)

    def refused(self, status: int) -> None:
        """A request that was turned away with this HTTP status."""
        self._refused.labels(str(status)).inc()

    @contextmanager
    def deciding(self, stage: Stage) -> Iterator[Callable[[Decision], None]]:
        """A span around a decision and its record; what it gives is to be called with the decision."""
        span = self._tracer.start_span(Names.SPAN.format(component=stage))
        current = context.attach(trace.set_span_in_context(span))
        self._pending.inc()
        try:
            yield partial(self._tell, span)
        finally:
            self._pending.dec()
            context.detach(current)
            span.end()

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def _tell(self, span: Span, decision: Decision) -> None:
        started = time.time_ns()
        self._decisions.labels(decision.stage, decision.action, decision.status, decision.rule).inc()
        if decision.status == "fail_open":
            self._bypasses.labels(decision.rule).inc()
        for finding in decision.findings:
            if finding.outcome != "skipped":
                self._observe(finding.monitor, self._kind(finding), decision, finding.seconds, _error_type(finding))
        failure = next(filter(None, map(_error_type, decision.findings)), "")
        self._observe(decision.stage, "stage", decision, decision.seconds, failure)
        if span.is_recording():
            attributes = _attributes(decision)
            span.set_attributes(attributes)
            span.add_event(Names.EVENT, attributes, started)
            for evaluation in _evaluations(decision):
                span.add_event(Names.EVALUATION, evaluation, started)
        kind = {Names.COMPONENT: decision.stage, Names.TYPE: decision.status, Names.VALUE: decision.action}
        self._duration.record(decision.seconds, kind)

    def _observe(self, name: str, kind: str, decision: Decision, seconds: float, error_type: str) -> None:
        phase = "input" if decision.stage == "input" else "output"
        self._latency.labels(name, kind, phase, result(decision), error_type).observe(seconds)

    def _kind(self, finding: Finding) -> str:
        table = self._gateway.monitors.get(finding.monitor)
        return "judge" if table and table.judge else "monitor"


def result(decision: Decision) -> str:
    """The word of a decision in metrics: allowed | blocked | modified | bypassed | would_block."""
    if decision.status == "fail_open":
        return "bypassed"
    if decision.status == "shadow" and decision.would != "allow":
        return "would_block"
    return _RESULTS.get(decision.action, "blocked")


def _error_type(finding: Finding) -> str:
    return finding.outcome if finding.outcome in ERRORS else ""


def _attributes(decision: Decision) -> dict[str, str | float]:
    name, _, version = decision.policy.partition("@")
    found: dict[str, str | float] = {
        Names.COMPONENT: decision.stage,
        Names.POLICY_ID: name,
        Names.POLICY_VERSION: version,
        Names.RULE: decision.rule,
        Names.TYPE: decision.status,
        Names.VALUE: decision.action,
        Names.REASON: decision.rule,
        Names.SOURCE: "offmap",
    }
    category = decision.rule.partition(".")[2]
    p_values = [each.p_value for each in decision.findings if each.p_value is not None]
    found |= {Names.CATEGORY: category} if category in QUESTIONS else {}
    return found | ({Names.SCORE: 1.0 - min(p_values)} if p_values else {})


def _evaluations(decision: Decision) -> Iterator[dict[str, str | float]]:
    """What each monitor that was asked found, without content: its outcome, and 1 - p as in the risk score."""
    for finding in decision.findings:
        if finding.outcome != "skipped":
            found: dict[str, str | float] = {
                Names.EVALUATION_NAME: finding.monitor,
                Names.EVALUATION_LABEL: finding.outcome,
            }
            yield found | ({Names.EVALUATION_SCORE: 1.0 - finding.p_value} if finding.p_value is not None else {})
