"""Speed perturbation: tempo and pitch of a component changed together, its length kept.

Ko, Povey, Khudanpur and Peddinti, "Audio Augmentation for Speech Recognition", Interspeech 2015. A talker that is f
times as fast comes from an excerpt that is f times as long, resampled to the length of the item (soxr, quality HQ),
and so does its reverberation. The mixture is the sum of what was resampled, so it stays consistent with its targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hydraudio.audio.io import resample
from hydraudio.core.sampling import generator
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import DRY_OF

_STEPS = 1000
"""Factors are multiples of 1/1000: the ratio of two small integers is resampled two to three times as fast."""
_SPARE_SAMPLES = 2
_TALKERS = ("sp1", "sp2")
_NOISES = ("scene", "event")


@dataclass(frozen=True)
class Speed:
    """What may be drawn.

    Attributes:
        low: smallest factor; 0.9 is 10 % slower and lower.
        high: largest factor.
        noises: change scene and event as well, each with a factor of its own.
    """

    low: float
    high: float
    noises: bool = False

    def draw(self, seed: int, epoch: int, index: int) -> Mapping[str, float]:
        """Map component -> factor, a pure function of the arguments. A reverb has the factor of its dry signal."""
        uniform = generator(seed, epoch, index, 2).random(len(_TALKERS + _NOISES))
        changed = _TALKERS + (_NOISES if self.noises else ())
        factors = {
            name: round((self.low + (self.high - self.low) * value) * _STEPS) / _STEPS
            for name, value in zip(_TALKERS + _NOISES, uniform.tolist(), strict=True)
            if name in changed
        }
        return factors | {wet: factors[dry] for wet, dry in DRY_OF.items() if dry in factors}

    def longest_excerpt(self, n_samples: int) -> int:
        """Return the samples that the fastest excerpt takes from its clip."""
        return max(excerpt_length(n_samples, round(factor * _STEPS) / _STEPS) for factor in (1.0, self.high))


def check_speed(limits: Sequence[float] | None, noises: bool) -> Speed | None:
    """Return the speed range of a configuration, [lowest, highest], or None.

    Raises:
        ValueError: not an increasing pair of factors in [0.5, 2], or `noises` without a range.
    """
    if limits is None:
        if noises:
            raise ValueError("speed_noises=true changes nothing without a range: set speed=[0.9, 1.1]")
        return None
    if len(limits) != 2 or not 0.5 <= limits[0] <= limits[1] <= 2.0:
        raise ValueError(f"speed={list(limits)} must be [lowest, highest] factor between 0.5 and 2, or null")
    return Speed(float(limits[0]), float(limits[1]), noises)


def excerpt_length(n_samples: int, factor: float) -> int:
    """Return the samples to read for an item of n_samples."""
    return n_samples if factor == 1.0 else math.ceil(n_samples * factor) + _SPARE_SAMPLES


def change_speed(excerpt: np.ndarray, factor: float, n_samples: int) -> np.ndarray:
    """Return (n_samples,) float32 from (excerpt_length(n_samples, factor),)."""
    return resample(excerpt, round(factor * _STEPS), _STEPS)[:n_samples]
