"""A gateway on fake monitors and a data base of its own, behind Litestar's test client."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from offmap.evidence import Span
from offmap.gateway.config import Actions, Audit, Gateway, Limits, MonitorTable, Server, StageTable, Store
from offmap.gateway.decision import STAGES, Finding

SECRET = "zebra-secret"  # noqa: S105


@dataclass
class Monitor:
    """Finds harm in any text with the word "bomb", strange what says "quux", and fails as its text or fault tells."""

    name: str = "fake"
    version: str = "fake-1"
    stuck: bool = False
    fault: str = ""
    asked: list = field(default_factory=list)
    released: asyncio.Event | None = None

    async def ask(self, conversation, timeout=None):
        self.asked.append(conversation)
        if self.released is not None:
            await self.released.wait()
        await asyncio.sleep(0)
        text = "\n".join(message.text for message in conversation.messages)
        fault = self.fault or next((each for each in ("failed", "timeout", "unscored") if f"<{each}>" in text), "")
        if fault:
            return Finding(self.name, self.version, fault)
        unsafe, unknown = (1e-6 if word in text else 0.5 for word in ("bomb", "quux"))
        last = len(conversation.messages) - 1
        at = conversation.messages[-1].text.find("bomb")
        spans = (Span(last, "assistant", at, at + 4, SECRET, 3.0),) if at >= 0 else ()
        seen = ("detector",) if unsafe < 0.1 else ()
        return Finding(
            self.name, self.version, "scored", min(unsafe, unknown), unsafe, unknown, seen, "kind", spans, windows=1
        )

    async def drain(self, timeout=None):
        return True


@pytest.fixture
def monitor():
    return Monitor()


@pytest.fixture
def configured(tmp_path):
    """A function that gives a configuration; fields of every stage may be named."""

    def configuration(stages=STAGES, limits=Limits(), server=Server(), upstream=None, **stage):  # noqa: B008
        return Gateway(
            monitors={"fake": MonitorTable(bundle="pocket")},
            stages={name: StageTable(**{"cascade": ("fake",), **stage}) for name in stages},
            limits=limits,
            server=server,
            upstream=upstream,
            store=Store(f"sqlite:///{tmp_path}/gateway.sqlite"),
            audit=Audit(timeout_ms=20_000),  # a busy machine is no fault of the log
        )

    return configuration


@pytest.fixture
def serve(configured, monitor):
    """A function that opens a test client of a gateway; it is closed at the end of the test."""
    from litestar.testing import TestClient

    from offmap.gateway.app import create_app
    from offmap.gateway.keys import Keys
    from offmap.gateway.service import Service

    with contextlib.ExitStack() as stack:

        def opened(keys=None, **options):
            gateway = configured(**options)
            service = Service(gateway, monitors={"fake": monitor}, keys=keys or Keys())
            app = create_app(gateway, service=service)
            client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            client.service = service
            return stack.enter_context(client)

        yield opened


@pytest.fixture
def client(serve):
    return serve()


MODIFY = {"actions": Actions(unsafe="modify", unknown="escalate"), "fallback": "partial"}


@pytest.fixture
def cutting():
    """Options of ``serve`` for a policy that cuts replies."""
    return {"stages": ("response", "tool_call", "conversation"), **MODIFY}
