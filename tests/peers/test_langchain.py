"""The middleware in agents of LangChain, on a fake chat model."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel
from servers import RATIONALE, REFUSAL

from offmap.clients.answers import REFUSAL as NO_GATEWAY
from offmap.clients.langchain import GatewayMiddleware, messages, offered

MADE, GIVEN = [], []
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


class Model(GenericFakeChatModel):
    """Says what it is told to, in order, and keeps what it was given."""

    def bind_tools(self, tools, **options):
        return self

    def _generate(self, rows, *args, **options):
        GIVEN.append(rows)
        return super()._generate(rows, *args, **options)


def look(where: str) -> str:
    """Look somewhere."""
    MADE.append(where)
    return f"seen: {where}"


def change(where: str) -> str:
    """Change something."""
    MADE.append(f"changed {where}")
    return "changed"


@pytest.fixture(autouse=True)
def nothing_made():
    MADE.clear()
    GIVEN.clear()


def calling(where, name="look", content=""):
    return AIMessage(content, tool_calls=[{"name": name, "args": {"where": where}, "id": f"{name}-1"}])


def agent(gateway, *replies, stages=("input", "response", "tool_call"), **options):
    model = Model(messages=iter([AIMessage(reply) if isinstance(reply, str) else reply for reply in replies]))
    middleware = [GatewayMiddleware(gateway, stages)]
    return create_agent(model, [look, change], system_prompt="be kind", middleware=middleware, **options)


@pytest.fixture(params=["invoke", "ainvoke"])
def ask(request):
    """Runs an agent, by either of its ways."""

    def run(agent, said, config=None):
        given = {"messages": [said if isinstance(said, HumanMessage) else HumanMessage(said)]}
        if request.param == "invoke":
            return agent.invoke(given, config)
        return asyncio.run(agent.ainvoke(given, config))

    return run


def test_what_is_allowed_goes_on(gateway, words, ask):
    before = len(words.decisions)
    result = ask(agent(gateway, calling("here"), "done"), "fine")
    assert [row.text for row in result["messages"]] == ["fine", "", "seen: here", "done"]
    assert MADE == ["here"]
    found = [(each["stage"], each["messages"]) for each in words.decisions[before:]]
    assert found == [("input", 2), ("response", 3), ("tool_call", 2), ("input", 4), ("response", 5)]


@pytest.mark.parametrize(("said", "action"), [("bomb", "block"), ("quux", "escalate"), ("<failed>", "error")])
def test_input_that_is_stopped_never_reaches_the_model(gateway, ask, said, action):
    result = ask(agent(gateway, "never"), said)
    last = result["messages"][-1]
    assert (last.type, last.text, GIVEN) == ("ai", REFUSAL, [])
    assert last.response_metadata["offmap"]["action"] == action
    assert RATIONALE not in str(result)


def test_a_picture_is_stopped(gateway, ask):
    result = ask(agent(gateway, "never"), HumanMessage([{"type": "text", "text": "fine"}, PICTURE]))
    assert (result["messages"][-1].response_metadata["offmap"]["error"], GIVEN) == ("invalid_request", [])


@pytest.mark.parametrize("reply", ["a bomb", "quux", "<failed>", calling("bomb")])
def test_a_reply_that_is_stopped_is_replaced_and_calls_nothing(gateway, ask, reply):
    result = ask(agent(gateway, reply, "never"), "fine")
    assert [row.text for row in result["messages"]] == ["fine", REFUSAL]
    assert (result["messages"][-1].tool_calls, MADE, len(GIVEN)) == ([], [], 1)


@pytest.mark.parametrize("where", ["bomb", "quux", "<failed>"])
def test_a_tool_call_that_is_stopped_is_answered_with_the_policys_text(gateway, ask, where):
    result = ask(agent(gateway, calling(where), "done", stages=["tool_call"]), "fine")
    answer = next(row for row in result["messages"] if isinstance(row, ToolMessage))
    assert (answer.text, answer.status, answer.tool_call_id, MADE) == (REFUSAL, "error", "look-1", [])
    assert GIVEN[1][-1].text == REFUSAL
    assert RATIONALE not in str(GIVEN)


def test_what_a_tool_returns_is_looked_at_before_the_model_reads_it(gateway, ask):
    result = ask(agent(gateway, calling("bomb"), "never", stages=["input"]), "fine")
    assert [row.text for row in result["messages"]] == ["fine", "", "seen: bomb", REFUSAL]
    assert len(GIVEN) == 1


def test_only_the_calls_that_the_policy_leaves_are_made(narrowing, ask):
    both = AIMessage("bomb", tool_calls=[*calling("here").tool_calls, *calling("there", "change").tool_calls])
    result = ask(agent(narrowing, both, "done", stages=["response"]), "fine")
    assert MADE == ["here"]
    assert [call["name"] for call in result["messages"][1].tool_calls] == ["look"]
    MADE.clear()
    both = AIMessage("", tool_calls=[*calling("bomb").tool_calls, *calling("bomb", "change").tool_calls])
    ask(agent(narrowing, both, "done", stages=["tool_call"]), "fine")
    assert MADE == ["bomb"]


def test_a_call_is_left_by_its_name_and_arguments_not_by_its_id_alone(narrowing, ask):
    """Ids are the model's: a call that changes something may have the id of one that merely looks."""
    same = [{**call, "id": "c1"} for call in (*calling("a").tool_calls, *calling("a", "change").tool_calls)]
    both = AIMessage("bomb", tool_calls=same)
    result = ask(agent(narrowing, both, "done", stages=["response"]), "fine")
    assert (MADE, [call["name"] for call in result["messages"][1].tool_calls]) == (["a"], ["look"])


