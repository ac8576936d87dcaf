"""Does training the language model beside the guard cost the guard recall? Four trunks, several seeds.

    python benchmarks/joint_training.py [--suite procedural] [--out runs/joint] [--seeds 3]

Frozen: the guard probe on the trunk as it is. Guard only: ``lm_weight`` 0. Joint: at several weights. Every seed deals
the training rows anew, so the seeds' spread holds that of rows, order and bootstraps. Counted on the suite's test rows,
which nothing is fitted to: recall on known harm at 1 % false alarms on safe in-distribution rows, recall on the
failures, AUROC in distribution, and the perplexity of safe replies. Interrupted, it goes on with the run it was in.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from scipy.stats import mannwhitneyu, t

from offmap.atomic import write_whole
from offmap.backbones import BackboneSource
from offmap.backbones.torch import TorchBackbone
from offmap.bench.metrics import recall, threshold_at
from offmap.conversation import Conversation
from offmap.defaults import default_detectors
from offmap.detectors import Detector, Perplexity
from offmap.members import needs
from offmap.monitor import rows_of
from offmap.splits import split
from offmap.suites import Suite, load
from offmap.train import TrainOptions, train

WEIGHTS = {"guard only": 0.0, "joint, 0.3": 0.3, "joint, 1": 1.0}
FROZEN = "frozen trunk, probe"
FIGURES = ("known harm", "failures", "AUROC", "perplexity")


@dataclass(frozen=True)
class Plan:
    """What all runs share."""

    suite: Suite
    base: str
    out: Path
    epochs: float


def measure(plan: Plan, name: str, seed: int) -> dict[str, float]:
    """The figures of one run, computed once."""
    place = plan.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    kept = place / "figures.json"
    if kept.is_file():
        return msgspec.json.decode(kept.read_bytes(), type=dict[str, float])
    fit = split(plan.suite.train, seed).fit
    source = BackboneSource(plan.base)
    if name in WEIGHTS:
        options = TrainOptions(lm_weight=WEIGHTS[name], epochs=plan.epochs, seed=seed)
        train(fit, source, place / "guard", options, split_seed=seed)
        source = BackboneSource(str(place / "guard"))
    found = figures(plan.suite, TorchBackbone.load(source), fit)
    write_whole(kept, msgspec.json.encode(found))
    return found


def figures(suite: Suite, backbone: TorchBackbone, fit: tuple[Conversation, ...]) -> dict[str, float]:
    """What is counted on the test rows."""
    guard, perplexity = default_detectors(backbone)["guard"], Perplexity("assistant")
    detectors: list[Detector] = [guard, perplexity]
    seen = rows_of(backbone, fit, guard.needs())
    test = rows_of(backbone, suite.test, needs(detectors))
    scores = guard.fit(seen.safe, seen.harmful).score(test.features)
    domains = np.array([row.domain for row in suite.test])
    familiar = np.isin(domains, suite.in_distribution)
    safe, harm = scores[familiar & ~test.unsafe], scores[familiar & test.unsafe]
    threshold = threshold_at(safe, 0.01)
    caught = [recall(scores[test.unsafe & (domains == name)], threshold) for name in suite.failures]
    surprise = perplexity.fit(seen.safe, None).score(test.features.take(np.flatnonzero(familiar & ~test.unsafe)))
    return {
        "known harm": 100 * recall(harm, threshold),
        "failures": 100 * float(np.mean(caught)),
        "AUROC": float(mannwhitneyu(harm, safe).statistic / (len(harm) * len(safe))),
        "perplexity": float(np.exp(np.nanmean(surprise))),
    }


def line(name: str, runs: list[dict[str, float]]) -> str:
    """Means over the seeds with 95 % intervals of the mean (Student's t)."""
    cells = []
    for figure in FIGURES:
        values = np.array([run[figure] for run in runs])
        half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        digits = 3 if figure == "AUROC" else 1
        cells.append(f"{values.mean():.{digits}f} ± {half:.{digits}f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Run what is missing, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="procedural")
    parser.add_argument("--base", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("runs/joint"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0)
    args = parser.parse_args()
    plan = Plan(load(args.suite, seed=0), args.base, args.out, args.epochs)
    told = Console(stderr=True)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (FROZEN, *WEIGHTS)}
    for seed in range(args.seeds):
        for name, found in runs.items():
            told.print(f"seed {seed}: {name}")
            found.append(measure(plan, name, seed))
    lines = [f"| | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    text = "\n".join([*lines, *(line(name, found) for name, found in runs.items())])
    write_whole(args.out / "joint.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
