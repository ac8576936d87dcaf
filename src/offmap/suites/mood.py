"""MOOD (Misalignment Out Of Distribution): a restricted training set, and failures that lie outside it.

Feng, Srivastava, Dragan, Laidlaw, "Benchmarking and Improving Monitors for Out-Of-Distribution Alignment Failure in
LLMs", arXiv 2605.21602 (2026). The rows come from the public data set on the hub, at a revision that the caller names,
or from a local copy of it.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from offmap.errors import InputError
from offmap.suites import directory
from offmap.suites.base import Suite

REPOSITORY = "mood-bench/mood-bench"
IN_DISTRIBUTION = ("function-calling", "hh-rlhf-harmless", "hh-rlhf-helpful")
"""The domains that training may see."""
CITATION = (
    "Feng, Srivastava, Dragan, Laidlaw (2026). Benchmarking and Improving Monitors for Out-Of-Distribution Alignment "
    "Failure in LLMs. arXiv 2605.21602."
)

_COMMIT = re.compile(r"[0-9a-f]{40}")


def load(*, revision: str | None = None, data: str | Path | None = None) -> Suite:
    """The MOOD benchmark from the hub or a local copy: three domains to train on, seven unseen failures.

    Training ids get the prefix "train/"; test ids stay as published, so that result files can be compared. Every test
    domain is kept, the benign shift ``swahili`` too.

    Args:
        revision: the commit of the hub's data set to fetch, 40 hexadecimal digits. A branch or a tag can move, and
            then two runs are not on the same rows.
        data: a local copy instead: a directory with ``train-*`` and ``test-*`` Parquet files, in it or under ``data/``.

    Raises:
        InputError: neither or both of the two; the data set cannot be fetched or is not laid out as above; a training
            row of a domain that is not in ``IN_DISTRIBUTION``; or a row that cannot be read.
    """
    if (revision is None) == (data is None):
        found = "neither revision nor data" if data is None else "both revision and data"
        raise InputError(
            f"suite mood: found {found}, wanted one: revision, a 40-digit commit of {REPOSITORY} (its rows may "
            f"change, so no commit is assumed), or data, a directory with a copy"
        )
    root = Path(data) if data is not None else _fetch(str(revision))
    folder = root / "data" if (root / "data").is_dir() else root
    files = {split: directory.find(folder, f"{split}-*.parquet") for split in ("train", "test")}
    where = f"{REPOSITORY} at {revision}" if revision else str(root)
    suite = Suite(
        name="mood",
        train=tuple(msgspec.structs.replace(row, id=f"train/{row.id}") for row in directory.labelled(files["train"])),
        test=tuple(directory.labelled(files["test"])),
        source=f"{where} (sha256 {directory.digest((*files['train'], *files['test']))})",
        licence="see the data set's page",
        citation=CITATION,
    )
    if strange := set(suite.in_distribution) - set(IN_DISTRIBUTION):
        raise InputError(
            f"suite mood: found training rows of {', '.join(sorted(strange))}, wanted only {', '.join(IN_DISTRIBUTION)}"
        )
    directory.check(suite)
    return suite


def _fetch(revision: str) -> Path:
    if not _COMMIT.fullmatch(revision):
        raise InputError(f"suite mood: revision: found {revision!r}, wanted a commit of 40 hexadecimal digits")
    import huggingface_hub

    try:
        copy = huggingface_hub.snapshot_download(
            REPOSITORY, repo_type="dataset", revision=revision, allow_patterns=["*.parquet"]
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"suite mood: {REPOSITORY} at {revision} cannot be fetched: {error}; data = a local copy works offline"
        ) from error
    return Path(copy)
