"""A training run from labelled conversations to a guard's directory; interrupted, it goes on where it was."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from offmap.atomic import write_whole
from offmap.backbones.base import Backbone
from offmap.backbones.guard_heads import GuardRecord, content_hashes, read_guard, write_guard
from offmap.backbones.loading import Loaded, load_model
from offmap.backbones.source import BackboneSource
from offmap.backbones.torch import TorchBackbone
from offmap.conversation import Conversation
from offmap.errors import InputError
from offmap.feature_store import Cached
from offmap.monitor import rows_of
from offmap.rendering import Renderer
from offmap.splits import split
from offmap.train.curves import PICTURE, draw
from offmap.train.loop import BEST, Batches, GuardTrainer, Place, Watch, Watcher, run_loop
from offmap.train.objective import GuardHeads
from offmap.train.options import RATES, TrainOptions
from offmap.train.rows import Material, material, plan
from offmap.train.trunk import build, precision, save_trunk

WORK, INPUTS, LOG = "training", "run.json", "log.jsonl"
HELD_OUT = 7919
"""Added to the seed: validation rows are dealt by other draws than the splits were."""
PACKAGES = ("offmap", "torch", "transformers", "accelerate", "peft")


@dataclass(frozen=True)
class Deal:
    """The rows that are trained on, and those that say when to stop."""

    train: Sequence[Conversation]
    held_out: Sequence[Conversation]


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
    _require_ours(out)
    loaded = load_model(msgspec.structs.replace(base, dtype="float32"), device)
    _claim(out, _inputs(rows, loaded, options, split_seed))
    finished = read_guard(out)
    if finished:
        return finished.record
    deal = _deal(rows, options)
    heads = _probed_heads(base, deal.train, options, out / WORK, device)
    method = options.method_for(sum(p.numel() for p in loaded.model.parameters()))
    settled = msgspec.structs.replace(options, method=method, rate=options.rate or RATES[method])
    trainer, data = _trainer(loaded, deal, heads, settled, out / WORK)
    if watch:
        trainer.add_callback(Watcher(watch))
    started = time.perf_counter()
    log = run_loop(trainer, out / WORK)
    seconds = time.perf_counter() - started
    save_trunk(trainer.objective.model, loaded, out)
    facts = _facts(settled, data, log, loaded, trainer.state.max_steps, seconds)
    fitted = trainer.objective.guard.fitted()
    record = GuardRecord(base, method, fitted.probe, options.max_tokens, split_seed, facts)
    write_guard(out, record, fitted, content_hashes(rows))
    _finish(out, log)
    return record


def _require_ours(out: Path) -> None:
    """Nothing is there, or a run of ours.

    Raises:
        InputError: something else is.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / WORK / INPUTS).is_file():
        raise InputError(f"{out}: exists and holds no training run; choose another place or remove it yourself")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: found a file, wanted a directory or a new name")


def _inputs(
    rows: Sequence[Conversation], loaded: Loaded, options: TrainOptions, split_seed: int | None
) -> dict[str, Any]:
    """What decides the result of a run."""
    told = hashlib.sha256()
    for key, row in zip(content_hashes(rows).tolist(), rows, strict=True):
        told.update(f"{key} {row.unsafe} {row.domain}\n".encode())
    return {
        "rows": f"{len(rows)} rows, {told.hexdigest()[:16]}",
        "base": loaded.identity,
        "split_seed": split_seed,
        **msgspec.to_builtins(options),
    }


def _claim(out: Path, inputs: dict[str, Any]) -> None:
    """Mark the directory as this run's.

    Raises:
        InputError: it is another run's; the message says in what they differ.
    """
    path = out / WORK / INPUTS
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(inputs), indent=2) + b"\n")
        return
    there = msgspec.json.decode(path.read_bytes())
    names = sorted({*there, *inputs})
    other = [f"{name}: {there.get(name)!r} there, {inputs.get(name)!r} now" for name in names
             if there.get(name) != inputs.get(name)]  # fmt: skip
    if other:
        raise InputError(f"{out}: holds another run ({'; '.join(other)}); choose another place or remove it yourself")


