"""``offmap fit``: a monitor from labelled conversations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from offmap.cli.backbone_options import POCKET, BackboneOptions, detectors_for
from offmap.cli.checks import require_least, require_share
from offmap.cli.files import read_all
from offmap.cli.progress import bar
from offmap.conversation import Conversation


def fit(
    rows: str,
    out: Path,
    *,
    model: BackboneOptions = POCKET,
    detectors: tuple[str, ...] = (),
    alpha: float = 0.01,
    confidence: float | None = None,
    conditional: bool = False,
    seed: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> None:
    """Fit a monitor on labelled conversations and write it as a directory.

    Parameters
    ----------
    rows
        Labelled conversations (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), or a suite whose training rows serve.
    out
        The directory to write.
    model
        Which model reads the rows, and how.
    detectors
        Names from `offmap detectors`; several may be given. The default set otherwise.
    alpha
        The false-positive rate aimed at on safe in-distribution traffic.
    confidence
        Certify the threshold with this confidence, 0.95 for example; refused if the rows are too few.
    conditional
        Take what length, tools and turns explain out of the scores of OOD detectors.
    seed
        Of the deal into fit, calibrate and threshold rows.
    on_error
        raise: stop at the first malformed row. skip: leave such rows out and say so.
    """
    from offmap.artifacts import require_free
    from offmap.cli.inspect import show
    from offmap.detectors import DETECTORS
    from offmap.monitor import Monitor

    require_share("alpha", alpha)
    require_share("confidence", confidence)
    require_least("seed", seed, 0)
    require_free(out)
    named = {name: DETECTORS.from_spec(name) for name in detectors}
    labelled = _labelled(rows, seed, on_error)
    with bar("conversations", len(labelled)) as tick:
        opened = model.open(tick)
        chosen = named or detectors_for(opened)
        monitor = Monitor.fit(
            opened, chosen, labelled, alpha=alpha, confidence=confidence, conditional=conditional, seed=seed
        )
    monitor.save(out)
    show(out, Console())


def _labelled(rows: str, seed: int, on_error: Literal["raise", "skip"]) -> Sequence[Conversation]:
    """The rows of a file, or the training rows of a suite."""
    from offmap.suites import load

    path = Path(rows)
    return read_all(path, on_error) if path.is_file() or path.suffix else load(rows, seed=seed).train
