"""``offmap train``: a guard on a language model, from labelled conversations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter
from rich.console import Console

from offmap.cli.bench import PROCEDURAL, SuiteOptions

if TYPE_CHECKING:
    from offmap.backbones.guard_heads import GuardRecord
    from offmap.conversation import Conversation
    from offmap.suites import Suite
    from offmap.train import TrainOptions
    from offmap.train.loop import Watch

Leaks = Literal["refuse", "drop", "allow"]
LEAKS_FILE = "leaks.jsonl"


@Parameter(name="*", group="Training")
@dataclass(frozen=True)
class LearningOptions:
    """How the guard learns.

    Attributes:
        method: full trains every weight, lora an adapter; auto is full for a model under 100 million parameters.
        heads: guard heads, each on its own bootstrap of the rows; the most suspicious is heard.
        lm_weight: Of the language-model loss on safe replies; 0 trains the guard alone.
        epochs: Passes over the rows.
        rate: The highest learning rate of the trunk; 3e-4 for full, 1e-3 for lora otherwise.
        rank: Of the adapter.
        batch_tokens: Tokens of a micro-batch.
        accumulate: Micro-batches of a step.
        max_tokens: Longer rows are cut; otherwise at what the model can read.
        long_rows: cut rows over the limit, or refuse to train on them.
        pack: Let rows share a line, for accelerators.
        checkpointing: Compute activations twice and hold fewer of them.
        validation: The share of rows that decides when to stop.
        patience: Evaluations without a lower loss on them before training stops.
        precision: bfloat16, float32, or what the hardware does best.
    """

    method: Literal["auto", "full", "lora"] = "auto"
    heads: int = 8
    lm_weight: float = 0.3
    epochs: float = 2.0
    rate: float | None = None
    rank: int = 16
    batch_tokens: int = 2048
    accumulate: int = 2
    max_tokens: int | None = None
    long_rows: Literal["cut", "refuse"] = "cut"
    pack: bool = False
    checkpointing: bool = False
    validation: float = 0.1
    patience: int = 4
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def settled(self, seed: int) -> TrainOptions:
        """As the trainer takes them.

        Raises:
            InputError: an option out of its range.
        """
        from offmap.cli.checks import require_least
        from offmap.detectors import GuardProbe
        from offmap.train import TrainOptions

        require_least("heads", self.heads, 1)
        named = {name: value for name, value in vars(self).items() if name != "heads"}
        options = TrainOptions(heads=GuardProbe(heads=self.heads), seed=seed, **named)
        options.check()
        return options


USUAL = LearningOptions()
"""The defaults."""


def train(
    *,
    out: Path,
    base: str = "pocket",
    revision: str | None = None,
    conversations: SuiteOptions = PROCEDURAL,
    learning: LearningOptions = USUAL,
    leaks: Leaks = "refuse",
    seed: int = 0,
) -> None:
    """Train a guard on a suite's fit rows; what comes out is a backbone for `offmap bench` and `offmap fit`.

    Killed and run again, it goes on from its last checkpoint.

    Parameters
    ----------
    out
        The directory of the trained model or adapter, its heads and its log.
    base
        What is trained: pocket, a local Hugging Face model directory, or a hub id with --revision.
    revision
        The pinned revision of a base from the hub.
    conversations
        Only the fit rows are trained on: the others are for calibration, thresholds and tests.
    learning
        How it learns.
    leaks
        What to do if rows of one split show up in another: refuse, drop the training rows, or allow it.
    seed
        Of the deal into splits (use the same with bench and fit), of generated suites, of the order of rows.
    """
    from offmap.backbones import BackboneSource
    from offmap.cli.checks import require_least, require_packages
    from offmap.train import train as run

    require_least("seed", seed, 0)
    require_packages("train", ("accelerate", "datasketch", "peft"))
    options = learning.settled(seed)
    rows = _rows(conversations.load(seed), leaks, seed, out)
    with _progress() as watch:
        record = run(rows, BackboneSource(base, revision), out, options, split_seed=seed, watch=watch)
    _show(record, out, conversations, seed)


def _rows(suite: Suite, leaks: Leaks, seed: int, out: Path) -> Sequence[Conversation]:
    """The fit rows, after the audit.

    Raises:
        InputError: rows leak, and that was not allowed.
    """
    from offmap.splits import split
    from offmap.train import audit

    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    splits = split(suite.train, seed)
    named = {"fit": splits.fit, "calibrate": splits.calibrate, "threshold": splits.threshold, "test": suite.test}
    with told.status("looking for rows that leak between splits"):
        found = audit(named)
    if leaks == "refuse":
        found.refuse()
    if found.leaks:
        place = out.with_name(f"{out.name}.{LEAKS_FILE}")
        found.write(place)
        told.print(f"{len(found.leaks)} leaks between splits are named in {place}")
    if leaks == "allow" or not found.leaks:
        return splits.fit
    gone = found.leaking("fit")
    told.print(f"left out: {len(gone)} of {len(splits.fit)} fit rows")
    return [row for row in splits.fit if row.id not in gone]


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar of steps with the latest losses; on a terminal it moves, elsewhere it stays silent."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading the rows once", total=None)

        def watch(done: int, whole: int, losses: Mapping[str, float]) -> None:
            progress.update(task, completed=done, total=whole, description=_losses(losses))

        yield watch


def _losses(losses: Mapping[str, float]) -> str:
    names = {"guard": "guard", "lm": "lm", "eval_guard": "held out", "eval_auroc": "AUROC"}
    return "  ".join(f"{said} {losses[name]:.3f}" for name, said in names.items() if name in losses) or "training"


def _show(record: GuardRecord, out: Path, conversations: SuiteOptions, seed: int) -> None:
    """What came out, and what to do with it."""
    from rich import box
    from rich.table import Table

    run, console = record.run, Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("on held-out rows", "before", "after"):
        table.add_column(name, justify="left" if name == "on held-out rows" else "right")
    for name, said in (("eval_guard", "guard loss"), ("eval_lm", "language-model loss"), ("eval_auroc", "AUROC")):
        table.add_row(said, *(f"{run[when][name]:.3f}" for when in ("before", "best")))
    console.print(table)
    speed = run["trained_tokens"] / run["seconds"]
    console.print(
        f"{record.method}, {run['parameters']:,} parameters, {run['rows'][0]} rows, {run['steps']} steps, best at step "
        f"{run['best']['step']}; {run['seconds']:.0f} s, {speed:,.0f} tokens/s on {run['device']}",
        highlight=False,
        soft_wrap=True,
    )
    if run["cut_rows"]:
        console.print(f"{run['cut_rows']} rows were cut to fit the model", highlight=False)
    told = f"--suite {conversations.suite}" + (f" --seed {seed}" if seed else "")
    console.print(f"next: offmap bench {told} --backbone {out}", highlight=False, markup=False, soft_wrap=True)
