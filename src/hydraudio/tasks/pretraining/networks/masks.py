"""Which patches an autoencoder does not see.

A masker draws a mask per item; all items have as many kept patches. It computes on the device, without a loop over the
items, from the numbers of the generator that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hydraudio.tasks.pretraining.networks.grid import Grid


class Mask(NamedTuple):
    """Kept and masked tokens of a batch. K is the number of kept ones, L that of all.

    Attributes:
        keep: (batch, K) int64, ascending: tokens that the encoder sees.
        hidden: (batch, L - K) int64, ascending: the others.
        masked: (batch, L) bool: True for the others.
        restore: (batch, L) int64: where token i stands in the kept ones followed by the hidden ones.
    """

    keep: Tensor
    hidden: Tensor
    masked: Tensor
    restore: Tensor

    @classmethod
    def of(cls, masked: Tensor, n_keep: int) -> Mask:
        """masked: (batch, L) bool, with `n_keep` times False in each row."""
        order = masked.byte().argsort(dim=1, stable=True)
        return cls(order[:, :n_keep], order[:, n_keep:], masked, order.argsort(dim=1))


class Masker(Protocol):
    """What draws masks."""

    ratio: float
    """Share of patches that are masked, before it is rounded to whole patches, rows or groups."""

    def __call__(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        """Draw a mask per item. generator: on `device`; None: PyTorch's own."""
        ...


class _RatioMasker(nn.Module):
    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = _checked(ratio)


class RandomMasker(_RatioMasker):
    """Mask patches anywhere: keeps floor((1 - ratio) L) of L.

    Args:
        ratio: share of masked patches.
    """

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        n_keep = _n_keep(grid.n_tokens, self.ratio)
        scores = torch.rand(batch_size, grid.n_tokens, generator=generator, device=device)
        return Mask.of(_lowest(scores, grid.n_tokens - n_keep), n_keep)


class BlockMasker(_RatioMasker):
    """Mask rectangles at random places, one after the other, until there are enough masked patches.

    The patches of the last rectangle are masked in random order, so that every item keeps floor((1 - ratio) L) of L.

    Args:
        ratio: share of masked patches.
        size: rows and columns of a rectangle; cut to the grid.
    """

    def __init__(self, ratio: float, size: Sequence[int]) -> None:
        super().__init__(ratio)
        self.size = tuple(size)
        if min(self.size) < 1:
            raise ValueError(f"size={size}: a rectangle has at least one row and one column")

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        n_keep = _n_keep(grid.n_tokens, self.ratio)
        heights, widths = min(self.size[0], grid.n_rows), min(self.size[1], grid.n_cols)
        # so many cover a share of `ratio` on average, and twice as many nearly always do
        n_blocks = 2 * math.ceil(-math.log(n_keep / grid.n_tokens) * grid.n_tokens / (heights * widths))
        places = torch.rand(2, batch_size, n_blocks, 1, generator=generator, device=device)
        rows = _within(places[0], grid.n_rows, heights)
        cols = _within(places[1], grid.n_cols, widths)
        covered = (rows.unsqueeze(-1) & cols.unsqueeze(-2)).flatten(2)
        never = torch.full_like(covered[:, :1], True)
        first = torch.cat([covered, never], dim=1).byte().argmax(dim=1)  # number of the first rectangle over a patch
        ties = torch.rand(batch_size, grid.n_tokens, generator=generator, device=device)
        return Mask.of(_lowest(first + ties, grid.n_tokens - n_keep), n_keep)


class TimeMasker(_RatioMasker):
    """Mask whole time steps: keeps floor((1 - ratio) rows).

    Args:
        ratio: share of masked time steps.
    """

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        n_keep = _n_keep(grid.n_rows, self.ratio)
        rows = _lowest(torch.rand(batch_size, grid.n_rows, generator=generator, device=device), grid.n_rows - n_keep)
        return Mask.of(rows.repeat_interleave(grid.n_cols, dim=1), n_keep * grid.n_cols)


class FrequencyMasker(_RatioMasker):
    """Mask whole frequency bands: keeps floor((1 - ratio) columns).

    Args:
        ratio: share of masked bands.
    """

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        n_keep = _n_keep(grid.n_cols, self.ratio)
        cols = _lowest(torch.rand(batch_size, grid.n_cols, generator=generator, device=device), grid.n_cols - n_keep)
        return Mask.of(cols.repeat(1, grid.n_rows), n_keep * grid.n_rows)


class TimeFrequencyMasker(nn.Module):
    """Mask whole time steps and, independently, whole bands (Huang et al., "Masked Autoencoders that Listen", 2022).

    Args:
        time_ratio: share of masked time steps.
        frequency_ratio: share of masked bands.
    """

    def __init__(self, time_ratio: float, frequency_ratio: float) -> None:
        super().__init__()
        self.time, self.frequency = TimeMasker(time_ratio), FrequencyMasker(frequency_ratio)
        self.ratio = 1 - (1 - time_ratio) * (1 - frequency_ratio)

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        time = self.time(batch_size, grid, generator, device)
        frequency = self.frequency(batch_size, grid, generator, device)
        n_keep = time.keep.shape[1] * frequency.keep.shape[1] // grid.n_tokens
        return Mask.of(time.masked | frequency.masked, n_keep)


class GroupedMasker(_RatioMasker):
    """Mask groups of neighbouring patches together: keeps floor((1 - ratio) groups).

    Args:
        ratio: share of masked groups.
        size: rows and columns of a group; must divide those of the grid.
    """

    def __init__(self, ratio: float, size: Sequence[int]) -> None:
        super().__init__(ratio)
        self.size = tuple(size)

    def forward(
        self, batch_size: int, grid: Grid, generator: torch.Generator | None, device: torch.device | str
    ) -> Mask:
        height, width = self.size
        if grid.n_rows % height or grid.n_cols % width:
            raise ValueError(f"groups of size={self.size} do not divide the {grid.n_rows} x {grid.n_cols} patches")
        n_rows, n_cols = grid.n_rows // height, grid.n_cols // width
        n_keep = _n_keep(n_rows * n_cols, self.ratio)
        scores = torch.rand(batch_size, n_rows * n_cols, generator=generator, device=device)
        groups = _lowest(scores, n_rows * n_cols - n_keep).view(batch_size, n_rows, n_cols)
        masked = groups.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2)
        return Mask.of(masked.flatten(1), n_keep * height * width)


def _checked(ratio: float) -> float:
    if not 0 < ratio < 1:
        raise ValueError(f"ratio={ratio} must be above 0 and below 1")
    return ratio


def _n_keep(n: int, ratio: float) -> int:
    """floor((1 - ratio) n), and at least 1; one part in a million is taken for a rounding error."""
    return max(1, math.floor((1 - ratio) * n + 1e-6))


def _lowest(scores: Tensor, n: int) -> Tensor:
    """True for the n lowest of each row. (batch, L) -> (batch, L) bool."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.topk(n, dim=1, largest=False).indices, True)


def _within(place: Tensor, n: int, size: int) -> Tensor:
    """place: (..., 1) from 0 to 1 -> (..., n) bool: `size` times True in a row, beginning there."""
    start = (place * (n - size + 1)).floor()
    index = torch.arange(n, device=place.device)
    return (index >= start) & (index < start + size)
