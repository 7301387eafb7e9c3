"""Gaps between genders and the spread over speakers in a test of emotions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hydraudio.metrics.classification import class_scores, confusion_matrix, nan_mean
from hydraudio.report.classification.scores import Options, sums_of
from hydraudio.report.tables import Row, floats, interval_entries
from hydraudio.stats.clustered import percentile_interval
from hydraudio.stats.intervals import Interval
from hydraudio.tasks.emotion.metrics import attribute_scores
from hydraudio.tasks.emotion.report.predictions import GENDERS, UNKNOWN, EmotionTable

PERCENTILES = (10, 50, 90)
SPEAKER_COLUMNS = ("speaker", "gender", "n", "accuracy", "uar", "nll", "ccc")


@dataclass(frozen=True)
class Gap:
    """Female minus male of one metric. ratio: the smaller of both by the larger."""

    metric: str
    female: float
    male: float
    difference: Interval
    ratio: float
    suppressed: str = ""


@dataclass(frozen=True)
class SpeakerSpread:
    """Scores per speaker. rows: worst first; percentiles: by metric, of `PERCENTILES`; n_left_out: with few items."""

    rows: Sequence[Row]
    percentiles: Mapping[str, tuple[float, ...]]
    n_left_out: int


def gender_gaps(predictions: EmotionTable, options: Options) -> list[Gap]:
    """Return the differences between women and men: scores, and recall of each class (equal opportunity).

    Empty where one of them is missing. Speakers have one gender each, so both sides are resampled independently.
    """
    p = predictions.select(predictions.scored)
    groups = [p.select(p.gender == GENDERS.index(name)) for name in ("Female", "Male")]
    if not all(len(group) for group in groups):
        return []
    sums = [sums_of(group) for group in groups]
    scores = [s.scores() if s else {} for s in sums]
    resamples = [
        s.resampled(options.n_bootstrap, options.seed + k) if s and s.n_clusters > 1 else {} for k, s in enumerate(sums)
    ]

    def gap(metric: str, n_items: Sequence[int]) -> Gap:
        if min(n_items) < options.min_items:
            nothing = Interval(np.nan, np.nan, np.nan, min(n_items))
            return Gap(metric, np.nan, np.nan, nothing, np.nan, f"fewer than {options.min_items} items of one gender")
        values = [found.get(metric, np.nan) for found in scores]
        difference = Interval(values[0] - values[1], np.nan, np.nan, sum(n_items))
        if all(metric in found for found in resamples):
            female, male = (found[metric] for found in resamples)
            difference = percentile_interval(difference.mean, female - male, sum(n_items))
        larger = max(values)
        return Gap(metric, values[0], values[1], difference, min(values) / larger if larger > 0 else float("nan"))

    metrics = ["macro_f1", "uar", "accuracy"] if p.labelled.any() else []
    metrics += ["ccc", *(f"ccc_{name}" for name in p.attribute_names)] if p.rated.any() else []
    gaps = [gap(metric, [len(group) for group in groups]) for metric in metrics]
    for k, name in enumerate(p.class_names if p.labelled.any() else ()):
        gaps.append(gap(f"recall/{name}", [int((group.labels == k).sum()) for group in groups]))
    return gaps


def speaker_spread(predictions: EmotionTable, options: Options) -> SpeakerSpread:
    """Return the scores of each known speaker with enough items.

    The recall of a speaker is averaged over the classes that the speaker has: hardly anyone has them all.
    """
    p = predictions.select(predictions.scored)
    names, index, counts = np.unique(p.speaker, return_inverse=True, return_counts=True)
    known = (names != UNKNOWN) & (names != "")
    kept = np.flatnonzero(known & (counts >= options.min_items))
    rows = [_speaker_row(str(names[k]), p.select(index == k)) for k in kept]
    main = "uar" if p.labelled.any() else "ccc"
    rows.sort(key=lambda row: (np.nan_to_num(floats([row], main)[0], nan=np.inf), str(row["speaker"])))
    percentiles = {}
    for metric in ("accuracy", "uar", "nll", "ccc"):
        values = np.array([row[metric] for row in rows], dtype=np.float64)
        if values.size and not np.isnan(values).all():
            percentiles[metric] = tuple(float(x) for x in np.nanpercentile(values, PERCENTILES))
    return SpeakerSpread(rows, percentiles, int(known.sum()) - len(kept))


def gap_rows(gaps: Sequence[Gap]) -> list[Row]:
    """Return the rows of gender.csv."""
    return [
        {"metric": g.metric, "female": g.female, "male": g.male, **interval_entries({"difference": g.difference})}
        | {"ratio": g.ratio, "suppressed": g.suppressed}
        for g in gaps
    ]


def _speaker_row(name: str, p: EmotionTable) -> Row:
    row: Row = {"speaker": name, "gender": GENDERS[int(p.gender[0])], "n": len(p)}
    row |= dict.fromkeys(("accuracy", "uar", "nll", "ccc"), float("nan"))
    if p.labelled.any():
        known = p.select(p.labelled)
        confusion = confusion_matrix(known.labels, known.predicted, len(p.class_names))
        scores = class_scores(confusion)
        row["accuracy"] = float(np.trace(confusion) / confusion.sum())
        row["uar"] = float(scores["recall"][scores["support"] > 0].mean())
        row["nll"] = nan_mean(p.nll)
    if p.rated.any():
        row["ccc"] = attribute_scores(p.attributes, p.attribute_targets, p.attribute_names)["ccc"]
    return row
