"""Spectrograms of mean 0 and deviation 1: by the statistics of a corpus, or of each clip."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import Float32Module, at_least_float32

Kind = Literal["corpus", "clip", "none"]
KINDS: tuple[Kind, ...] = ("corpus", "clip", "none")

EPS = 1e-8
"""Added to a deviation."""

LEAST_STD = 1e-3
"""Of a bin over a corpus, in the units of the front-end; a bin that moves less is empty, such as number 3 of Kaldi's
128 at 16 kHz, and is only centred."""


_EMPTY = "there are no frames to compute statistics of: the training set is empty"


class Standardize(Float32Module):
    """Subtract a mean and divide by a deviation, in float32.

    Args:
        kind: `corpus` takes the statistics of a training set, which :meth:`fit` is given once and the state dict keeps;
            `clip` those of each item over its own frames; `none` changes nothing.
        per_bin: a mean and a deviation for every bin, else one for all bins together.
        n_bins: of the spectrograms.
        scale: the deviation that comes out; 0.5 for networks of the line of AST and AudioMAE.

    >>> standardize = Standardize("clip", n_bins=80)
    >>> standardized = standardize(torch.randn(2, 1, 50, 80) * 3 - 5)
    >>> round(float(standardized.std(correction=0)), 2)
    1.0
    """

    def __init__(self, kind: Kind = "corpus", *, n_bins: int, per_bin: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if not scale > 0:
            raise ValueError(f"scale={scale} must be positive")
        self.kind, self.per_bin, self.scale = kind, per_bin, scale
        self.mean: Tensor
        self.std: Tensor
        self.ready: Tensor
        if kind == "corpus":
            self.register_buffer("mean", torch.zeros(n_bins if per_bin else 1))
            self.register_buffer("std", torch.ones(n_bins if per_bin else 1))
            self.register_buffer("ready", torch.tensor(False))

    @property
    def needs_statistics(self) -> bool:
        """Say whether :meth:`fit` has still to be called; waits for the device."""
        return self.kind == "corpus" and not bool(self.ready)

    def fit(self, statistics: Statistics) -> None:
        """Take over the statistics of a training set.

        Raises:
            ValueError: it has no frames, or nothing in it ever changes.
        """
        mean, std = statistics.mean_and_std(self.per_bin)
        if not self.per_bin and not float(std) > LEAST_STD:
            raise ValueError(f"the spectrograms of the training set never change (deviation {float(std):.1e})")
        std = torch.where(std > LEAST_STD, std, 1.0)
        self.mean.copy_(mean.expand_as(self.mean))
        self.std.copy_(std.expand_as(self.std))
        self.ready.fill_(True)

    def forward(self, spectrogram: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Standardize (batch, channels, frames, bins); frames after an item's own `n_frames` (batch,) do not count.

        Returns:
            the same shape, float32.
        """
        mean, std = self.moments(spectrogram, n_frames)
        with torch.autocast(spectrogram.device.type, enabled=False):
            return (at_least_float32(spectrogram) - mean) * (self.scale / std)

    def moments(self, spectrogram: Tensor, n_frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is subtracted from a spectrogram, and what it is divided by: float32, of shapes that broadcast."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            if self.kind == "corpus":
                return self.mean, self.std
            spectrogram = at_least_float32(spectrogram)
            if self.kind == "none":
                return spectrogram.new_zeros(1), spectrogram.new_full((1,), self.scale)
            mean, std = _item_statistics(spectrogram, n_frames, self.per_bin)
            return mean, std + EPS

    def undo(self, standardized: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        """Return the spectrogram whose :meth:`moments` these are."""
        mean, std = moments
        return at_least_float32(standardized) * (std / self.scale) + mean


class Statistics:
    """Mean and deviation of every bin over many batches, accumulated in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, spectrogram: Tensor, n_frames: Tensor | None = None) -> None:
        """Count in a batch: (batch, channels, frames, bins); frames after an item's own are left out."""
        values = spectrogram.detach().double()
        count = values.shape[0] * values.shape[2]
        if n_frames is not None:
            values = values.masked_fill(~_own(n_frames, values), 0)
            count = int(n_frames.clamp_max(values.shape[2]).sum())
        self._count += values.shape[1] * count
        total, squares = values.sum((0, 1, 2)).cpu(), values.square().sum((0, 1, 2)).cpu()
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares

    def to_array(self) -> NDArray[np.float64]:
        """Return what was accumulated, to be kept: (3, bins), sums, sums of squares, and the number of frames."""
        if self._sum is None or self._squares is None:
            raise ValueError(_EMPTY)
        return torch.stack([self._sum, self._squares, torch.full_like(self._sum, self._count)]).numpy()

    @classmethod
    def from_array(cls, kept: NDArray[np.float64]) -> Statistics:
        """Take up what :meth:`to_array` gave."""
        found = cls()
        found._sum, found._squares = torch.from_numpy(kept[0].copy()), torch.from_numpy(kept[1].copy())
        found._count = int(kept[2, 0])
        return found

    def mean_and_std(self, per_bin: bool) -> tuple[Tensor, Tensor]:
        """(bins,) or (1,) float64 each.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None or self._squares is None or self._count == 0:
            raise ValueError(_EMPTY)
        mean, square = self._sum / self._count, self._squares / self._count
        if not per_bin:
            mean, square = mean.mean(0, keepdim=True), square.mean(0, keepdim=True)
        return mean, (square - mean.square()).clamp_min(0).sqrt()


def _own(n_frames: Tensor, spectrogram: Tensor) -> Tensor:
    """(batch, 1, frames, 1) bool."""
    return frame_mask(n_frames, spectrogram.shape[2])[:, None, :, None]


def _item_statistics(spectrogram: Tensor, n_frames: Tensor | None, per_bin: bool) -> tuple[Tensor, Tensor]:
    """Mean and deviation (of n, not n - 1) of each item, over channels and frames, and over bins unless `per_bin`."""
    axes = (1, 2) if per_bin else (1, 2, 3)
    if n_frames is None:
        mean = spectrogram.mean(axes, keepdim=True)
        return mean, (spectrogram - mean).square().mean(axes, keepdim=True).sqrt()
    own = _own(n_frames, spectrogram)
    count = own.expand(spectrogram.shape).sum(axes, keepdim=True).clamp_min(1)
    mean = spectrogram.masked_fill(~own, 0).sum(axes, keepdim=True) / count
    centred = (spectrogram - mean).masked_fill(~own, 0)
    return mean, (centred.square().sum(axes, keepdim=True) / count).sqrt()
