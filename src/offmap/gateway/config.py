"""``gateway.toml`` as plain data: what runs, where, and what is done with what it finds. Read strictly.

[monitors.pocket]
bundle = "pocket"

[stages.response]
cascade = ["pocket"]
tier = "balanced"

What the values mean is the business of ``policy``; no monitor is opened here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from offmap.errors import InputError
from offmap.gateway.decision import STAGES, Fallback, Stage
from offmap.gateway.strict import Table as _Table
from offmap.gateway.strict import build, read_tables

Tier = Literal["observe", "balanced", "strict"]
Act = Literal["allow", "modify", "escalate", "block"]
_Share = Annotated[float, Meta(ge=0, le=1)]
Band = Annotated[tuple[_Share, _Share], Meta(description="two p-values between 0 and 1: [stop, pass]")]
"""Two p-values: stopped at or below the first, passed above the second, and between them the next monitor is asked; the
last monitor's go to a person."""
Count = Annotated[int, Meta(ge=1, le=10**9)]
Milliseconds = Annotated[float, Meta(ge=1)]
LEAST_WINDOW = 16
"""Tokens. A window says who speaks too: in fewer there is room for hardly a word."""
DEFAULT_REFUSAL = "This was stopped by a safety policy."


class Server(_Table, frozen=True):
    """Where the service listens, and what it takes in.

    ``keys``: a file of API keys, see ``keys.load_keys``. ``queue``: decisions under way at once, and requests to the
    chat proxy beyond the connections to its upstream. ``drain_s``: how long answers of the chat proxy that are under
    way may go on after SIGTERM; a decision that another face asked for ends by its own deadline.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8400
    max_body_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 20
    max_depth: Annotated[int, Meta(ge=1, le=128)] = 32
    queue: Count = 256
    keys: str = ""
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 20

    @property
    def looks_ahead(self) -> int:
        """How often monitors may be asked at once about what may never be decided about; beyond the ``queue``."""
        return self.queue // 2


class Upstream(_Table, frozen=True):
    """The model that the chat proxy stands in front of.

    Attributes:
        base_url: of an OpenAI-compatible endpoint, up to and with "/v1".
        api_key_env: the environment variable that holds its key; "" for none.
        timeout_s: how long it may be silent.
        connections: to it at once, at most; who finds none free waits.
        unseen: fields of a request that are passed on though they may carry text to the model and nobody looks at them.
    """

    base_url: str
    api_key_env: str = ""
    timeout_s: Annotated[float, Meta(gt=0)] = 60
    connections: Count = 100
    unseen: tuple[str, ...] = ()


class StreamTable(_Table, frozen=True):
    """How the text of a streamed answer is held back until it was looked at; ``streaming.Segments``.

    Attributes:
        segment_chars: characters before the first look. Fewer leave sooner and cost more looks.
        segment_growth: how many times as much text as at the last look there is at the next one.
        on_stop: how an answer that is stopped ends: "error", a refusal, the finish reason "content_filter" and an error
            frame, which clients raise; "refusal", the same without the frame, as OpenAI's own.
    """

    segment_chars: Annotated[int, Meta(ge=1, le=1 << 20)] = 240
    segment_growth: Annotated[float, Meta(ge=1.1, le=16)] = 1.5
    on_stop: Literal["refusal", "error"] = "error"


class JudgeMonitor(_Table, frozen=True):
    """A judge of a file of judges, with its scores on safe conversations, from which its p-values come.

    Attributes:
        file: as ``offmap.judges.config`` reads it.
        name: which of its judges.
        safe_scores: a file written by ``opening.write_safe_scores``.
    """

    file: str
    name: str
    safe_scores: str


class MonitorTable(_Table, frozen=True):
    """One monitor: a bundle ("pocket", or a directory) or a judge.

    ``window_tokens`` caps the windows that long conversations are read in, at ``LEAST_WINDOW`` or more; 0: as much as
    the model reads at once.
    """

    bundle: str = ""
    judge: JudgeMonitor | None = None
    timeout_ms: Milliseconds = 3000
    window_tokens: Annotated[int, Meta(ge=0)] = 0


class Step(_Table, frozen=True):
    """A monitor of a cascade, and its bands for each question; None: what the tier says."""

    monitor: str
    unsafe: Band | None = None
    unknown: Band | None = None


class Actions(_Table, frozen=True):
    """What is done with what was found. ``uncertain``: the last monitor's p-value lay within its band."""

    unsafe: Act = "block"
    unknown: Act = "escalate"
    uncertain: Act = "escalate"
    unscored: Act = "block"


