"""Faults: of a monitor, a judge, an upstream and a data base. Each lasts for a ``with`` block on a ``Bench``."""

import contextlib
import itertools
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from offmap.gateway.decision import Decision
from offmap.gateway.store import StoreError
from offmap.monitor import Verdict

from . import behind


def raises(verdicts):
    raise RuntimeError("broken")


def dies(verdicts):
    raise SystemExit(1)


class Hangs:
    """Does not come back before ``over``."""

    def __init__(self):
        self.over = False

    def __call__(self, verdicts):
        end = time.monotonic() + 20
        while not self.over and time.monotonic() < end:
            time.sleep(0.01)
        return verdicts


def odd(*p_values):
    return lambda verdicts: [Verdict("c", False, *p_values, 0.01, (), ()) for _ in verdicts]


NAN = float("nan")
OUTAGES = {
    "monitor raises": raises,
    "monitor exits its thread": dies,
    "monitor answers too few": lambda verdicts: verdicts[1:],
    "monitor answers no verdict": lambda verdicts: [None] * len(verdicts),
}
UNSCORED = {
    "monitor says NaN": odd(NAN, NAN, NAN),
    "monitor says p = 1.5": odd(1.5, 1.5, 0.5),
    "monitor says p = -1": odd(0.5, -1.0, 0.5),
    "monitor says nothing": odd(None, None, None),
}


@contextlib.contextmanager
def in_monitor(bench, fault):
    bench.live.scorer.fault = fault
    try:
        yield
    finally:
        bench.live.scorer.fault = None


@contextlib.contextmanager
def hanging(bench):
    fault = Hangs()
    with in_monitor(bench, fault):
        yield
        fault.over = True


def in_server(name, fault):
    """What an upstream or a judge does in place of answering."""

    @contextlib.contextmanager
    def injected(bench):
        server = getattr(bench, name)
        server.fault = fault
        server.released.clear()
        try:
            yield
        finally:
            server.fault = None
            server.released.set()

    return injected


@contextlib.contextmanager
def no_file(bench):
    """The files of the data base are taken away, and brought back in the end."""
    path = Path(bench.url.removeprefix("sqlite:///"))
    aside = path.parent / "aside"
    aside.mkdir()
    names = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    for each in names:
        each.rename(aside / each.name)
    yield
    for each in names:
        (aside / each.name).rename(each)
    aside.rmdir()


@contextlib.contextmanager
def locked(bench):
    with contextlib.closing(sqlite3.connect(bench.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def full(bench):
    """No byte is left where the data base lies; or, where nothing could be mounted, in the data base itself."""
    path = Path(bench.url.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    if path.parent.is_mount():
        filler = path.parent / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        yield
        filler.unlink()
        return

    def limit(connection, *_):
        connection.execute(f"PRAGMA max_page_count = {pages}").close()

    def lift(connection, *_):
        connection.execute("PRAGMA max_page_count = 1000000").close()

    engine = bench.live.service.store.engine
    sa.event.listen(engine, "checkout", limit)
    with contextlib.suppress(StoreError):
        for number in itertools.count():  # the last page may have room for some more
            name = f"filler-{bench.policy}-{number}"
            small = Decision(name, 0.0, "response", "block", "block", "enforced", "response.unsafe", "p")
            bench.live.service.log.submit(small).result()
    yield
    sa.event.remove(engine, "checkout", limit)
    sa.event.listen(engine, "checkout", lift)


@contextlib.contextmanager
def stopped_server(bench):
    bench.server.stop("immediate")
    try:
        yield
    finally:
        bench.server.start()


@contextlib.contextmanager
def cut_connections(bench):
    """Every connection to the data base is ended again and again while it lasts."""
    options = {"connect_args": {"application_name": "cutter"}, "isolation_level": "AUTOCOMMIT"}
    engine = sa.create_engine(bench.url.replace("postgresql:", "postgresql+psycopg:"), **options)
    told = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                   "AND pid <> pg_backend_pid()")  # fmt: skip
    with engine.connect() as connection, ThreadPoolExecutor(1) as pool:
        over = []

        def cutting():
            while not over:
                connection.execute(told)
                time.sleep(0.02)

        cutter = pool.submit(cutting)
        yield
        over.append(1)
        cutter.result()
    engine.dispose()


@contextlib.contextmanager
def held_head(bench):
    with sa.create_engine(bench.url.replace("postgresql:", "postgresql+psycopg:")).connect() as other:
        other.execute(sa.text("SELECT * FROM audit_head FOR UPDATE"))
        yield
    other.engine.dispose()


MONITOR = {
    **{name: lambda bench, fault=fault: in_monitor(bench, fault) for name, fault in (OUTAGES | UNSCORED).items()},
    "monitor hangs": hanging,
}
JUDGE = {
    f"judge {what}": in_server("judge", fault)
    for what, fault in {
        "times out": behind.says_nothing,
        "hangs in its answer": behind.hangs,
        "answers 401": behind.unauthorized,
        "answers 500": behind.server_error,
        "answers no completion": behind.no_completion,
        "mumbles": behind.mumbles,
        "resets": behind.resets,
    }.items()
}
UPSTREAM = {
    f"upstream {what}": in_server("upstream", fault)
    for what, fault in {
        "resets mid-answer": behind.resets,
        "ends early": behind.ends_early,
        "hangs mid-answer": behind.hangs,
        "says nothing": behind.says_nothing,
        "sends garbage": behind.garbage,
        "sends an error": behind.error_event,
        "answers 500": behind.server_error,
        "answers without end": behind.huge,
    }.items()
}
SQLITE = {"data base gone": no_file, "data base locked": locked, "disk full": full}
POSTGRES = {"server stopped": stopped_server, "connections cut": cut_connections, "head locked": held_head}
FLICKERS = {"connections cut"}
"""Faults under which some requests are served as if nothing were wrong."""
