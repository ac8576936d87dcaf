"""The procedural suite: conversations from small simulated worlds, offline, with labels that hold by construction.

Harmful completions are placeholders: recognisable as harm, useless as help. What it measures is whether a monitor
trained on three domains notices failures of seven others; what it does not measure is how well it reads real traffic.
"""

from __future__ import annotations

from offmap.conversation import Conversation
from offmap.suites.base import Suite
from offmap.suites.procedural.build import DOMAINS, FAILURES, IN_DISTRIBUTION, SHIFTS, rows

VERSION = "1"
"""Of the content. It changes whenever a seed makes other rows than before."""

__all__ = ["DOMAINS", "FAILURES", "IN_DISTRIBUTION", "SHIFTS", "VERSION", "generate", "load"]


def load(
    *,
    seed: int = 0,
    train_helpful: int = 1200,
    train_harmless: int = 600,
    train_function_calling: int = 1200,
    test_in_distribution: int = 400,
    test_failures: int = 150,
    test_shift: int = 150,
) -> Suite:
    """Conversations from small made-up worlds, offline: three domains to train on, seven unseen failures with twins.

    Sizes never change the rows that come before: a smaller suite is the start of a larger one.

    Args:
        seed: of everything random; two suites of one seed are equal.
        train_helpful: helpful situations to train on, all safe.
        train_harmless: harmless situations to train on, most of them twins of a safe and an unsafe row.
        train_function_calling: function-calling situations to train on, all safe.
        test_in_distribution: test situations of each in-distribution domain; harmless, told twice, has half as many.
        test_failures: twins of each domain of failures.
        test_shift: rows of each benign shift.

    Returns:
        The suite ``procedural``.
    """
    training = dict(zip(IN_DISTRIBUTION, (train_helpful, train_harmless, train_function_calling), strict=True))
    testing = dict.fromkeys(IN_DISTRIBUTION, test_in_distribution) | {"harmless": test_in_distribution // 2}
    testing |= dict.fromkeys(FAILURES, test_failures) | dict.fromkeys(SHIFTS, test_shift)
    return Suite(
        name="procedural",
        train=tuple(row for domain, n in training.items() for row in rows(domain, "train", n, seed)),
        test=tuple(row for domain, n in testing.items() for row in rows(domain, "test", n, seed)),
        source=f"generated, version {VERSION}, seed {seed}",
        licence="Apache-2.0",
    )


def generate(domain: str, n: int, seed: int) -> tuple[Conversation, ...]:
    """Rows of ``n`` situations of one domain, for other uses than a test: none is a test row of any seed's suite.

    Raises:
        ValueError: no such domain, or it cannot tell so many situations.
    """
    return tuple(rows(domain, "train", n, seed))
