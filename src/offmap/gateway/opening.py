"""The monitors that a gateway names, opened: bundles, and judges whose grades become p-values.

A judge gives a grade on a scale of its own. Its p-value is the rank of that grade among its grades of safe
conversations, which are kept in a file together with what graded them: another model or prompt makes another file.
Heavy things are imported when something is opened.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from offmap.atomic import write_whole
from offmap.bundle import bundle_path
from offmap.calibration import ConformalCalibrator
from offmap.combination import QUESTIONS
from offmap.conversation import Conversation
from offmap.detectors.base import Question
from offmap.errors import InputError
from offmap.features import FeatureSpec, FloatArray
from offmap.gateway.config import Gateway, JudgeMonitor, MonitorTable, StageTable
from offmap.gateway.decision import Stage
from offmap.gateway.monitors import Opened, Running
from offmap.gateway.policy import acted_on, bands, heard
from offmap.members import by_question
from offmap.monitor import Monitor, Verdict, load

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from offmap.judges import Judge


class SafeScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A judge's scores of safe conversations that it was not tuned on.

    Attributes:
        fingerprint: of the judge.
        scores: higher is more suspicious; only those that there are.
        unscored: how many conversations got none. At run time such traffic is unscored too.
    """

    fingerprint: str
    scores: tuple[float, ...]
    unscored: int = 0


@dataclass(frozen=True)
class JudgeScorer:
    """A judge whose scores are ranked among those of safe conversations."""

    judge: Judge
    question: Question
    calibrator: ConformalCalibrator

    def score(self, conversations: Sequence[Conversation]) -> list[Verdict]:
        """A verdict for each conversation; where the judge gave no score it has no p-value.

        Raises:
            RuntimeError: the judge cannot be asked: an outage, whatever the cause.
        """
        try:
            scores = _scores(self.judge, conversations)
        except InputError as error:  # key, model or address: no fault of what is judged
            raise RuntimeError(type(error).__name__) from error
        p_values = [None if np.isnan(p) else float(p) for p in self.calibrator.p_values(scores)]
        return [self._verdict(row, p) for row, p in zip(conversations, p_values, strict=True)]

    def _verdict(self, row: Conversation, p_value: float | None) -> Verdict:
        unsafe = p_value if self.question == "unsafe" else None
        unknown = p_value if self.question == "unknown" else None
        return Verdict(row.id, p_value is None, p_value, unsafe, unknown, 0.0, (), ())


def require_files(gateway: Gateway) -> None:
    """Refuse what can be seen to fail without opening a monitor: files that are not there, an upstream without a key.

    Raises:
        InputError: something of it; the message names it.
    """
    from offmap.gateway.upstream import open_upstream

    if gateway.upstream:
        open_upstream(gateway.upstream)
    for name, table in gateway.monitors.items():
        if table.judge:
            wanted = [Path(table.judge.file), Path(table.judge.safe_scores)]
        else:
            wanted = [bundle_path(table.bundle) / "manifest.json"]
            if wanted[0].parent.is_file():
                raise InputError(f"monitors.{name}: {table.bundle}: found a file, wanted the directory of a bundle")
        for path in wanted:
            if not path.is_file():
                raise InputError(f"monitors.{name}: {path}: found no such file")


def open_monitors(gateway: Gateway) -> dict[str, Running]:
    """Every monitor that a stage asks, by name.

    Raises:
        InputError: one cannot be opened, or could never give a p-value that its stage acts on.
    """
    asked = {step.monitor for table in gateway.stages.values() for step in table.steps}
    opened = {name: open_monitor(gateway.monitors[name], name) for name in gateway.monitors if name in asked}
    require_reach(gateway, opened)
    for told in out_of_reach(gateway, opened):
        _log.warning("%s", told)
    return {
        name: Running(
            name,
            each,
            timeout=gateway.monitors[name].timeout_ms / 1000,
            limits=gateway.limits,
            queue=gateway.server.queue + gateway.server.looks_ahead,
            window_tokens=gateway.monitors[name].window_tokens,
        )
        for name, each in opened.items()
    }


def open_monitor(table: MonitorTable, name: str) -> Opened:
    """One monitor.

    Raises:
        InputError: it cannot be opened; the message names it.
    """
    try:
        return _open_judge(table.judge) if table.judge else open_bundle(table.bundle)
    except InputError as error:
        raise InputError(f"monitors.{name}: {error}") from error


def open_bundle(bundle: str) -> Opened:
    """A bundle; its version is the hash of its manifest, which holds the hash of every other file.

    Raises:
        InputError: see ``offmap.monitor.load``.
    """
    monitor = load(bundle)
    manifest = (bundle_path(bundle) / "manifest.json").read_bytes()
    return Opened(monitor, hashlib.sha256(manifest).hexdigest()[:16], smallest(monitor), _render(monitor.backbone))


def smallest(monitor: Monitor) -> dict[Question, float]:
    """The smallest p-value that a monitor can give, by question."""
    panel = monitor.panel
    each = {member.name: np.array([member.calibrator.smallest]) for member in panel.members}
    columns = by_question(panel.members, each)
    return {question: float(answer(columns[question])[0]) for question, answer in panel.combination.answers.items()}


