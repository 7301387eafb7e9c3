"""Scores of attributes over a whole set of predictions; those of categories: `hydraudio.metrics.classification`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from hydraudio.metrics.classification import as_array, nan_mean
from hydraudio.metrics.concordance import concordance, pearson, rmse

ATTRIBUTE_RANGE = 6.0  # attributes in [0, 1] stand for ratings from 1 to 7


def attribute_scores(
    prediction: torch.Tensor | ArrayLike, target: torch.Tensor | ArrayLike, names: Sequence[str]
) -> dict[str, float]:
    """Return the scores of attributes, each over all items that have it.

    Args:
        prediction: (n, len(names)) in [0, 1].
        target: (n, len(names)) in [0, 1]; NaN = missing.
        names: of the columns.

    Returns:
        `ccc_<name>` and `pearson_<name>` of each attribute, NaN for fewer than two items, and `rmse_<name>` (on the
        scale from 1 to 7), NaN without items; `ccc`, `pearson` and `rmse`: their means over the attributes that have
        a number.
    """
    p, y = as_array(prediction), as_array(target)
    if p.shape != y.shape or p.ndim != 2 or p.shape[1] != len(names):
        raise ValueError(f"attributes {list(names)} need (n, {len(names)}) arrays, got {p.shape} and {y.shape}")
    scores: dict[str, float] = {}
    for column, name in enumerate(names):
        known = ~np.isnan(y[:, column])
        pair = p[known, column], y[known, column]
        scores[f"ccc_{name}"] = concordance(*pair)
        scores[f"pearson_{name}"] = pearson(*pair)
        scores[f"rmse_{name}"] = ATTRIBUTE_RANGE * rmse(*pair)
    means = {m: nan_mean([scores[f"{m}_{name}"] for name in names]) for m in ("ccc", "pearson", "rmse")}
    return means | scores
