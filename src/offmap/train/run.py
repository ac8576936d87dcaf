"""A training run from labelled conversations to a guard's directory; interrupted, it goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from offmap.backbones.guard_heads import RECORD, GuardRecord, read_guard, write_guard
from offmap.backbones.loading import Loaded, identity_of, load_model, n_parameters, precision
from offmap.backbones.source import BackboneSource
from offmap.backbones.torch import TorchBackbone
from offmap.backbones.trained_on import content_hashes, union
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.feature_store import Cached
from offmap.monitor import rows_of
from offmap.train.claim import FEATURES, WORK, inputs, require_ours, require_plain, require_same
from offmap.train.fit import clean, deal, fit, materials
from offmap.train.objective import GuardHeads
from offmap.train.options import RATES, TrainOptions
from offmap.train.trunk import build, save_trunk
from offmap.train.watching import Watch


def train(
    rows: Sequence[Conversation],
    base: BackboneSource,
    out: Path,
    options: TrainOptions | None = None,
    *,
    split_seed: int | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> GuardRecord:
    """Train a guard and leave it in ``out``, which is then a backbone.

    Killed at any moment, the same call goes on from the last checkpoint; a finished run is not run again.

    Args:
        rows: labelled conversations, all of which may be learned from: the fit split, never more.
        base: the model to train.
        out: the directory; ``training`` in it holds checkpoints and the log.
        options: how.
        split_seed: of the deal that ``rows`` are the fit rows of, for the record.
        device: ``auto`` is CUDA where there is one.
        watch: told after every step.

    Returns:
        What ``guard.json`` says.

    Raises:
        InputError: rows without labels or of one kind, an option out of range, a model that cannot be loaded, a loss
            that is not a number, or ``out`` holds something else or another run.
    """
    options = options or TrainOptions()
    options.check()
    require_ours(out)
    dealt = deal(rows, options)
    require_plain(base)
    identity = identity_of(base)
    told = inputs(rows, identity, options, split_seed)
    require_same(out, told)
    finished = read_guard(out) if (out / RECORD).is_file() else None
    if finished:
        clean(out / WORK)
        return finished.record
    method = _method(base, options)
    loaded = _loaded(base, options, method, device)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    data = materials(loaded, dealt, options)
    heads = _probed_heads(loaded, base, dealt.train, options, out / WORK)
    settled = msgspec.structs.replace(options, method=method, rate=options.rate or RATES[method])
    objective = build(loaded, heads, settled)
    facts = fit(objective, loaded, data, settled, out, told, parameters, watch)
    merged = method == "lora" and options.merge
    save_trunk(objective.model.merge_and_unload() if merged else objective.model, loaded, out)
    fitted = heads.fitted()
    kept = "full" if merged else method
    record = GuardRecord(base, identity, kept, fitted.probe, options.max_tokens, split_seed, facts)
    write_guard(out, record, fitted, union(loaded.trained_on, content_hashes(rows)))
    clean(out / WORK)
    return record


def _method(base: BackboneSource, options: TrainOptions) -> Literal["full", "lora"]:
    """The method that is meant; no weights are read to find out.

    Raises:
        InputError: an adapter on an adapter.
    """
    method = options.method_for(n_parameters(base)) if options.method == "auto" else options.method
    if method == "lora" and base.adapter is not None:
        raise InputError(f"base {base.model!r}: found adapter {base.adapter!r}; wanted method=full, or no adapter")
    return method


def _loaded(base: BackboneSource, options: TrainOptions, method: Literal["full", "lora"], device: str) -> Loaded:
    """The model to train: its weights in float32 where they are trained or left, else in what products are computed in.

    An adapter's weights are in float32 on either.
    """
    left = method == "full" or options.merge
    return load_model(msgspec.structs.replace(base, dtype="float32" if left else options.precision), device)


def _probed_heads(
    loaded: Loaded, base: BackboneSource, rows: Sequence[Conversation], options: TrainOptions, work: Path
) -> GuardHeads:
    """Heads fitted on the states of the trunk as it is, before anything in it is trained."""
    device = next(loaded.model.parameters()).device
    trunk = replace(loaded, dtype=precision(options.precision, device))
    opened = TorchBackbone(trunk, msgspec.structs.replace(base, max_tokens=options.max_tokens))
    seen = rows_of(Cached(opened, work / FEATURES), rows, options.heads.needs())
    try:
        fitted = options.probe.fit(seen.safe, seen.harmful)
    except ValueError as error:
        raise InputError(f"guard heads: {error}") from error
    states = options.heads.join(seen.features)
    spread = states.std(axis=0)
    scale = np.sqrt(states.shape[1]) * np.where(spread == 0, 1.0, spread)
    return GuardHeads(fitted, scale)
