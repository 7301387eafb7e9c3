"""A separation network of dilated convolutions: learned frames, a mask for every source, back to waveforms."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.tasks.separation.networks.tasnet import TasNet


class DilatedBlock(nn.Module):
    """What a frame learns from its neighbours at a distance is added to it: (batch, channels, frames) stays so.

    Args:
        channels: of a frame.
        hidden_channels: of the convolution over time.
        dilation: distance of the neighbours in frames.
    """

    def __init__(self, channels: int, hidden_channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, hidden_channels)
        self.over_time = nn.Conv1d(
            hidden_channels, hidden_channels, 3, padding=dilation, dilation=dilation, groups=hidden_channels
        )
        self.narrow = nn.Conv1d(hidden_channels, channels, 1)

    def forward(self, x_bcf: Tensor, valid_b1f: Tensor | None) -> Tensor:
        hidden_bhf = F.gelu(self.widen(self.norm(x_bcf.transpose(1, 2)))).transpose(1, 2)
        if valid_b1f is not None:  # behind the end of an item the convolution finds zeros, as it does alone
            hidden_bhf = hidden_bhf.masked_fill(~valid_b1f, 0)
        return x_bcf + self.narrow(F.gelu(self.over_time(hidden_bhf)))


class DilatedMasks(nn.Module):
    """One mask per source.

    Args:
        n_sources: masks that come out.
        n_filters: channels of a frame.
        hidden_channels: of each block.
        n_blocks: with dilations 1, 2, 4 ...
        n_repeats: of all blocks.
    """

    def __init__(self, n_sources: int, n_filters: int, hidden_channels: int, n_blocks: int, n_repeats: int) -> None:
        super().__init__()
        self.n_sources = n_sources
        dilations = [2**block for block in range(n_blocks)] * n_repeats
        self.blocks = nn.ModuleList([DilatedBlock(n_filters, hidden_channels, dilation) for dilation in dilations])
        self.mask = nn.Conv1d(n_filters, n_sources * n_filters, 1)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """(batch, n_filters, frames) -> (batch, n_sources, n_filters, frames), in (0, 1)."""
        valid = None if n_frames is None else frame_mask(n_frames, features.shape[-1]).unsqueeze(1)
        hidden = features
        for block in self.blocks:
            hidden = block(hidden, valid)
        return self.mask(hidden).sigmoid().unflatten(1, (self.n_sources, -1))


class DilatedSeparator(TasNet):
    """(batch, time) in [-1, 1] -> (batch, n_sources, time), any length.

    Args:
        hidden_channels: of each block.
        n_blocks: with dilations 1, 2, 4 ...
        n_repeats: of all blocks.
        **frame: see `TasNet`, which brings encoder, decoder and batches of unequal lengths.
    """

    def __init__(self, hidden_channels: int = 128, n_blocks: int = 6, n_repeats: int = 2, **frame: Any) -> None:
        masks = partial(DilatedMasks, hidden_channels=hidden_channels, n_blocks=n_blocks, n_repeats=n_repeats)
        super().__init__(masks, **frame)
