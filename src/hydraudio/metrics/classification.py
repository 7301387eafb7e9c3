"""Scores of categories over a whole set of predictions.

Every function takes the accumulated predictions of a set and scores them once; a mean over batches is another number.
The label set is fixed: all n_classes classes count in every mean, a class without items or without predictions counts
as 0 (scikit-learn's `labels=range(n_classes), zero_division=0`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

NO_LABEL = -1
_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)  # bounds the negative log-likelihood at 87.3 nats

SCALARS = ("macro_f1", "weighted_f1", "accuracy", "uar", "top2", "nll", "brier")


def category_scores(
    probabilities: torch.Tensor | ArrayLike, labels: torch.Tensor | ArrayLike, n_classes: int
) -> dict[str, Any]:
    """Score categories.

    Args:
        probabilities: (n, n_classes), rows sum to 1.
        labels: (n,) int, true class; -1 = none, such items are left out.
        n_classes: size of the label set.

    Returns:
        Floats in [0, 1], more is better: `macro_f1`, `weighted_f1` (weighted by support), `accuracy`, `uar` (mean
        recall), `top2` (the label is among the two most probable). Floats, less is better: `nll` (nats), `brier` (sum
        over classes, in [0, 2]). Arrays (n_classes,): `precision`, `recall`, `f1`, `support`. `confusion`: (true,
        predicted) counts. `n`: labelled items. The floats are NaN without labelled items, or if a probability of one
        is not finite.
    """
    p, y = _labelled(probabilities, labels, n_classes)
    finite = bool(np.isfinite(p).all())
    predicted = np.argmax(np.nan_to_num(p, nan=-1.0), axis=1) if len(p) else np.zeros(0, dtype=np.int64)
    confusion = confusion_matrix(y, predicted, n_classes)
    scores = {**confusion_scores(confusion), **class_scores(confusion)}
    items = {"top2": top_k_hits(p, y, 2), "nll": nll_per_item(p, y), "brier": brier_per_item(p, y)}
    scores |= {name: _mean(values) for name, values in items.items()}
    if not finite or not len(y):
        scores |= dict.fromkeys(SCALARS, float("nan"))
    return {**scores, "confusion": confusion, "n": len(y)}


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Count (true, predicted), (n_classes, n_classes), of labels and predictions (n,).

    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2)
    array([[2, 0],
           [1, 1]])
    """
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def class_scores(confusion: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Compute precision, recall, F1 and support of each class, (..., n_classes), of counts (..., true, predicted)."""
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(-1), counts.sum(-2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


def confusion_scores(confusion: NDArray[Any]) -> dict[str, Any]:
    """Compute macro-F1, weighted F1, accuracy and UAR, (...,), of confusion matrices (..., true, predicted).

    Without any item they are 0 by the same convention; callers decide whether that means anything.
    """
    scores = class_scores(confusion)
    support, n = scores["support"], scores["support"].sum(-1)
    return {
        "macro_f1": _plain(scores["f1"].mean(-1)),
        "weighted_f1": _ratio((support * scores["f1"]).sum(-1), n),
        "accuracy": _ratio((support * scores["recall"]).sum(-1), n),
        "uar": _plain(scores["recall"].mean(-1)),
    }


def nll_per_item(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the negative log-likelihood in nats, (n,), of labels (n,) >= 0 under probabilities (n, n_classes)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(chosen, _MIN_PROBABILITY))


def top_k_hits(probabilities: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Say (n,) whether the label (n,) is among the k most probable classes; of equal ones the first counts."""
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return (ranked == labels[:, None]).any(axis=1)


def brier_per_item(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Square the distance (n,), in [0, 2], of probabilities (n, n_classes) from the one-hot labels (n,) >= 0."""
    return np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)


def divergences_per_item(
    probabilities: NDArray[np.float64], votes: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute `kld` KL(votes || probabilities) and `jsd`, (n,) each in nats, of distributions (n, n_classes).

    NaN for rows with NaN.
    """
    middle = (probabilities + votes) / 2
    jsd = (_kl(probabilities, middle) + _kl(votes, middle)) / 2
    unknown = np.isnan(middle).any(axis=1)
    return {"kld": np.where(unknown, np.nan, _kl(votes, probabilities)), "jsd": np.where(unknown, np.nan, jsd)}


def entropy(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the entropy by its maximum log(n_classes): (n,) in [0, 1]; NaN for rows with NaN."""
    terms = np.where(distribution > 0, distribution * np.log(np.where(distribution > 0, distribution, 1.0)), 0.0)
    total = -terms.sum(axis=1) / np.log(max(distribution.shape[1], 2))
    return np.where(np.isnan(distribution).any(axis=1), np.nan, np.maximum(total, 0.0))


def as_array(values: torch.Tensor | ArrayLike) -> NDArray[np.float64]:
    """Return a float64 array of a tensor on any device, or of anything like an array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to(device="cpu", dtype=torch.float32).numpy()
    return np.asarray(values, dtype=np.float64)


def nan_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Average the numbers among the values; NaN without any."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[~np.isnan(finite)]
    return float(finite.mean()) if finite.size else float("nan")


def _labelled(
    probabilities: torch.Tensor | ArrayLike, labels: torch.Tensor | ArrayLike, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities and labels of the items that have a label."""
    p, y = as_array(probabilities), as_array(labels).astype(np.int64)
    if p.shape != (len(y), n_classes):
        raise ValueError(
            f"{len(y)} labels and {n_classes} classes need ({len(y)}, {n_classes}) probabilities: {p.shape}"
        )
    if y.size and not NO_LABEL <= y.min() <= y.max() < n_classes:
        raise ValueError(f"labels reach from {y.min()} to {y.max()}; they must lie in 0..{n_classes - 1}, or be -1")
    known = y != NO_LABEL
    return p[known], y[known]


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Any:
    """Quotient with 0 / 0 = 0."""
    ratio = np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)
    return _plain(ratio)


def _plain(values: Any) -> Any:
    """A float where there is one value."""
    return float(values) if np.ndim(values) == 0 else values


def _kl(q: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(q || p) of each row; a class without share in q adds nothing."""
    logs = np.log(np.maximum(q, _MIN_PROBABILITY)) - np.log(np.maximum(p, _MIN_PROBABILITY))
    return np.where(q > 0, q * logs, 0.0).sum(axis=1)


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
