"""The models of the recipe published with MOOD (arXiv 2605.21602): a guard's adapter and a causal LM's, on one base.

Published (the package ``mood-bench`` reads such adapters): the guard is a sequence classifier of two labels, its output
layer ``score`` on the last token; the ensemble is of five guards; perplexity is that of whole conversations, the prompt
included, under a causal LM that was fine-tuned on the training set; all of them read transcripts. No training code was
published. Inferred: that the loss of the guard is cross-entropy and every row weighs the same; that the causal LM
learns every token of every row, safe or not; that the five guards differ by their seeds. Rank, rates, epochs and the
layers that are adapted are offmap's. Not as published: only fit rows are trained on, less those that say when to stop,
so that a threshold can be set on rows that no weight was fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from offmap.atomic import write_whole
from offmap.backbones.guard_families import CLASSIFIER
from offmap.backbones.loading import Loaded, load_model
from offmap.backbones.source import BackboneSource
from offmap.backbones.trained_on import content_hashes, write_trained_on
from offmap.conversation import Conversation
from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.features import Pool
from offmap.train.claim import WORK, inputs, require_only, require_ours, require_plain, require_same
from offmap.train.fit import clean, deal, fit, materials
from offmap.train.objective import Objective, Odds
from offmap.train.options import RATES, TrainOptions
from offmap.train.particles import each_particle, part_of
from offmap.train.trunk import proven_head, ready, save_trunk
from offmap.train.watching import Watch

Part = Literal["guard", "lm"]
GUARD: Part = "guard"
LM: Part = "lm"
LABELS = ("safe", "unsafe")
FACTS = "facts.json"
_LAST = GuardProbe(layers=(-1,), pools=(Pool.LAST,), heads=1, beta=0.0)
"""What a classifier's output layer reads."""


@dataclass(frozen=True)
class _Run:
    """What all parts have in common."""

    rows: Sequence[Conversation]
    base: BackboneSource
    split_seed: int | None
    device: str


def train_reference(
    rows: Sequence[Conversation],
    base: BackboneSource,
    out: Path,
    options: TrainOptions | None = None,
    *,
    particles: int = 1,
    split_seed: int | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Train the two adapters: ``out/guard`` for classification, ``out/lm`` for causal language modelling.

    ``BackboneSource(base, adapter="out/guard", guard="classifier", transcript=True, lm=BackboneSource(base,
    adapter="out/lm", transcript=True))`` reads them as one backbone; mood-bench reads each alone, its label 1 being
    unsafe. Killed, the same call goes on from the last checkpoint.

    Args:
        rows: labelled conversations to learn from: the fit split, never more.
        base: a plain causal LM.
        out: the directory.
        options: how; what the heads read and what the language model's loss weighs is the recipe's own.
        particles: how many guards; of several, ``out/guard`` is the directory of all (``offmap.train.particles``).
        split_seed: of the deal that ``rows`` are the fit rows of, for the record.
        device: ``auto`` is CUDA where there is one.
        watch: told after every step, of the steps of all parts.

    Returns:
        How each part was trained and how that went, by its place in ``out``.

    Raises:
        InputError: as ``train``; an option that the recipe leaves no room for, or a base that is a guard or has an
            adapter of its own.
    """
    options = options or TrainOptions()
    require_published(base, options)
    require_only(out, [GUARD, LM])
    run, guards = _Run(rows, base, split_seed, device), out / GUARD
    judge = partial(_adapter, run, GUARD)
    heard = part_of(watch, 0, 2)
    settled = _settled(options, 0.0)
    found: dict[str, Mapping[str, Any]]
    if particles == 1:
        found = {GUARD: judge(guards, settled, heard)}
    else:
        several = each_particle(particles, guards, settled, heard, judge)
        found = {f"{GUARD} {number}": facts for number, facts in enumerate(several, 1)}
    return found | {LM: _adapter(run, LM, out / LM, _settled(options, 1.0), part_of(watch, 1, 2))}


def require_published(base: BackboneSource, options: TrainOptions) -> None:
    """Refuse what the recipe leaves no room for.

    Raises:
        InputError: an option out of its range, or that the recipe has its own of; a base that is a guard or has an
            adapter of its own.
    """
    options.check()
    usual = TrainOptions()
    if options.method == "full":
        raise InputError("method is full; the recipe published with MOOD trains adapters, wanted lora")
    for name in ("heads", "lm_weight", "merge"):
        if getattr(options, name) != getattr(usual, name):
            raise InputError(f"{name}: the recipe published with MOOD has its own; wanted none")
    require_plain(base)
    if base.adapter is not None:
        raise InputError(f"base {base.model!r}: found adapter {base.adapter!r}; wanted a base alone, as published")


def _settled(options: TrainOptions, lm_weight: float) -> TrainOptions:
    """One rate for all that is trained, as PEFT and transformers have it; each row once in an epoch."""
    rate = options.rate or RATES["lora"]
    return msgspec.structs.replace(
        options, method="lora", heads=_LAST, lm_weight=lm_weight, rate=rate, head_rate=rate, even=False
    )


def _adapter(run: _Run, part: Part, out: Path, options: TrainOptions, watch: Watch | None) -> Mapping[str, Any]:
    """Train one adapter, unless that was done already."""
    require_ours(out)
    dealt = deal(run.rows, options)
    torch.manual_seed(options.seed)  # of the classifier's fresh output layer
    loaded = _loaded(run, part)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    told = {"part": part, **inputs(run.rows, loaded, options, run.split_seed)}
    require_same(out, told)
    done = out / WORK / FACTS
    if not done.is_file():
        data = materials(loaded, dealt, options, plain=True)
        objective = _classifier(loaded, options) if part == GUARD else _speaker(loaded, options)
        facts = fit(objective, loaded, data, options, out, told, parameters, watch)
        write_trained_on(out, loaded.trained_on, content_hashes(run.rows))
        save_trunk(objective.model, loaded, out)
        write_whole(done, msgspec.json.encode(facts))
    clean(out / WORK)
    finished: dict[str, Any] = msgspec.json.decode(done.read_bytes())
    return finished


def _loaded(run: _Run, part: Part) -> Loaded:
    plain = msgspec.structs.replace(run.base, dtype="float32", transcript=True)
    if part == LM:
        return load_model(plain, run.device)
    return load_model(msgspec.structs.replace(plain, guard=CLASSIFIER), run.device, LABELS)


def _classifier(loaded: Loaded, options: TrainOptions) -> Objective:
    model = ready(loaded, options, "SEQ_CLS")
    return Objective(model, loaded.decoder, None, Odds(loaded.model.score), options.heads.layers, 0.0)


def _speaker(loaded: Loaded, options: TrainOptions) -> Objective:
    head = proven_head(loaded)
    return Objective(ready(loaded, options), loaded.decoder, head, None, (), options.lm_weight)
