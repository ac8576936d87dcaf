"""Processes that the tests ask: gateways, by the Python of .venv."""

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 120
STAGES = ("input", "response", "tool_call", "conversation")
RATIONALE = "zebra-rationale"
REFUSAL = "The policy of these tests says no."
QUIET = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1", "PYTHONPATH": ""}


def answers(address):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5):
            return True
    except OSError:
        return False


def wait_until(ready, process, log):
    end = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.1)


class Served:
    """A gateway in a directory of its own; ``command`` is run by .venv's Python and tells where it listens."""

    def __init__(self, directory, policy, command):
        (directory / "gateway.toml").write_text(policy)
        self.directory, self.log = directory, directory / "log.txt"
        with self.log.open("w") as log:
            line = [str(ROOT / ".venv" / "bin" / "python"), *command]
            self.process = subprocess.Popen(
                line, cwd=directory, env=QUIET, text=True, stdout=subprocess.PIPE, stderr=log
            )
        found = (re.match(r"Listening at (\S+)", line) for line in self.process.stdout)
        self.address = next((one[1] for one in found if one), None)
        wait_until(lambda: self.address and answers(f"{self.address}/readyz"), self.process, self.log)

    @property
    def decisions(self):
        """What the gateway has in its log, in order."""
        with contextlib.closing(sqlite3.connect(self.directory / "kept.sqlite")) as store:
            return [
                json.loads(row[0])
                for row in store.execute("SELECT record FROM audit WHERE kind = 'decision' ORDER BY seq")
            ]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def policy(**reply):
    """A configuration of every stage; the values of ``reply``, TOML, are for those that look at replies."""
    always = {"cascade": "['words']", "refusal": f"'{REFUSAL}'"}
    tables = {name: always if name == "input" else {**always, **reply} for name in STAGES}
    stages = "".join(
        f"[stages.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    return f"[monitors.words]\nbundle = 'pocket'\n{stages}[store]\nurl = 'sqlite:///kept.sqlite'\n"


def by_words(directory, **reply):
    return Served(directory, policy(**reply), [str(ROOT / "tests" / "peers" / "served.py"), "gateway.toml"])


def closed_port():
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
