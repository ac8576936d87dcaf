"""``offmap safe-scores``: a judge's scores of safe conversations, from which a gateway takes its p-values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from offmap.cli.checks import require_file
from offmap.cli.judge_options import MEMORY, Named, asking
from offmap.errors import InputError

if TYPE_CHECKING:
    from offmap.judges.config import JudgeConfig


def safe_scores(
    judges: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    name: str,
    rows: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    *,
    out: Path = Path("safe-scores.json"),
) -> None:
    """Ask a judge about safe conversations and keep its scores, for `[monitors.x.judge] safe_scores` of a gateway.

    At run time the judge's p-value of a conversation is the rank of its score among these, so they should be like the
    traffic, none should be an example in the judge's prompt, and n of them allow p-values down to 1/(n + 1). Answers
    are kept in answers.sqlite beside the file: a run that was ended goes on, and none is paid for twice.

    Parameters
    ----------
    judges
        A TOML file that names judges: a table [[judge]] each with model, base_url (or local = true) and prompt.
    name
        Which of them.
    rows
        Conversations, all labelled safe (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), or - for standard input.
    out
        The file of scores.
    """
    require_file(out)
    from offmap.backbones.trained_on import require_unseen
    from offmap.cli.files import read_all
    from offmap.cli.progress import bar
    from offmap.gateway.opening import write_safe_scores

    named = _named(judges, name)
    conversations = read_all(rows, "raise")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        bar("conversations", len(conversations)) as tick,
        asking(Named((named,)), out.parent / MEMORY, len(conversations), tick) as (judge,),
    ):
        require_unseen(judge, {"safe": conversations})
        kept = write_safe_scores(out, judge, conversations)
    Console().print(
        f"{len(kept.scores)} scores, {kept.unscored} conversations without one; p-values down to "
        f"{1 / (len(kept.scores) + 1):.2g}\nscores {out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _named(judges: Path, name: str) -> JudgeConfig:
    from offmap.judges.config import read_judges

    found = {judge.name: judge for judge in read_judges(judges)}
    if name not in found:
        raise InputError(f"{judges}: found no judge {name!r}, wanted one of {', '.join(found)}")
    return found[name]
