"""One pass against three: CPU time and peak memory of offmap and of mood-bench 1.0.0 on the same model and rows.

mood-bench scores with a guard, with perplexity and with the Mahalanobis distance, by a forward pass each; offmap takes
all three scores from one. Every run is a process of its own with one thread. README.md says what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from workload import SAFE, VOCABULARY, Plan, prepare

QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
FASTER, SMALLER, CLOSE = 6.0, 2.0, 1e-4
"""The goals: times less CPU time, times less memory, greatest relative difference of a perplexity."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Run:
    """What one process measured: user and system seconds, MiB, three scores for each row, the token ids it read."""

    scoring: float
    whole: float
    peak: float
    guard: list[float] = field(repr=False)
    perplexity: list[float] = field(repr=False)
    mahalanobis: list[float] = field(repr=False)
    ids: list[list[int]] = field(repr=False)


def cpu() -> float:
    """User and system seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def alone(task: Callable[..., Result], *arguments: object) -> Result:
    """Run a task in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def offmap_run(plan: Plan) -> Run:
    """Three scores a row from one pass."""
    import msgspec
    import numpy as np
    from scipy.special import softmax
    from transformers import AutoTokenizer

    from offmap.backbones.source import BackboneSource, open_backbone
    from offmap.conversation import Conversation
    from offmap.detectors import Mahalanobis, Perplexity
    from offmap.features import Features, FeatureSpec, Pool, TokenStat
    from offmap.rendering import Renderer

    rows = msgspec.json.decode((plan.work / "rows.json").read_bytes(), type=list[Conversation])[: plan.rows]
    head, safe = (np.load(plan.work / name) for name in ("head.npy", "safe.npy"))
    last = (-1, Pool.LAST)
    counts = np.ones((4, SAFE), np.int32)
    states = Features(("",) * SAFE, ("",) * SAFE, *counts, {last: safe})
    distance, surprise = Mahalanobis(reference=True).fit(states), Perplexity(over="conversation").fit(states)
    backbone = open_backbone(BackboneSource(plan.model, dtype=plan.dtype))
    start = cpu()
    # The reference marks surprising tokens by log-probability and entropy: both are taken here too.
    x = backbone(rows, FeatureSpec(frozenset({last}), frozenset({TokenStat.LOGPROB, TokenStat.ENTROPY})))
    guard = softmax(x.hidden[last] @ head.T, axis=1)[:, 1]
    scores = [column.tolist() for column in (guard, surprise.score(x), distance.score(x))]
    scoring, whole, most = cpu() - start, cpu(), peak()
    ids = [row.ids.tolist() for row in Renderer(AutoTokenizer.from_pretrained(plan.model))(rows)]
    return Run(scoring, whole, most, *scores, ids)


class Float32Torch:
    """The module torch for the reference's Mahalanobis distances: numpy cannot read them in bfloat16."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return torch.float32 if name == "bfloat16" else getattr(torch, name)


def reference_run(plan: Plan, batch_size: int) -> Run:
    """Three scores a row from mood-bench's own three pipelines, over one copy of the weights."""
    sys.path.insert(0, str(plan.reference))
    import numpy as np
    import torch
    from mood_bench.pipeline import GuardModelPipeline, MahalanobisPipeline, PerplexityPipeline, mahalanobis
    from mood_bench.tokenize import load_tokenizer
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    mahalanobis.t = Float32Torch()
    rows = json.loads((plan.work / "texts.json").read_text())[: plan.rows]
    head, safe = (np.load(plan.work / name) for name in ("head.npy", "safe.npy"))
    inverse = np.linalg.inv(np.cov(safe.astype(np.float64), rowvar=False) + 1e-6 * np.eye(safe.shape[1]))
    gaussian = {"mean": torch.from_numpy(safe.mean(axis=0)), "inv_cov": torch.from_numpy(inverse).float()}
    precision = getattr(torch, plan.dtype)
    tokenizer = load_tokenizer(plan.model)
    lm = AutoModelForCausalLM.from_pretrained(plan.model, dtype=precision).eval()
    guard = AutoModelForSequenceClassification.from_pretrained(plan.model, dtype=precision, num_labels=2).eval()
    guard.model = lm.model
    guard.score.weight.data = torch.from_numpy(head).to(precision)
    pipelines = (
        GuardModelPipeline(guard, tokenizer),
        PerplexityPipeline(lm, tokenizer),
        MahalanobisPipeline(guard, tokenizer, **gaussian),
    )
    start = cpu()
    scores = [pipeline(rows, batch_size=batch_size)[0].tolist() for pipeline in pipelines]
    scoring, whole, most = cpu() - start, cpu(), peak()
    return Run(scoring, whole, most, *scores, [tokenizer(text)["input_ids"] for text in rows])


def furthest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The greatest relative difference of scores of the same rows."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def padded(lengths: Sequence[int], batch_size: int) -> float:
    """How many tokens the reference computes for each that it reads."""
    batches = [lengths[at : at + batch_size] for at in range(0, len(lengths), batch_size)]
    return sum(max(batch) * len(batch) for batch in batches) / sum(lengths)


def measure(plan: Plan, repeats: int, subset: int, *, large: bool) -> dict[str, list[Run]]:
    """Every run: ours before, between and after theirs; and both in float32, theirs unbatched."""
    runs: dict[str, list[Run]] = {name: [] for name in ("offmap", "batch 4", "batch 16", "exact", "unbatched")}
    for _ in range(repeats):
        runs["offmap"].append(alone(offmap_run, plan))
        runs["batch 4"].append(alone(reference_run, plan, 4))
    runs["offmap"].append(alone(offmap_run, plan))
    if large:
        runs["batch 16"].append(alone(reference_run, plan, 16))
    exact = replace(plan, dtype="float32", rows=subset)
    runs["exact"].append(alone(offmap_run, exact))
    runs["unbatched"].append(alone(reference_run, exact, 1))
    return {name: made for name, made in runs.items() if made}