class StageTable(_Table, frozen=True):
    """One stage.

    Attributes:
        cascade: monitors in the order in which they are asked, cheapest first.
        tier: what false-positive rate the whole cascade may have; ``policy.TIERS``.
        mode: whether the policy is enforced, or only recorded.
        percent: the share of conversations that it is enforced for; for the others it is recorded.
        actions: what is done with what was found.
        on_error: what is done where a monitor fails, is too slow, or cannot take more: "block" stops the traffic, and
            the decision is ``error``.
        reason: why traffic may go on where nothing could look at it; wanted in writing for any such "allow".
        fallback: what "modify" does.
        refusal: the text in place of what is stopped.
        read_only_tools: names of the tools that may still be called in that fallback.
    """

    cascade: tuple[str | Step, ...]
    tier: Tier = "balanced"
    mode: Literal["enforce", "shadow"] = "enforce"
    percent: Annotated[float, Meta(ge=0, le=100)] = 100.0
    actions: Actions = Actions()
    on_error: Literal["block", "escalate", "allow"] = "block"
    reason: str = ""
    fallback: Fallback = "refusal"
    refusal: str = DEFAULT_REFUSAL
    read_only_tools: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The cascade, every step as a ``Step``."""
        return tuple(Step(each) if isinstance(each, str) else each for each in self.cascade)


class Limits(_Table, frozen=True):
    """Budgets of time and memory.

    Attributes:
        deadline_ms: from receipt to decision; what is not scored by then is an error.
        max_batch, max_wait_ms: windows that are read in one call (a conversation that is read whole is one), and how
            long the first waits for others; what arrives during a call shares the next one in any case.
        max_windows: windows that a long conversation is read in, over as many calls as it takes; a longer one is
            unscored.
        turns, conversation_bytes, conversations, expiry_s: what is remembered of conversations.
        requests_per_minute: of each API key; 0 for no limit.
    """

    deadline_ms: Milliseconds = 5000
    max_batch: Count = 8
    max_wait_ms: Annotated[float, Meta(ge=0)] = 0
    max_windows: Count = 16
    turns: Count = 64
    conversation_bytes: Count = 1 << 18
    conversations: Count = 10_000
    expiry_s: Annotated[float, Meta(gt=0)] = 3600
    requests_per_minute: Annotated[int, Meta(ge=0)] = 6000


class Audit(_Table, frozen=True):
    """What the log keeps of the content, for how long, and what is done where a decision cannot be written.

    Attributes:
        keep_days: after so many days content and reviewers' notes are purged (``store.retention``); 0: never.
        before: what a chat completion's decision about the request is on record before: the "answer", so that it is
            written while the upstream works, or the "upstream", which then is never asked without a record.
    """

    capture: Literal["none", "hash", "redacted", "full"] = "none"
    keep_days: Annotated[float, Meta(ge=0, le=36_500)] = 0
    on_error: Literal["block", "allow"] = "block"
    reason: str = ""
    timeout_ms: Milliseconds = 2000
    before: Literal["answer", "upstream"] = "answer"


class Drift(_Table, frozen=True):
    """Whether traffic still is what the monitors were calibrated on; ``gateway.drift``.

    Attributes:
        enabled: whether that is watched.
        level: the probability of a false alarm about any one monitor of a stage, over the whole run.
        window: decisions that are looked at together.
        reference: the first decisions, which later ones are compared with where a bundle keeps nothing to compare with.
        run: a name; under another name, which says that what was found is dealt with, everything starts anew.
    """

    enabled: bool = True
    level: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    window: Annotated[int, Meta(ge=50, le=100_000)] = 500
    reference: Annotated[int, Meta(ge=50, le=100_000)] = 1000
    run: str = ""


class Store(_Table, frozen=True):
    """The data base of decisions and reviews."""

    url: str = "sqlite:///offmap-gateway.sqlite"


class Review(_Table, frozen=True):
    """What people look at, and what becomes of an escalation that nobody decides in time.

    Attributes:
        timeout_s, default: after how long it is decided, and how.
        reason: why the default may be "allow".
        sample: the share of all other decisions that people look at too; nothing waits for those.
        seed: of that sample.
        lease_s: how long an item is one reviewer's, unless renewed.
    """

    timeout_s: Annotated[float, Meta(le=1e8)] = 900
    default: Literal["block", "allow"] = "block"
    reason: str = ""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.0
    seed: int = 0
    lease_s: Annotated[float, Meta(ge=10, le=86_400)] = 300


def _default_monitors() -> dict[str, MonitorTable]:
    return {"pocket": MonitorTable(bundle="pocket")}


def _default_stages() -> dict[Stage, StageTable]:
    stages: dict[Stage, StageTable] = {stage: StageTable(("pocket",)) for stage in STAGES}
    return stages | {"input": StageTable(("pocket",), actions=Actions(unknown="allow"))}


class Gateway(_Table, frozen=True):
    """The whole file. ``name`` is the policy's. What is left out is as in ``default_gateway``."""

    name: str = "default"
    monitors: dict[str, MonitorTable] = msgspec.field(default_factory=_default_monitors)
    stages: dict[Stage, StageTable] = msgspec.field(default_factory=_default_stages)
    server: Server = Server()
    upstream: Upstream | None = None
    stream: StreamTable = StreamTable()
    limits: Limits = Limits()
    audit: Audit = Audit()
    store: Store = Store()
    review: Review = Review()
    drift: Drift = Drift()


