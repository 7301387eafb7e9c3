"""Bootstrap intervals and paired tests for scores that are no means of items, such as macro-F1 and CCC.

Whole clusters, such as the turns of a speaker, are resampled, because their items are not independent. All scores are
functions of sums over items: counts of (true, predicted) classes, sums of losses, moments of attributes. A resample
therefore is one product of cluster multiplicities and cluster sums, and equal seeds draw equal clusters for every
model.

References:
    A. Davison, D. Hinkley, "Bootstrap Methods and their Application", 1997, chapters 3 (hierarchical data), 4 and 5.
    B. Phipson, G. Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hydraudio.metrics.classification import NO_LABEL, class_scores, confusion_scores
from hydraudio.metrics.concordance import MOMENTS, concordance_of_moments, moments, pearson_of_moments, rmse_of_moments
from hydraudio.stats.intervals import Interval

_MAX_DRAWS_PER_CHUNK = 50_000  # bounds the memory of one block of resamples and its scores to a few MB
_CONFIDENCE = 0.95


OF_MOMENTS = {"ccc": concordance_of_moments, "pearson": pearson_of_moments, "rmse": rmse_of_moments}


@dataclass(frozen=True)
class ScoreSums:
    """What each cluster of items adds to the sums that all scores are made of.

    confusion: (n_clusters, n_classes, n_classes) counts of (true, predicted).
    means: by name, (n_clusters, 2) sum and number of finite values.
    attributes: by name, (n_clusters, 6) moments of prediction and target.
    scale: what one unit of them is in the unit of the root mean square error.
    """

    class_names: tuple[str, ...]
    confusion: NDArray[np.float64]
    means: Mapping[str, NDArray[np.float64]]
    attributes: Mapping[str, NDArray[np.float64]]
    scale: float = 1.0

    @property
    def n_clusters(self) -> int:
        return len(self.confusion)

    def counts(self) -> dict[str, int]:
        """Count the items behind each score."""
        n_labelled = int(self.confusion.sum())
        counts = dict.fromkeys(self.scores(), n_labelled)
        counts |= {name: int(sums[:, 1].sum()) for name, sums in self.means.items()}
        rated = {name: int(sums[:, 0].sum()) for name, sums in self.attributes.items()}
        for metric in OF_MOMENTS if rated else ():
            counts[metric] = max(rated.values())
            counts |= {f"{metric}_{name}": n for name, n in rated.items()}
        return counts

    def scores(self) -> dict[str, float]:
        """Compute all scores of the whole set."""
        whole = np.ones((1, self.n_clusters))
        return {name: float(values[0]) for name, values in self._scores(whole).items()}

    def resampled(self, n_bootstrap: int, seed: int) -> dict[str, NDArray[np.float64]]:
        """Compute all scores of each resample of clusters, (n_bootstrap,) each."""
        rng = np.random.default_rng(seed)
        step = max(1, _MAX_DRAWS_PER_CHUNK // max(self.n_clusters, 1))
        blocks = []
        for start in range(0, n_bootstrap, step):
            n_rows = min(step, n_bootstrap - start)
            drawn = rng.integers(0, self.n_clusters, (n_rows, self.n_clusters))
            drawn += np.arange(n_rows)[:, None] * self.n_clusters
            weights = np.bincount(drawn.ravel(), minlength=n_rows * self.n_clusters)
            blocks.append(self._scores(weights.reshape(n_rows, self.n_clusters).astype(np.float64)))
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _scores(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Scores under cluster multiplicities (rows, n_clusters)."""
        scores: dict[str, NDArray[np.float64]] = {}
        if self.class_names:
            scores |= self._category_scores(weights)
        for name, sums in self.means.items():
            total = weights @ sums
            with np.errstate(invalid="ignore"):
                scores[name] = total[:, 0] / total[:, 1]
        return scores | self._attribute_scores(weights)

    def _attribute_scores(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        totals = {name: weights @ sums for name, sums in self.attributes.items()}
        scores: dict[str, NDArray[np.float64]] = {}
        for metric, function in OF_MOMENTS.items() if totals else ():
            unit = self.scale if metric == "rmse" else 1.0
            values = {f"{metric}_{name}": unit * function(total) for name, total in totals.items()}
            scores[metric] = _mean_of_numbers(np.stack(list(values.values())))
            scores |= values
        return scores

    def _category_scores(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        n_classes = len(self.class_names)
        confusion = (weights @ self.confusion.reshape(self.n_clusters, -1)).reshape(-1, n_classes, n_classes)
        per_class = class_scores(confusion)
        scores = confusion_scores(confusion)
        for column, name in enumerate(self.class_names):
            scores |= {f"{metric}/{name}": per_class[metric][:, column] for metric in ("recall", "f1")}
        empty = confusion.sum((1, 2)) == 0
        return {name: np.where(empty, np.nan, values) for name, values in scores.items()}


def score_sums(
    clusters: Sequence[object] | NDArray[np.str_],
    *,
    class_names: Sequence[str] = (),
    labels: NDArray[np.int64] | None = None,
    predicted: NDArray[np.int64] | None = None,
    means: Mapping[str, NDArray[np.float64]] | None = None,
    attributes: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None,
    scale: float = 1.0,
) -> ScoreSums:
    """Sum over the items of each cluster.

    Args:
        clusters: (n,) label of the cluster of each item.
        class_names: the label set; empty = no categories.
        labels: (n,) true classes, -1 = none.
        predicted: (n,) predicted classes.
        means: scores that are means of per-item values (n,); NaN values are left out.
        attributes: by name, prediction and target (n,); NaN targets are left out.
        scale: factor of the root mean square error of attributes, where that has another unit than they have.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters, n_classes = len(names), len(class_names)
    confusion = np.zeros((n_clusters, n_classes, n_classes))
    if n_classes and labels is not None and predicted is not None:
        known = labels != NO_LABEL
        np.add.at(confusion, (index[known], labels[known], predicted[known]), 1)
    mean_rows = {name: _mean_rows(values) for name, values in (means or {}).items()}
    moment_rows = {name: moments(*pair) for name, pair in (attributes or {}).items()}
    return ScoreSums(
        tuple(class_names),
        confusion,
        {name: _sum_by(index, rows, n_clusters, 2) for name, rows in mean_rows.items()},
        {name: _sum_by(index, rows, n_clusters, MOMENTS) for name, rows in moment_rows.items()},
        scale,
    )


def score_intervals(sums: ScoreSums, *, n_bootstrap: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Compute the 95 % percentile bootstrap interval of every score; limits are NaN for fewer than two clusters."""
    values, counts = sums.scores(), sums.counts()
    if sums.n_clusters < 2:
        return {name: Interval(value, np.nan, np.nan, counts[name]) for name, value in values.items()}
    resamples = sums.resampled(n_bootstrap, seed)
    return {name: percentile_interval(value, resamples[name], counts[name]) for name, value in values.items()}


def paired_intervals(
    first: ScoreSums, second: ScoreSums, *, n_bootstrap: int = 2000, seed: int = 0
) -> dict[str, tuple[Interval, float]]:
    """Compute the difference second - first of every score that both have, with its interval and two-sided p-value.

    Both over the same items, so that equal seeds resample equal clusters. The p-value inverts the percentile
    interval: twice the smaller share of resamples on one side of 0.
    """
    if first.n_clusters != second.n_clusters:
        raise ValueError(f"paired scores need the same clusters, got {first.n_clusters} and {second.n_clusters}")
    a, b, counts = first.scores(), second.scores(), first.counts()
    shared = [name for name in a if name in b]
    if first.n_clusters < 2:
        return {name: (Interval(b[name] - a[name], np.nan, np.nan, counts[name]), np.nan) for name in shared}
    before, after = (sums.resampled(n_bootstrap, seed) for sums in (first, second))
    results = {}
    for name in shared:
        resamples = after[name] - before[name]
        difference = percentile_interval(b[name] - a[name], resamples, counts[name])
        results[name] = difference, two_sided_p(resamples)
    return results


def percentile_interval(value: float, resamples: NDArray[np.float64], n: int) -> Interval:
    """Compute the 95 % interval from the resamples that are numbers."""
    finite = resamples[~np.isnan(resamples)]
    if not finite.size or np.isnan(value):
        return Interval(value, np.nan, np.nan, n)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def two_sided_p(resamples: NDArray[np.float64]) -> float:
    """Compute the achieved significance of "no difference" from resampled differences; NaN without numbers."""
    finite = resamples[~np.isnan(resamples)]
    if not finite.size:
        return float("nan")
    smaller = min(int(np.sum(finite <= 0)), int(np.sum(finite >= 0)))
    return min(1.0, 2 * (smaller + 1) / (finite.size + 1))


def _mean_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known], axis=1)


def _sum_by(index: NDArray[np.int64], rows: NDArray[np.float64], n: int, width: int) -> NDArray[np.float64]:
    sums = np.zeros((n, width))
    for column in range(width):
        sums[:, column] = np.bincount(index, rows[:, column], minlength=n)
    return sums


def _mean_of_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis, without NaN entries."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(0) / known.sum(0)
