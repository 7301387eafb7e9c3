"""Checks that the corpora of mixtures share: the sum of the parts, and talkers of several subsets."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from hydraudio.core.defects import Defect

ROUNDING_TOLERANCE = 1.0 / 32768
"""Largest error of one file, one 16-bit step (a writer that truncates; rounding stays within half of it)."""


def broken_samples(mixture: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, str]:
    """Where a mixture is not the sum of its parts up to rounding, and figures about it for a message.

    Args:
        mixture: (time,) float32 in [-1, 1].
        parts: of the same shape.

    Returns:
        (time,) bool and the figures, which mean nothing where no sample is broken.
    """
    residual = np.abs(mixture - functools.reduce(np.add, parts))
    tolerance = (len(parts) + 1) * ROUNDING_TOLERANCE
    broken = residual > tolerance
    return broken, f"{broken.sum()} samples, by up to {residual.max():.5f} (rounding explains {tolerance:.5f})"


def shared_talkers(folder: Path, heard: Mapping[str, set[str]], known_by: str = "") -> list[Defect]:
    """A defect per pair of subsets that talkers are heard in both of.

    Args:
        folder: the corpus, for the message.
        heard: subset -> its talkers.
        known_by: what tells who speaks, for the message.
    """
    defects = []
    for first, second in combinations(heard, 2):
        shared = sorted(heard[first] & heard[second])
        if shared:
            message = (
                f"{folder}: {len(shared)} talkers are in both {first} and {second} "
                f"({known_by}{', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}); split by talker"
            )
            defects.append(Defect("shared_talker", message, "warning"))
    return defects