def _deal(rows: Sequence[Conversation], options: TrainOptions) -> Deal:
    """A share of the rows, whole groups of them, is held out.

    Raises:
        InputError: a part lacks safe or unsafe rows.
    """
    dealt = split(rows, options.seed + HELD_OUT, (1 - options.validation, options.validation, 0.0))
    for name, part in (("training", dealt.fit), ("validation", dealt.calibrate)):
        for wanted in (False, True):
            if not any(row.unsafe is wanted for row in part):
                kind = "unsafe" if wanted else "safe"
                raise InputError(f"found no {kind} row among {len(part)} {name} rows of {len(rows)}; wanted some")
    return Deal(dealt.fit, dealt.calibrate)


def _probed_heads(
    base: BackboneSource, rows: Sequence[Conversation], options: TrainOptions, work: Path, device: str
) -> GuardHeads:
    """Heads fitted on the states of the trunk as it is."""
    opened: Backbone = Cached(TorchBackbone.load(base, device=device), work / "features")
    seen = rows_of(opened, rows, options.heads.needs())
    try:
        fitted = options.heads.fit(seen.safe, seen.harmful)
    except ValueError as error:
        raise InputError(f"guard heads: {error}") from error
    states = options.heads.join(seen.features)
    spread = states.std(axis=0)
    return GuardHeads(fitted, np.sqrt(states.shape[1]) * np.where(spread == 0, 1.0, spread))


def _trainer(
    loaded: Loaded, deal: Deal, heads: GuardHeads, options: TrainOptions, work: Path
) -> tuple[GuardTrainer, tuple[Material, Material]]:
    objective = build(loaded, heads, options)
    data = _material(loaded, deal, options)
    plans = [
        plan(part.lengths, options.batch_tokens, epochs, options.seed, pack=options.pack)
        for part, epochs in zip(data, (options.epochs, 1.0), strict=True)
    ]
    rows = sum(len(line) for batch in plans[0] for line in batch)
    spoken = data[0].n_spoken * rows / len(data[0])
    objective.norms = {"rows": rows / len(plans[0]), "tokens": max(1.0, spoken / len(plans[0]))}
    train, held_out = (Batches(batches, part) for batches, part in zip(plans, data, strict=True))
    return GuardTrainer(objective, train, held_out, options, _place(loaded, options, work)), data


def _material(loaded: Loaded, deal: Deal, options: TrainOptions) -> tuple[Material, Material]:
    limits = [n for n in (options.max_tokens, loaded.positions) if n]
    render = Renderer(loaded.tokenizer, min(limits, default=None))
    pools, count = options.heads.pools, options.heads.heads
    train = material(deal.train, render, pools, heads=count, seed=options.seed, long_rows=options.long_rows)
    return train, material(deal.held_out, render, pools, long_rows=options.long_rows)


def _place(loaded: Loaded, options: TrainOptions, work: Path) -> Place:
    device = next(loaded.model.parameters()).device
    return Place(work, device.type, precision(options.precision, device) == torch.bfloat16)


def _facts(
    options: TrainOptions,
    data: tuple[Material, Material],
    log: list[dict[str, float]],
    loaded: Loaded,
    steps: int,
    seconds: float,
) -> dict[str, Any]:
    """How it was trained and how that went."""
    looks = [entry for entry in log if "eval_guard" in entry]
    best = min(looks, key=lambda entry: entry["eval_guard"])
    return {
        "options": msgspec.to_builtins(options),
        "rows": [len(part) for part in data],
        "cut_rows": sum(bool(row.n_dropped) for part in data for row in part.rows),
        "tokens": [int(part.lengths.sum()) for part in data],
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "steps": log[-1]["step"],
        "trained_tokens": round(float(data[0].lengths.sum()) * options.epochs * log[-1]["step"] / steps),
        "best": best,
        "before": looks[0],
        "seconds": round(seconds, 1),
        "device": next(loaded.model.parameters()).device.type,
        "versions": {name: version(name) for name in PACKAGES},
    }


def _finish(out: Path, log: list[dict[str, float]]) -> None:
    """Keep the log; checkpoints have served."""
    best = min((entry for entry in log if "eval_guard" in entry), key=lambda entry: entry["eval_guard"])
    draw(log, int(best["step"]), out / WORK / PICTURE)
    write_whole(out / WORK / LOG, b"".join(msgspec.json.encode(entry) + b"\n" for entry in log))
    for path in (out / WORK).glob("checkpoint-*"):
        shutil.rmtree(path)
    shutil.rmtree(out / WORK / "features", ignore_errors=True)
    (out / WORK / BEST).unlink(missing_ok=True)
