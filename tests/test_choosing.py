"""The choice of a fusion: an explicit search finds the same, blind to safe threshold rows and to what guards know.

Made-up traffic of three domains: states that a Gaussian describes, and a guard's grade. Harm has a grade; a domain that
the Gaussian has not met lies apart.
"""

from dataclasses import replace

import numpy as np
import pytest

from offmap.choosing import METHODS, TOLERANCE, WEIGHTS, choose_fusion
from offmap.combination import Combination
from offmap.detectors import Mahalanobis, Scalar
from offmap.features import Features, Pool
from offmap.fusion import Fusion
from offmap.made_up import made_up_shifts
from offmap.members import Rows, by_question, fit_members
from offmap.trials import blind, left_out

KEY, WIDTH, ALPHA = (-1, Pool.LAST), 6, 0.05
STATES = Mahalanobis(layers=(-1,), pools=(Pool.LAST,))
TEAM = {"guard": Scalar("grade"), "states": STATES}
NOISE = {"noise": Scalar("noise")}
HARM = {"a": 0.3, "b": 0.3, "c": 0.0}
"""The share of unsafe rows of each domain."""


def rows(seed, n=360, harm=HARM, grade=2.0):
    rng = np.random.default_rng(seed)
    domains = [list(harm)[i % len(harm)] for i in range(n)]
    unsafe = np.array([rng.random() < harm[domain] for domain in domains])
    centres = np.array([3.0 * np.eye(WIDTH)["abc".index(domain)] for domain in domains])
    hidden = {KEY: (4 + centres + rng.normal(size=(n, WIDTH))).astype(np.float32)}
    scalars = {"grade": rng.normal(size=n) + grade * unsafe, "noise": rng.normal(size=n)}
    lengths, none = rng.integers(5, 500, n).astype(np.int32), np.zeros(n, np.int32)
    ids = tuple(f"{seed}-{i}" for i in range(n))
    return Rows(Features(ids, tuple(domains), lengths, none, none + 1, none > 0, hidden, scalars=scalars), unsafe)


def members(team=TEAM, parts=None, **options):
    fit, calibrate, _ = parts or splits()
    return fit_members(team, fit, calibrate, **options)


def splits(**options):
    return rows(0, **options), rows(1, **options), rows(2, **options)


def changed(part, which, **scalars):
    """The same rows with other readings (and, where NaN is asked, other states) at ``which``."""
    found = {name: np.where(which, scalars.get(name, old), old) for name, old in part.features.scalars.items()}
    return Rows(replace(part.features, scalars=found), part.unsafe)


@pytest.fixture(scope="module")
def parts():
    return splits()


@pytest.fixture(scope="module")
def choice(parts):
    return choose_fusion(members(parts=parts), *parts, ALPHA)


def part_of(part, mask):
    return Rows(part.features.take(mask), part.unsafe[mask])


def plain_trials(team, parts):
    """(members, safe calibrate rows, unknown rows by name): as they are meant, in plain steps."""
    fit, calibrate, threshold = parts
    trials = [(fit_members(team, fit, calibrate), calibrate.safe, dict(made_up_shifts(calibrate.safe)))]
    for domain in "abc":
        inside = [np.array(part.features.groups) == domain for part in parts]
        without = [part_of(part, ~mask) for part, mask in zip(parts, inside, strict=True)]
        again = {m.name: m for m in fit_members(team, *without[:2]) if m.detector.question == "unknown"}
        harm = [
            part.features.take(mask & part.unsafe)
            for part, mask in zip((calibrate, threshold), inside[1:], strict=True)
        ]
        unknown = Features.concat(harm)
        if not len(unknown):
            unknown = calibrate.features.take(inside[1])
        crew = [again.get(member.name, member) for member in trials[0][0]]
        trials.append((crew, without[1].safe, {f"{domain} left out": unknown}))
    return trials


def plain_flags(team, safe, fusion, columns):
    """Which rows of ``columns`` lie below the order statistic of the safe rows' own fused p-values."""
    own = by_question(team, {m.name: m.own_p_values(safe) for m in team})
    combination = Combination.fit(own, fusion)
    # alarm strictly below the floor((n + 1) alpha)-th smallest
    limit = np.sort(combination(own)[1])[int((len(safe) + 1) * ALPHA) - 1]
    return combination(columns)[1] < limit


def test_every_candidate_is_that_of_a_plain_loop(choice, parts):
    trials = plain_trials(TEAM, parts)
    first, safe, _ = trials[0]
    harmful = Features.concat([part.harmful for part in parts[1:]])
    known = by_question(first, {m.name: m.p_values(harmful) for m in first})
    alone = np.sort(first[0].own_p_values(safe))[int((len(safe) + 1) * ALPHA) - 1]
    guard = np.mean(first[0].p_values(harmful) < alone)
    assert [(c.method, c.guard_weight) for c in choice.considered] == [(m, w) for m in METHODS for w in WEIGHTS]
    for found in choice.considered[::4]:
        fusion = Fusion(found.method, found.guard_weight)
        kept = plain_flags(first, safe, fusion, known).mean()
        caught = []
        for team, own, unknown in trials:
            for strange in unknown.values():
                p_values = {"guard": np.full(len(strange), 0.5), "states": team[1].p_values(strange)}
                caught.append(plain_flags(team, own, fusion, by_question(team, p_values)).mean())
        assert len(caught) == 3 + 3
        assert found.known == pytest.approx(kept)
        assert found.margin == pytest.approx(kept - guard)
        assert found.caught == pytest.approx(np.mean(caught))
    named = {name: len(strange) for *_, unknown in trials for name, strange in unknown.items()}
    assert choice.unknown == named
    assert set(named) == {*(f"states moved, {i}" for i in (1, 2, 3)), *(f"{domain} left out" for domain in "abc")}