def default_gateway() -> Gateway:
    """What runs without a file: the embedded monitor at every stage, on loopback, nothing captured, failures stop.

    At the input nothing is done about the unknown: the embedded monitor's p-values of that question are for
    conversations that end with a reply, and safe prompts without one look unknown far more often than they say.
    """
    return Gateway()


def read_gateway(path: str | Path) -> Gateway:
    """The gateway that a TOML file describes. Files it names are found from where it lies.

    Raises:
        InputError: no such file, no TOML (it says at which line and column), a field of the wrong type or an unknown
            one, or a policy that contradicts itself: "gateway.toml: table.field: found X, wanted Y".
    """
    from offmap.gateway.consistency import require_consistent

    path = Path(path)
    gateway = parse_gateway(read_tables(path), str(path))
    require_consistent(gateway, str(path))
    keys = str(path.parent / gateway.server.keys) if gateway.server.keys else ""
    return msgspec.structs.replace(
        gateway,
        monitors={name: _beside(path.parent, table) for name, table in gateway.monitors.items()},
        server=msgspec.structs.replace(gateway.server, keys=keys),
    )


def parse_gateway(tables: dict[str, Any], name: str = "gateway.toml") -> Gateway:
    """Decoded TOML as a ``Gateway``; only types and ranges are checked.

    Raises:
        InputError: see ``read_gateway``.
    """
    try:
        gateway: Gateway = build(tables, Gateway)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return gateway


def _beside(directory: Path, table: MonitorTable) -> MonitorTable:
    bundle = str(directory / table.bundle) if table.bundle and table.bundle != "pocket" else table.bundle
    judge = table.judge and msgspec.structs.replace(
        table.judge, file=str(directory / table.judge.file), safe_scores=str(directory / table.judge.safe_scores)
    )
    return msgspec.structs.replace(table, bundle=bundle, judge=judge)