def report(runs: dict[str, list[Run]], lengths: list[int], plan: Plan) -> dict[str, Any]:
    """The figures of a run; medians where there are several."""
    ours, exact, alone_ = runs["offmap"][0], runs["exact"][0], runs["unbatched"][0]
    cost = {name: median(run.scoring for run in made) for name, made in runs.items()}
    most = {name: median(run.peak for run in made) for name, made in runs.items()}
    differs = {
        name: furthest(getattr(exact, name), getattr(alone_, name)) for name in ("guard", "perplexity", "mahalanobis")
    }
    batched = runs["batch 4"][0].perplexity[: len(alone_.perplexity)]
    return {
        "rows": len(lengths),
        "tokens": sum(lengths),
        "lengths": [min(lengths), int(median(lengths)), max(lengths)],
        "padded_to": {f"batch {size}": padded(lengths, size) for size in (4, 16)},
        "model": {"vocabulary": VOCABULARY, "hidden": plan.hidden, "layers": plan.layers, "dtype": plan.dtype},
        "cpu_seconds": cost,
        "peak_mib": most,
        "each": {name: [[run.scoring, run.whole, run.peak] for run in made] for name, made in runs.items()},
        "times_less_cpu": {name: cost[name] / cost["offmap"] for name in cost if name.startswith("batch")},
        "times_less_memory": {name: most[name] / most["offmap"] for name in most if name.startswith("batch")},
        "same_ids": ours.ids == runs["batch 4"][0].ids and exact.ids == alone_.ids,
        "greatest_relative_difference": differs,
        "reference_batch_4_from_its_unbatched_perplexity": furthest(batched, alone_.perplexity),
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """The goals that were not reached."""
    found = {
        f"at least {FASTER:g}x less CPU time than its batch of 4": figures["times_less_cpu"]["batch 4"] >= FASTER,
        f"at least {SMALLER:g}x less memory than its batch of 4": figures["times_less_memory"]["batch 4"] >= SMALLER,
        f"perplexities within {CLOSE:g}": figures["greatest_relative_difference"]["perplexity"] <= CLOSE,
        "the same token ids": figures["same_ids"],
    }
    return [goal for goal, reached in found.items() if not reached]


def show(figures: dict[str, Any]) -> None:
    """The table."""
    model, lengths = figures["model"], figures["lengths"]
    shape = f"{model['hidden']} wide, {model['layers']} layers, vocabulary {model['vocabulary']}, {model['dtype']}"
    print(f"{figures['rows']} rows, {figures['tokens']} tokens (median {lengths[1]}, up to {lengths[2]}); {shape}\n")
    print(f"{'':24}{'CPU s':>10}{'ratio':>8}{'peak MiB':>11}{'ratio':>8}")
    for name in ("offmap", "batch 4", "batch 16"):
        if name in figures["cpu_seconds"]:
            seconds, mib = figures["cpu_seconds"][name], figures["peak_mib"][name]
            ratios = [figures[kind].get(name, 1.0) for kind in ("times_less_cpu", "times_less_memory")]
            label = name if name == "offmap" else f"mood-bench, {name}"
            print(f"{label:24}{seconds:10.1f}{ratios[0]:8.2f}{mib:11.0f}{ratios[1]:8.2f}")
    print("\nGreatest relative difference from mood-bench unbatched, both in float32:")
    for name, difference in figures["greatest_relative_difference"].items():
        print(f"  {name:14}{difference:.1e}")
    itself = figures["reference_batch_4_from_its_unbatched_perplexity"]
    print(f"Its perplexity in batches of 4 differs from its own unbatched one by up to {itself:.1e}.")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="CPU time and peak memory of offmap and of mood-bench 1.0.0.")
    parser.add_argument("--reference", type=Path, default=Path(sys.prefix) / "reference", help="where mood-bench lies")
    parser.add_argument("--data", type=Path, help="a directory of labelled rows, in place of generated ones")
    parser.add_argument("--out", type=Path, default=Path("runs/one_pass.json"), help="the figures as JSON")
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--subset", type=int, default=24, help="rows that are also scored unbatched")
    parser.add_argument("--repeats", type=int, default=1, help="runs of the reference at batch 4; of offmap one more")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--no-batch-16", action="store_true", help="leave out what is only information")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def precision(wanted: str) -> str:
    """``auto`` is the reference's own default, bfloat16, where the processor multiplies in it."""
    if wanted != "auto":
        return wanted
    import torch

    fast = torch.cpu.get_capabilities()
    return "bfloat16" if fast.get("avx512_bf16") or fast.get("amx_bf16") else "float32"


def main() -> int:
    """Measure, show, write; 1 if a goal was missed, 2 if the reference is not installed."""
    asked = options()
    if not (asked.reference / "mood_bench").is_dir():
        print(f"{asked.reference}: no mood-bench; benchmarks/README.md says how to install it", file=sys.stderr)
        return 2
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as work:
        dtype = alone(precision, asked.dtype)
        shape = asked.hidden, asked.layers, dtype, asked.seed
        plan = Plan(Path(work), asked.reference.resolve(), asked.data, asked.rows, *shape)
        lengths = alone(prepare, plan)
        figures = report(measure(plan, asked.repeats, asked.subset, large=not asked.no_batch_16), lengths, plan)
    figures["missed"] = missed(figures)
    show(figures)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    print("\n" + ("Missed: " + "; ".join(figures["missed"]) if figures["missed"] else "Every goal is reached."))
    return bool(figures["missed"])


if __name__ == "__main__":
    sys.exit(main())
