"""Gateways for tests that run in .venv/agents, and clients of them."""

import contextlib

import pytest
from servers import by_words, closed_port

from offmap.clients.gateway import Gateway


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A gateway that goes by words: "bomb" is blocked, "quux" escalated, "<failed>" an error."""
    running = by_words(tmp_path_factory.mktemp("words"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def read_only(tmp_path_factory):
    """Another, which leaves of a harmful reply the calls of "look" only."""
    reply = {"actions": "{unsafe = 'modify'}", "fallback": "'read_only_tools'", "read_only_tools": "['look']"}
    running = by_words(tmp_path_factory.mktemp("read-only"), **reply)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def nobody():
    """An address where nobody listens."""
    return f"http://127.0.0.1:{closed_port()}"


@pytest.fixture
def gateway(words):
    with contextlib.closing(Gateway(words.address)) as client:
        yield client


@pytest.fixture
def gone(nobody):
    with contextlib.closing(Gateway(nobody)) as client:
        yield client


@pytest.fixture
def narrowing(read_only):
    with contextlib.closing(Gateway(read_only.address)) as client:
        yield client
