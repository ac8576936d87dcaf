"""Work in processes of its own, for tests that kill them: imports once, then forks for every order.

An order is a line on standard input, a JSON list of [what, arguments...], one process each. On standard output come the
ids of acknowledged decisions, a line each, then what ended the processes.
"""

import asyncio
import json
import os
import resource
import signal
import sys
import traceback

import psycopg  # noqa: F401 - loaded before the first fork

from offmap.gateway.decision import Decision
from offmap.gateway.store import AuditLog, ReviewRules, StoreError, open_store
from offmap.gateway.store.state import probe


def tell(line):
    os.write(1, f"{line}\n".encode())


def decision(name):
    return Decision(name, 1.0, "response", "escalate", "escalate", "enforced", "response.unsafe", "default@1")


async def one_task(log, name, count):
    for number in range(count):
        await log.append(decision(f"{name}-{number}"), {"text": "x" * 200})
        tell(f"{name}-{number}")


async def all_tasks(url, name, tasks, count):
    with AuditLog(open_store(url), "full", ReviewRules(due_in=60.0)) as log:
        await asyncio.gather(*(one_task(log, f"{name}-{task}", count) for task in range(tasks)))


def write(url, name, tasks, count):
    """``count`` decisions by each of ``tasks`` tasks."""
    asyncio.run(all_tasks(url, name, tasks, count))


def write_until_full(url, more):
    """Write until no file may grow any further, be refused three times, then go on with room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_store(url)
    with AuditLog(store, "full") as log:
        log.submit(decision("first")).result()
        tell("first")
        size = os.stat(url.removeprefix("sqlite:///") + "-wal").st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, resource.RLIM_INFINITY))
        refused = number = 0
        while refused < 3:
            number += 1
            try:
                log.submit(decision(f"a{number}"), "x" * 500).result()
                tell(f"a{number}")
            except StoreError:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log.submit(decision("last")).result()
        tell("last")


def probe_when_full(url):
    """Whether a store can be written: as it is, when no file may grow any further, and then with room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_store(url)
    for most in (resource.RLIM_INFINITY, 4096, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            probe(store)
            tell("written")
        except StoreError:
            tell("refused")


def make(url):
    """Open a store."""
    open_store(url).close()


def forked(what, arguments):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    jobs = {each.__name__: each for each in (write, write_until_full, probe_when_full, make)}
    try:
        jobs[what](*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


for order in sys.stdin:
    pids = [forked(what, arguments) for what, *arguments in json.loads(order)]
    tell(json.dumps({"pids": pids}))
    tell(json.dumps({"exits": [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]}))
