"""What a corpus is used for (training, validation, testing), and how many of its items take part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

USES = ("train", "val", "test")

USES_OF_STAGE = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": (), None: USES}
"""Stage of `LightningDataModule.setup` -> the uses whose datasets it makes."""


def check_limits(train: int | None, val: int | None, test: int | None) -> Mapping[str, int | None]:
    """Return the most items that take part in each use, None for all.

    Raises:
        ValueError: a limit is below 1.
    """
    limits = dict(zip(USES, (train, val, test), strict=True))
    for use, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"max_{use}_samples={limit} must be at least 1, or null for all")
    return limits


def nested_sample(n_items: int, limit: int | None, seed: int, use: str) -> np.ndarray:
    """Draw (m,) ascending numbers of the items that take part: a random choice of `limit` of them, None for all.

    A smaller limit gives a part of what a larger one gives.

    >>> few, more = nested_sample(100, 3, seed=0, use="train"), nested_sample(100, 6, seed=0, use="train")
    >>> len(few), set(few) <= set(more)
    (3, True)
    """
    if limit is None or limit >= n_items:
        return np.arange(n_items)
    rng = np.random.default_rng(np.random.SeedSequence([seed, USES.index(use)]))
    return np.sort(rng.permutation(n_items)[:limit])
