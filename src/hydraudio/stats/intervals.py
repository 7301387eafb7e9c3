"""Confidence intervals and paired tests for tables of per-item scores.

References:
    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile interval.
    A. Davison, D. Hinkley, "Bootstrap Methods and their Application", 1997, chapter 3: hierarchical data.
    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.
    B. Phipson, G. Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_MAX_DRAWS_PER_CHUNK = 250_000  # bounds the memory of one block of resamples to some 6 MB


class Interval(NamedTuple):
    """A mean with its confidence interval; `low` and `high` are NaN for fewer than two clusters."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[object] | None = None,
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute the percentile bootstrap interval of the mean.

    Args:
        values: (n,) scores; entries that are not finite are left out (`Interval.n` counts those used).
        clusters: (n,) labels of values that belong together (one recording under several conditions);
            whole clusters are resampled. Without them every value stands for itself.
        confidence: coverage of the interval, in (0, 1).
        n_bootstrap: number of resamples.
        seed: seed of the resampling.

    >>> interval = bootstrap_mean([1.0, 2.0, 3.0, 4.0])
    >>> interval.mean, interval.n, interval.low < 2.5 < interval.high
    (2.5, 4, True)
    """
    groups = np.zeros(np.shape(values), dtype=np.int64)
    return bootstrap_macro_mean(values, groups, clusters, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed)


def bootstrap_macro_mean(
    values: ArrayLike,
    groups: ArrayLike,
    clusters: Sequence[object] | None = None,
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute the percentile bootstrap interval of the unweighted mean of the groups' means.

    Arguments as in `bootstrap_mean`, plus groups: (n,) label of the group of each value. Clusters may
    span groups; a group that a resample happens to miss is left out of that resample's mean.
    """
    _check_settings(confidence, n_bootstrap)
    scores, group_index, cluster_index = _prepare(values, groups, clusters)
    if not scores.size:
        return Interval(np.nan, np.nan, np.nan, 0)
    sums, counts = _cluster_sums(scores, group_index, cluster_index)
    mean = float(np.mean(sums.sum(1) / counts.sum(1)))
    if sums.shape[1] < 2:
        return Interval(mean, np.nan, np.nan, scores.size)
    means = _resampled_means(sums, counts, n_bootstrap, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), scores.size)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Compute the mean of a few independent values, such as those of folds or seeds, with Student's interval.

    Args:
        values: (n,); entries that are not finite are left out. Limits are NaN for fewer than two.
        confidence: coverage of the interval, in (0, 1).

    >>> interval = t_interval([0.80, 0.82, 0.84])
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (0.82, 0.77, 0.87)
    """
    scores = np.asarray(values, dtype=np.float64)
    scores = scores[np.isfinite(scores)]
    if scores.size < 2:
        return Interval(float(scores[0]) if scores.size else np.nan, np.nan, np.nan, scores.size)
    mean, error = float(scores.mean()), float(scores.std(ddof=1)) / math.sqrt(scores.size)
    half = float(stats.t.ppf((1 + confidence) / 2, scores.size - 1)) * error
    return Interval(mean, mean - half, mean + half, scores.size)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[object] | None = None,
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute the bootstrap interval of the mean of `second - first`, both (n,) over the same items in one order.

    >>> paired_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])  # the second is better by 1 everywhere
    Interval(mean=1.0, low=1.0, high=1.0, n=3)
    """
    difference = _difference(first, second)
    return bootstrap_mean(difference, clusters, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed)


def wilcoxon_signed_rank(first: ArrayLike, second: ArrayLike, clusters: Sequence[object] | None = None) -> float:
    """Compute the two-sided p-value of the Wilcoxon signed-rank test on paired scores (n,).

    Values of one cluster are not independent, so they enter as one value, their mean difference. Equal
    pairs are dropped (Wilcoxon's own treatment); 1.0 when all pairs are equal, NaN when no pair is finite.

    >>> first = [0.1, 0.4, 0.2, 0.5, 0.3, 0.6]
    >>> wilcoxon_signed_rank(first, [score + 0.1 * rank for rank, score in enumerate(first, start=1)])
    0.03125
    """
    difference = cluster_means(_difference(first, second), clusters)
    if not difference.size:
        return float("nan")
    if not np.any(difference):
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Compute Holm's adjusted p-values, in the order given; NaN entries stay NaN and do not count as tests.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def cluster_means(values: ArrayLike, clusters: Sequence[object] | None = None) -> NDArray[np.float64]:
    """Average the finite values of each cluster, (n_clusters,); without clusters return the values themselves."""
    scores, _, cluster_index = _prepare(values, np.zeros(np.shape(values)), clusters)
    if clusters is None or not scores.size:
        return scores
    return np.bincount(cluster_index, scores) / np.bincount(cluster_index)


def _check_settings(confidence: float, n_bootstrap: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1, for example 0.95")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap={n_bootstrap} must be at least 1")


def _difference(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired scores need two vectors of one length, got shapes {a.shape} and {b.shape}")
    return b - a


def _prepare(
    values: ArrayLike, groups: ArrayLike, clusters: Sequence[object] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Finite values with dense indices of their groups and clusters."""
    scores = np.asarray(values, dtype=np.float64)
    labels = np.arange(scores.size) if clusters is None else np.asarray(clusters)
    if scores.ndim != 1 or np.shape(groups) != scores.shape or labels.shape != scores.shape:
        raise ValueError(
            f"values, groups and clusters must be vectors of one length, got {scores.shape}, "
            f"{np.shape(groups)} and {labels.shape}"
        )
    finite = np.isfinite(scores)
    _, group_index = np.unique(np.asarray(groups)[finite], return_inverse=True)
    _, cluster_index = np.unique(labels[finite], return_inverse=True)
    return scores[finite], group_index, cluster_index


def _cluster_sums(
    scores: NDArray[np.float64], group: NDArray[np.int64], cluster: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and count of the scores per (group, cluster), each (n_groups, n_clusters)."""
    shape = (int(group.max()) + 1, int(cluster.max()) + 1)
    flat = group * shape[1] + cluster
    n_cells = shape[0] * shape[1]
    sums = np.bincount(flat, scores, minlength=n_cells).astype(np.float64)
    counts = np.bincount(flat, minlength=n_cells).astype(np.float64)
    return sums.reshape(shape), counts.reshape(shape)


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], n_bootstrap: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Macro mean of each resample of clusters, (n_bootstrap,)."""
    n_clusters = sums.shape[1]
    means = []
    for n_rows in _chunks(n_bootstrap, n_clusters):
        drawn = rng.integers(0, n_clusters, (n_rows, n_clusters))
        drawn += np.arange(n_rows)[:, None] * n_clusters
        how_often = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        totals, sizes = sums @ how_often.T, counts @ how_often.T
        ratio = np.divide(totals, sizes, out=np.zeros_like(totals), where=sizes > 0)
        means.append(ratio.sum(0) / (sizes > 0).sum(0))
    return np.concatenate(means)


def _chunks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Row counts that split (n_rows, n_columns) into blocks of bounded size."""
    step = max(1, _MAX_DRAWS_PER_CHUNK // max(n_columns, 1))
    for start in range(0, n_rows, step):
        yield min(step, n_rows - start)
