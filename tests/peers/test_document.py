"""The blocks of docs/howto/clients.md that need a library: they run, and what they make is watched."""

import re
from types import SimpleNamespace

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from servers import ROOT

TEXT = (ROOT / "docs" / "howto" / "clients.md").read_text()
BLOCKS = [block for block in re.findall(r"^```text\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE) if "import" in block]


@pytest.fixture
def run(nobody):
    def ran(word):
        (block,) = (block for block in BLOCKS if word in block)
        room = {"__name__": "document", "model": GenericFakeChatModel(messages=iter([AIMessage("never")]))}
        exec(block.replace("http://127.0.0.1:8400", nobody), room)  # noqa: S102
        return SimpleNamespace(**room)

    return ran


def test_inspect_ai(run):
    task = run("inspect_ai").task
    assert len(task.approval) == 2
    assert task.scorer


def test_openai_agents(run):
    agent = run("from agents import").agent
    assert agent.input_guardrails
    assert agent.output_guardrails
    assert agent.tools[0].tool_input_guardrails
    assert agent.tools[0].tool_output_guardrails


def test_langchain(run):
    found = run("langchain").agent.invoke({"messages": [{"role": "user", "content": "fine"}]})
    assert found["messages"][-1].response_metadata["offmap"]["rule"] == "client.unreachable"


def test_no_block_is_left_out():
    assert len(BLOCKS) == 3
