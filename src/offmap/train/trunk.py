"""The trunk: a loaded model made trainable, whole or by an adapter, and written back. Knows nothing of rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from offmap.backbones.loading import Loaded, _dtype, _quiet
from offmap.backbones.token_stats import Head, head_of
from offmap.errors import InputError
from offmap.train.objective import GuardHeads, Objective
from offmap.train.options import TrainOptions


def build(loaded: Loaded, heads: GuardHeads, options: TrainOptions) -> Objective:
    """The objective on a trunk whose weights, or whose adapter's, are ready to be trained.

    Raises:
        InputError: peft is missing for an adapter, or it knows no layers of this model to adapt.
    """
    head = _proven_head(loaded)
    model: Any = loaded.model
    if options.method == "lora":
        model = _adapted(model, options)
    else:
        model.requires_grad_(True)
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    device = next(loaded.model.parameters()).device
    return Objective(model, loaded.decoder, head, heads.to(device), options.heads.layers, options.lm_weight)


def save_trunk(model: Any, loaded: Loaded, out: Path) -> None:
    """Write the model, or the adapter, and the tokenizer into ``out``; each file appears whole."""
    with _quiet(), tempfile.TemporaryDirectory(dir=out, prefix=".model.") as fresh:
        model.save_pretrained(fresh)
        loaded.tokenizer.save_pretrained(fresh)
        (Path(fresh) / "README.md").unlink(missing_ok=True)
        for file in Path(fresh).iterdir():
            shutil.move(file, out / file.name)


def precision(name: str, device: torch.device) -> torch.dtype:
    """What products are computed in; auto is bfloat16 where the hardware has it."""
    return _dtype(name, device)


def _adapted(model: Any, options: TrainOptions) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("an adapter needs peft: pip install 'offmap[train]'") from error
    config = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"{type(model).__name__}: no adapter can be put into it: {error}") from error


def _proven_head(loaded: Loaded) -> Head:
    device = next(loaded.model.parameters()).device
    tokens = torch.arange(8, device=device)[None]
    with torch.inference_mode():
        hidden = loaded.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        logits = loaded.model(input_ids=tokens, use_cache=False).logits
    return head_of(loaded.model, hidden[0], logits[0], torch.float32)
