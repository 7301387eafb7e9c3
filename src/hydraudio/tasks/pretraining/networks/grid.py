"""The grid of patches: what patchify, positions, masks, pooling and pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Patches of a spectrogram, in rows along time and columns along frequency; token i = row * n_cols + column.

    >>> grid = Grid(n_frames=200, n_bins=80, patch=(4, 16))
    >>> grid.n_rows, grid.n_cols, grid.n_tokens, grid.patch_values
    (50, 5, 250, 64)

    Args:
        n_frames: of a spectrogram.
        n_bins: of a spectrogram.
        patch: frames and bins of a patch; they divide those of a spectrogram.
        channels: of a spectrogram.
    """

    n_frames: int
    n_bins: int
    patch: Sequence[int]
    channels: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))
        sizes = (self.n_frames, self.n_bins, *self.patch, self.channels)
        if len(self.patch) != 2 or min(sizes) < 1:
            raise ValueError(f"frames, bins, two sides of a patch and channels must be at least 1, not {sizes}")
        if self.n_frames % self.patch[0] or self.n_bins % self.patch[1]:
            raise ValueError(f"patches of {self.patch} do not divide {self.n_frames} frames x {self.n_bins} bins")

    @property
    def n_rows(self) -> int:
        """Time steps."""
        return self.n_frames // self.patch[0]

    @property
    def n_cols(self) -> int:
        """Frequency bands."""
        return self.n_bins // self.patch[1]

    @property
    def n_tokens(self) -> int:
        """Patches of a spectrogram."""
        return self.n_rows * self.n_cols

    @property
    def patch_values(self) -> int:
        """Values of a patch."""
        return self.patch[0] * self.patch[1] * self.channels

    def coordinates(self) -> Tensor:
        """(n_tokens, 2) int64: row and column of each token."""
        rows, cols = torch.arange(self.n_rows), torch.arange(self.n_cols)
        return torch.cartesian_prod(rows, cols).view(-1, 2)

    def patchify(self, spectrogram: Tensor) -> Tensor:
        """(batch, channels, frames, bins) -> (batch, n_tokens, patch_values); values in order frame, bin, channel.

        Raises:
            ValueError: the spectrogram is not of this grid.
        """
        expected, found = (self.channels, self.n_frames, self.n_bins), tuple(spectrogram.shape[1:])
        if found != expected:
            raise ValueError(f"the grid is for (channels, frames, bins) = {expected}, the spectrogram is {found}")
        x = spectrogram.reshape(-1, self.channels, self.n_rows, self.patch[0], self.n_cols, self.patch[1])
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.n_tokens, self.patch_values)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Undo `patchify`. (batch, n_tokens, patch_values) -> (batch, channels, frames, bins)."""
        x = patches.reshape(-1, self.n_rows, self.n_cols, *self.patch, self.channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.channels, self.n_frames, self.n_bins)