def test_an_ood_detector_weighs_what_it_catches_by_itself(parts):
    team = TEAM | {"deaf": Scalar("noise", question="unknown")}
    found = choose_fusion(members(team, parts), *parts, ALPHA)
    alone = {"states": [], "deaf": []}
    for crew, own, unknown in plain_trials(team, parts):
        for member in crew[1:]:
            limit = np.sort(member.own_p_values(own))[int((len(own) + 1) * ALPHA) - 1]
            alone[member.name] += [np.mean(member.p_values(strange) < limit) for strange in unknown.values()]
    assert found.fusion.shares == pytest.approx({name: np.mean(caught) for name, caught in alone.items()})
    assert found.fusion.shares["states"] > 4 * found.fusion.shares["deaf"]


def test_the_best_of_those_that_keep_known_harm_is_taken(choice):
    kept = [c for c in choice.considered if c.margin >= -TOLERANCE]
    best = max(kept, key=lambda c: (c.caught, c.known))
    assert choice.fusion == Fusion(best.method, best.guard_weight, shares=choice.fusion.shares)
    assert 0 < len(kept) < len(choice.considered)
    assert max(c.caught for c in choice.considered) > best.caught > min(c.caught for c in kept)
    assert f"of the {len(kept)} of 30 fusions" in choice.reason
    assert f"{best.caught:.1%}" in choice.reason
    assert f"it alone {best.known - best.margin:.1%}, this fusion {best.known:.1%}" in choice.reason


def test_where_no_fusion_keeps_known_harm_the_one_that_loses_least_is_taken(parts):
    """A second guard that knows nothing costs every fusion power; the bar is the first guard's alone."""
    found = choose_fusion(members(TEAM | NOISE, parts), *parts, ALPHA)
    assert max(c.margin for c in found.considered) < -TOLERANCE
    best = max(found.considered, key=lambda c: c.margin)
    assert found.fusion == Fusion(best.method, best.guard_weight, shares=found.fusion.shares)
    assert best.caught < max(c.caught for c in found.considered)
    assert "none keeps" in found.reason
    assert "loses least" in found.reason


def test_nothing_to_weigh_is_the_default_and_says_why(parts):
    harmless = splits(harm=dict.fromkeys("abc", 0.0))
    one = splits(harm={"a": 0.3})
    readings = TEAM | {"states": Scalar("noise", "unknown")}
    for split in one:
        split.features.hidden.clear()
    cases = {
        "no held-out unsafe row": (members(parts=harmless), harmless),
        "every detector asks 'unsafe'": (members(TEAM | NOISE, parts)[::2], parts),
        "every detector asks 'unknown'": (members(parts=parts)[1:], parts),
        "no domain could be left out and no shift made up": (members(readings, one), one),
    }
    for reason, (team, given) in cases.items():
        found = choose_fusion(team, *given, ALPHA)
        assert (found.fusion, found.considered, dict(found.unknown)) == (Fusion(), (), {})
        assert found.reason == f"the default: {reason}, so that there was nothing to weigh"


def test_what_guards_know_of_the_unknown_counts_for_nothing(choice, parts):
    """Unsafe rows play the unknown; a guard that finds them all harmless changes what is known, not what is caught."""
    fit, calibrate, threshold = parts
    meek = [changed(part, part.unsafe, grade=-9.0) for part in (calibrate, threshold)]
    found = choose_fusion(members(parts=(fit, *meek)), fit, *meek, ALPHA)
    assert [c.caught for c in found.considered] == [c.caught for c in choice.considered]
    assert all(a.known < b.known for a, b in zip(found.considered, choice.considered, strict=True))


def test_blind_asks_ood_detectors_only(parts):
    guard, states = members(parts=parts)
    strange = rows(5).features
    np.testing.assert_array_equal(blind(guard, strange), np.full(360, 0.5))
    np.testing.assert_array_equal(blind(states, strange), states.p_values(strange))
    scores = states.fitted.score(strange)
    np.testing.assert_array_equal(blind(states, strange, scores[::-1]), states.p_values(strange)[::-1])


