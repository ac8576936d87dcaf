"""A gateway's TOML file with other bands at one stage: comments and order stay, and it is read back first.

A comment on the line of the old bands was about these: it stays as what was said before. Comments among them go.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from offmap.atomic import write_whole
from offmap.combination import QUESTIONS
from offmap.errors import InputError
from offmap.gateway.config import Gateway, default_gateway, read_gateway
from offmap.gateway.policy import heard
from offmap.gateway.tuning.proposal import Proposal, apply_proposal

DEFAULT = """\
# What runs without a file: the embedded monitor at every stage.

[monitors.pocket]
bundle = "pocket"

[stages.input]
cascade = ["pocket"]

[stages.input.actions]
unknown = "allow"

[stages.response]
cascade = ["pocket"]

[stages.tool_call]
cascade = ["pocket"]

[stages.conversation]
cascade = ["pocket"]
"""
"""``default_gateway`` as a file."""
TUNED = "tuned"
_BEFORE = f"{TUNED}; said before of other bands: "
"""The comment of new bands."""


def write_tuned(path: Path, config: Path | None, proposal: Proposal) -> Gateway:
    """Write the gateway of ``config`` with the proposed bands to ``path``, and return it as read back from there.

    Files that it names relative to where it lies are named relative to where it will lie.

    Args:
        path: the new file; its directory exists.
        config: the present one; None: what runs without one.
        proposal: the bands.

    Raises:
        InputError: the present file cannot be read, or has its stages in a form that cannot be edited; nothing is left
            at ``path`` then.
    """
    import tomlkit

    present = read_gateway(config) if config else default_gateway()
    wanted = apply_proposal(present, proposal)
    document: Any = tomlkit.parse(config.read_text(encoding="utf-8") if config else DEFAULT)
    if "stages" not in document:
        document["stages"] = tomlkit.parse(DEFAULT)["stages"]
    _set_bands(document, wanted, proposal)
    if config:
        _move(document, config.parent, path.parent)
    draft = path.with_name(f"{path.name}.draft")
    try:
        write_whole(draft, tomlkit.dumps(document).encode())
        found = read_gateway(draft)
        if _placed(found) != _placed(wanted):
            raise InputError(f"{config or path}: its bands could not be replaced; write those of the proposal by hand")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return found


def _set_bands(document: Any, wanted: Gateway, proposal: Proposal) -> None:
    import tomlkit

    table = wanted.stages[proposal.stage]
    cascade = tomlkit.array().multiline(True)
    for step, found in zip(table.steps, proposal.steps, strict=True):
        entry = tomlkit.inline_table()
        entry["monitor"] = step.monitor
        for question in QUESTIONS:
            band = heard(table, found).get(question, getattr(step, question))
            if band is not None:
                entry[question] = [float(end) for end in band]
        cascade.append(entry)
    stage = document["stages"][proposal.stage]
    # Within an inline table no line ends: its own comment is that of all in it.
    inline = (each for each in (document["stages"], stage) if isinstance(each, tomlkit.items.InlineTable))
    marked = next(inline, cascade)
    marked.comment(_comment((stage["cascade"] if marked is cascade else marked).trivia.comment))
    stage["cascade"] = cascade


def _comment(old: str) -> str:
    said = old.lstrip("# ").rstrip()
    if not said or said == TUNED:
        return TUNED
    if said.startswith(_BEFORE):
        return said
    return _BEFORE + said


def _move(document: Any, old: Path, new: Path) -> None:
    """Name files from another directory."""

    def moved(name: str) -> str:
        return name if os.path.isabs(name) else os.path.relpath(old / name, new)

    for table in document.get("monitors", {}).values():
        if table.get("bundle") and table["bundle"] != "pocket":
            table["bundle"] = moved(table["bundle"])
        for field in ("file", "safe_scores"):
            if field in table.get("judge", {}):
                table["judge"][field] = moved(table["judge"][field])
    if document.get("server", {}).get("keys"):
        document["server"]["keys"] = moved(document["server"]["keys"])


def _placed(gateway: Gateway) -> Gateway:
    """With every file named by its absolute path."""

    def placed(name: str) -> str:
        return os.path.abspath(name) if name and name != "pocket" else name

    monitors = {}
    for name, table in gateway.monitors.items():
        judge = table.judge and msgspec.structs.replace(
            table.judge, file=placed(table.judge.file), safe_scores=placed(table.judge.safe_scores)
        )
        monitors[name] = msgspec.structs.replace(table, bundle=placed(table.bundle), judge=judge)
    server = msgspec.structs.replace(gateway.server, keys=placed(gateway.server.keys))
    return msgspec.structs.replace(gateway, monitors=monitors, server=server)
