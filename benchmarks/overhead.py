"""What a monitor costs beside the forward pass that it reads: CPU time of both, taken in turn in one process.

    python benchmarks/overhead.py

README.md says what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from offmap.backbones.torch import TorchBackbone
    from offmap.conversation import Conversation
    from offmap.monitor import Monitor

GOAL = 1.15
"""The most that features and detectors may cost, in CPU time of the language model's own pass."""
TRAIN = {"train_helpful": 600, "train_harmless": 300, "train_function_calling": 600}
"""Sizes of the procedural suite that the monitor is fitted on, 1,800 rows."""
TRUNK, MODEL, FEATURES, MONITOR = "trunk", "language model", "features", "monitor"
Times = dict[str, list[float]]
"""CPU seconds of each repetition, by what ran."""


class Bare:
    """The model of transformers on the very batches that the backbone makes, padded."""

    def __init__(self, model: Any, backbone: TorchBackbone, rows: list[Conversation]) -> None:
        import torch

        rendered = backbone.render(rows)
        order = sorted(range(len(rows)), key=lambda i: -len(rendered[i]))
        self._batches = []
        for group in backbone._groups(rendered, order):
            ids = torch.zeros((len(group), backbone._width(len(rendered[group[0]]))), dtype=torch.int64)
            for line, row in enumerate(group):
                ids[line, : len(rendered[row])] = torch.from_numpy(rendered[row].ids)
            self._batches.append(ids)
        self.tokens, self.padded = sum(map(len, rendered)), sum(ids.numel() for ids in self._batches)
        self._model, self._trunk, self._precision = model, backbone._decoder, backbone._precision

    def model(self) -> None:
        """Every logit of every token; nobody reads them."""
        self._each(lambda ids: self._model(input_ids=ids, use_cache=False).logits)

    def trunk(self) -> None:
        """The last hidden states, without the LM head."""
        self._each(lambda ids: self._trunk(input_ids=ids, use_cache=False).last_hidden_state)

    def _each(self, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        import torch

        with torch.inference_mode(), self._precision(torch.device("cpu")):
            for ids in self._batches:
                run(ids)


def opened(dtype: str) -> tuple[Any, TorchBackbone]:
    """Pocket as transformers has it and as a backbone, on one copy of the weights."""
    import torch

    from offmap.backbones.loading import load_model
    from offmap.backbones.source import BackboneSource
    from offmap.backbones.torch import TorchBackbone

    source = BackboneSource(dtype=dtype)
    loaded = load_model(source, "cpu")
    backbone = TorchBackbone(loaded, source, 2048, None)
    # Its head in the precision of the product, as the trunk's weights are: the bare pass shall not pay for a cast.
    head = loaded.model.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().to(backbone._dtype), requires_grad=False)
    return loaded.model, backbone


def prepare(n_rows: int, dtype: str, seed: int) -> tuple[Monitor, Bare, list[Conversation]]:
    """A fitted monitor, the bare pass, and the rows that both read: test rows of all domains, rendered beforehand."""
    from offmap import DEFAULT_DETECTORS, Monitor
    from offmap.suites.procedural import load

    model, backbone = opened(dtype)
    suite = load(seed=seed, **TRAIN)
    monitor = Monitor.fit(backbone, DEFAULT_DETECTORS, suite.train, seed=seed)
    rows = list(suite.test[:: max(1, len(suite.test) // n_rows)][:n_rows])
    bare = Bare(model, backbone, rows)
    known = dict(zip((row.id for row in rows), backbone.render(rows), strict=True))
    backbone.render = lambda batch: [known[row.id] for row in batch]  # type: ignore[assignment]
    return monitor, bare, rows


def measure(monitor: Monitor, bare: Bare, rows: list[Conversation], repeats: int) -> Times:
    """Everything once unmeasured, then all in turn, every other time backwards."""
    runs: dict[str, Callable[[], object]] = {
        TRUNK: bare.trunk,
        MODEL: bare.model,
        FEATURES: lambda: monitor.backbone(rows, monitor.reads),
        MONITOR: lambda: monitor.score(rows),
    }
    times: Times = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name in runs if repeat % 2 else reversed(runs):
            start = time.process_time()
            runs[name]()
            times[name].append(time.process_time() - start)
    return {name: found[1:] for name, found in times.items()}


def ratios(times: Times, over: str) -> dict[str, list[float]]:
    """Of each run to ``over`` in the same repetition: the median, the lowest, the highest."""
    each = {name: [a / b for a, b in zip(found, times[over], strict=True)] for name, found in times.items()}
    return {name: [median(found), min(found), max(found)] for name, found in each.items()}


def show(figures: dict[str, Any]) -> None:
    """The table."""
    print("{rows} rows, {tokens} tokens, {padded} with padding; {dtype}, {repeats} repetitions".format(**figures))
    print(f"{'':16}{'CPU s':>8}   {'of the language model':24}of its trunk")
    for name, found in figures["cpu_seconds"].items():
        told = ("{:.3f} ({:.3f} to {:.3f})".format(*figures["ratio_to"][over][name]) for over in (MODEL, TRUNK))
        print(f"{name:16}{median(found):8.2f}   {'   '.join(told)}")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="CPU time of the default monitor beside that of the bare pass.")
    parser.add_argument("--rows", type=int, default=160, help="procedural test rows to score")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/overhead.json"), help="the figures as JSON")
    return parser.parse_args()


def main() -> int:
    """Measure, show, write; 1 if the goal was missed."""
    asked = options()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    monitor, bare, rows = prepare(asked.rows, asked.dtype, asked.seed)
    times = measure(monitor, bare, rows, asked.repeats)
    figures = {
        "rows": len(rows),
        "tokens": bare.tokens,
        "padded": bare.padded,
        "dtype": monitor.backbone.source.dtype,  # type: ignore[attr-defined]
        "repeats": asked.repeats,
        "detectors": [member.name for member in monitor.panel.members],
        "cpu_seconds": times,
        "ratio_to": {over: ratios(times, over) for over in (MODEL, TRUNK)},
    }
    show(figures)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    reached = figures["ratio_to"][MODEL][MONITOR][0] <= GOAL
    print(f"The goal, at most {GOAL:g} of the language model's own pass, is {'reached' if reached else 'missed'}.")
    return not reached


if __name__ == "__main__":
    sys.exit(main())
