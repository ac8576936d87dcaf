"""How a gateway is reached, by whom and how much, in plain sentences without a secret. Knows nothing of its policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from offmap.gateway.config import Gateway
from offmap.gateway.keys import ROLES, Keys
from offmap.gateway.policy import escalates


def explain_serving(gateway: Gateway, keys: Keys) -> list[str]:
    """Where it listens, what it stands in front of, whose keys there are, and what it takes in at most."""
    return [_address(gateway, keys), *_upstream(gateway), *_limits(gateway, keys), *_keys(gateway, keys)]


def _address(gateway: Gateway, keys: Keys) -> str:
    host, port = gateway.server.host, gateway.server.port
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    where = f"{shown}:{port}" if port else f"{shown}, at any port that is free"
    return f"Listens at {where}." + ("" if keys else " It answers only under a name of this machine.")


def _upstream(gateway: Gateway) -> Iterator[str]:
    upstream = gateway.upstream
    if upstream:
        key = f"the key of {upstream.api_key_env}" if upstream.api_key_env else "no key"
        yield (
            f"Chat completions are asked of {upstream.base_url} with {key}; it may be silent for "
            f"{upstream.timeout_s:g} s, at most {upstream.connections:,} connections to it are open, and "
            f"{gateway.server.queue:,} more requests may wait for one."
        )
        if upstream.unseen:
            yield f"UNSEEN: whatever a request holds in {', '.join(upstream.unseen)} reaches the model unlooked at."


def _keys(gateway: Gateway, keys: Keys) -> Iterator[str]:
    count = Counter(record.role for record in keys.records)
    if keys:
        roles = ", ".join(f"{count[role]} {role}" for role in ROLES if count[role])
        yield f"API keys: {len(keys.records)} ({roles}); a request without one of them is refused."
    else:
        yield "No API keys: whoever is on this machine may ask for decisions. `offmap key` makes one."
    if set(count) <= {"caller"}:
        review = gateway.review
        held = f": what is held for a person meets {review.default!r} after {review.timeout_s:g} s"
        yield f"NOBODY MAY REVIEW, without a key of a reviewer or an admin{held if escalates(gateway) else ''}."


def _limits(gateway: Gateway, keys: Keys) -> Iterator[str]:
    server, limits = gateway.server, gateway.limits
    requests = f"{limits.requests_per_minute:,}" if limits.requests_per_minute else "any number of"
    yield (
        f"Limits: {requests} requests a minute {'with each API key' if keys else 'in all'}; bodies of up to "
        f"{server.max_body_bytes:,} bytes, nested at most {server.max_depth:,} deep; {server.queue:,} decisions under "
        f"way at once, each within {limits.deadline_ms:,g} ms; a conversation is read in at most "
        f"{limits.max_windows:,} parts."
    )
    if "conversation" in gateway.stages:
        yield (
            f"Remembered are at most {limits.conversations:,} conversations for {limits.expiry_s:,g} s, of each the "
            f"last {limits.turns:,} messages and {limits.conversation_bytes:,} bytes."
        )
