"""How far probabilities can be trusted: calibration error, reliability bins, temperature scaling, known class priors.

References:
    M. Naeini, G. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On calibration of modern neural networks", ICML 2017: temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import Tensor

N_BINS = 15
TEMPERATURES = (0.05, 20.0)  # searched range


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins (low, high] of the confidence, (n_bins,) each; NaN means in empty bins."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64], n_bins: int = N_BINS) -> Reliability:
    """Compute mean confidence (largest probability) and accuracy per bin; a NaN makes that of the first bin NaN.

    Args:
        probabilities: (n, n_classes), rows sum to 1.
        labels: (n,) int in 0..n_classes-1.
        n_bins: bins between 0 and 1.
    """
    confidence, correct = probabilities.max(axis=1, initial=0.0), probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(np.nan_to_num(confidence) * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, values, minlength=n_bins) / count for values in (confidence, correct)]
    edges = np.linspace(0, 1, n_bins + 1)
    return Reliability(edges[:-1], edges[1:], count, *means)


def calibration_error(bins: Reliability) -> float:
    """Compute the expected calibration error: mean |accuracy - confidence| over items, in [0, 1]; NaN without any.

    >>> probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    >>> round(calibration_error(reliability(probabilities, np.array([0, 0, 1, 0]))), 2)  # right three times of four
    0.2
    """
    if not bins.count.sum():
        return float("nan")
    gaps = np.where(bins.count > 0, np.abs(bins.accuracy - bins.confidence), 0.0)
    return float(gaps @ bins.count / bins.count.sum())


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Find the temperature T that minimises the negative log-likelihood of softmax(logits / T), between 0.05 and 20.

    Args:
        logits: (n, n_classes) of items that the network was not trained on.
        labels: (n,) int in 0..n_classes-1; at least one.

    Returns:
        the temperature; NaN where a logit is not finite.

    >>> overconfident = np.array([[6.0, 0.0], [6.0, 0.0], [6.0, 0.0], [6.0, 0.0]])
    >>> round(fit_temperature(overconfident, np.array([0, 0, 0, 1])), 2)  # softmax(6 / T) is then 3/4
    5.46
    """
    if not len(labels):
        raise ValueError("a temperature needs at least one labelled item")
    if not np.isfinite(logits).all():
        return float("nan")
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def scaled_probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(logits / temperature), (n, n_classes)."""
    return softmax(logits / temperature, axis=1)


def adjust_logits(logits: Tensor, priors: Tensor | Sequence[float], tau: float = 1.0) -> Tensor:
    """Move logits z that assume equal priors to known priors: z + tau * log priors.

    Networks trained with balanced softmax give logits for equally frequent classes; softmax(z + log priors) is the
    probability where classes are as frequent as `priors` says (Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021). For a network trained with plain cross entropy on classes of frequency p, give the ratios
    priors / p.

    Args:
        logits: (..., n_classes).
        priors: one positive value per class; a common factor does not change the probabilities.
        tau: 1 for the exact shift.

    Raises:
        ValueError: a prior is not positive, or there is not one for each class.
    """
    values = torch.as_tensor(priors, dtype=torch.float32, device=logits.device)
    if values.shape != logits.shape[-1:]:
        raise ValueError(f"need one prior for each of {logits.shape[-1]} classes, found {tuple(values.shape)}")
    if not (values > 0).all():
        raise ValueError(f"priors must be positive, found {values.tolist()}")
    return logits + tau * values.log()
