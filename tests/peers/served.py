"""A gateway on a port of this machine, started by the tests with the Python of .venv: ``served.py gateway.toml``.

All of it is the gateway's own, but for its monitors, which go by words: "bomb" is harm, "quux" is strange, "<failed>"
makes them fail, and "<slow>" keeps them for two seconds.
"""

import asyncio
import socket
import sys
from dataclasses import dataclass

import uvicorn

from offmap.gateway.app import create_app
from offmap.gateway.config import read_gateway
from offmap.gateway.decision import Finding
from offmap.gateway.keys import Keys
from offmap.gateway.service import Service

RATIONALE = "zebra-rationale"


@dataclass
class Words:
    name: str
    version: str = "words-1"
    stuck: bool = False

    async def ask(self, conversation, timeout=None):
        text = "\n".join(message.text for message in conversation.messages)
        if "<slow>" in text:
            await asyncio.sleep(2)
        if "<failed>" in text:
            return Finding(self.name, self.version, "failed")
        unsafe, unknown = (1e-6 if word in text else 0.5 for word in ("bomb", "quux"))
        fired = (RATIONALE,) if min(unsafe, unknown) < 0.1 else ()
        p_value = min(unsafe, unknown)
        return Finding(self.name, self.version, "scored", p_value, unsafe, unknown, fired, RATIONALE, windows=1)

    async def drain(self, timeout=None):
        return True


def main(path):
    gateway = read_gateway(path)
    monitors = {name: Words(name) for name in gateway.monitors}
    app = create_app(gateway, service=Service(gateway, monitors=monitors, keys=Keys()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"Listening at http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
