"""Make the monitor that the package brings: fit it on generated conversations, write it into the package.

    python recipes/pocket/monitor.py [--out src/offmap/monitors/pocket]

It is small on purpose: one distance, single words in the guard of words, four guard heads, so that backbone and monitor
together stay under 8 MB. Everything it learns from is generated here. In float32, which every processor has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from offmap import Monitor
from offmap.backbones import BackboneSource, open_backbone
from offmap.detectors import (
    Detector,
    Excess,
    GuardProbe,
    LexicalGuard,
    Mahalanobis,
    Perplexity,
    SurpriseWindow,
)
from offmap.features import Pool
from offmap.suites import load

DETECTORS: dict[str, Detector] = {
    "guard": GuardProbe(heads=4),
    "lexical guard": LexicalGuard(pairs=False),
    "mahalanobis": Mahalanobis(layers=(-1,), pools=(Pool.ASSISTANT,)),
    "excess": Excess(over="conversation"),
    "window": SurpriseWindow(over="conversation"),
    "perplexity": Perplexity(over="conversation"),
}


def main() -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/offmap/monitors/pocket"))
    args = parser.parse_args()
    backbone = open_backbone(BackboneSource(dtype="float32"))
    monitor = Monitor.fit(backbone, DETECTORS, load("procedural").train)
    monitor.save(args.out)
    print(sum(file.stat().st_size for file in args.out.iterdir()), "bytes")


if __name__ == "__main__":
    main()
