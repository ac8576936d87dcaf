"""The loop: transformers' Trainer over planned batches, with checkpoints of what is trained.

A checkpoint holds the trained weights alone (of an adapter, the adapter), beside the optimizer's state and the place in
the plan; what was killed goes on from the last whole one. Knows nothing of conversations.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from offmap.atomic import write_whole
from offmap.errors import InputError
from offmap.train.objective import Objective
from offmap.train.options import TrainOptions
from offmap.train.rows import Batch, Line, Material, collate

WEIGHTS, DONE, BEST = "trained.safetensors", "complete", "best.safetensors"
WARM_UP = 0.05
"""The share of the steps over which the rate rises."""
LOGS = 40
"""Points of the training loss in a run."""
Watch = Callable[[int, int, Mapping[str, float]], None]
"""Told after every step: steps done, steps in all, the latest losses."""


class Batches(Dataset[Batch]):
    """A plan's batches, made when they are asked for."""

    def __init__(self, plan: list[list[Line]], data: Material) -> None:
        self._plan, self._data, self.n_spoken = plan, data, data.n_spoken

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, at: int) -> Batch:
        return collate(self._plan[at], self._data)


@dataclass(frozen=True)
class Place:
    """Where and how the loop computes.

    Attributes:
        work: the directory of checkpoints.
        device: cpu or cuda.
        bfloat16: whether products are computed in it.
    """

    work: Path
    device: str
    bfloat16: bool


class GuardTrainer(Trainer):
    """A Trainer that saves what is trained, and that looks at the guard's loss on rows it does not train on."""

    def __init__(
        self, objective: Objective, train: Batches, held_out: Batches, options: TrainOptions, place: Place
    ) -> None:
        arguments = _arguments(options, place, -(-len(train) // options.accumulate))
        self.objective: Objective = objective
        super().__init__(
            model=objective,
            args=arguments,
            train_dataset=train,
            eval_dataset=held_out,
            data_collator=_only,
            optimizers=(_optimizer(objective, options), None),
            callbacks=[_Patience(options.patience)],
        )
        self.remove_callback(PrinterCallback)
        self._plan = train
        self._held_out, self._place, self._best = held_out, place, place.work / BEST
        self._recent: list[tuple[float, float]] = []

    def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> torch.Tensor:
        """The loss of a batch.

        Raises:
            InputError: it is not a finite number.
        """
        losses = model(**inputs)
        found = float(losses["guard"]), float(losses["lm"])
        if not all(map(math.isfinite, (*found, float(losses["loss"].detach())))):
            raise InputError(
                f"step {self.state.global_step + 1}: the loss is not a number (guard {found[0]:g}, language model "
                f"{found[1]:g}); a lower rate or precision=float32 is wanted. The last checkpoint is kept"
            )
        self._recent.append(found)
        loss: torch.Tensor = losses["loss"]
        return loss

    def log(self, logs: dict[str, float], *args: Any) -> None:
        """Log with the guard's and the language model's part of the training loss."""
        if "loss" in logs and self._recent:
            logs["guard"], logs["lm"] = (float(x) for x in np.mean(self._recent, axis=0))
            self._recent.clear()
        super().log(logs, *args)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Losses and AUROC on the held-out rows; the best weights so far are kept.

        AUROC is unweighted, of the heads' mean logit.
        """
        metrics = {f"eval_{name}": value for name, value in self._look().items()}
        earlier = [entry["eval_guard"] for entry in self.state.log_history if "eval_guard" in entry]
        if metrics["eval_guard"] < min(earlier, default=math.inf):
            write_whole(self._best, save(trained_weights(self.objective)))
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _look(self) -> dict[str, float]:
        self.objective.eval()
        totals, logits, labels = np.zeros(2), [], []
        norms = self.objective.norms
        with torch.no_grad(), self.accelerator.autocast():
            for at in range(len(self._held_out)):
                batch = self._prepare_inputs(self._held_out[at])
                found = self.objective(**batch)
                totals += [float(found["guard"]) * norms["rows"], float(found["lm"]) * norms["tokens"]]
                logits.append(found["logits"].float().mean(dim=1).cpu().numpy())
                labels.append(batch["unsafe"].cpu().numpy() > 0)
        guard, lm = (totals / [len(np.concatenate(labels)), max(1, self._held_out.n_spoken)]).tolist()
        if not math.isfinite(guard):
            raise InputError("the guard's loss on held-out rows is not a number; a lower rate is wanted")
        return {"guard": guard, "lm": lm, "auroc": _auroc(np.concatenate(logits), np.concatenate(labels))}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trained weights into a checkpoint."""
        place = Path(output_dir or self._place.work)
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / WEIGHTS, save(trained_weights(self.objective)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        del model
        restore_weights(self.objective, Path(resume_from_checkpoint) / WEIGHTS)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        del train_dataset
        return SequentialSampler(self._plan)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        write_whole(self._place.work / f"checkpoint-{self.state.global_step}" / DONE, b"")


class Watcher(TrainerCallback):
    """Tells someone of every step."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._latest = watch, dict[str, float]()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Remember the latest losses."""
        self._latest |= {name: value for name, value in (logs or {}).items() if name in _TOLD}
        self._watch(state.global_step, state.max_steps, self._latest)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell how far it is."""
        self._watch(state.global_step, state.max_steps, self._latest)


_TOLD = ("guard", "lm", "eval_guard", "eval_lm", "eval_auroc")


class _Patience(TrainerCallback):
    """Stops when the guard's held-out loss has not fallen for some evaluations; reads the log, has no state."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask to stop where it is time."""
        losses = [entry["eval_guard"] for entry in state.log_history if "eval_guard" in entry]
        if len(losses) - 1 - int(np.argmin(losses)) >= self._patience:
            control.should_training_stop = True


def run_loop(trainer: GuardTrainer, work: Path) -> list[dict[str, float]]:
    """Train, from the last whole checkpoint where there is one, and load the best weights. Returns the log."""
    last = _last_checkpoint(work)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    restore_weights(trainer.objective, work / BEST)
    return list(trainer.state.log_history)


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are trained, by name, each once."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def restore_weights(model: torch.nn.Module, path: Path) -> None:
    """Put trained weights back in place."""
    kept = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(kept[name])


def _last_checkpoint(work: Path) -> Path | None:
    """The latest checkpoint that was written to its end; half-written ones are removed."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in found:
        if not (path / DONE).is_file():
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    return whole[-1] if whole else None


def _arguments(options: TrainOptions, place: Place, steps: int) -> TrainingArguments:
    every = max(1, steps // options.evaluations)
    arguments = TrainingArguments(
        output_dir=str(place.work),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=options.accumulate,
        num_train_epochs=1,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, int(WARM_UP * steps)),
        max_grad_norm=1.0,
        logging_steps=max(1, steps // LOGS),
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=max(1, every // 2),
        save_total_limit=2,
        bf16=place.bfloat16,
        use_cpu=place.device == "cpu",
        seed=options.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process, one device: rows of a batch are not split
    return arguments


def _optimizer(objective: Objective, options: TrainOptions) -> torch.optim.AdamW:
    heads = list(objective.guard.parameters())
    trunk = [p for p in objective.model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trunk, "lr": options.rate}, {"params": heads, "lr": options.head_rate}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def _only(items: list[Batch]) -> Batch:
    return items[0]


def _auroc(scores: np.ndarray, unsafe: np.ndarray) -> float:
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(scores[unsafe], scores[~unsafe]).statistic
    return float(found / (unsafe.sum() * (~unsafe).sum()))
