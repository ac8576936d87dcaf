"""Families of published guards: where each states its verdict, in which words, and which of its labels is unsafe.

Taken from the model itself at run time: the prompt (its chat template; no prompt text is shipped here) and a
classifier's labels (``id2label``). Stated here, from model cards and public use of the models: the verdict words, the
text that the answer opens with, and the names of the template's arguments. The guards themselves are the user's to
provide, each under its own licence; downloads of the real ones were not run here. Knows nothing of torch.

Llama Guard 3 and 4 (arXiv 2312.06674) answer "safe" or "unsafe" after an empty line. Qwen3Guard-Gen (2510.14276)
answers "Safety: Safe", "Unsafe" or "Controversial"; what is not plainly safe counts as unsafe, its strict mode.
ShieldGemma (2407.21772) answers "Yes" where the one policy that it is told is violated. Granite Guardian (2412.07724)
answers "Yes" where the risk is there, from version 3.3 on as "<score> yes </score>".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from offmap.errors import InputError

GuardName = Literal["auto", "llama-guard", "qwen3guard", "shieldgemma", "granite-guardian", "classifier"]
CLASSIFIER = "classifier"
_SAFE = {"safe", "benign", "harmless", "unharmful", "acceptable", "nontoxic", "nonharmful"}
_UNSAFE = {"unsafe", "harmful", "malicious", "unacceptable", "toxic", "jailbreak"}


@dataclass(frozen=True)
class Family:
    """How a generative guard states its verdict.

    Attributes:
        unsafe: verdicts as the model spells them at the verdict position, a leading space included.
        safe: the other verdicts.
        lead: what the answer opens with, up to the verdict.
    """

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    lead: str = ""


_FAMILIES = {
    "llama-guard": Family(("unsafe",), ("safe",), "\n\n"),
    "qwen3guard": Family((" Unsafe", " Controversial"), (" Safe",), "Safety:"),
    "shieldgemma": Family(("Yes",), ("No",)),
    "granite-guardian": Family(("Yes",), ("No",)),
}
_TAGGED = Family((" yes",), (" no",), "<score>")


def guard_name(guard: str, model: str, architectures: list[str]) -> str:
    """The family that ``guard`` names; ``auto`` decides by the architecture, then by the last part of the model's name.

    Raises:
        InputError: no such family, or nothing says which.
    """
    known = [name for name in get_args(GuardName) if name != "auto"]
    if guard in known:
        return guard
    if guard != "auto":
        raise InputError(f"guard {guard!r}: one of {', '.join(known)} or auto is wanted")
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return CLASSIFIER
    plain = _letters(model.rstrip("/").rpartition("/")[2])
    found = [name for name in _FAMILIES if _letters(name) in plain]
    if len(found) != 1:
        raise InputError(f"guard 'auto': the name of {model!r} does not say which; guard= one of {', '.join(known)}")
    return found[0]


def family_of(guard: str, template: str) -> Family:
    """The family of that name; Granite Guardian's verdict is tagged where its template speaks of scores."""
    tagged = guard == "granite-guardian" and ("<score>" in template or "criteria_id" in template)
    return _TAGGED if tagged else _FAMILIES[guard]


def template_arguments(guard: str, template: str, policy: str | None) -> dict[str, Any]:
    """What the chat template is told besides the messages.

    Args:
        guard: the family.
        template: the model's chat template, which shows the arguments of its version.
        policy: ShieldGemma's guideline; Granite Guardian's risk, by its short name or, with spaces, in words. None is
            Granite Guardian's own default, harm.

    Raises:
        InputError: ShieldGemma without a policy, or a policy for a guard that reads none.
    """
    if guard == "shieldgemma":
        if policy is None:
            raise InputError("guard 'shieldgemma': judges by one policy in words; policy=... is wanted")
        return {"guideline": policy}
    if guard == "granite-guardian":
        named = "harm" if policy is None else policy
        keys = ("risk_definition", "custom_criteria") if " " in named else ("risk_name", "criteria_id")
        config = {key: named for key in keys if key in template}
        if policy is not None and not config:
            raise InputError(f"guard {guard!r}: policy {policy!r}: its chat template reads none")
        return {"think": False} | ({"guardian_config": config} if config else {})
    if policy is not None:
        raise InputError(f"guard {guard!r}: reads no policy; only shieldgemma and granite-guardian do")
    return {}


def orientation(labels: Mapping[int, str], unsafe_label: str | None) -> tuple[list[int], list[int]]:
    """The outputs of a classifier that mean unsafe, and the others.

    With ``unsafe_label`` it is that label against all others; of a lone output X that is high where a conversation is
    safe, as the published guards of MOOD may be, it is "not X". Without, the labels must say: each is a known word
    (safe, benign, unsafe, harmful, ...), or there are two and one is.

    Raises:
        InputError: the label is not there, or the labels do not say which is unsafe.
    """
    names = [labels[i] for i in sorted(labels)]
    if len(names) == 1 and unsafe_label == f"not {names[0]}":
        return [], [0]
    if unsafe_label is not None and unsafe_label not in names:
        raise InputError(f"unsafe_label {unsafe_label!r}: the classifier's labels are {names}")
    unsafe = _which_are_unsafe(names) if unsafe_label is None else [name == unsafe_label for name in names]
    return [i for i, bad in enumerate(unsafe) if bad], [i for i, bad in enumerate(unsafe) if not bad]


def _which_are_unsafe(names: list[str]) -> list[bool]:
    meanings = {**dict.fromkeys(_SAFE, False), **dict.fromkeys(_UNSAFE, True)}
    said = [meanings.get(_letters(name)) for name in names]
    known = [meaning for meaning in said if meaning is not None]
    if len(names) == 2 and len(known) == 1:
        known = [not known[0] if meaning is None else meaning for meaning in said]
    if len(known) < len(names) or not any(known) or (len(names) > 1 and all(known)):
        denied = f", or 'not {names[0]}' where a high output means safe," if len(names) == 1 else ""
        raise InputError(f"labels {names} do not say which one is unsafe; unsafe_label= one of them{denied} is wanted")
    return known


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
