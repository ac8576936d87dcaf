"""A monitor as a directory: manifest.json, detectors.safetensors, calibration.parquet. Loading executes no code.

The manifest says what the arrays mean; every name in it is looked up among registered detectors, and every file must
have the hash that it states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from offmap import __version__
from offmap.artifacts import (
    nested,
    pack_arrays,
    read_manifest,
    unpack_arrays,
    whole_directory,
    write_manifest,
)
from offmap.atomic import write_whole
from offmap.backbones.base import Backbone
from offmap.backbones.source import POCKET, BackboneSource, open_backbone
from offmap.calibration import ConformalCalibrator, Threshold
from offmap.choosing import Choice
from offmap.combination import Answer, Combination, Pooled, weights
from offmap.conditioning import Studentiser
from offmap.detectors import DETECTORS, Question
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.fusion import Fusion
from offmap.members import Member, shares
from offmap.monitor import Monitor
from offmap.panel import Panel
from offmap.registry import Spec
from offmap.shift import FittedShiftReader

ARRAYS, CALIBRATION = "detectors.safetensors", "calibration.parquet"
Tables = Mapping[str, Mapping[str, NDArray[Any]]]


class Card(msgspec.Struct, frozen=True):
    """All of a monitor but its arrays, as a person may read it.

    ``conditional`` names the detectors whose scores length, tools and turns are taken out of.
    """

    offmap: str
    backbone: BackboneSource
    fingerprint: str
    detectors: dict[str, Spec]
    questions: dict[str, Question]
    choice: Choice
    threshold: Threshold
    n_rows: dict[str, int]
    conditional: tuple[str, ...] = ()


def save(monitor: Monitor, path: Path) -> None:
    """Write ``monitor`` to the directory ``path``, whole or not at all.

    Raises:
        InputError: ``path`` holds something else, or a detector has no registered name to be found by again.
    """
    card, panel = _card(monitor), monitor.panel
    arrays = {f"member/{m.name}/{key}": array for m in panel.members for key, array in m.fitted.arrays().items()}
    for member in panel.members:
        if member.studentiser is not None:
            arrays |= {f"studentiser/{member.name}/{key}": a for key, a in member.studentiser.arrays().items()}
    pooled = _pooled(panel.combination)
    for name, each in pooled.items():
        arrays |= {f"{name}/{key}": array for key, array in each.fusion.arrays().items()}
    arrays |= {f"across/{key}": array for key, array in panel.combination.across.arrays().items()}
    arrays |= {f"shift/{key}": array for key, array in panel.shift.arrays().items()}
    calibrators = {f"member/{m.name}": m.calibrator for m in panel.members}
    calibrators |= {name: each.calibrator for name, each in pooled.items() if each.calibrator is not None}
    with whole_directory(path) as directory:
        write_whole(directory / ARRAYS, pack_arrays(arrays))
        write_whole(directory / CALIBRATION, _pack_calibrators(calibrators))
        write_manifest(directory, card)


def bundle_path(monitor: str | PathLike[str]) -> Path:
    """The directory of the embedded monitor for ``pocket``; any other path as it is."""
    return Path(str(files("offmap.monitors") / POCKET)) if str(monitor) == POCKET else Path(monitor)


def read_card(path: Path) -> Card:
    """What the manifest says, after every file has been checked against its hash."""
    return read_manifest(path, Card)


def load(path: Path, backbone: Backbone | None = None) -> Monitor:
    """Read what ``save`` wrote; see ``offmap.monitor.load``."""
    card = read_card(path)
    try:
        panel = _panel(card, unpack_arrays(path / ARRAYS), _unpack_calibrators(path / CALIBRATION))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: its files do not fit its manifest ({error})") from error
    opened = open_backbone(card.backbone) if backbone is None else backbone
    if opened.fingerprint != card.fingerprint:
        raise InputError(
            f"{path}: fitted on backbone {card.fingerprint}, found {opened.fingerprint}: scores would not mean the same"
        )
    return Monitor(opened, panel)


def _card(monitor: Monitor) -> Card:
    panel = monitor.panel
    source = getattr(monitor.backbone, "source", None)
    if not isinstance(source, BackboneSource):
        raise InputError(
            "this backbone has no `source` that is a BackboneSource to be opened from again, so it cannot be saved"
        )
    return Card(
        offmap=__version__,
        backbone=source,
        fingerprint=monitor.backbone.fingerprint,
        detectors={member.name: DETECTORS.to_spec(member.detector) for member in panel.members},
        questions={member.name: member.detector.question for member in panel.members},
        choice=panel.choice,
        threshold=panel.threshold,
        n_rows=dict(panel.n_rows),
        conditional=tuple(member.name for member in panel.members if member.studentiser is not None),
    )


def _panel(card: Card, arrays: dict[str, NDArray[Any]], calibrators: Mapping[str, ConformalCalibrator]) -> Panel:
    fusion = card.choice.fusion
    members = []
    for name, spec in card.detectors.items():
        detector = DETECTORS.from_spec(spec)
        fitted = detector.restore(nested(arrays, f"member/{name}"))
        taken_out = nested(arrays, f"studentiser/{name}")
        studentiser = Studentiser.restore(taken_out) if taken_out else None
        members.append(Member(name, detector, fitted, calibrators[f"member/{name}"], studentiser))
    answers = _answers(card.choice.fusion, members, arrays, calibrators)
    across = fusion.restore(nested(arrays, "across"))
    shift = FittedShiftReader.restore(nested(arrays, "shift"))
    return Panel(tuple(members), Combination(answers, fusion, across), card.threshold, card.n_rows, shift, card.choice)


def _pooled(combination: Combination) -> dict[str, Pooled]:
    """Every step of a combination but the last, by the name that its state is filed under."""
    views = {
        f"view/{q}/{view}": pooled for q, answer in combination.answers.items() for view, pooled in answer.views.items()
    }
    return views | {f"answer/{question}": answer.union for question, answer in combination.answers.items()}


def _answers(
    fusion: Fusion,
    members: Sequence[Member],
    arrays: dict[str, NDArray[Any]],
    calibrators: Mapping[str, ConformalCalibrator],
) -> dict[Question, Answer]:
    """The steps that ``_pooled`` named."""

    def pooled(name: str, rule: Fusion, share: FloatArray | None = None) -> Pooled:
        return Pooled(rule.restore(nested(arrays, name)), calibrators.get(name), weights(share))

    within, answers = Fusion(fusion.within), {}
    for question, views in shares(members, fusion).items():
        each = {view: pooled(f"view/{question}/{view}", within, share) for view, share in views.items()}
        answers[question] = Answer(each, pooled(f"answer/{question}", fusion))
    return answers


def _pack_calibrators(calibrators: Mapping[str, ConformalCalibrator]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    states = {name: calibrator.arrays() for name, calibrator in calibrators.items()}
    rows = [(name, key, array.tolist()) for name, state in states.items() for key, array in state.items()]
    names, keys, values = zip(*rows, strict=True)
    table = pa.table({"calibrator": names, "key": keys, "values": pa.array(values, pa.list_(pa.float64()))})
    out = BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _unpack_calibrators(path: Path) -> dict[str, ConformalCalibrator]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from None
    states: dict[str, dict[str, NDArray[Any]]] = {}
    for row in rows:
        states.setdefault(row["calibrator"], {})[row["key"]] = np.array(row["values"], dtype=np.float64)
    return {name: ConformalCalibrator.restore(state) for name, state in states.items()}
