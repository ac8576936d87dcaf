"""`offmap serve` as it is shipped, on a port of this machine: the embedded monitor, real clients, a real signal."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import openai
import pytest

PATIENCE = 90
SAFE = "How do I descale a kettle with vinegar?"


class Gateway:
    """A process in a directory of its own; ``address`` is told by itself."""

    def __init__(self, directory, *options, **environment):
        self.directory, self.log = directory, open(directory / "log.txt", "w")  # noqa: SIM115
        told = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1"} | environment
        command = [sys.executable, "-m", "offmap", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(
            command, cwd=directory, env=told, text=True, stdout=subprocess.PIPE, stderr=self.log
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.match(r"Listening at (\S+)", line):
                self.address = found[1]
                break
        self.wait_until_ready()

    def wait_until_ready(self):
        end = time.monotonic() + PATIENCE
        while not self.ready():
            assert self.process.poll() is None, (self.directory / "log.txt").read_text()
            assert time.monotonic() < end, "the gateway does not get ready"
            time.sleep(0.1)

    def ready(self):
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.address}/readyz", timeout=9):
                return True
        except OSError as error:
            self.unready = str(error)
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    running = Gateway(tmp_path_factory.mktemp("gateway"))
    yield running
    running.stop()


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_policy_is_told_first(gateway):
    assert gateway.said[0].startswith("Policy default@")
    assert any("if it looks like known harm, it is stopped" in line for line in gateway.said)


def test_the_openai_client_reads_moderations(gateway, client):
    answer = client.moderations.create(input=[SAFE, "x " * 5000], model="offmap")
    assert len(answer.results) == 2
    first = answer.results[0]
    assert 0 <= first.category_scores.offmap <= 1
    assert first.flagged == (first.offmap["action"] != "allow")
    assert not first.categories.harassment
    assert answer.id.removeprefix("modr-") == first.offmap["decision"]


def test_the_openai_client_is_told_what_is_wrong(client):
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(openai.BadRequestError, match="images"):
        client.moderations.create(input=[image])
    with pytest.raises(openai.APIStatusError) as caught:
        client.moderations.create(input="x" * (2 << 20))
    assert caught.value.status_code == 413


def test_every_decision_is_in_the_log_of_the_gateway(gateway, client):
    from offmap.gateway.store import find, open_store, verify

    answer = client.moderations.create(input=SAFE)
    store = open_store(f"sqlite:///{gateway.directory}/runs/gateway/gateway.sqlite")
    assert find(store, answer.id.removeprefix("modr-"))
    assert verify(store).broken_at is None
    store.close()


def test_sigterm_drains(tmp_path):
    running = Gateway(tmp_path)
    answers = []

    def ask():
        with openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0) as client:
            answers.append(client.moderations.create(input=[SAFE] * 40))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert not running.ready()
    if asking.is_alive():
        assert "503" in running.unready, "it says so for as long as something is under way"
    assert running.process.wait(30) == 0, (tmp_path / "log.txt").read_text()
    running.stop()
    asking.join()
    assert len(answers[0].results) == 40, "what was under way was answered"
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--config", "none.toml"], "none.toml"),
        (["--host", "0.0.0.0"], "API keys"),  # noqa: S104
        (["--port", "99999"], "--port"),
    ],
)
def test_what_cannot_be_served_ends_with_2(tmp_path, options, told):
    command = [sys.executable, "-m", "offmap", "serve", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_a_port_that_is_taken_ends_with_2(gateway, capsys):
    from offmap.cli import run

    assert run(["serve", "--port", gateway.address.rpartition(":")[2]]) == 2
    assert "cannot listen" in capsys.readouterr().err
    assert run(["serve", "--check"]) == 0
