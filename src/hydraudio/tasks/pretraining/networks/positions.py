"""How a token's place in the grid is told to a transformer.

All are modules that are made for a grid, a width and a number of heads. Either they add to the tokens, or they give the
angles by which attention rotates queries and keys. The places are those of the tokens in the grid, whatever tokens were
left out before: `keep` (batch, K) names the ones that stand in x; None stands for all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hydraudio.tasks.pretraining.networks.grid import Grid

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines (batch or 1, tokens, 1, head_dim / 2)."""


class Positions(nn.Module):
    """Tell nothing; what the others inherit."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(batch, K, width) -> same."""
        return x

    def rotation(self, keep: Tensor | None = None, cls: bool = False) -> Rotation | None:
        """Angles for the tokens; `cls`: for one before them, too, which is not turned."""
        return None


class SinCos(Positions):
    """Add sines and cosines of the column in the first half of the channels, of the row in the second.

    Each half is [sin(p w_k), cos(p w_k)], w_k = 10000^(-4 k / width) (He et al., "Masked Autoencoders Are Scalable
    Vision Learners", 2022).
    """

    def __init__(self, grid: Grid, width: int, n_heads: int) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"sines and cosines of rows and columns need a width that 4 divides, not {width}")
        rows, cols = grid.coordinates().T
        table = torch.cat([_sincos(cols, width // 2), _sincos(rows, width // 2)], dim=1)
        self.register_buffer("table", table, persistent=False)
        self.table: Tensor

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return x + (self.table if keep is None else self.table[keep])


class RasterSinCos(SinCos):
    """Add sines and cosines of the token's number: [sin(i w_k), cos(i w_k)], w_k = 10000^(-2 k / width)."""

    def __init__(self, grid: Grid, width: int, n_heads: int) -> None:
        Positions.__init__(self)
        if width % 2:
            raise ValueError(f"sines and cosines need an even width, not {width}")
        self.register_buffer("table", _sincos(torch.arange(grid.n_tokens), width), persistent=False)


class Learned(Positions):
    """Add a learned vector for each place, at first normal with a deviation of 0.02."""

    def __init__(self, grid: Grid, width: int, n_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(grid.n_tokens, width), std=0.02))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return x + (self.table if keep is None else self.table[keep])


class AxialRotary(Positions):
    """Rotate queries and keys: half of each head's pairs of channels by the row, half by the column.

    Pair k of an axis turns by position * base^(-4 k / head_dim) (Su et al., "RoFormer", 2021, along both axes as in
    Heo et al., "Rotary Position Embedding for Vision Transformer", 2024).

    Args:
        grid: of the tokens.
        width: channels of all heads.
        n_heads: attention heads.
        time_base: base of the rows.
        frequency_base: base of the columns.
    """

    def __init__(
        self, grid: Grid, width: int, n_heads: int, time_base: float = 10000.0, frequency_base: float = 100.0
    ) -> None:
        super().__init__()
        head_dim = width // n_heads
        if head_dim % 4:
            raise ValueError(f"rotations along two axes need heads of a width that 4 divides, not {head_dim}")
        exponents = torch.arange(head_dim // 4, dtype=torch.float64) / (head_dim // 4)
        rows, cols = grid.coordinates().double().T
        angles = [torch.outer(rows, time_base**-exponents), torch.outer(cols, frequency_base**-exponents)]
        # the first row is that of a token without a place
        table = torch.cat([torch.zeros(1, head_dim // 2), torch.cat(angles, dim=1)]).float()
        self.register_buffer("angles", table, persistent=False)
        self.angles: Tensor

    def rotation(self, keep: Tensor | None = None, cls: bool = False) -> Rotation:
        angles = self.angles[None, 1:] if keep is None else self.angles[keep + 1]
        if cls:
            angles = torch.cat([self.angles[:1].expand(len(angles), 1, -1), angles], dim=1)
        return angles.unsqueeze(2).cos(), angles.unsqueeze(2).sin()


def rotate(x: Tensor, rotation: Rotation | None) -> Tensor:
    """Turn channel k together with channel k + head_dim / 2. x: (batch, tokens, heads, head_dim) -> same."""
    if rotation is None:
        return x
    cos, sin = (part.to(x.dtype) for part in rotation)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _sincos(positions: Tensor, width: int) -> Tensor:
    """(n,) -> (n, width) float32."""
    rates = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.outer(positions.double(), rates)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
