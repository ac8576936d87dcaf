"""``offmap bench --recipe reference``: the pipeline published with MOOD, or its arithmetic on score files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter
from rich.console import Console

from offmap.cli.backbone_options import BackboneOptions

if TYPE_CHECKING:
    from rich.table import Table

    from offmap.bench.published import Analysis, Entry
    from offmap.bench.reference import Reference
    from offmap.cli.progress import Tick
    from offmap.judges import Judge
    from offmap.suites import Suite


@Parameter(name="*", group="With --recipe reference")
@dataclass(frozen=True)
class ReferenceOptions:
    """What only the published recipe reads.

    Attributes:
        scores: A results.jsonl of mood-bench, in place of suite and backbone. Repeat it to combine monitors: the first
            is the guard, whose recall at --alpha lambda keeps.
        in_distribution: A training domain of the score files; repeat it. Otherwise hh-rlhf-helpful, hh-rlhf-harmless,
            function-calling.
        judge_url: An OpenAI-compatible endpoint for prompted uncertainty, http://localhost:8000/v1 for example. The
            test conversations are sent there.
        judge_model: The judge, as the endpoint calls it.
        judge_key_env: The environment variable that holds the key of the endpoint.
    """

    scores: tuple[Path, ...] = ()
    in_distribution: tuple[str, ...] = ()
    judge_url: str | None = None
    judge_model: str | None = None
    judge_key_env: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are typed."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]

    def judge(self, tick: Tick) -> Judge | None:
        """The judge of prompted uncertainty as published, or None where no endpoint was given.

        Raises:
            InputError: half of an endpoint, the extra ``judge`` is not installed, or the key is not set.
        """
        from offmap.errors import InputError
        from offmap.judges import Judge, JudgeSource

        if not any((self.judge_url, self.judge_model, self.judge_key_env)):
            return None
        if not (self.judge_url and self.judge_model):
            raise InputError("found part of a judge's options; wanted --judge-url and --judge-model")
        key = self.judge_key_env or ""
        source = JudgeSource(self.judge_model, self.judge_url, temperature=1.0, max_tokens=256, api_key_env=key)
        return Judge(source, reference=True, progress=tick)


NONE = ReferenceOptions()
"""The recipe on a suite, without a judge."""


def from_scores(options: ReferenceOptions, out: Path, alpha: float, json: bool) -> None:
    """Score files in, the published numbers out.

    Raises:
        InputError: files that cannot be read or laid side by side, or rows that the numbers cannot be taken from.
    """
    from offmap.bench.mood_files import read_scores, require_known, side_by_side
    from offmap.bench.published import leaderboard
    from offmap.errors import InputError
    from offmap.suites.mood import IN_DISTRIBUTION

    if not options.scores or len(options.given) > 1 + bool(options.in_distribution):
        wanted = "--scores FILE and --in-distribution NAME alone, or a judge for the recipe on a suite"
        raise InputError(f"found {', '.join(options.given)}; wanted {wanted}")
    if len(set(options.scores)) < len(options.scores):
        raise InputError("found a score file named twice; wanted different ones")
    known = list(options.in_distribution or IN_DISTRIBUTION)
    files = [read_scores(path) for path in options.scores]
    require_known(files[0], known, combining=len(files) > 1)
    first, table = files[0], side_by_side(files)
    entries = leaderboard(_names(options.scores), table, first.domain, first.unsafe, known, alpha)
    pairs = zip(first.domain, first.unsafe, strict=True)
    _tell(entries, sum(name not in known and not bad for name, bad in pairs), (), out, json)


def from_suite(
    options: ReferenceOptions, suite: Suite, model: BackboneOptions, out: Path, alpha: float, seed: int, json: bool
) -> int:
    """The recipe on a suite: every monitor's scores as a file, and the published numbers. Returns the exit code.

    Raises:
        InputError: the model or the judge cannot be opened, or the suite's rows do not serve.
    """
    from offmap.bench.mood_files import write_scores
    from offmap.judges import EndpointError

    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        result, notes = _run(options, suite, model, out, alpha, seed, told)
    except EndpointError as error:
        told.print(f"offmap: the judge gave no answer: {error}; a second run goes on from the features it has")
        return 1
    for name, count in result.unscored.items():
        told.print(f"{count} test rows without a score by {name} are left out of every number, as published")
    for monitor in result.monitors:
        entry = monitor.entry
        path = out / "results" / f"{entry.name.replace(' ', '')}.jsonl"
        write_scores(path, result.rows, monitor.scores, entry.lambda_)
    unused = sum(not row.unsafe and row.domain not in suite.in_distribution for row in result.rows)
    _tell([monitor.entry for monitor in result.monitors], unused, notes, out, json)
    if not json:
        Console().print(f"score files {out / 'results'}", highlight=False, markup=False)
    return 0


def _run(
    options: ReferenceOptions,
    suite: Suite,
    model: BackboneOptions,
    out: Path,
    alpha: float,
    seed: int,
    told: Console,
) -> tuple[Reference, tuple[str, ...]]:
    """What the recipe leaves, and in which it is not the published one."""
    from offmap.backbones import Backbone
    from offmap.backbones.guard_families import CLASSIFIER
    from offmap.backbones.joined import Joined, gives_tokens
    from offmap.backbones.loading import n_labels
    from offmap.backbones.source import open_parts
    from offmap.bench.reference import notes, run_reference
    from offmap.cli.progress import bar
    from offmap.feature_store import Cached

    source = model.source
    asked = len(suite.test) * (bool(options.judge_url) + len(source.parts) - 1)
    with bar("conversations", len(suite.train) + len(suite.test) + asked) as tick:
        judge = options.judge(tick)
        readers = open_parts(source, progress=tick)
        if not judge:
            told.print("left out: prompted uncertainty; no endpoint was given (--judge-url, --judge-model)")
        if not any(map(gives_tokens, readers)):
            told.print("left out: perplexity; a classifier gives no token statistics (--lm-adapter)")
        all_of_them: list[Backbone] = [*readers, *([judge] if judge else [])]
        whole = Joined(tuple(Cached(each, out / "features", progress=tick) for each in all_of_them))
        several = readers[0].source.guard == CLASSIFIER and n_labels(readers[0].source) > 1
        return run_reference(suite, whole, alpha=alpha, seed=seed, probability=several), notes(whole)


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names without endings; whole paths where two share one."""
    names = [path.name.split(".")[0] for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _tell(entries: Sequence[Entry], n_unused: int, notes: Sequence[str], out: Path, json: bool) -> None:
    """Write the last entry's analysis; print it, or all entries as tables."""
    from rich.text import Text

    from offmap.bench.mood_files import write_analysis
    from offmap.bench.published import caveats

    path = out / "analysis.json"
    write_analysis(path, entries[-1].analysis)
    if json:
        print(path.read_text(encoding="utf-8"))  # noqa: T201
        return
    console = Console()
    for table in _tables(entries):
        console.print(table)
    sentences = [
        "overall: the published mean, id included. recall_ood: without it.",
        *(f"As published: {sentence}." for sentence in caveats(len(entries) > 1, n_unused)),
        *(f"Not as published: {sentence}." for sentence in notes),
    ]
    for sentence in sentences:
        console.print(Text(sentence, style="dim"))
    console.print(f"analysis of {entries[-1].name}: {path}", highlight=False, markup=False)


def _tables(entries: Sequence[Entry]) -> list[Table]:
    """Where there are several: each alone, and what the lambda rule makes of them; then all numbers of the last."""
    from offmap.bench.wording import area, percent

    title = "recall at 1 % false alarms, in percent"
    alone = {entry.name: _recall(entry) for entry in entries if entry.lambda_ is None}
    combined = {_label(entry, entries): _recall(entry) for entry in entries if entry.lambda_ is not None}
    main = entries[-1]
    groups = [*main.analysis.groups.values(), main.analysis.shifted]
    details = {
        "unsafe rows": [str(group.n_unsafe) for group in groups],
        "AUROC": [area(group.auroc) for group in groups],
        "recall at 0.5 %": [percent(group.tpr_005) for group in groups],
        "at 1 %": [percent(group.tpr_01) for group in groups],
        "at 2 %": [percent(group.tpr_02) for group in groups],
    }
    last = _table(f"{main.name}: recall in percent", main.analysis, details)
    if len(combined) > 1:
        guard = dict(list(alone.items())[:1])
        fitted = f"{title}; guard + lambda * mean of the others, lambda fitted on these test rows"
        return [_table(title, main.analysis, alone), _table(fitted, main.analysis, guard | combined), last]
    return [_table(title, main.analysis, alone | combined), last] if combined else [last]


def _recall(entry: Entry) -> list[str]:
    from offmap.bench.wording import percent

    return [percent(group.tpr_01) for group in [*entry.analysis.groups.values(), entry.analysis.shifted]]


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """The heading of a combination: what it adds to the guard, where there are several."""
    several = sum(other.lambda_ is not None for other in entries) > 1
    name = entry.name.removeprefix(f"{entries[0].name} ") if several else "combined"
    return f"{name}, lambda {entry.lambda_:.3g}"


def _table(title: str, analysis: Analysis, columns: Mapping[str, Sequence[str]]) -> Table:
    """A row a group, "recall_ood" last."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from offmap.bench.published import OVERALL

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", no_wrap=True)
    for name in columns:
        table.add_column(Text(name), justify="right", overflow="fold")
    for cells in zip([*analysis.groups, "recall_ood"], *columns.values(), strict=True):
        if cells[0] == OVERALL:
            table.add_section()
        table.add_row(*map(Text, cells))
    return table
