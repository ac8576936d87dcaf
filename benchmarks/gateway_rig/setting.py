"""What a run is made of: its numbers, its files, and its servers. Knows nothing of what is measured."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway_rig.load import Target
from gateway_rig.processes import BENCHMARKS, free_port, module, running
from gateway_rig.traffic import Exchange, exchanges, write_exchanges
from offmap.atomic import write_whole
from offmap.gateway.keys import as_toml, new_key

DIRECT, PEER, LITELLM = "direct", "plain proxy", "LiteLLM proxy"
GATEWAY, IN_MEMORY = "gateway", "gateway, store in memory"
SOON = """
expiry_s = 30
[drift]
window = 50
"""
"""The end of a configuration whose last table is its limits: before the second half of a soak of ten minutes, as many
conversations expire as begin, and the watch over drift has all windows that it keeps (the last two dozen)."""
LITELLM_COMMAND = BENCHMARKS.parent / ".venv" / "litellm" / "bin" / "litellm"


@dataclass(frozen=True)
class Plan:
    """What is asked of a run.

    Attributes:
        work: a directory for configurations, stores and logs.
        rate: requests a second.
        seconds: of a round.
        rounds: how often each arm has its turn.
        think: seconds that the upstream takes before it answers.
        pace: seconds between the pieces of a stream.
        rows: different exchanges.
        seed: of rows and arrivals.
        max_wait_ms: of the gateway's batches.
        memory: a directory whose files are in memory, for the store of one arm.
        tries: how often a round is taken until the host leaves the processors alone, at most.
    """

    work: Path
    rate: float = 50.0
    seconds: float = 10.0
    rounds: int = 6
    think: float = 0.02
    pace: float = 0.005
    rows: int = 300
    seed: int = 0
    max_wait_ms: float = 0.0
    memory: Path = Path("/dev/shm")  # noqa: S108
    tries: int = 8


class Setting:
    """A run's exchanges, keys and upstream; servers come and go before it."""

    def __init__(self, plan: Plan, upstream: int, memory: Path) -> None:
        self.plan, self.exchanges = plan, exchanges(plan.rows, plan.seed)
        self.upstream = upstream
        key, record = new_key("rig", "caller")
        write_whole(plan.work / "keys.toml", as_toml(record).encode())
        self._headers = (("authorization", f"Bearer {key}"),)
        self._in_memory = memory

    @property
    def direct(self) -> Target:
        """The upstream itself."""
        return Target(self.upstream)

    def config(self, name: str, *, soon: bool = False) -> Path:
        """A gateway.toml with a store of its own: the embedded monitor at every stage, keys, everything written.

        ``soon``: what is kept for a while is full within minutes; see ``SOON``.
        """
        path = self.plan.work / f"{name}.toml"
        stages = "".join(f'[stages.{stage}]\ncascade = ["pocket"]\n' for stage in ("response", "tool_call"))
        unknown = 'actions = { unknown = "allow" }'
        stages += f'[stages.input]\ncascade = ["pocket"]\n{unknown}\n[stages.conversation]\ncascade = ["pocket"]\n'
        text = f"""
[monitors.pocket]
bundle = "pocket"
{stages}
[server]
keys = "keys.toml"
[upstream]
base_url = "http://127.0.0.1:{self.upstream}/v1"
[store]
url = "sqlite:///{self.store(name)}"
[limits]
requests_per_minute = 0
max_wait_ms = {self.plan.max_wait_ms:g}
"""
        write_whole(path, (text + SOON * soon).encode())
        return path

    def store(self, name: str) -> Path:
        """The data base of the gateway of that name."""
        return (self._in_memory if name.endswith(IN_MEMORY) else self.plan.work) / f"{name}.sqlite"

    @contextmanager
    def served(self, name: str, *options: object, soon: bool = False) -> Iterator[tuple[Target, int]]:
        """``gateway_rig.served`` with these options; where it listens, and its process."""
        port, log = free_port(), self.plan.work / f"{name}.log"
        with running(module("served", self.config(name, soon=soon), port, *options), port, log) as process:
            yield Target(port, self._headers), process.pid

    @contextmanager
    def command(self, name: str) -> Iterator[tuple[Target, int]]:
        """``offmap serve`` itself, with the embedded monitor."""
        port, offmap = free_port(), Path(sys.executable).with_name("offmap")
        command = [str(offmap), "serve", "--config", str(self.config(name)), "--port", str(port)]
        with running(command, port, self.plan.work / f"{name}.log") as process:
            yield Target(port, self._headers), process.pid

    @contextmanager
    def peer(self) -> Iterator[Target]:
        """The plain proxy."""
        port = free_port()
        with running(module("peer", port, f"http://127.0.0.1:{self.upstream}/v1"), port, self.plan.work / "peer.log"):
            yield Target(port)

    @contextmanager
    def litellm(self) -> Iterator[Target]:
        """LiteLLM's proxy without guardrails."""
        port, config, key = free_port(), self.plan.work / "litellm.yaml", f"sk-{secrets.token_hex(32)}"
        text = f"""
general_settings: {{master_key: {key}}}
model_list:
  - model_name: mock
    litellm_params: {{model: openai/mock, api_base: "http://127.0.0.1:{self.upstream}/v1", api_key: none}}
"""
        write_whole(config, text.encode())
        command = [str(LITELLM_COMMAND), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with running(command, port, self.plan.work / "litellm.log"):
            yield Target(port, (("authorization", f"Bearer {key}"),))


@contextmanager
def setting(plan: Plan) -> Iterator[Setting]:
    """A setting with its upstream up."""
    port, rows = free_port(), plan.work / "exchanges.json"
    plan.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=plan.memory) as memory:
        made = Setting(plan, port, Path(memory))
        write_exchanges(rows, made.exchanges)
        with running(module("upstream", port, rows, plan.think, plan.pace), port, plan.work / "upstream.log"):
            yield made


def bodies(rows: Sequence[Exchange], *, stream: bool = False) -> list[bytes]:
    """The body of each request."""
    return [row.request(stream=stream) for row in rows]
