"""``offmap tune``: from traffic and a budget to proposed thresholds of a cascade, with the trade-off drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from offmap.cli.checks import make_directory, printable, require_directory, require_least, require_packages
from offmap.errors import InputError

if TYPE_CHECKING:
    from offmap.conversation import Conversation
    from offmap.gateway.config import Gateway, StageTable
    from offmap.gateway.decision import Stage
    from offmap.gateway.monitors import Opened
    from offmap.gateway.tuning.budget import Budget
    from offmap.gateway.tuning.page import Tuned
    from offmap.gateway.tuning.traffic import Traffic

FINDINGS, PROPOSAL, COMPARISON = "findings.jsonl", "proposal.json", "comparison.json"
PAGE, TUNED = "tune.html", "gateway.tuned.toml"


@Parameter(name="*", group="Budget")
@dataclass(frozen=True)
class BudgetOptions:
    """What the stage may cost; what is not given is no bound.

    Attributes:
        false_alarms_per_day: Safe requests a day that may be false alarms; without it --alpha.
        alpha: The same as a share of safe requests; without either that of the stage's tier.
        counted: stopped: a false alarm is anything that is not let through. blocked: what goes to a person is none.
        requests_per_day: How many requests there are.
        reviewer_minutes_per_day: Time of people for safe requests; without it no band is made for them.
        minutes_per_review: How long one review takes.
        p99_ms: 99 % of safe requests are to be decided within it.
        cost: What one call of a monitor costs, NAME=COST; may be given again for another.
        cost_per_day: What all calls may cost, in the same currency.
    """

    false_alarms_per_day: float | None = None
    alpha: float | None = None
    counted: Literal["stopped", "blocked"] = "stopped"
    requests_per_day: float | None = None
    reviewer_minutes_per_day: float | None = None
    minutes_per_review: float = 2.0
    p99_ms: float | None = None
    cost: tuple[str, ...] = field(default=())
    cost_per_day: float | None = None

    def read(self) -> Budget:
        """The budget.

        Raises:
            InputError: a number out of range, or one without another that it needs.
        """
        from dataclasses import asdict

        from offmap.gateway.tuning.budget import Budget

        given = asdict(self)
        try:
            return Budget(**{**given, "cost": _costs(self.cost)})
        except InputError as error:
            names = "|".join(name for name in given if name != "cost")
            raise InputError(re.sub(rf"\b({names})\b", lambda name: _option(name[1]), str(error))) from None


NO_BUDGET = BudgetOptions()


def tune(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    *,
    config: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    stage: Literal["input", "response", "tool_call", "conversation"] = "response",
    budget: BudgetOptions = NO_BUDGET,
    out: Path = Path("runs/tune"),
    at_once: int = 1,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Propose the thresholds of a stage's cascade for a budget, from traffic; draw what other budgets would bring.

    Every monitor of the cascade is asked about every row; answers are kept in findings.jsonl, so the same command goes
    on where it was ended and asks nothing twice. Thresholds are set on rows labelled safe, or, where none is labelled,
    on all rows without a label, which are taken to be safe. Of a labelled file half of the rows choose nothing: they
    tell what is caught. No monitor may have been calibrated on a row. Nothing goes live.

    Parameters
    ----------
    file
        Conversations as the stage sees them (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), or - for standard input.
    config
        The gateway.toml; without one what `offmap serve` runs without one.
    stage
        Whose cascade.
    budget
        What it may cost.
    out
        Where proposal.json, comparison.json, tune.html, gateway.tuned.toml and findings.jsonl go.
    at_once
        Rows under way at once. With one the seconds are those of a request that comes alone; more is faster where
        judges are asked, and the seconds then hold some waiting.
    seed
        Of the division into halves.
    json
        Print proposal.json instead of the summary.
    """
    from offmap.cli.files import read_all

    _check(out, at_once, seed)
    gateway, wanted = _gateway(config, stage), budget.read()
    table = gateway.stages[stage]
    rows = read_all(file, "raise")
    _require_rows(rows, wanted, table, file)
    opened = _opened(gateway, table)
    make_directory(out)
    traffic = _scored(gateway, stage, rows, opened, out, at_once, wanted.cost)
    tuned = _tuned(traffic, table, wanted, seed)
    _require_reach(gateway, tuned, opened)
    _write(tuned, config, out)
    _show(tuned, out, json)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _costs(given: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in given:
        name, _, cost = each.rpartition("=")
        try:
            found[name] = float(cost)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--cost: found {each!r}, wanted NAME=COST, such as judge=0.002")
    return found


def _check(out: Path, at_once: int, seed: int) -> None:
    require_packages("gateway", ("tomlkit",))
    require_packages("bench", ("altair", "vl_convert"))
    require_least("at_once", at_once, 1)
    require_least("seed", seed, 0)
    require_directory(out, FINDINGS, PROPOSAL, COMPARISON, PAGE, TUNED)


def _gateway(config: Path | None, stage: Stage) -> Gateway:
    from offmap.gateway.config import default_gateway, read_gateway

    gateway = read_gateway(config) if config else default_gateway()
    if stage not in gateway.stages:
        raise InputError(f"{config}: stages.{stage}: found none, wanted one of {', '.join(gateway.stages)}")
    return gateway


def _require_rows(rows: Sequence[Conversation], budget: Budget, table: StageTable, file: Path) -> None:
    """Refuse too few rows before a monitor is asked about any."""
    from offmap.gateway.tuning.shares import rows_needed
    from offmap.gateway.tuning.wording import shares_in_words

    shares = budget.shares(table)
    needed = rows_needed(shares, table)
    labels = [row.unsafe for row in rows]
    what, there = "labelled safe", labels.count(False)
    if not there:
        what, there = "without a label", labels.count(None)
    if not there:
        raise InputError(f"{file}: found {len(rows)} rows, all labelled unsafe; wanted safe rows")
    halved = _labelled(labels)
    if there < needed * (1 + halved):
        why = f": {needed} to tune on and as many to report on" if halved else ""
        raise InputError(
            f"{file}: found {there} rows {what}; wanted at least {needed * (1 + halved)}{why}, for what is asked for: "
            f"{shares_in_words(shares)}"
        )


def _labelled(labels: Sequence[bool | None]) -> bool:
    """Whether rows are labelled safe, so that half of the rows can tell what the thresholds do."""
    return False in labels


def _opened(gateway: Gateway, table: StageTable) -> dict[str, Opened]:
    from offmap.gateway.opening import open_monitor

    return {step.monitor: open_monitor(gateway.monitors[step.monitor], step.monitor) for step in table.steps}


def _scored(
    gateway: Gateway,
    stage: Stage,
    rows: Sequence[Conversation],
    opened: Mapping[str, Opened],
    out: Path,
    at_once: int,
    cost: Mapping[str, float],
) -> Traffic:
    from offmap.cli.progress import bar
    from offmap.gateway.tuning.findings import Findings
    from offmap.gateway.tuning.scoring import Asking, left_to_ask, score_rows

    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with Findings(out / FINDINGS) as findings:
        left = left_to_ask(gateway, stage, rows, opened, findings)
        for name, count in left.items():
            price = f", {count * cost[name]:.4g} in all" if name in cost and count else ""
            told.print(printable(f"{name}: {count} calls for {len(rows)} rows{price}"))
        with bar("answers", sum(left.values())) as tick:
            return score_rows(gateway, stage, rows, opened, findings, Asking(at_once, tick))


def _tuned(traffic: Traffic, table: StageTable, budget: Budget, seed: int) -> Tuned:
    from offmap.gateway.tuning.compare import compare
    from offmap.gateway.tuning.page import Tuned
    from offmap.gateway.tuning.proposal import propose
    from offmap.gateway.tuning.routes import with_bands
    from offmap.gateway.tuning.tradeoff import trade_off
    from offmap.gateway.tuning.traffic import halves

    halved = bool((traffic.unsafe == 0).any())
    mine, others = halves(traffic, seed) if halved else (traffic, traffic)
    proposal = propose(mine, table, budget, seed)
    comparison = compare(others, table, with_bands(table, proposal.steps))
    points = trade_off(mine, table, budget, seed)
    return Tuned(proposal, budget, table, points, comparison, halved, len(traffic))


def _require_reach(gateway: Gateway, tuned: Tuned, opened: Mapping[str, Opened]) -> None:
    """Refuse bands under which a monitor could never stop anything, as the gateway itself would."""
    import msgspec

    from offmap.gateway.opening import require_reach
    from offmap.gateway.tuning.proposal import apply_proposal

    changed = apply_proposal(gateway, tuned.proposal)
    stage = tuned.proposal.stage
    require_reach(msgspec.structs.replace(changed, stages={stage: changed.stages[stage]}), opened)


def _write(tuned: Tuned, config: Path | None, out: Path) -> None:
    import msgspec

    from offmap.atomic import write_whole
    from offmap.gateway.tuning.page import write_page
    from offmap.gateway.tuning.tuned_file import write_tuned

    for name, value in ((PROPOSAL, tuned.proposal), (COMPARISON, tuned.comparison)):
        write_whole(out / name, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    write_page(tuned, out / PAGE)
    write_tuned(out / TUNED, config, tuned.proposal)


def _show(tuned: Tuned, out: Path, json: bool) -> None:
    from offmap.gateway.tuning.table import print_tuned

    if json:
        print((out / PROPOSAL).read_text(encoding="utf-8"))  # noqa: T201
        return
    console = Console()
    print_tuned(tuned, console)
    console.print(f"page {out / PAGE}\npolicy {out / TUNED}", highlight=False, markup=False, soft_wrap=True)
