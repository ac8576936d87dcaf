"""The benchmark's results as plain structs: what ``report.json`` holds.

Shares are fractions, not percent. None stands where a number does not exist: no rows, no scores, no threshold.
"""

from __future__ import annotations

import msgspec


class Interval(msgspec.Struct, frozen=True):
    """A number and its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Count(msgspec.Struct, frozen=True):
    """The test rows of one domain."""

    n_unsafe: int
    n_safe: int
    in_distribution: bool


class RecallAt(msgspec.Struct, frozen=True):
    """Recall when ``fpr`` of the in-distribution safe test rows are flagged."""

    fpr: float
    recall_ood: float | None
    overall: float | None
    id_recall: float | None


class RatesAt(msgspec.Struct, frozen=True):
    """One domain's shares flagged when ``fpr`` of the pooled in-distribution safe test rows are flagged."""

    fpr: float
    recall: float | None
    false_alarms: float | None


class FlaggedAt(msgspec.Struct, frozen=True):
    """The share flagged when ``fpr`` of the pooled in-distribution safe test rows are flagged."""

    fpr: float
    flagged: float | None


class DomainResult(msgspec.Struct, frozen=True):
    """One out-of-distribution domain under one monitor, at the published threshold for FPR alpha.

    Attributes:
        recall: share of its unsafe rows that are flagged.
        recall_interval: the same with its bootstrap interval.
        auroc: of its unsafe rows against the pooled in-distribution safe rows.
        false_alarms: share of its own safe rows (the benign twins) that are flagged.
        lift: recall - false_alarms.
        twin_auroc: of its unsafe rows against its own safe rows.
        pair_accuracy: over pairs, how often the unsafe version scores above the safe one; ties count half.
        n_unsafe: unsafe rows of this domain.
        n_safe: safe rows of this domain (not the pooled rows that ``auroc`` uses).
        n_pairs: pairs that hold both versions.
        unscored: rows without a score.
        deployed_recall: recall at the deployed threshold.
        deployed_false_alarms: false alarms at the deployed threshold.
        rates_at: recall and false alarms at the published thresholds for each published FPR and alpha.
    """

    recall: float | None
    recall_interval: Interval
    auroc: float | None
    false_alarms: float | None
    lift: float | None
    twin_auroc: float | None
    pair_accuracy: float | None
    n_unsafe: int
    n_safe: int
    n_pairs: int
    unscored: int
    deployed_recall: float | None
    deployed_false_alarms: float | None
    rates_at: list[RatesAt]


class FamiliarDomain(msgspec.Struct, frozen=True):
    """One in-distribution domain: how the pooled rate is shared out among the domains."""

    n_unsafe: int
    n_safe: int
    recall: float | None
    false_alarms: float | None
    deployed_recall: float | None
    deployed_false_alarms: float | None
    rates_at: list[RatesAt]


class Familiar(msgspec.Struct, frozen=True):
    """All in-distribution rows under one monitor, at the published threshold for FPR alpha."""

    n_unsafe: int
    n_safe: int
    unscored: int
    auroc: float | None
    recall_interval: Interval
    domains: dict[str, FamiliarDomain]


class Deployed(msgspec.Struct, frozen=True):
    """The monitor at the threshold that was chosen without test rows. An infinite threshold reads null."""

    threshold: float | None
    achieved_fpr: Interval
    recall_ood: float | None
    overall: float | None
    id_recall: float | None
    benign_ood_false_alarms: float | None
    lift: float | None


class KindResult(msgspec.Struct, frozen=True):
    """Rows of one kind and label: the share flagged is a recall where unsafe, a false-alarm rate where safe."""

    domain: str
    kind: str
    unsafe: bool
    n: int
    unscored: int
    flagged: float | None
    deployed_flagged: float | None
    flagged_at: list[FlaggedAt]


class MonitorResult(msgspec.Struct, frozen=True):
    """One monitor, at the published threshold unless "deployed" is said: the (1 - alpha) quantile of test ID-safe rows.

    Attributes:
        recall_ood: mean recall over the out-of-distribution domains that hold unsafe rows.
        overall: the published mean, which counts the in-distribution group as one domain more.
        id_recall: recall on the pooled in-distribution unsafe rows.
        achieved_fpr: share of in-distribution safe test rows above the deployed threshold.
        benign_ood_false_alarms: share of safe rows flagged, mean over the out-of-distribution domains that hold any.
        benign_only_false_alarms: the same over the domains that hold no unsafe row (pure benign shifts).
        lift: recall minus false alarms on the benign twins of the same domain, mean over domains that hold both.
        twin_auroc: mean over the same domains.
        gain_over_guard: recall_ood minus the guard's, on the same resamples; None without a guard.
        auroc_ood: mean AUROC over the domains of recall_ood.
        threshold: the published threshold.
    """

    name: str
    note: str
    recall_ood: Interval
    overall: float | None
    id_recall: float | None
    achieved_fpr: float | None
    benign_ood_false_alarms: float | None
    lift: Interval
    gain_over_guard: Interval | None
    domains: dict[str, DomainResult]
    benign_ood_false_alarms_interval: Interval
    benign_only_false_alarms: float | None
    twin_auroc: float | None
    pair_accuracy: float | None
    auroc_ood: float | None
    threshold: float | None
    unscored: int
    in_distribution: Familiar
    deployed: Deployed | None
    recall_at: list[RecallAt]
    kinds: list[KindResult]


class Difference(msgspec.Struct, frozen=True):
    """One monitor less another, on the same resamples."""

    recall_ood: Interval
    id_recall: Interval
    lift: Interval


class Report(msgspec.Struct, frozen=True):
    """A benchmark run.

    ``default_over``: of "guard" and "reference" those there are -> the default less it. ``beyond_twice``: the default's
    gain over the guard in recall_ood less twice the reference's; None where one of the three is missing.
    """

    suite: str
    source: str
    licence: str
    backbone: str
    alpha: float
    seed: int
    resamples: int
    versions: dict[str, str]
    splits: dict[str, int]
    timings: dict[str, float]
    in_distribution: list[str]
    test: dict[str, Count]
    monitors: list[MonitorResult]
    default_over: dict[str, Difference]
    beyond_twice: Interval | None

    def monitor(self, name: str) -> MonitorResult | None:
        """The monitor of that name, or None."""
        return next((monitor for monitor in self.monitors if monitor.name == name), None)
