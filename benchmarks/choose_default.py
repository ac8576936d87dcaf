"""How the default's detectors and fusion were chosen: on training rows alone, one in-distribution domain left out.

    python benchmarks/choose_default.py [--suite procedural]

Each in-distribution domain without unsafe rows plays the unknown in turn: detectors are fitted, calibrated and given
their threshold on the other domains; "caught" is the share of the left-out domain's rows that are flagged, "id" the
recall on unsafe threshold rows. No test row is read. The rule: one detector of each family stays in, whatever it adds
here; of the fusions of that set, the one with the highest mean of id and caught over the procedural suite and the
stand-in, each failure and each novelty counting alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from offmap import DEFAULT_DETECTORS, open_backbone
from offmap.evidence import SPAN_STATS
from offmap.feature_store import Cached
from offmap.fusion import Fusion
from offmap.members import Rows, fit_members, needs
from offmap.monitor import rows_of
from offmap.panel import assemble
from offmap.splits import split
from offmap.suites import load

SETS = {
    "guard": ("guard",),
    "distances": ("guard", "mahalanobis", "neighbours"),
    "without all-token perplexity": ("guard", "mahalanobis", "neighbours", "perplexity"),
    "default": tuple(DEFAULT_DETECTORS),
}
Figures = tuple[float, float]


def part(rows: Rows, domain: str, inside: bool) -> Rows:
    """The rows of a domain, or all others."""
    mask = (np.array(rows.features.groups) == domain) == inside
    return Rows(rows.features.take(mask), rows.unsafe[mask])


def figures(fit: Rows, calibrate: Rows, threshold: Rows, domain: str) -> dict[tuple[str, str, float], Figures]:
    """(id recall, share of ``domain`` caught) of each set, method and weight that can be assembled."""
    known = [part(rows, domain, inside=False) for rows in (fit, calibrate, threshold)]
    unknown = [part(rows, domain, inside=True).safe for rows in (calibrate, threshold)]
    members = {member.name: member for member in fit_members(DEFAULT_DETECTORS, *known[:2])}
    found = {}
    for name, names in SETS.items():
        for method in ("bonferroni", "harmonic", "acat"):
            for weight in (0.9, 0.7, 0.5):
                panel = assemble([members[n] for n in names], *known[1:], fusion=Fusion(method, weight))
                caught = np.concatenate([panel.judge(rows).flagged for rows in unknown])
                harmful = panel.judge(known[2].features).flagged[known[2].unsafe]
                found[name, method, weight] = (float(harmful.mean()), float(caught.mean()))
    return found


def main() -> None:
    """Print one line a candidate, means over the left-out domains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="procedural")
    parser.add_argument("--store", type=Path, default=Path("runs/choose_default"))
    args = parser.parse_args()
    suite = load(args.suite)
    backbone = Cached(open_backbone(), args.store)
    splits, wanted = split(suite.train), needs(list(DEFAULT_DETECTORS.values())) | SPAN_STATS
    rows = [rows_of(backbone, part, wanted) for part in (splits.fit, splits.calibrate, splits.threshold)]
    harmful = {row.domain for row in suite.train if row.unsafe}
    each = [figures(*rows, domain) for domain in suite.in_distribution if domain not in harmful]
    print(f"{'detectors':30} {'fusion':12} {'guard weight':>12} {'id':>7} {'caught':>7} {'mean':>7}")
    for key in each[0]:
        name, method, weight = key
        recall, caught = np.mean([found[key] for found in each], axis=0)
        print(f"{name:30} {method:12} {weight:12.1f} {recall:7.3f} {caught:7.3f} {(recall + caught) / 2:7.3f}")


if __name__ == "__main__":
    main()
