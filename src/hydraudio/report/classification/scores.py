"""Scores of a test of classes: the whole set, calibration, groups of classes, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hydraudio.metrics import class_groups
from hydraudio.metrics.calibration import Reliability, calibration_error, reliability, scaled_probabilities
from hydraudio.metrics.classification import category_scores, nll_per_item
from hydraudio.report.classification.predictions import PredictionTable
from hydraudio.report.slices import Slice
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.clustered import OF_MOMENTS, ScoreSums, score_intervals
from hydraudio.stats.intervals import Interval

METRICS = {
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy",
    "uar": "UAR",
    "top2": "Top-2 accuracy",
    "nll": "NLL / nats",
    "brier": "Brier score",
    "ece": "ECE",
    "ece_scaled": "ECE after temperature",
    "nll_scaled": "NLL after temperature / nats",
    "kld": "KL to the votes / nats",
    "jsd": "JS to the votes / nats",
}
LESS_IS_BETTER = ("nll", "brier", "ece", "ece_scaled", "nll_scaled", "kld", "jsd", "rmse")
_CONVENTION = (
    "Fixed label set: all {n} classes count in every mean, and a class without items or predictions counts as 0. "
    "Predictions of the whole set are scored once, never averaged over batches."
)


@dataclass(frozen=True)
class Options(Bootstrap):
    """How a report is made.

    n_bootstrap, seed: of the 95 % intervals; clusters of items are resampled whole.
    min_items: slices with fewer items are suppressed.
    groups: arguments of `class_groups` other than names and counts; empty: the classes have no groups.
    """

    min_items: int = 30
    groups: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Reliability before and, where a temperature is known, after temperature scaling."""

    before: Reliability
    after: Reliability | None
    temperature: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of a set of predictions.

    intervals: by metric name (see the table above; `<metric>_<attribute>`, `recall/<class>`, `f1/<class>`).
    per_class: precision, recall, f1 and support (n_classes,), and confusion, or empty.
    groups: head, mid and tail, or empty. calibration: None without labels.
    n_clusters: what is resampled whole behind the intervals.
    n_broken: items whose outputs are no numbers; with any, no score of classes is a number either.
    """

    n_items: int
    n_labelled: int
    n_clusters: int
    n_broken: int
    intervals: Mapping[str, Interval]
    per_class: Mapping[str, np.ndarray]
    groups: Mapping[str, Mapping[str, Any]]
    calibration: Calibration | None

    @property
    def broken_line(self) -> str:
        """What is said about items whose outputs are no numbers; empty without any."""
        if not self.n_broken:
            return ""
        return (
            f"The network's output is no number for {self.n_broken} of {self.n_items} items (empty in items.csv), so "
            "their scores are undefined: it has diverged, or the recordings hold what it was not made for."
        )


def score(
    predictions: PredictionTable,
    options: Options,
    class_counts: Sequence[int] | None = None,
    temperature: float | None = None,
) -> Scores:
    """Score the set.

    Args:
        predictions: unique items.
        options: of the report.
        class_counts: training items of each class, for groups by counts.
        temperature: of the logits, fitted on other data; None = unknown.
    """
    sums = sums_of(predictions)
    intervals = dict(score_intervals(sums, **options.settings)) if sums else {}
    per_class: dict[str, np.ndarray] = {}
    groups: dict[str, dict[str, Any]] = {}
    calibration = None
    if predictions.labelled.any():
        names = predictions.class_names
        found = category_scores(predictions.probabilities, predictions.labels, len(names))
        per_class = {key: found[key] for key in ("precision", "recall", "f1", "support", "confusion")}
        if options.groups:
            grouping = class_groups.class_groups(names, class_counts, **options.groups)
            groups = class_groups.group_scores(per_class["confusion"], names, grouping)
        calibration = calibrate(predictions, temperature)
        intervals |= _plain(_calibration_scores(predictions, calibration), found["n"])
        if np.isnan(found["macro_f1"]):
            intervals = {m: i if m.startswith(tuple(OF_MOMENTS)) else _undefined(i) for m, i in intervals.items()}
    return Scores(
        n_items=len(predictions),
        n_labelled=int(predictions.labelled.sum()),
        n_clusters=sums.n_clusters if sums else 0,
        n_broken=int((~predictions.finite).sum()),
        intervals=intervals,
        per_class=per_class,
        groups=groups,
        calibration=calibration,
    )


def sums_of(predictions: PredictionTable) -> ScoreSums | None:
    """Return the sums per cluster over the items that can be scored; None where there are none."""
    known = predictions.scored
    return predictions.select(known).sums() if known.any() else None


def slices(predictions: PredictionTable, options: Options) -> list[Slice]:
    """Return all slices with more than one value; small ones are suppressed."""
    p = predictions.select(predictions.scored)
    found = []
    for name, values, order in p.properties():
        present = [value for value in order if (values == value).any()]
        if len(present) > 1:
            found += [_slice(name, value, p.select(values == value), options) for value in present]
    return found


def calibrate(predictions: PredictionTable, temperature: float | None) -> Calibration:
    """Reliability of the labelled items whose outputs are numbers."""
    p = predictions.select(predictions.labelled & predictions.finite)
    after = None
    if temperature is not None:
        after = reliability(scaled_probabilities(p.logits, temperature), p.labels)
    return Calibration(reliability(p.probabilities, p.labels), after, temperature)


def convention(predictions: PredictionTable) -> str:
    """Say what a reader must know about the means."""
    return _CONVENTION.format(n=len(predictions.class_names))


def _slice(name: str, value: str, part: PredictionTable, options: Options) -> Slice:
    if len(part) < options.min_items:
        return Slice(name, value, len(part), {}, f"fewer than {options.min_items} items")
    return Slice(name, value, len(part), score_intervals(part.sums(), **options.settings))


def _calibration_scores(predictions: PredictionTable, calibration: Calibration) -> dict[str, float]:
    scores = {"ece": calibration_error(calibration.before)}
    if calibration.after is not None and calibration.temperature is not None:
        p = predictions.select(predictions.labelled & predictions.finite)
        scaled = scaled_probabilities(p.logits, calibration.temperature)
        scores["ece_scaled"] = calibration_error(calibration.after)
        scores["nll_scaled"] = float(nll_per_item(scaled, p.labels).mean())
    return scores


def _undefined(interval: Interval) -> Interval:
    return Interval(np.nan, np.nan, np.nan, interval.n)


def _plain(values: Mapping[str, float], n: int) -> dict[str, Interval]:
    """Values without an interval."""
    return {name: Interval(value, np.nan, np.nan, n) for name, value in values.items()}
