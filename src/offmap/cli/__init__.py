"""The command line: one module a command, generated from function signatures. Starts without torch.

Exit codes: 0 done, 1 ran and something failed, 2 wrong input.
"""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from offmap import __version__
from offmap.cli.checks import printable
from offmap.errors import EndpointError, InputError

app = App(
    name="offmap",
    help="Monitors that notice when an LLM leaves the map.",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
for room, names in {
    "bench": ("bench",),
    "compare": ("compare",),
    "leaderboard": ("submit", "verify", "leaderboard"),
    "analyze": ("analyze",),
    "pairs": ("pairs",),
    "judge_audit": ("judge_audit",),
    "train": ("train",),
    "ablate": ("ablate",),
    "scaling": ("scaling",),
    "fit": ("fit",),
    "score": ("score",),
    "inspect": ("inspect",),
    "serve": ("serve",),
    "evasion": ("evasion",),
    "tune": ("tune",),
    "safe_scores": ("safe_scores",),
    "recalibrate": ("recalibrate",),
    "key": ("key",),
    "audit": ("audit",),
    "listings": ("detectors", "suites"),
}.items():
    for name in names:  # imported when it is called: a command starts with its own modules alone
        app.command(f"offmap.cli.{room}:{name}", name=name.replace("_", "-"))


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; wrong input is told in one paragraph on standard error."""
    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if not arguments or arguments[0] in app.help_flags:
        _ = [app[name] for name in app]  # the list of commands shows what each is for
    try:
        result = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except InputError as error:
        told.print(printable(f"offmap: {error}"))
        return 2
    except EndpointError as error:
        told.print(printable(f"offmap: no answer: {error}; the same command goes on from what was stored by then"))
        return 1
    except KeyboardInterrupt:
        told.print("offmap: interrupted; nothing half-written counts, and the same command goes on where it was")
        return 130
    return int(result or 0)