def require_reach(gateway: Gateway, monitors: Mapping[str, Opened]) -> None:
    """Refuse a cascade in which a monitor could never stop anything.

    Raises:
        InputError: there is one; the message says how far its p-values reach.
    """
    for stage, table in gateway.stages.items():
        for number, step in enumerate(bands(table)):
            known = monitors[step.monitor].smallest
            if known is None:
                continue
            wanted = {question: band[0] for question, band in heard(table, step).items() if question in known}
            if not any(known[question] <= cut for question, cut in wanted.items()):
                reached = ", ".join(f"p({question}) {p:.2g}" for question, p in known.items()) or "no p-value"
                cuts = ", ".join(f"p({question}) <= {cut:.2g}" for question, cut in wanted.items()) or "other questions"
                raise InputError(
                    f"stages.{stage}.cascade[{number}]: {step.monitor!r} reaches {reached}, and {cuts} is acted on: it "
                    "could never stop anything; wanted one calibrated on more safe rows, or a larger cut"
                )


def out_of_reach(gateway: Gateway, monitors: Mapping[str, Opened]) -> Iterator[str]:
    """In words, what a stage is never told, and of how many windows a conversation may be for answers to be acted on.

    The p-value of W windows is W times the smallest of them, so with enough windows none is small enough, and the
    conversation is unscored.
    """
    most = gateway.limits.max_windows
    for stage, table in gateway.stages.items():
        steps = bands(table)
        yield from _unanswered(stage, table, monitors)
        for number, step in enumerate(steps, start=1):
            opened = monitors[step.monitor]
            for question, cut in acted_on(table, step, last=number == len(steps)).items():
                reach = (opened.smallest or {}).get(question, 0.0)
                if opened.render and reach > cut:
                    yield (
                        f"{stage}: {step.monitor!r} never acts on p({question}) <= {cut:g}, since its smallest is "
                        f"{reach:.2g}"
                    )
                elif opened.render and cut < most * reach:
                    yield (
                        f"{stage}: {step.monitor!r} can act on p({question}) <= {cut:g} of conversations of at most "
                        f"{int(cut / reach)} windows, since its smallest is {reach:.2g}: longer ones are unscored"
                    )


def _unanswered(stage: Stage, table: StageTable, monitors: Mapping[str, Opened]) -> Iterator[str]:
    answers = [monitors[step.monitor].smallest for step in bands(table)]
    for question in QUESTIONS:
        act = getattr(table.actions, question)
        if act != "allow" and all(known and question not in known for known in answers):
            yield f"{stage}: no monitor of its cascade gives p({question}), so that {act!r} is never done about it"


def write_safe_scores(path: str | Path, judge: Judge, conversations: Sequence[Conversation]) -> SafeScores:
    """Grade safe conversations and keep the grades, for ``JudgeMonitor.safe_scores``.

    Raises:
        InputError: a conversation that is not labelled safe, none that got a score, or see ``Judge``.
        EndpointError: see ``Judge``.
    """
    for row in conversations:
        if row.unsafe is not False:
            raise InputError(f"row {row.id!r}: field 'unsafe': found {row.unsafe}, wanted false")
    scores = _scores(judge, conversations)
    there = scores[~np.isnan(scores)]
    if not len(there):
        raise InputError(f"{len(scores)} conversations, none of which got a score: wanted at least one")
    kept = SafeScores(judge.fingerprint, tuple(there.tolist()), len(scores) - len(there))
    write_whole(Path(path), msgspec.json.encode(kept))
    return kept


def _open_judge(table: JudgeMonitor) -> Opened:
    from offmap.judges import Judge
    from offmap.judges.config import read_judges

    named = {judge.name: judge for judge in read_judges(table.file)}
    if table.name not in named:
        raise InputError(f"{table.file}: found no judge {table.name!r}, wanted one of {', '.join(named)}")
    config = named[table.name]
    judge = Judge(config.open_model(), config.open_prompt())
    raw, kept = _read_safe_scores(table.safe_scores)
    if kept.fingerprint != judge.fingerprint:
        raise InputError(f"{table.safe_scores}: found scores of {kept.fingerprint!r}, wanted {judge.fingerprint!r}")
    scorer = JudgeScorer(judge, judge.prompt.question, ConformalCalibrator.fit(np.array(kept.scores)))
    version = hashlib.sha256(judge.fingerprint.encode() + raw).hexdigest()[:16]
    return Opened(scorer, version, {scorer.question: scorer.calibrator.smallest})


def _read_safe_scores(path: str) -> tuple[bytes, SafeScores]:
    try:
        raw = Path(path).read_bytes()
        return raw, msgspec.json.decode(raw, type=SafeScores)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: no file of safe scores: {error}") from None


def _scores(judge: Judge, conversations: Sequence[Conversation]) -> FloatArray:
    (name,) = judge.scalars
    return judge(conversations, FeatureSpec(scalars=judge.scalars)).scalars[name]


def _render(backbone: Any) -> Any:
    """How a backbone makes tokens; of several joined ones, how the one that reads does."""
    first = getattr(backbone, "backbones", (backbone,))[0]
    return getattr(first, "render", None)
