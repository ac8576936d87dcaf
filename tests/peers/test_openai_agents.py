"""The guardrails in runs of the OpenAI Agents SDK, its model scripted."""

import pydantic
import pytest
from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    WebSearchTool,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from servers import RATIONALE, REFUSAL

from offmap.clients.answers import REFUSAL as NO_GATEWAY
from offmap.clients.openai_agents import (
    input_guardrail,
    messages,
    offered,
    output_guardrail,
    tool_guardrail,
    tool_output_guardrail,
)

MADE = []
QUIET = RunConfig(tracing_disabled=True)
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}


def look(where: str) -> str:
    """Look somewhere."""
    MADE.append(where)
    return f"seen: {where}"


@pytest.fixture(autouse=True)
def nothing_made():
    MADE.clear()


def run(said, *replies, **options):
    model = ScriptedModel([[reply] if not isinstance(reply, list) else reply for reply in replies])
    agent = Agent("watched", instructions="be kind", model=model, **options)
    return Runner.run_sync(agent, said, run_config=QUIET), model


def with_tool(said, where, *, before=(), after=()):
    tool = function_tool(look, tool_input_guardrails=list(before), tool_output_guardrails=list(after))
    return run(said, function_call("look", {"where": where}, call_id="1"), assistant_message("done"), tools=[tool])


def returned(model):
    """What the model was given as the tool's result."""
    return next(item["output"] for item in model.calls[1].input if item.get("type") == "function_call_output")


def test_input_that_is_allowed_goes_on(gateway, words):
    before = len(words.decisions)
    result, model = run("fine", assistant_message("hello"), input_guardrails=[input_guardrail(gateway)])
    assert (result.final_output, len(model.calls)) == ("hello", 1)
    (decision,) = words.decisions[before:]
    assert (decision["stage"], decision["messages"]) == ("input", 2), "with the instructions"


@pytest.mark.parametrize(("said", "action"), [("bomb", "block"), ("quux", "escalate"), ("<failed>", "error")])
def test_input_that_is_stopped_never_reaches_the_model(gateway, said, action):
    model = ScriptedModel([[assistant_message("never")]])
    agent = Agent("watched", model=model, input_guardrails=[input_guardrail(gateway)])
    with pytest.raises(InputGuardrailTripwireTriggered) as caught:
        Runner.run_sync(agent, said, run_config=QUIET)
    told = caught.value.guardrail_result.output.output_info
    assert (told["action"], told["text"], model.calls) == (action, REFUSAL, ())
    assert RATIONALE not in str(told)


def test_pictures_and_items_that_no_chat_has_are_stopped(gateway, words):
    for item in ({"role": "user", "content": [PICTURE]}, {"type": "compaction", "encrypted_content": "x"}):
        model = ScriptedModel([[assistant_message("never")]])
        agent = Agent("watched", model=model, input_guardrails=[input_guardrail(gateway)])
        with pytest.raises(InputGuardrailTripwireTriggered) as caught:
            Runner.run_sync(agent, [item], run_config=QUIET)
        assert caught.value.guardrail_result.output.output_info["error"] == "invalid_request"
        assert model.calls == ()


def test_output_is_looked_at(gateway, words):
    result, _ = run("hi", assistant_message("fine"), output_guardrails=[output_guardrail(gateway)])
    assert result.final_output == "fine"
    decision = words.decisions[-1]
    assert (decision["stage"], decision["messages"]) == ("response", 3), "with the instructions and the question"
    with pytest.raises(OutputGuardrailTripwireTriggered) as caught:
        run("hi", assistant_message("a bomb"), output_guardrails=[output_guardrail(gateway)])
    told = caught.value.guardrail_result.output.output_info
    assert (told["action"], told["text"]) == ("block", REFUSAL)


