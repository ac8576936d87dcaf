"""A gateway on a port of this machine, behind uvicorn as `offmap serve` runs it, in a thread of the test's process."""

import threading
import time

import httpx2
import uvicorn

from offmap.gateway.app import create_app
from offmap.gateway.config import Actions, Audit, Gateway, Limits, MonitorTable, StageTable, Store
from offmap.gateway.decision import STAGES
from offmap.gateway.keys import Keys
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.service import Service
from offmap.gateway.store import entries
from offmap.monitor import Verdict

ANSWER_SECONDS = 0.4
"""How long a monitor, a judge, the store or the upstream may take."""
WRITTEN = "in writing, for a test"
POLICIES = {
    "closed": {},
    "open": {"on_error": "allow", "actions": Actions(unscored="allow"), "reason": WRITTEN},
    "shadow": {"mode": "shadow"},
}
"""Options of every stage: as it comes; whatever fails lets pass; nothing is enforced."""
HARM = "bomb"
"""The word that the monitor of these tests knows."""
_GOOD = Verdict("c", False, 0.5, 0.5, 0.5, 0.01, (), ())
_HARM = Verdict("c", True, 1e-6, 1e-6, 0.5, 0.01, (), ())


class Scorer:
    """A monitor that knows one word, and does what ``fault`` says in place of its work."""

    def __init__(self):
        self.fault = None

    def score(self, conversations):
        verdicts = [_HARM if any(HARM in message.text for message in row.messages) else _GOOD for row in conversations]
        return self.fault(verdicts) if self.fault else verdicts


def gateway_of(url, policy="closed", *, steps=("fake",), tables=(), upstream=None, seconds=ANSWER_SECONDS, **limits):
    """A configuration: every stage asks the same monitors. ``tables``: those beside the one that knows a word."""
    milliseconds = 1000 * seconds
    failing = {"on_error": "allow", "reason": WRITTEN} if policy == "open" else {}
    return Gateway(
        monitors={"fake": MonitorTable(bundle="pocket", timeout_ms=milliseconds), **dict(tables)},
        stages={stage: StageTable(steps, **POLICIES[policy]) for stage in STAGES},
        upstream=upstream,
        audit=Audit(capture="hash", timeout_ms=milliseconds, **failing),
        limits=Limits(max_wait_ms=0, **limits),
        store=Store(url),
    )


def running(name, scorer, gateway):
    timeout = gateway.monitors[name].timeout_ms / 1000
    return Running(name, Opened(scorer, f"{name}-1"), timeout=timeout, limits=gateway.limits)


class Live:
    """A gateway that answers.

    Attributes:
        scorer: the monitor that knows a word.
        address: where it listens.
    """

    def __init__(self, gateway, others=None):
        self.scorer = Scorer()
        self.service = Service(
            gateway, monitors={"fake": running("fake", self.scorer, gateway), **(others or {})}, keys=Keys()
        )
        app = create_app(gateway, service=self.service)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the gateway does not start"
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.address, timeout=30, trust_env=False)

    def decisions(self, after=0):
        """Decisions on record behind a place of the chain, by id."""
        with self.service.store.read() as connection:
            rows = [row for row in entries(connection, after) if row.kind == "decision"]
        return {row.decision_id: row.decision for row in rows}

    def bypasses(self):
        """What went on unchecked, as the metrics count it: a number for each rule."""
        lines = self.client.get("/metrics").text.splitlines()
        counted = [line for line in lines if line.startswith("offmap_guardrail_bypasses_total{")]
        return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in counted}

    def close(self):
        self.client.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive(), "the gateway does not end"
