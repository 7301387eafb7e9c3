"""MossFormer2: gated single-head attention and gated FSMN blocks that estimate masks.

Zhao, Ma, Ni, Zhang, Wang, Nguyen, Zhou, Yip, Ng & Ma, "MossFormer2: Combining Transformer and RNN-Free Recurrent
Network for Enhanced Time-Domain Monaural Speech Separation", ICASSP 2024. Structure and sizes are those of the authors'
release.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.linear import Linear
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import GlobalLayerNorm
from hydraudio.tasks.separation.networks.mossformer2_blocks import GatedAttentionBlock, GatedFSMNBlock, LayerNorm, PReLU
from hydraudio.tasks.separation.networks.tasnet import TasNet


class ScaledPositions(nn.Module):
    """x plus a learned scale times sinusoids of the frame: first all sines, then all cosines.

    (batch, frames, channels) -> same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        rates = 10000.0 ** (-torch.arange(0, x.shape[2], 2, device=x.device) / x.shape[2])
        angles = torch.arange(x.shape[1], device=x.device)[:, None] * rates
        return x + self.scale * torch.cat([angles.sin(), angles.cos()], dim=-1)


class MossFormer2MaskNet(nn.Module):
    """Mask per source: (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames)."""

    def __init__(
        self,
        n_sources: int,
        n_filters: int,
        n_blocks: int,
        attention_channels: int,
        expansion: int,
        fsmn_channels: int,
        group_frames: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.norm = GlobalLayerNorm(n_filters)
        self.bottleneck = Linear(n_filters, n_filters, bias=False)
        self.positions = ScaledPositions()
        self.attention_blocks = nn.ModuleList(
            GatedAttentionBlock(n_filters, attention_channels, expansion, group_frames, dropout)
            for _ in range(n_blocks)
        )
        self.fsmn_blocks = nn.ModuleList(GatedFSMNBlock(n_filters, fsmn_channels, dropout) for _ in range(n_blocks))
        self.frame_norm = LayerNorm(n_filters, eps=1e-6)
        self.block_norm = GlobalLayerNorm(n_filters)
        self.prelu = PReLU()
        self.sources = Linear(n_filters, n_sources * n_filters)
        self.value = Linear(n_filters, n_filters)
        self.gate = Linear(n_filters, n_filters)
        self.mask = Linear(n_filters, n_filters, bias=False)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        valid = None if n_frames is None else frame_mask(n_frames, features.shape[-1]).unsqueeze(-1)
        x = self.positions(self.bottleneck(self.norm(features, n_frames).transpose(1, 2)))
        y = x
        for attention_block, fsmn_block in zip(self.attention_blocks, self.fsmn_blocks, strict=True):
            y = fsmn_block(attention_block(y, valid, n_frames), valid)
        y = self.block_norm(self.frame_norm(y).transpose(1, 2), n_frames).transpose(1, 2)
        y = self.sources(self.prelu(y + x)).unflatten(-1, (self.n_sources, -1))
        masks = F.relu(self.mask(torch.tanh(self.value(y)) * torch.sigmoid(self.gate(y))))
        return masks.permute(0, 2, 3, 1)


class MossFormer2(TasNet):
    """MossFormer2: (batch, time) -> (batch, n_sources, time), any length.

    Norms, attention and the mean over frames of its linear part see the frames of an item alone, so an item's result
    depends neither on the other items nor on padding beyond its length. The instance norms take their statistics from
    the whole recording: the start of an estimate changes with what follows.

    Args:
        n_sources: estimated sources.
        n_filters: encoder filters and features of the blocks; even.
        kernel_size: encoder and decoder window in samples; the hop is half of it.
        n_blocks: pairs of an attention and an FSMN block.
        attention_channels: of queries and keys; even.
        expansion: hidden channels of the attention block, as a multiple of n_filters; even.
        fsmn_channels: channels inside the FSMN block.
        group_frames: frames that attend to each other in full.
        dropout: probability, after every convolution module and on the attention of the groups.
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int = 512,
        kernel_size: int = 16,
        n_blocks: int = 24,
        attention_channels: int = 128,
        expansion: int = 4,
        fsmn_channels: int = 256,
        group_frames: int = 256,
        dropout: float = 0.1,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check(arguments)
        mask_net = MossFormer2MaskNet(
            n_sources, n_filters, n_blocks, attention_channels, expansion, fsmn_channels, group_frames, dropout
        )
        super().__init__(mask_net, n_sources, n_filters, kernel_size)
        self.arguments = arguments


def _check(arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        if name == "dropout":
            if not 0 <= value < 1:
                raise ValueError(f"dropout={value} must be at least 0 and below 1")
        elif value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    for name in ("n_filters", "attention_channels", "expansion"):
        if arguments[name] % 2:
            raise ValueError(f"{name}={arguments[name]} must be even")
