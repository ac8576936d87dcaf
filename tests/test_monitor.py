"""The monitor end to end on the embedded backbone: fit, score, explain, save, load."""

import shutil

import msgspec
import numpy as np
import pytest

from offmap import Conversation, Message, load
from offmap.artifacts import _own_hash
from offmap.backbones import BackboneSource, open_backbone
from offmap.bundle import read_card
from offmap.calibration import suspicion
from offmap.choosing import METHODS, WEIGHTS
from offmap.detectors import GuardProbe, Mahalanobis, Perplexity
from offmap.errors import InputError
from offmap.evidence import SPAN_STATS
from offmap.fusion import Fusion
from offmap.monitor import DEFAULT_DETECTORS, Monitor, Verdict, name_detectors
from offmap.shift import ShiftReader
from offmap.splits import split

NAMES = list(DEFAULT_DETECTORS)
HARSH = Conversation(
    "strange",
    (Message("user", "zxqv 0x7f;; DROP TABLE ??"), Message("assistant", "ﷺﷺ ᚠᛇᚻ qq 77 ]]>> %%% ~~ kjh")),
)


@pytest.fixture(scope="module")
def bundle(monitor, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "monitor"
    monitor.save(path)
    return path


def test_a_verdict_says_what_was_found(monitor, small_suite):
    rows = small_suite.test[:30]
    verdicts = monitor.score(rows)
    assert [verdict.id for verdict in verdicts] == [row.id for row in rows]
    for verdict, row in zip(verdicts, rows, strict=True):
        assert 0 < verdict.p_value <= 1
        by_name = {found.detector: found for found in verdict.evidence}
        assert list(by_name) == NAMES
        assert verdict.flagged == (verdict.p_value < verdict.threshold)
        within = tuple(found.detector for found in verdict.evidence if found.p_value <= 0.01)
        smallest = min(verdict.evidence, key=lambda found: found.p_value).detector
        assert verdict.fired == ((within or (smallest,)) if verdict.flagged else ())
        for span in verdict.spans:
            assert row.messages[span.message].text[span.start : span.end] == span.text
    assert any(verdict.spans for verdict in verdicts)
    assert all(verdict.n_dropped == 0 for verdict in verdicts)


def test_the_kind_of_shift_is_read_against_the_calibrate_rows(monitor, small_suite, pocket):
    safe = [row for row in split(small_suite.train).calibrate if not row.unsafe]
    wanted = ShiftReader().fit(pocket(safe, monitor.reads)).arrays()
    found = monitor.panel.shift.arrays()
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_something_strange_is_unknown_and_not_unsafe(monitor):
    (verdict,) = monitor.score([HARSH])
    assert verdict.flagged
    assert verdict.p_unknown < 0.005 < verdict.p_unsafe
    assert set(verdict.fired) >= {"mahalanobis", "neighbours"}


def test_false_positives_on_unseen_safe_rows_stay_near_alpha(monitor, small_suite):
    familiar = [row for row in small_suite.test if row.domain in small_suite.in_distribution and not row.unsafe]
    rate = np.mean([verdict.flagged for verdict in monitor.score(familiar)])
    assert rate < 0.04


def test_known_harm_is_found_unsafe_far_more_often_than_its_safe_twins(monitor, small_suite):
    def suspected(unsafe):
        rows = [row for row in small_suite.test if row.domain == "harmless" and row.unsafe is unsafe]
        return np.mean([verdict.p_unsafe <= 0.05 for verdict in monitor.score(rows)])

    assert suspected(True) > 0.25
    assert suspected(True) > 2 * suspected(False)


def test_what_was_not_read_is_told(monitor):
    long = Conversation("long", (Message("user", "word " * 5000), Message("assistant", "It is long.")))
    (verdict,) = monitor.score([long])
    assert verdict.n_dropped > 3000
    assert all(span.end - span.start < 200 for span in verdict.spans)


def test_the_threshold_is_the_order_statistic_of_its_own_split(monitor, small_suite, pocket):
    from offmap.splits import split

    rows = [row for row in split(small_suite.train).threshold if not row.unsafe]
    fused = suspicion(monitor.panel.judge(pocket(rows, monitor.reads)).fused)
    rank = int(np.ceil((len(rows) + 1) * (1 - 0.01)))
    assert monitor.panel.threshold.value == np.sort(fused)[rank - 1]


def test_a_bundle_scores_bit_equally_after_loading(monitor, bundle, small_suite):
    rows = [*small_suite.test[:40], HARSH]
    loaded = load(bundle)
    fresh = Monitor(open_backbone(BackboneSource()), monitor.panel)
    assert loaded.score(rows) == fresh.score(rows)
    files = sorted(file.name for file in bundle.iterdir())
    assert files == ["calibration.parquet", "detectors.safetensors", "manifest.json"]


def test_a_conditional_monitor_with_a_chosen_fusion_is_the_same_after_loading(small_suite, pocket, tmp_path):
    quick = {**DEFAULT_DETECTORS, "guard": GuardProbe(heads=1, strengths=(1e-3,))}
    given = Monitor.fit(pocket, quick, small_suite.train, conditional=True)
    given.save(tmp_path / "monitor")
    loaded = load(tmp_path / "monitor", pocket)
    assert loaded.score(small_suite.test[:100]) == given.score(small_suite.test[:100])
    for member, again in zip(given.panel.members, loaded.panel.members, strict=True):
        assert (again.studentiser is None) == (member.studentiser is None) == (member.detector.question == "unsafe")
    assert loaded.panel.choice == given.panel.choice
    assert len(given.panel.choice.considered) == len(METHODS) * len(WEIGHTS)
    assert given.panel.combination.fusion == given.panel.choice.fusion


def test_a_verdict_survives_json(monitor):
    (verdict,) = monitor.score([HARSH])
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


@pytest.mark.parametrize("name", ["detectors.safetensors", "calibration.parquet"])
def test_a_tampered_bundle_is_refused(bundle, tmp_path, name):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: changed since it was written"):
        load(copy)


def edited(bundle, tmp_path, **changes):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    body = msgspec.json.decode((copy / "manifest.json").read_bytes())
    body["content"].update(changes)
    body["sha256"] = _own_hash(body)
    (copy / "manifest.json").write_bytes(msgspec.json.encode(body))
    return copy


def test_a_bundle_of_another_backbone_is_refused(bundle, tmp_path):
    with pytest.raises(InputError, match="fitted on backbone someone@else"):
        load(edited(bundle, tmp_path, fingerprint="someone@else"))


def test_a_manifest_that_names_what_is_not_there_is_refused(bundle, tmp_path):
    with pytest.raises(InputError, match=r"no detector is called 'os\.system'"):
        load(edited(bundle, tmp_path, detectors={"guard": "os.system"}))


def test_files_that_do_not_fit_the_manifest_are_refused(bundle, tmp_path):
    with pytest.raises(InputError, match="do not fit its manifest"):
        load(edited(bundle, tmp_path, detectors={"other": "mahalanobis"}))


def test_the_card_tells_what_was_fitted(bundle, monitor):
    card = read_card(bundle)
    assert card.backbone.model == "pocket"
    assert list(card.detectors) == NAMES
    assert card.detectors["guard"] == "guard_probe"
    assert card.detectors["excess"] == {"excess": {"over": "conversation"}}
    assert card.threshold == monitor.panel.threshold
    assert card.n_rows["fit_unsafe"] > 0


def test_the_card_tells_how_the_fusion_was_chosen(bundle, monitor):
    choice = read_card(bundle).choice
    assert choice == monitor.panel.choice
    assert choice.fusion == monitor.panel.combination.fusion
    taken = [(each.method, each.guard_weight) for each in choice.considered]
    assert (choice.fusion.method, choice.fusion.guard_weight) in taken
    assert set(choice.unknown) >= {"states moved, 1", "unexpected run", "function-calling left out"}
    assert "recall of known harm" in choice.reason


def test_a_fusion_that_was_given_is_taken_as_it_is(pocket, small_suite, tmp_path):
    quick = {**DEFAULT_DETECTORS, "guard": GuardProbe(heads=1, strengths=(1e-3,))}
    fusion = Fusion("bonferroni", 0.65, "fisher")
    given = Monitor.fit(pocket, quick, small_suite.train, fusion=fusion)
    given.save(tmp_path / "monitor")
    choice = read_card(tmp_path / "monitor").choice
    assert (choice.fusion, choice.considered, choice.reason) == (fusion, (), "given, not chosen")
    loaded = load(tmp_path / "monitor", pocket)
    assert loaded.score(small_suite.test[:50]) == given.score(small_suite.test[:50])


def test_a_backbone_without_a_source_cannot_be_saved(monitor, tmp_path):
    class Nameless:
        fingerprint = "nameless"

    with pytest.raises(InputError, match="has no `source` that is a BackboneSource"):
        Monitor(Nameless(), monitor.panel).save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_certified_monitor_needs_enough_rows(pocket, small_suite):
    with pytest.raises(InputError, match=r"needs 459 safe rows; found \d+, \d+ are missing"):
        Monitor.fit(pocket, [Perplexity()], small_suite.train, confidence=0.99)


def test_rows_without_a_label_are_refused(pocket, small_suite):
    unlabelled = [msgspec.structs.replace(row, unsafe=None) for row in small_suite.train[:3]]
    with pytest.raises(InputError, match="found no label, wanted true or false"):
        Monitor.fit(pocket, [Perplexity()], [*small_suite.train, *unlabelled])


def test_detectors_are_named_once_each():
    named = name_detectors([Mahalanobis(), Perplexity(), Mahalanobis(reference=True), Mahalanobis(layers=(-2,))])
    assert list(named) == ["mahalanobis", "perplexity", "mahalanobis-2", "mahalanobis-3"]
    assert list(name_detectors({"mine": Perplexity()})) == ["mine"]
    with pytest.raises(InputError, match="no detectors"):
        name_detectors([])


def test_nothing_to_score_is_no_error_and_spans_ask_for_entropy(monitor):
    assert monitor.score([]) == []
    assert monitor.reads.tokens >= SPAN_STATS.tokens


def test_a_flagged_row_tells_part_kind_and_place(monitor, small_suite):
    rows = [row for row in small_suite.test if row.domain in ("swahili", "helpful")]
    for verdict in monitor.score(rows):
        assert (verdict.shift is None) == (not verdict.flagged)
        parts = {found.detector: found.part for found in verdict.evidence}
        assert parts["mahalanobis"].startswith("layer ") if verdict.flagged else set(parts.values()) == {""}
        if verdict.shift and verdict.shift.kind == "prompt":
            assert {span.role for span in verdict.spans} <= {"user", "system"}
    foreign = [v.shift.kind for v in monitor.score([r for r in rows if r.domain == "swahili"]) if v.shift]
    assert foreign.count("prompt") > 0.8 * len(foreign) > 0
