"""``offmap serve``: the gateway as a server of its own."""

from __future__ import annotations

import errno
import gc
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from offmap.cli.checks import printable, require_packages
from offmap.cli.stores import DEFAULT_URL, errors_told, make_place, require_store, require_url
from offmap.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from litestar import Litestar

    from offmap.gateway.config import Gateway
    from offmap.gateway.keys import Keys
    from offmap.gateway.service import Service

_HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")  # noqa: S104 - compared, not listened at


def serve(
    *,
    config: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    host: str | None = None,
    port: int | None = None,
    check: bool = False,
) -> None:
    """Serve the gateway: monitors in front of traffic, by a policy. It is told in words first, and runs until SIGTERM.

    Without a configuration the monitor that the package brings looks at everything, on this machine only, and decisions
    are kept in runs/gateway. With SIGTERM it takes nothing new, lets answers of the upstream that are under way end
    within [server] drain_s, tells the others that they are not whole, lets decisions end within their deadline_ms, and
    ends with 0.

    Parameters
    ----------
    config
        A gateway.toml.
    host
        Address to listen at, in place of the configuration's. Beyond this machine it wants API keys.
    port
        Port to listen at, in place of the configuration's; 0 for any that is free.
    check
        Only read the configuration, the keys and the environment, and tell what they mean.
    """
    require_store()
    require_packages("gateway", ("aiohttp", "litestar", "opentelemetry", "prometheus_client", "uvicorn"))
    from offmap.gateway.explain import explain
    from offmap.gateway.explain_serving import explain_serving
    from offmap.gateway.opening import require_files

    gateway = _gateway(config, host, port)
    with _named(config):
        if check:
            _family(gateway.server.host, gateway.server.port)
        keys = _keys(gateway)
        sys.stdout.write("\n".join(explain(gateway)) + "\n")
        kept = require_url(gateway.store.url)
        require_files(gateway)
        said = f"Decisions are kept {kept}.", *explain_serving(gateway, keys)
        sys.stdout.write(printable("\n".join(said)) + "\n")
        sys.stdout.flush()
        if check:
            sys.stdout.write("Only read: neither a monitor nor the data base was opened.\n")
        else:
            _serve(gateway)


def _gateway(config: Path | None, host: str | None, port: int | None) -> Gateway:
    """The configuration, with what the command line says in its place."""
    import msgspec

    from offmap.gateway.config import Store, default_gateway, read_gateway

    gateway = read_gateway(config) if config else default_gateway()
    if config is None:
        gateway = msgspec.structs.replace(gateway, store=Store(DEFAULT_URL))
    if port is not None and not 0 <= port <= 65535:
        raise InputError(f"--port is {port}; wanted a number between 0 and 65535")
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return msgspec.structs.replace(gateway, server=msgspec.structs.replace(gateway.server, **given))


def _keys(gateway: Gateway) -> Keys:
    from offmap.gateway.keys import load_keys, require_closed
    from offmap.gateway.pages.session import Sessions

    server = gateway.server
    _require_another(gateway, server.host, server.port)
    keys = load_keys(Path(server.keys) if server.keys else None)
    require_closed(server.host, keys)
    Sessions.from_environment(keys)  # its secret
    return keys


def _require_another(gateway: Gateway, host: str, port: int) -> None:
    """Refuse an upstream that is the gateway itself, which would ask itself for ever."""
    here = {host, "localhost", "127.0.0.1", "::1"} if host in _HERE else {host}
    try:
        url = urlsplit(gateway.upstream.base_url if gateway.upstream else "")
        itself = url.hostname in here and url.port == port
    except ValueError:
        return  # no address at all, which is told elsewhere
    if itself:
        raise InputError(f"upstream.base_url: found the gateway's own address {host}:{port}, wanted that of a model")


@contextmanager
def _named(config: Path | None) -> Iterator[None]:
    """Wrong input that was found later with the name of the file that asks for it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{config}: {error}" if config else str(error)) from None


def _serve(gateway: Gateway) -> None:
    from offmap.gateway.app import create_app
    from offmap.gateway.service import Service

    make_place(gateway.store.url)
    with _listening(gateway.server.host, gateway.server.port) as listener:
        with errors_told():
            service = Service(gateway)
            app = create_app(gateway, service=service)
        if service.live.now.told:  # what people promoted after the file was written
            sys.stdout.write("\n".join((*service.live.now.told, f"Policy in force: {service.engine.policy}.")) + "\n")
            sys.stdout.flush()
        _run(app, service, listener)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that has that address; nobody can connect before the service is open and listens.

    Raises:
        InputError: it is taken, or none of this machine.
    """
    listener, family = None, _family(host, port)
    try:
        # With a protocol named, asyncio sets TCP_NODELAY; without it each answer waits for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener:
            listener.close()
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror}") from None
    return listener


def _family(host: str, port: int) -> socket.AddressFamily:
    """Of the address that a host's name stands for.

    Raises:
        InputError: for none.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or "no name of a host"
        raise InputError(f"server.host: cannot listen at {host!r}: {told}, wanted an address of this machine") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _run(app: Litestar, service: Service, listener: socket.socket) -> None:
    import uvicorn

    from offmap.gateway.joined import JoinedWrites

    address = _address(listener)  # where it cannot listen the listener is closed by then

    class Draining(uvicorn.Server):
        """Nothing new from the very moment of the signal; it listens, and says so, until what has begun has ended."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                sys.stdout.write(f"Listening at {address}\n")
                sys.stdout.flush()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.draining = True
            super().handle_exit(sig, frame)

        async def main_loop(self) -> None:
            await super().main_loop()
            await service.finish(lambda: self.force_exit)

    longest = int(service.gateway.limits.deadline_ms / 1000) + 5
    config = uvicorn.Config(
        app,
        http=JoinedWrites,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=longest,
    )
    server = Draining(config)
    # uvicorn raises the signal again once it has drained: that ended as it should.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run(sockets=[listener])
        gc.freeze()  # the process ends: to walk the models once more before that takes longer than draining
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise InputError(f"cannot listen at {address}: another process was first") from None
