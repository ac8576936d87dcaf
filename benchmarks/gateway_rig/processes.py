"""The rig's processes: started, awaited, looked at from outside, and ended. Linux: it reads /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BENCHMARKS = Path(__file__).parents[1]
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


class Seen(NamedTuple):
    """A process at one moment: monotonic seconds, bytes, counts, CPU seconds."""

    at: float
    resident: int
    threads: int
    handles: int
    cpu: float


def free_port() -> int:
    """A port of loopback that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment() -> dict[str, str]:
    """Variables of every process: one thread for arithmetic, no network, the rig's modules to be found."""
    path = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **QUIET, "PYTHONPATH": path}


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, *, ready: str = "/healthz", patience: float = 180.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers at ``port``; it is sent SIGTERM at the end.

    Raises:
        RuntimeError: it ends before it answers, or does not in ``patience`` seconds; the message has its last words.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment())  # noqa: S603 - ours
    try:
        _await(process, port, log, ready, patience)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def module(name: str, *arguments: object) -> list[str]:
    """The command line of a module of the rig."""
    return [sys.executable, "-P", "-m", f"gateway_rig.{name}", *map(str, arguments)]


def look(pid: int) -> Seen:
    """What the kernel says of a process.

    Raises:
        OSError: there is none.
    """
    place = Path(f"/proc/{pid}")
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    resident = int((place / "statm").read_text().split()[1]) * page
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    return Seen(time.monotonic(), resident, int(fields[17]), len(os.listdir(place / "fd")), cpu)


def _await(process: subprocess.Popen[bytes], port: int, log: Path, path: str, patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        if _answers(port, path):
            return
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"what logs to {log.name} does not answer:\n{said}")


def _answers(port: int, path: str) -> bool:
    """Whether anything at all is answered: the peers have no health of their own."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
            return connection.recv(12).startswith(b"HTTP/1.1")
    except OSError:
        return False