class Place(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(("name", "stopped"), [("harbour", False), ("bomb", True)])
def test_output_of_a_type_is_looked_at_as_json(gateway, name, stopped):
    options = {"output_type": Place, "output_guardrails": [output_guardrail(gateway)]}
    reply = assistant_message(f'{{"name": "{name}"}}')
    if stopped:
        with pytest.raises(OutputGuardrailTripwireTriggered):
            run("hi", reply, **options)
    else:
        assert run("hi", reply, **options)[0].final_output == Place(name="harbour")


def test_a_call_that_is_allowed_is_made(gateway, words):
    result, model = with_tool("hi", "here", before=[tool_guardrail(gateway)])
    assert (result.final_output, MADE, returned(model)) == ("done", ["here"], "seen: here")
    assert words.decisions[-1]["stage"] == "tool_call"


@pytest.mark.parametrize("where", ["bomb", "quux", "<failed>"])
def test_a_call_that_is_stopped_is_answered_with_the_policys_text(gateway, where):
    result, model = with_tool("hi", where, before=[tool_guardrail(gateway)])
    assert (result.final_output, MADE, returned(model)) == ("done", [], REFUSAL)
    assert RATIONALE not in str(model.calls)


def test_a_call_that_is_stopped_may_end_the_run(gateway):
    with pytest.raises(ToolInputGuardrailTripwireTriggered) as caught:
        with_tool("hi", "bomb", before=[tool_guardrail(gateway, on_block="raise_exception")])
    assert (caught.value.output.output_info["action"], MADE) == ("block", [])


def test_a_call_that_a_changed_reply_keeps_is_made(narrowing):
    _, model = with_tool("hi", "bomb", before=[tool_guardrail(narrowing)])
    assert (MADE, returned(model)) == (["bomb"], "seen: bomb")


def test_what_a_tool_returns_is_looked_at_before_the_model_reads_it(gateway, words):
    _, model = with_tool("hi", "bomb", after=[tool_output_guardrail(gateway)])
    assert (MADE, returned(model)) == (["bomb"], REFUSAL)
    decision = words.decisions[-1]
    assert (decision["stage"], decision["messages"]) == ("input", 4)
    with pytest.raises(ToolOutputGuardrailTripwireTriggered):
        with_tool("hi", "bomb", after=[tool_output_guardrail(gateway, on_block="raise_exception")])
    _, model = with_tool("hi", "here", after=[tool_output_guardrail(gateway)])
    assert returned(model) == "seen: here"


def test_without_a_gateway_nothing_goes_on(gone):
    for name, guardrail in (("input_guardrails", input_guardrail), ("output_guardrails", output_guardrail)):
        with pytest.raises((InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered)) as caught:
            run("hi", assistant_message("fine"), **{name: [guardrail(gone)]})
        assert caught.value.guardrail_result.output.output_info["rule"] == "client.unreachable"
    _, model = with_tool("hi", "here", before=[tool_guardrail(gone)])
    assert (MADE, returned(model)) == ([], NO_GATEWAY)
    _, model = with_tool("hi", "here", after=[tool_output_guardrail(gone)])
    assert (MADE, returned(model)) == (["here"], NO_GATEWAY)


def test_items_are_openais_messages():
    call = {"type": "function_call", "call_id": "1", "name": "look", "arguments": '{"where": '}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, PICTURE]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        call,
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "b"}, PICTURE]},
        {"role": "assistant", "content": "c"},
    ]
    asked, called, result, said = messages(items)
    assert [part["type"] for part in asked["content"]] == ["text", "image_url"]
    assert called["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"where": '}
    assert "hm" not in str(called)
    assert [part["type"] for part in result["content"]] == ["text", "image_url"], "a picture is not left out"
    assert said == {"role": "assistant", "content": "c"}
    assert messages("hello") == [{"role": "user", "content": "hello"}]


def test_tools_are_openais():
    function, hosted = (each["function"] for each in offered(Agent("a", tools=[function_tool(look), WebSearchTool()])))
    assert (function["name"], function["description"], function["parameters"]["required"]) == (
        "look",
        "Look somewhere.",
        ["where"],
    )
    assert (hosted["name"], hosted["parameters"]) == ("web_search", {})
