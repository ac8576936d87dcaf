"""``offmap bench``: from conversations to recall on failures that nobody trained for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from offmap.bench import Outcome, Report


def bench(
    *,
    suite: str = "procedural",
    out: Path = Path("runs/bench"),
    backbone: str = "pocket",
    revision: str | None = None,
    suite_data: Path | None = None,
    suite_revision: str | None = None,
    alpha: float = 0.01,
    confidence: float | None = None,
    seed: int = 0,
    resamples: int = 1000,
    json: bool = False,
) -> None:
    """Fit monitors on a suite's training rows, meet its failures, print a table and write a report.

    Parameters
    ----------
    suite
        procedural, mood, or a directory that holds train-* and test-* files.
    out
        Where report.json, report.html, scores.parquet, the default monitor and the cached features go.
    backbone
        pocket, a local Hugging Face model directory, or a hub id with --revision.
    revision
        The pinned revision of a backbone from the hub.
    suite_data
        A local copy of a suite that is otherwise fetched (mood).
    suite_revision
        The pinned revision of a suite that is fetched.
    alpha
        The false-positive rate aimed at on safe in-distribution traffic.
    confidence
        Certify the default monitor's threshold with this confidence, 0.95 for example.
    seed
        Of generated suites, of the deal into splits and of the bootstrap.
    resamples
        Bootstrap resamples behind the intervals.
    json
        Print report.json instead of the table.
    """
    _check(out, alpha, confidence, resamples)
    from offmap.backbones import open_backbone
    from offmap.bench import evaluate, run
    from offmap.cli.progress import bar
    from offmap.feature_store import Cached
    from offmap.suites import load

    loaded = load(suite, seed=seed, revision=suite_revision, data=suite_data)
    with bar("conversations", len(loaded.train) + len(loaded.test)) as tick:
        opened = open_backbone(backbone, revision=revision, progress=tick)
        cached = Cached(opened, out / "features", progress=tick)
        outcome = run(loaded, cached, alpha=alpha, confidence=confidence, seed=seed)
    report = evaluate(outcome.scores, resamples=resamples)
    _write(outcome, report, out)
    _show(report, out, json)


def _check(out: Path, alpha: float, confidence: float | None, resamples: int) -> None:
    from offmap.artifacts import require_free
    from offmap.cli.checks import require_packages, require_share
    from offmap.errors import InputError

    require_share("alpha", alpha)
    require_share("confidence", confidence)
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; at least 1 is wanted")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: found a file, wanted a directory or a new name")
    require_free(out / "monitor")
    require_packages("bench", ("altair", "vl_convert", "sklearn"))


def _write(outcome: Outcome, report: Report, out: Path) -> None:
    from offmap.bench.report import write_html, write_json

    write_json(report, out / "report.json")
    write_html(report, outcome.scores, out / "report.html")
    outcome.scores.save(out / "scores.parquet")
    outcome.monitor.save(out / "monitor")


def _show(report: Report, out: Path, json: bool) -> None:
    from offmap.bench.table import print_table

    if json:
        print((out / "report.json").read_text(encoding="utf-8"))  # noqa: T201
        return
    console = Console()
    print_table(report, console)
    console.print(f"report {out / 'report.html'}\nmonitor {out / 'monitor'}", highlight=False, markup=False)
