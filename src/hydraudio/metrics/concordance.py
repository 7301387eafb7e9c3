"""Agreement of two continuous ratings.

References:
    L. I-K. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45, 1989.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EPSILON = 1e-8  # keeps the quotient of two constants finite (0)
_MIN_VARIANCE = 1e-14  # below this a rating counts as constant
MOMENTS = 6  # of a set: n, sums of x, y, x*x, y*y, x*y


def concordance(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Compute Lin's coefficient 2 cov / (var x + var y + (mean x - mean y)^2) with population moments, in [-1, 1].

    Both (n,); NaN targets are left out. NaN for fewer than two items; 0 where one is constant.

    >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))  # correlated, but 1 too high
    0.571...
    """
    return float(concordance_of_moments(moments(prediction, target).sum(0)))


def pearson(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Correlate two ratings (n,), in [-1, 1]; NaN for fewer than two items or a constant."""
    return float(pearson_of_moments(moments(prediction, target).sum(0)))


def rmse(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Compute the root of the mean squared error, in units of the ratings (n,); NaN without items."""
    return float(rmse_of_moments(moments(prediction, target).sum(0)))


def moments(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each item adds to the moments, (n, 6); zeros where the target is NaN."""
    known = ~np.isnan(target)
    x, y = np.where(known, prediction, 0.0), np.where(known, target, 0.0)
    return np.stack([known.astype(np.float64), x, y, x * x, y * y, x * y], axis=-1)


def concordance_of_moments(sums: NDArray[np.float64]) -> NDArray[Any]:
    """Compute Lin's coefficient, (...,), of summed moments (..., 6); NaN for fewer than two items."""
    n, mean_x, mean_y, var_x, var_y, cov = _central(sums)
    coefficient = 2 * cov / (var_x + var_y + (mean_x - mean_y) ** 2 + _EPSILON)
    return np.where(n >= 2, coefficient, np.nan)


def pearson_of_moments(sums: NDArray[np.float64]) -> NDArray[Any]:
    """Compute the correlation, (...,), of summed moments (..., 6); NaN for fewer than two items or a constant."""
    n, _, _, var_x, var_y, cov = _central(sums)
    varies = (n >= 2) & (np.minimum(var_x, var_y) > _MIN_VARIANCE)
    return np.where(varies, cov / np.sqrt(np.where(varies, var_x * var_y, 1.0)), np.nan)


def rmse_of_moments(sums: NDArray[np.float64]) -> NDArray[Any]:
    """Compute the root of the mean squared difference, (...,), of summed moments (..., 6); NaN without items."""
    _, mean_x, mean_y, var_x, var_y, cov = _central(sums)
    return np.sqrt(np.maximum(var_x + var_y - 2 * cov + (mean_x - mean_y) ** 2, 0.0))


def _central(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Number of items, means, population variances and covariance, (...,) each, of summed moments (..., 6)."""
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x / n, y / n
        variances = (np.maximum(xx / n - mean_x**2, 0.0), np.maximum(yy / n - mean_y**2, 0.0))
        return n, mean_x, mean_y, *variances, xy / n - mean_x * mean_y