def test_safe_threshold_rows_are_never_looked_at(choice, parts):
    fit, calibrate, threshold = parts
    other = changed(threshold, ~threshold.unsafe, grade=np.nan, noise=np.nan)
    other.features.hidden[KEY] = np.where(threshold.unsafe[:, None], other.features.hidden[KEY], np.float32("nan"))
    groups = tuple(
        group if harm else "elsewhere" for group, harm in zip(other.features.groups, other.unsafe, strict=True)
    )
    other = Rows(replace(other.features, groups=groups), other.unsafe)
    team = members(parts=parts)
    assert choose_fusion(team, fit, calibrate, other, ALPHA) == choice
    kept = part_of(threshold, threshold.unsafe)
    assert choose_fusion(team, fit, calibrate, kept, ALPHA) == choice
    assert choose_fusion(team, fit, calibrate, part_of(kept, np.arange(len(kept.unsafe)) < 9), ALPHA) != choice


def test_the_same_rows_give_the_same_choice(choice, parts):
    assert choose_fusion(members(parts=parts), *parts, ALPHA) == choice


def test_a_row_without_a_score_is_missed_by_guard_and_fusion_alike(parts):
    fit, calibrate, threshold = parts
    mute = np.zeros(len(threshold.unsafe), bool)
    mute[np.flatnonzero(threshold.unsafe)[::2]] = True
    silent = changed(threshold, mute, grade=np.nan)
    found = choose_fusion(members(parts=parts), fit, calibrate, silent, ALPHA)
    without = part_of(threshold, ~mute)
    fewer = choose_fusion(members(parts=parts), fit, calibrate, without, ALPHA)
    n = int(calibrate.unsafe.sum() + threshold.unsafe.sum())
    for one, other in zip(found.considered, fewer.considered, strict=True):
        assert one.known * n == pytest.approx(other.known * (n - mute.sum()))
        assert one.margin * n == pytest.approx(other.margin * (n - mute.sum()))


@pytest.mark.parametrize("conditional", [False, True])
def test_a_domain_left_out_is_met_by_no_ood_detector(parts, conditional):
    team = members(parts=parts, conditional=conditional)
    trials = left_out(team, *parts)
    for trial, (crew, safe, unknown) in zip(trials, plain_trials(TEAM, parts)[1:], strict=True):
        guard, states = trial.members
        assert guard is team[0]
        assert states.name == "states"
        assert (states.studentiser is not None) == conditional
        for key, array in crew[1].fitted.arrays().items():
            np.testing.assert_array_equal(states.fitted.arrays()[key], array)
        if not conditional:
            np.testing.assert_array_equal(states.calibrator.scores, crew[1].calibrator.scores)
        assert trial.calibrate.ids == safe.ids
        assert {name: x.ids for name, x in trial.unknown.items()} == {name: x.ids for name, x in unknown.items()}


def test_rows_of_a_left_out_domain_do_not_reach_the_detectors_that_judge_them(parts):
    fit, calibrate, threshold = parts

    def moved(part, by):
        away = np.array(part.features.groups)[:, None] == "a"
        hidden = {KEY: np.where(away, part.features.hidden[KEY] * np.float32(by), part.features.hidden[KEY])}
        return Rows(replace(part.features, hidden=hidden), part.unsafe)

    strange = (moved(fit, -3), moved(calibrate, -3), threshold)
    before, after = left_out(members(parts=parts), *parts)[0], left_out(members(parts=strange), *strange)[0]
    assert list(before.unknown) == ["a left out"]
    fresh = rows(6).features
    np.testing.assert_array_equal(before.members[1].p_values(fresh), after.members[1].p_values(fresh))


def test_domains_that_cannot_be_left_out_are_passed_over():
    single = splits(harm={"a": 0.3})
    assert left_out(members(parts=single), *single) == []
    fit, calibrate, threshold = splits(harm={"a": 0.3, "b": 0.3})

    def only(part, domain, most):
        inside = np.array(part.features.groups) == domain
        return part_of(part, ~inside | (np.cumsum(inside) <= most))

    lone = only(fit, "b", 1), calibrate, threshold
    assert [list(trial.unknown) for trial in left_out(members(parts=lone), *lone)] == [["b left out"]]
    unseen = fit, only(calibrate, "b", 0), only(threshold, "b", 0)
    assert left_out(members(parts=unseen), *unseen) == []
    new = only(fit, "b", 0), calibrate, threshold
    assert left_out(members(parts=new), *new) == []


def test_a_fusion_that_could_never_raise_an_alarm_is_not_considered():
    """Few calibrate rows: p-values end early, and at a small share the unknown ends above the threshold."""
    parts = rows(0), rows(1, n=90), rows(2)
    found = choose_fusion(members(parts=parts), *parts, ALPHA)
    team, fusions = members(parts=parts), {(c.method, c.guard_weight) for c in found.considered}
    assert len(fusions) < len(METHODS) * len(WEIGHTS)
    smallest = by_question(team, {m.name: np.array([m.calibrator.smallest]) for m in team})
    own = by_question(team, {m.name: m.own_p_values(parts[1].safe) for m in team})
    for method, weight in fusions:
        combination = Combination.fit(own, Fusion(method, weight))
        limit = np.quantile(combination(own)[1], ALPHA)
        assert max(combination.most_suspicious(smallest).values()) < 2 * limit