@pytest.fixture(params=["wrap_model_call", "awrap_model_call"])
def around(request):
    """Runs a middleware around a call of the model that gives these messages."""

    def run(gateway, *given):
        middleware, response = GatewayMiddleware(gateway, ["response"]), ModelResponse(result=list(given))
        asked = ModelRequest(model=Model(messages=iter(())), messages=[HumanMessage("fine")], tools=[])

        async def handler(_):
            return response

        if request.param == "wrap_model_call":
            return middleware.wrap_model_call(asked, lambda _: response)
        return asyncio.run(middleware.awrap_model_call(asked, handler))

    return run


def test_every_message_of_a_result_is_looked_at(gateway, words, around):
    said = [calling("here"), ToolMessage("noted", tool_call_id="look-1"), AIMessage("done")]
    before = len(words.decisions)
    assert around(gateway, *said).result == said
    assert [each["messages"] for each in words.decisions[before:]] == [4]
    for bad in (AIMessage("bomb"), ToolMessage("bomb", tool_call_id="look-1")):
        assert around(gateway, *said, bad).text == REFUSAL
    stopped = around(gateway, AIMessage("bomb"), AIMessage("fine"))
    assert (stopped.text, stopped.tool_calls) == (REFUSAL, [])


def test_several_messages_are_never_changed_in_part(narrowing, around):
    """The policy reads the calls of the last message only: one before it may hold any."""
    said = [AIMessage("bomb", tool_calls=calling("a", "change").tool_calls), ToolMessage("x", tool_call_id="change-1")]
    for last in ([], [AIMessage("fine")]):
        stopped = around(narrowing, *said, *last)
        assert (stopped.text, stopped.tool_calls, stopped.response_metadata["offmap"]["action"]) == (
            NO_GATEWAY,
            [],
            "modify",
        )


@pytest.mark.parametrize("given", [[], [ToolMessage("x", tool_call_id="c")]])
def test_a_result_without_a_reply_is_an_error(gateway, around, given):
    with pytest.raises(ValueError, match="no AIMessage"):
        around(gateway, *given)


def test_without_a_gateway_nothing_goes_on(gone, ask):
    result = ask(agent(gone, "never"), "fine")
    assert (result["messages"][-1].text, GIVEN) == (NO_GATEWAY, [])
    result = ask(agent(gone, "a reply", stages=["response"]), "fine")
    assert result["messages"][-1].text == NO_GATEWAY
    result = ask(agent(gone, calling("here"), "done", stages=["tool_call"]), "fine")
    assert (result["messages"][-2].text, MADE) == (NO_GATEWAY, [])


class Place(BaseModel):
    """A place."""

    name: str


@pytest.mark.parametrize(("name", "stopped"), [("harbour", False), ("bomb", True)])
def test_structured_output_is_looked_at(gateway, ask, name, stopped):
    reply = AIMessage("", tool_calls=[{"name": "Place", "args": {"name": name}, "id": "p"}])
    result = ask(agent(gateway, reply, response_format=ToolStrategy(Place)), "fine")
    assert result.get("structured_response") == (None if stopped else Place(name="harbour"))
    assert (REFUSAL in [row.text for row in result["messages"]]) == stopped


def test_the_thread_is_the_conversation(gateway, words, ask):
    talking = agent(gateway, "one", "two", checkpointer=InMemorySaver(), stages=["input"])
    for said in ("a", "b"):
        ask(talking, said, {"configurable": {"thread_id": "t-1"}})
    assert [each["conversation"] for each in words.decisions[-2:]] == ["t-1", "t-1"]
    assert words.decisions[-1]["messages"] == 4


def test_messages_are_openais():
    broken = {"name": "look", "args": '{"where": ', "id": "2", "error": "no JSON", "type": "invalid_tool_call"}
    said = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "c"}]
    rows = [
        SystemMessage("s"),
        HumanMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        AIMessage(said, tool_calls=calling("ü").tool_calls, invalid_tool_calls=[broken]),
        ToolMessage("d", tool_call_id="look-1", name="look"),
        HumanMessage([{"type": "text", "text": "e"}, PICTURE]),
        HumanMessage([{"type": "image"}]),
    ]
    system, asked, called, result, picture, unreadable = messages(rows)
    assert (system, asked) == ({"role": "system", "content": "s"}, {"role": "user", "content": "a\nb"})
    assert called["content"] == [{"type": "text", "text": "c"}]
    assert [(call["id"], call["function"]["arguments"]) for call in called["tool_calls"]] == [
        ("look-1", '{"where": "ü"}'),
        ("2", '{"where": '),
    ]
    assert (result["role"], result["content"], result["tool_call_id"]) == ("tool", "d", "look-1")
    assert picture["content"] == [{"type": "text", "text": "e"}, PICTURE]
    assert unreadable["content"] == [{"type": "unreadable"}]


def test_tools_of_a_provider_are_named():
    assert offered([{"google_search": {}}, {"type": "web_search"}]) == [
        {"type": "google_search"},
        {"type": "web_search"},
    ]
