"""Checks of the options of the PolSESS datamodule; each returns the value or raises ValueError with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hydraudio.tasks.separation.corpora.polsess import mm_ipc


def check_weights(weights: Mapping[str, float] | None, allowed: tuple[str, ...] | None) -> dict[str, float] | None:
    """Relative frequencies of variants, which `allowed` (None: all) must hold."""
    if weights is None:
        return None
    mm_ipc.check_variants(weights, "variant_weights")
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"variant_weights[{name}]={weight} must be a number that is not negative")
        if allowed is not None and name not in allowed:
            raise ValueError(f"variant_weights names {name}, which allowed_variants {list(allowed)} leaves out")
    return dict(weights)


def without_zero_weight(allowed: tuple[str, ...] | None, weights: Mapping[str, float] | None) -> tuple[str, ...] | None:
    """The variants that training can draw; a weight of 0 forbids one."""
    if weights is None:
        return allowed
    kept = tuple(name for name in allowed or mm_ipc.VARIANTS if weights.get(name, 1.0) > 0)
    if not kept:
        raise ValueError(f"variant_weights {dict(weights)} gives no allowed variant a positive weight")
    return kept


def check_probability(name: str, value: float) -> float:
    """A number in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must be a probability from 0 to 1")
    return value


def check_range(name: str, limits: Sequence[float] | None) -> tuple[float, float] | None:
    """(lowest, highest) in dB, or None."""
    if limits is None:
        return None
    if len(limits) != 2 or not np.isfinite(limits).all() or limits[0] > limits[1]:
        raise ValueError(f"{name}={list(limits)} must be [lowest, highest] in dB, or null")
    return float(limits[0]), float(limits[1])
