"""Services whose watch needs few decisions, decisions for it to see, and a wait for what is done beside the traffic."""

import asyncio
import json
import time

import msgspec
import numpy as np

from offmap.conversation import Conversation, Message
from offmap.gateway.config import Drift
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.keys import Keys
from offmap.gateway.service import Service
from offmap.gateway.store import entries


def watching(configured):
    """A function that gives a configuration whose watch needs few decisions."""

    def made(**fields):
        return msgspec.structs.replace(configured(), drift=Drift(window=50, reference=50), **fields)

    return made


def opened(gateway, monitor):
    return Service(gateway, monitors={"fake": monitor}, keys=Keys())


def see(service, low, count=300):
    """Decisions whose p-values of harm were uniform and became small after the first 60."""
    rng = np.random.default_rng(0)
    for number in range(count):
        p = float(rng.beta(0.2, 1)) if low and number > 60 else float(rng.random())
        finding = Finding("fake", "fake-1", "scored", p, p, 0.5, windows=1)
        placed = number * 1.0, "response", "allow", "allow", "enforced", "response.pass", "p@1", f"c{number}"
        decision = Decision(f"id-{number}", *placed, findings=(finding,))
        service.drift.saw(decision, Conversation("c", (Message("user", "zebra words"), Message("assistant", "yes"))))


def kinds(store):
    with store.read() as connection:
        return [(entry.kind, entry.decision_id, json.loads(entry.record)) for entry in entries(connection)]


async def lived(service, work):
    await service.start()
    await work()
    return await service.drain()


async def until(true, seconds=10.0):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)
