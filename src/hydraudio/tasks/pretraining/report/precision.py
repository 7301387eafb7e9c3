"""Average precision of classes of which a clip may have several, with bootstrap intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.clustered import percentile_interval
from hydraudio.stats.intervals import Interval

_MAX_VALUES = 2_000_000  # of one block of resamples


def average_precision(
    probabilities: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over the items of a class, the most probable first, of the precision up to there, divided by their number.

    Args:
        probabilities: (n,) of one class.
        target: (n,) 0 or 1.
        weights: (rows, n) how often each item counts.

    Returns:
        (rows,); NaN where the class has no item.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([1.0, 0.0, 1.0]), np.ones((1, 3))).round(3)
    array([0.833])
    """
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)  # of items of equal probability
    hits = (weights * target)[:, order].cumsum(1)[:, ends]
    seen = weights[:, order].cumsum(1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        return (np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0) * gained).sum(1) / hits[:, -1]


def precision_intervals(
    probabilities: NDArray[np.float64],
    target: NDArray[np.float64],
    clusters: NDArray[np.str_],
    class_names: tuple[str, ...],
    bootstrap: Bootstrap,
) -> dict[str, Interval]:
    """Compute ``mean_ap`` over the classes that occur, and ``ap/<class>`` of each, with 95 % intervals.

    Args:
        probabilities: (n, classes) of the clips that have a class.
        target: (n, classes), 0 or 1.
        clusters: (n,) of clips that are resampled together.
        class_names: of the columns.
        bootstrap: of the clusters.
    """
    _, index = np.unique(clusters, return_inverse=True)
    n_clusters = int(index.max()) + 1
    rng = np.random.default_rng(bootstrap.seed)
    step = max(1, _MAX_VALUES // len(index))
    whole, blocks = _by_class(probabilities, target, np.ones((1, len(index)))), []
    for start in range(0, bootstrap.n_bootstrap if n_clusters > 1 else 0, step):
        n_rows = min(step, bootstrap.n_bootstrap - start)
        drawn = rng.integers(0, n_clusters, (n_rows, n_clusters))
        weights = np.stack([np.bincount(row, minlength=n_clusters) for row in drawn])[:, index].astype(np.float64)
        blocks.append(_by_class(probabilities, target, weights))
    occurs = target.any(axis=0)
    resampled = np.concatenate(blocks) if blocks else np.full((1, len(class_names)), np.nan)
    n_items = target.sum(axis=0).astype(int).tolist()
    mean = float(whole[0, occurs].mean())
    found = {"mean_ap": percentile_interval(mean, _row_means(resampled[:, occurs]), len(index))}
    for k, name in enumerate(class_names):
        found[f"ap/{name}"] = percentile_interval(float(whole[0, k]), resampled[:, k], n_items[k])
    return found


def _by_class(
    probabilities: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(rows, classes)."""
    columns = [average_precision(p, t, weights) for p, t in zip(probabilities.T, target.T, strict=True)]
    return np.stack(columns, axis=1)


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the numbers of each row; NaN without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(1) / known.sum(1)
