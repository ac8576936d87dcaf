"""What a monitor costs beside the forward pass that it reads: CPU and wall time of both, taken in turn in one process.

    python benchmarks/overhead.py [--rows FILE]

README.md says what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
TEST = {"test_in_distribution": 200, "test_failures": 60, "test_shift": 60}
"""Sizes of the procedural suite's test rows, about 1,500; the monitor is fitted on all its training rows."""
PASSES = ("trunk", "language model", "features", "monitor")
Times = dict[str, list[tuple[float, float]]]
"""CPU and wall seconds of each repetition, by what ran."""


class Rendered:
    """Stands in for a backbone's renderer: gives the tokens that it rendered before, so that neither side pays."""

    def __init__(self, render: Any, rows: Sequence[Conversation]) -> None:
        self._render = render
        self._known = dict(zip((row.id for row in rows), render(rows), strict=True))

    def __call__(self, batch: Sequence[Conversation]) -> list[Any]:
        """The tokens of each conversation."""
        return [self._known[row.id] for row in batch]


class Bare:
    """The model of transformers on the very batches that the backbone makes, padded, on as many threads."""

    def __init__(self, model: Any, backbone: TorchBackbone, rows: Sequence[Conversation]) -> None:
        import numpy as np
        import torch

        rendered = backbone._render(rows)
        order = sorted(range(len(rows)), key=lambda i: -len(rendered[i]))
        self._batches = []
        for group in backbone._groups(rendered, order):
            ids = np.zeros((len(group), backbone._width(len(rendered[group[0]]))), np.int64)
            for line, row in enumerate(group):
                ids[line, : len(rendered[row])] = rendered[row].ids
            self._batches.append(torch.from_numpy(ids))
        self._model, self._trunk, self._precision = model, backbone._decoder, backbone._precision

    def language_model(self) -> None:
        """Every logit of every token; nobody reads them."""
        self._each(lambda ids: self._model(input_ids=ids, use_cache=False).logits)

    def trunk(self) -> None:
        """The last hidden states, without the LM head."""
        self._each(lambda ids: self._trunk(input_ids=ids, use_cache=False).last_hidden_state)

    @property
    def tokens(self) -> int:
        """Padding included."""
        return sum(batch.numel() for batch in self._batches)

    def _each(self, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        import torch

        from offmap.backbones.torch import PASSES as MOST

        def one(ids: torch.Tensor) -> None:
            with torch.inference_mode(), self._precision(ids.device):
                run(ids)

        workers = min(MOST, torch.get_num_threads(), len(self._batches))
        if workers == 1:
            for ids in self._batches:
                one(ids)
            return
        each = torch.get_num_threads() // workers
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            list(pool.map(one, self._batches))


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


def prepare(file: Path | None, seed: int, dtype: str) -> tuple[Monitor, Bare, list[Conversation], float]:
    """A fitted monitor, the bare pass, the rows that both read, and the CPU seconds that rendering them takes."""
    from offmap import DEFAULT_DETECTORS, Monitor
    from offmap.conversation import read
    from offmap.suites.procedural import load

    model, backbone = opened(dtype)
    suite = load(seed=seed, **TEST)
    monitor = Monitor.fit(backbone, DEFAULT_DETECTORS, suite.train, seed=seed)
    rows = list(read(file)) if file else list(suite.test)
    start = time.process_time()
    backbone._render = Rendered(backbone._render, rows)
    return monitor, Bare(model, backbone, rows), rows, time.process_time() - start


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(monitor: Monitor, bare: Bare, rows: list[Conversation], repeats: int) -> Times:
    """Everything once unmeasured, then all in turn, every other time backwards."""
    runs: dict[str, Callable[[], object]] = {
        "trunk": bare.trunk,
        "language model": bare.language_model,
        "features": lambda: monitor.backbone(rows, monitor.reads),
        "monitor": lambda: monitor.score(rows),
    }
    for run in runs.values():
        run()
    times: Times = {name: [] for name in PASSES}
    for repeat in range(repeats):
        for name in PASSES if repeat % 2 else reversed(PASSES):
            times[name].append(timed(runs[name]))
    return times


def ratios(times: Times, over: str, clock: int) -> dict[str, list[float]]:
    """Of each run to ``over`` in the same repetition: the median, the lowest, the highest."""
    found = {}
    for name, runs in times.items():
        each = [run[clock] / bare[clock] for run, bare in zip(runs, times[over], strict=True)]
        found[name] = [median(each), min(each), max(each)]
    return found


def report(times: Times, **facts: object) -> dict[str, Any]:
    """All figures."""
    bases = {over: {"cpu": ratios(times, over, 0), "wall": ratios(times, over, 1)} for over in PASSES[:2]}
    middle = {name: [median(clock) for clock in zip(*runs, strict=True)] for name, runs in times.items()}
    return {**facts, "goal": GOAL, "median_seconds": middle, "each": times, "ratio_to": bases}


def show(figures: dict[str, Any]) -> None:
    """The table."""
    facts = "{rows} rows, {tokens} tokens with padding; {dtype}, {threads} thread(s), {repeats} repetitions"
    print(facts.format(**figures))
    print(f"{'':16}{'CPU s':>8}{'wall s':>8}   CPU / language model   CPU / trunk            wall / language model")
    for name, (cpu, wall) in figures["median_seconds"].items():
        told = []
        for over, clock in (("language model", "cpu"), ("trunk", "cpu"), ("language model", "wall")):
            told.append("{:.3f} ({:.3f} to {:.3f})".format(*figures["ratio_to"][over][clock][name]))
        print(f"{name:16}{cpu:8.2f}{wall:8.2f}   {'  '.join(told)}")
    print(f"Rendering and tokenising, in none of these: {figures['rendering_cpu_seconds']:.2f} CPU s.")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time of the default monitor beside that of the bare forward pass.")
    parser.add_argument("--rows", type=Path, help="conversations to score, in place of procedural test rows")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/overhead.json"), help="the figures as JSON")
    return parser.parse_args()


def main() -> int:
    """Measure, show, write; 1 if the goal was missed."""
    asked = options()
    os.environ |= {"OMP_NUM_THREADS": str(asked.threads), "OPENBLAS_NUM_THREADS": str(asked.threads)}
    import torch

    torch.set_num_threads(asked.threads)
    monitor, bare, rows, rendering = prepare(asked.rows, asked.seed, asked.dtype)
    figures = report(
        measure(monitor, bare, rows, asked.repeats),
        rows=len(rows),
        tokens=bare.tokens,
        dtype=monitor.backbone.source.dtype,
        threads=asked.threads,
        repeats=asked.repeats,
        rendering_cpu_seconds=rendering,
    )
    show(figures)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    reached = figures["ratio_to"]["language model"]["cpu"]["monitor"][0] <= GOAL
    print(f"The goal, at most {GOAL:g} of the language model's own pass, is {'reached' if reached else 'missed'}.")
    return not reached


if __name__ == "__main__":
    sys.exit(main())
