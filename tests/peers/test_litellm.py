"""A real LiteLLM proxy on loopback, its models mocked, with gateways as its guardrails."""

import secrets
import subprocess

import openai
import pytest
from servers import QUIET, REFUSAL, ROOT, Served, answers, closed_port, policy, wait_until

SAFE = "How do I descale a kettle with vinegar?"
REPLY = "Soak it in vinegar for an hour. Then rinse."
HARM = "First, take the bomb. Then run."
MODEL = """
  - model_name: {name}
    litellm_params: {{model: openai/{name}, api_key: none, mock_response: "{reply}"}}"""
GUARDRAIL = """
  - guardrail_name: {name}
    litellm_params:
      guardrail: generic_guardrail_api
      mode: [pre_call, post_call]
      api_base: {address}
      unreachable_fallback: {fallback}
      streaming_transform_mode: incremental_diff"""


class Proxy:
    """The process; which guardrail is asked is said with each request."""

    def __init__(self, directory, guardrails):
        models = "".join(MODEL.format(name=name, reply=reply) for name, reply in (("kettle", REPLY), ("harm", HARM)))
        parts = "".join(
            GUARDRAIL.format(name=name, address=address, fallback=fallback)
            for name, (address, fallback) in guardrails.items()
        )
        (directory / "proxy.yaml").write_text(f"model_list:{models}\nguardrails:{parts}\n")
        self.key, port = f"sk-{secrets.token_hex(32)}", closed_port()
        self.address = f"http://127.0.0.1:{port}"
        command = [ROOT / ".venv" / "litellm" / "bin" / "litellm", "--config", "proxy.yaml", "--host", "127.0.0.1"]
        told = {"LITELLM_MASTER_KEY": self.key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        log = directory / "proxy.txt"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--port", str(port)], cwd=directory, env=QUIET | told, stdout=out, stderr=out
            )
        wait_until(lambda: answers(f"{self.address}/health/liveliness"), self.process, log)

    def ask(self, guardrail, said=SAFE, *, model="kettle", stream=False):
        messages, more = [{"role": "user", "content": said}], {"guardrails": [guardrail]}
        with openai.OpenAI(base_url=f"{self.address}/v1", api_key=self.key, max_retries=0) as client:
            answer = client.chat.completions.create(model=model, messages=messages, stream=stream, extra_body=more)
            if not stream:
                return answer.choices[0].message.content
            self.out = []
            self.out += (chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
            return "".join(self.out)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """`offmap serve` as it is shipped, its embedded monitor in shadow mode."""
    shadow = policy(cascade="['words']", mode="'shadow'").replace("'words'", "'pocket'").replace(".words]", ".pocket]")
    shadow = shadow.replace("[stages.input]\n", "[stages.input]\nmode = 'shadow'\n")
    command = ["-m", "offmap", "serve", "--port", "0", "--config", "gateway.toml"]
    running = Served(tmp_path_factory.mktemp("embedded"), shadow, command)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, words, embedded, nobody):
    guardrails = {
        "embedded": (embedded.address, "fail_closed"),
        "words": (words.address, "fail_closed"),
        "gone": (nobody, "fail_closed"),
        "gone-open": (nobody, "fail_open"),
    }
    running = Proxy(tmp_path_factory.mktemp("proxy"), guardrails)
    yield running
    running.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_real_proxy_asks_the_gateway_as_it_is_shipped(proxy, embedded, stream):
    before = len(embedded.decisions)
    assert proxy.ask("embedded", stream=stream) == REPLY
    found = embedded.decisions[before:]
    assert {each["stage"] for each in found} == {"input", "response", "conversation"}, "it sends the id of a trace"
    assert {each["action"] for each in found} == {"allow"}
    reply = next(each for each in found if each["stage"] == "response")
    assert reply["messages"] == 2, "with what it answers"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", ["a bomb", "quux", "<failed>"])
def test_a_request_that_is_stopped_never_reaches_the_model(proxy, words, said, stream):
    with pytest.raises(openai.APIStatusError, match=REFUSAL):
        proxy.ask("words", said, stream=stream)
    assert words.decisions[-1]["stage"] == "input"


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_is_stopped_does_not_come_out(proxy, words, stream):
    assert proxy.ask("words", stream=stream) == REPLY
    with pytest.raises(openai.APIError, match=REFUSAL):
        proxy.ask("words", model="harm", stream=stream)
    assert not stream or "bomb" not in "".join(proxy.out), "nor what came before it"
    last = {each["stage"]: each["action"] for each in words.decisions[-2:]}
    assert last == {"response": "block", "conversation": "block"}


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_gateway_nothing_goes_on_unless_it_is_said(proxy, stream):
    with pytest.raises(openai.APIStatusError):
        proxy.ask("gone", stream=stream)
    assert proxy.ask("gone-open", stream=stream) == REPLY
