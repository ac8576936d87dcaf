"""Gateways in processes of their own that start in no time and may be killed: imports once, then forks for every order.

An order is a line on standard input, a JSON object: ``url`` of a store, ``upstream``, and for the rest see ``serve``.
On standard output come the process's id and its port, then how it ended. The application and its store are the real
ones; the monitor knows a word.
"""

import json
import os
import signal
import socket
import sys
import traceback

import psycopg  # noqa: F401 - loaded before the first fork
import uvicorn
from live import Scorer, gateway_of, running

from offmap.gateway import security
from offmap.gateway.app import create_app
from offmap.gateway.config import Upstream
from offmap.gateway.keys import Keys
from offmap.gateway.service import Service


def tell(**fields):
    os.write(1, f"{json.dumps(fields)}\n".encode())


def serve(listener, url, upstream, body_seconds=30.0, **options):
    """``body_seconds``: how long a body may take; further options are those of ``gateway_of``."""
    security.BODY_SECONDS = body_seconds
    gateway = gateway_of(url, upstream=Upstream(upstream, "", 10.0), **options)
    service = Service(gateway, monitors={"fake": running("fake", Scorer(), gateway)}, keys=Keys())
    app = create_app(gateway, service=service)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once it has drained
    uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical")).run(sockets=[listener])


def forked(listener, options):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        serve(listener, **options)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


for order in sys.stdin:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as waiting:
        waiting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tell(pid=forked(waiting, json.loads(order)), port=waiting.getsockname()[1])
    tell(exit=os.waitstatus_to_exitcode(os.wait()[1]))
