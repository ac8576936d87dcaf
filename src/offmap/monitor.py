"""The monitor: a backbone and a panel of fitted detectors. Conversations in, verdicts out.

It answers two questions and keeps them apart to the end: is this UNSAFE (guards), is this UNKNOWN (out-of-distribution
detectors)? Their fusion decides the flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec
import numpy as np

from offmap.backbones.base import Backbone
from offmap.backbones.trained_on import require_unseen
from offmap.choosing import choose_fusion
from offmap.conversation import Conversation
from offmap.detectors import (
    DETECTORS,
    Detector,
    Excess,
    GuardProbe,
    LexicalGuard,
    Mahalanobis,
    Neighbours,
    Perplexity,
    Question,
    SurpriseWindow,
)
from offmap.errors import InputError
from offmap.evidence import Span, largest_part, surprising_spans, with_span_stats
from offmap.features import Features, FeatureSpec, FloatArray
from offmap.fusion import Fusion
from offmap.members import Rows, fit_members, needs
from offmap.panel import Judgement, Panel, assemble, count_rows
from offmap.shift import Shift
from offmap.splits import Splits, split

DEFAULT_DETECTORS: Mapping[str, Detector] = {
    "guard": GuardProbe(),
    "lexical guard": LexicalGuard(),
    "mahalanobis": Mahalanobis(),
    "neighbours": Neighbours(),
    "excess": Excess(over="conversation"),
    "window": SurpriseWindow(over="conversation"),
    "perplexity": Perplexity(over="conversation"),
}
"""What a monitor consists of unless it is told otherwise: two guards, one reading states and one words; two distances,
one with a Gaussian and one without; surprise, and surprise beyond the model's own expectation, on the whole and at its
worst. What each is worth for these rows, ``choosing`` decides."""


Explanation = tuple[Shift | None, Mapping[str, str]]
"""Of a row: its shift, and the largest part of every detector."""
_NOT_FLAGGED: Explanation = (None, {})


class Evidence(msgspec.Struct, frozen=True):
    """What one detector found. ``score`` and ``p_value`` are None where it could not score the conversation."""

    detector: str
    question: Question
    score: float | None
    p_value: float | None
    part: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """A monitor's answer about one conversation.

    ``p_unsafe`` and ``p_unknown`` are p-values against safe in-distribution traffic for the two questions (nearly: see
    ``combination``), None where the monitor has no detector for one; ``p_value`` is their fusion, flagged where it lies
    below ``threshold``.
    A conversation that could not be scored has ``p_value`` None and is flagged: errors fail closed.
    ``fired`` is empty unless flagged; then it names the detectors whose own p-value is at most alpha or, if none is,
    the one with the smallest. ``spans`` are the stretches of text that surprised the model most; ``n_dropped`` counts
    the tokens that were too many for the model and were not read.
    """

    id: str
    flagged: bool
    p_value: float | None
    p_unsafe: float | None
    p_unknown: float | None
    threshold: float
    fired: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    spans: tuple[Span, ...] = ()
    shift: Shift | None = None
    n_dropped: int = 0


@dataclass(frozen=True)
class Monitor:
    """A backbone that gives features and a panel that judges them. Immutable."""

    backbone: Backbone
    panel: Panel

    @classmethod
    def fit(
        cls,
        backbone: Backbone,
        detectors: Sequence[Detector] | Mapping[str, Detector],
        data: Sequence[Conversation] | Splits,
        *,
        alpha: float = 0.01,
        confidence: float | None = None,
        fusion: Fusion | None = None,
        conditional: bool = False,
        seed: int = 0,
    ) -> Monitor:
        """Fit on labelled in-distribution conversations.

        Args:
            backbone: gives the features.
            detectors: what to fit, in a list (named as registered) or by name.
            data: labelled rows, dealt into fit, calibrate and threshold rows here, or already dealt.
            alpha: the false-positive rate aimed at on safe in-distribution traffic.
            confidence: None for a threshold that holds alpha on average; 0.95 for one that holds it with 95 %
                confidence given these rows (``calibration.certified_threshold``).
            fusion: the rule and the guard's share; None: chosen on these rows (``choosing.choose_fusion``).
            conditional: whether OOD detectors' scores are ranked given length, tools and turns.
            seed: of the deal into splits.

        Raises:
            InputError: a row without a label, too few rows for a detector, a split or the confidence asked for, or
                rows to calibrate on that the backbone was trained on.
        """
        named = name_detectors(detectors)
        splits = data if isinstance(data, Splits) else split(data, seed)
        require_unseen(backbone, {"calibrate": splits.calibrate, "threshold": splits.threshold})
        wanted = with_span_stats(needs(list(named.values())))
        fit, calibrate, threshold = (
            rows_of(backbone, rows, wanted) for rows in (splits.fit, splits.calibrate, splits.threshold)
        )
        members = fit_members(named, fit, calibrate, conditional=conditional)
        chosen = choose_fusion(members, fit, calibrate, threshold, alpha) if fusion is None else fusion
        counts = count_rows(fit, calibrate, threshold)
        panel = assemble(
            members, calibrate, threshold, alpha=alpha, confidence=confidence, fusion=chosen, n_rows=counts
        )
        return cls(backbone, panel)

    @property
    def reads(self) -> FeatureSpec:
        """What is asked of the backbone: what the detectors need and, where they read tokens, what spans need."""
        return with_span_stats(self.panel.needs)

    def score(self, conversations: Sequence[Conversation]) -> list[Verdict]:
        """A verdict for each conversation, in order."""
        if not conversations:
            return []
        features = self.backbone(conversations, self.reads)
        judgement = self.panel.judge(features)
        found = self._explain(judgement, features)
        return [
            self._verdict(conversation, row, judgement, features, found.get(row, _NOT_FLAGGED))
            for row, conversation in enumerate(conversations)
        ]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the monitor as a directory: manifest.json, detectors.safetensors, calibration.parquet."""
        from offmap.bundle import save

        save(self, Path(path))

    def _explain(self, judgement: Judgement, features: Features) -> dict[int, Explanation]:
        """What is told of flagged rows only, by row."""
        flagged = np.flatnonzero(judgement.flagged)
        rows = features.take(flagged)
        names = [member.name for member in self.panel.members]
        parts = zip(*(largest_part(member.fitted, rows) for member in self.panel.members), strict=True)
        found = zip(flagged.tolist(), self.panel.shift.read(rows), parts, strict=True)
        return {row: (shift, dict(zip(names, part, strict=True))) for row, shift, part in found}

    def _verdict(
        self, conversation: Conversation, row: int, judgement: Judgement, features: Features, found: Explanation
    ) -> Verdict:
        shift, parts = found
        evidence = tuple(
            Evidence(
                member.name,
                member.detector.question,
                _number(judgement.scores[member.name], row),
                _number(judgement.p_values[member.name], row),
                parts.get(member.name, ""),
            )
            for member in self.panel.members
        )
        flagged = bool(judgement.flagged[row])
        return Verdict(
            id=conversation.id,
            flagged=flagged,
            p_value=_number(judgement.fused, row),
            p_unsafe=_number(judgement.answers.get("unsafe"), row),
            p_unknown=_number(judgement.answers.get("unknown"), row),
            threshold=self.panel.threshold.p_value,
            fired=_fired(evidence, flagged, self.panel.threshold.alpha),
            evidence=evidence,
            spans=_spans(conversation, row, features, shift),
            shift=shift,
            n_dropped=int(features.n_dropped[row]),
        )


