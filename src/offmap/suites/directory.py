"""A suite read from a directory: ``train-*`` and ``test-*`` files of labelled rows. Other files are ignored.

A row's domain is its own ``domain``, or else the name of its file: ``test-sycophantic.jsonl.gz`` and
``test-sycophantic-00000-of-00002.parquet`` hold rows of "sycophantic". Knows nothing of any particular data set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from offmap.conversation import ENDINGS, Conversation, read
from offmap.errors import InputError
from offmap.suites.base import Suite

_SHARD = re.compile(r"(^|-)\d+-of-\d+$")


def load(path: str | Path) -> Suite:
    """The suite in a directory.

    Args:
        path: holds files named ``train-*`` and ``test-*`` with an ending that ``offmap.conversation.read`` knows.

    Returns:
        A suite named like the directory; its source names the path and the hash of the files.

    Raises:
        InputError: no such directory; no training or no test file; a row that cannot be read, or has no label or no
            domain; an id held twice; or ``check`` finds rows missing.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: found no directory, wanted one with train-* and test-* files")
    train, test = (find(root, f"{split}-*") for split in ("train", "test"))
    suite = Suite(
        name=root.resolve().name,
        train=tuple(labelled(train)),
        test=tuple(labelled(test)),
        source=f"{root} (sha256 {digest((*train, *test))})",
        licence="not stated",
    )
    check(suite)
    return suite


def find(root: Path, pattern: str) -> tuple[Path, ...]:
    """The files under ``root`` that match a glob pattern and can be read, sorted.

    Raises:
        InputError: there is none.
    """
    found = tuple(sorted(file for file in root.glob(pattern) if file.name.endswith(ENDINGS) and file.is_file()))
    if not found:
        raise InputError(f"{root}: found no file {pattern} with one of the endings {', '.join(ENDINGS)}")
    return found


def labelled(files: Sequence[Path]) -> Iterable[Conversation]:
    """The rows of ``files``, each with a label and a domain.

    Raises:
        InputError: a wrong row, a row without a label or a domain, or an id that two files hold.
    """
    home: dict[str, Path] = {}
    for file in files:
        fallback = _domain_of(file)
        for row in read(file):
            if row.unsafe is None:
                raise InputError(f"{file}: row {row.id!r}: found no label, wanted unsafe, malign or safe")
            if not (domain := row.domain or fallback):
                raise InputError(f"{file}: row {row.id!r}: found no domain in the row or the file's name, wanted one")
            if home.setdefault(row.id, file) != file:
                raise InputError(f"{file}: row {row.id!r}: {home[row.id]} holds this id too, wanted unique ids")
            yield msgspec.structs.replace(row, domain=domain) if domain != row.domain else row


def check(suite: Suite) -> None:
    """Refuse a suite on which a monitor cannot be trained or measured.

    Raises:
        InputError: training rows of one class only; a training domain without safe test rows, which are what a
            false-alarm rate is measured on; an id in training and test alike.
    """
    for wanted in (False, True):
        if not any(row.unsafe is wanted for row in suite.train):
            kind = "unsafe" if wanted else "safe"
            raise InputError(f"suite {suite.name}: found no {kind} row among {len(suite.train)} training rows")
    measured = {row.domain for row in suite.test if not row.unsafe}
    if missing := [domain for domain in suite.in_distribution if domain not in measured]:
        raise InputError(
            f"suite {suite.name}: found no safe test row of the training domains {', '.join(missing)}; "
            f"wanted some of each, to measure false alarms on"
        )
    if shared := {row.id for row in suite.train} & {row.id for row in suite.test}:
        some = ", ".join(repr(one) for one in sorted(shared)[:3])
        raise InputError(f"suite {suite.name}: found {len(shared)} ids in training and test alike, such as {some}")


def digest(files: Iterable[Path]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the names and contents of files."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def _domain_of(file: Path) -> str:
    stem = next(file.name.removesuffix(ending) for ending in ENDINGS if file.name.endswith(ending))
    return _SHARD.sub("", stem.partition("-")[2])