def load(path: str | PathLike[str], backbone: Backbone | None = None) -> Monitor:
    """Read a monitor that ``Monitor.save`` wrote. No code in the directory is executed.

    Args:
        path: the directory; ``pocket`` is the embedded monitor.
        backbone: one to use instead of loading the one that the manifest names; its fingerprint must be the saved one.

    Raises:
        InputError: a file is missing or changed, the format is another version's, or the backbone is not the same.
    """
    from offmap.bundle import bundle_path
    from offmap.bundle import load as load_bundle

    return load_bundle(bundle_path(path), backbone)


def name_detectors(detectors: Sequence[Detector] | Mapping[str, Detector]) -> dict[str, Detector]:
    """Detectors by name: the given names, or the registered ones, numbered where one is used twice."""
    named: dict[str, Detector] = dict(detectors) if isinstance(detectors, Mapping) else {}
    for detector in () if isinstance(detectors, Mapping) else detectors:
        name = base = DETECTORS.name_of(type(detector))
        while name in named:
            name = f"{base}-{int(name.rpartition('-')[2]) + 1 if name != base else 2}"
        named[name] = detector
    if not named:
        raise InputError("no detectors; at least one is needed")
    return named


def rows_of(backbone: Backbone, conversations: Sequence[Conversation], wanted: FeatureSpec) -> Rows:
    """Features and labels of labelled conversations.

    Raises:
        InputError: a conversation without a label.
    """
    for conversation in conversations:
        if conversation.unsafe is None:
            raise InputError(f"row {conversation.id!r}: field unsafe: found no label, wanted true or false")
    unsafe = np.array([conversation.unsafe for conversation in conversations], dtype=bool)
    return Rows(backbone(conversations, wanted), unsafe)


def _spans(conversation: Conversation, row: int, features: Features, shift: Shift | None) -> tuple[Span, ...]:
    kind = shift.kind if shift else ""
    return () if features.tokens is None else surprising_spans(conversation, features.tokens, row, kind)


def _fired(evidence: Sequence[Evidence], flagged: bool, alpha: float) -> tuple[str, ...]:
    if not flagged:
        return ()
    known = [(found.p_value, found.detector) for found in evidence if found.p_value is not None]
    fired = tuple(name for p_value, name in known if p_value <= alpha)
    return fired or ((min(known)[1],) if known else ())


def _number(column: FloatArray | None, row: int) -> float | None:
    if column is None or math.isnan(column[row]):
        return None
    return float(column[row])
