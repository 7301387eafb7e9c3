"""RE-SepFormer: a transformer within segments, and one over the averages of the segments.

Della Libera, Subakan, Ravanelli, Cornell, Lepoutre & Grondin, "Resource-Efficient Separation Transformer", ICASSP
2024. Segments do not overlap; what the others say reaches a segment only through the memory. For a single item the
function is that of SpeechBrain's `ResourceEfficientSeparator` with `mem_type="av"`, so that its weights fit; in a batch
SpeechBrain's memory runs over the segments of all items together, here over those of each item.
"""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_choice, check_sizes
from hydraudio.nn.layers.elementary import Linear
from hydraudio.nn.layers.masking import frame_mask, global_norm
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.nn.layers.transformer import TransformerEncoder
from hydraudio.tasks.separation.networks.tasnet import TasNet

MASK_ACTIVATIONS = ("relu", "sigmoid")
NORM_EPS = torch.finfo(torch.float32).eps


class SequenceNorm(nn.Module):
    """gLN of each sequence: mean and variance over its steps and channels. (batch, steps, n_channels) -> same.

    With `n_steps` (batch,) further steps of a sequence do not count and become zero.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        if n_steps is None:
            shape = x.shape[1:]
            gain, bias = self.weight.expand(shape), self.bias.expand(shape)
            return F.layer_norm(at_least_float32(x), shape, gain, bias, NORM_EPS).to(x.dtype)
        valid = frame_mask(n_steps, x.shape[1])[:, None]
        return global_norm(x.transpose(1, 2), self.weight, self.bias, NORM_EPS, valid).transpose(1, 2)


class SequenceBlock(nn.Module):
    """x + gLN(transformer(x)). (batch, steps, n_channels) -> same; `n_steps` as in `SequenceNorm`."""

    def __init__(self, n_channels: int, **transformer: Any) -> None:
        super().__init__()
        self.transformer = TransformerEncoder(dim=n_channels, **transformer)
        self.norm = SequenceNorm(n_channels)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        return x + self.norm(self.transformer(x, n_steps), n_steps)


class RESepFormerMaskNet(nn.Module):
    """Mask per source: (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames).

    The frames are cut into segments of `segment_frames`, the last one filled with zeros; where nothing is left over, a
    whole segment of zeros follows (as SpeechBrain pads: its weights saw it in training).
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int,
        *,
        n_blocks: int,
        segment_frames: int,
        mask_activation: str,
        **transformer: Any,
    ) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.segment_frames = segment_frames
        self.mask_activation = mask_activation
        self.segment_blocks = nn.ModuleList(SequenceBlock(n_filters, **transformer) for _ in range(n_blocks))
        self.memory_blocks = nn.ModuleList(SequenceBlock(n_filters, **transformer) for _ in range(n_blocks - 1))
        self.prelu = nn.PReLU()
        self.mask = Linear(n_filters, n_sources * n_filters)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        batch, n_filters, frames = features.shape
        n_segments = frames // self.segment_frames + 1
        n_own_segments = None if n_frames is None else n_frames // self.segment_frames + 1
        x = F.pad(features.transpose(1, 2), (0, 0, 0, n_segments * self.segment_frames - frames))
        x = x.reshape(batch * n_segments, self.segment_frames, n_filters)
        x = self.segment_blocks[0](x)  # (batch * segments, segment_frames, n_filters)
        for segment_block, memory_block in zip(self.segment_blocks[1:], self.memory_blocks, strict=True):
            averages = at_least_float32(x).mean(1).view(batch, n_segments, n_filters)  # the memory
            x = segment_block(x + memory_block(averages, n_own_segments).view(-1, 1, n_filters))
        x = x.view(batch, -1, n_filters)[:, :frames]
        masks = self.mask(self.prelu(x)).unflatten(-1, (self.n_sources, n_filters)).permute(0, 2, 3, 1)
        return F.relu(masks) if self.mask_activation == "relu" else torch.sigmoid(masks)


class RESepFormer(TasNet):
    """RE-SepFormer: (batch, time) -> (batch, n_sources, time), any length.

    An item's result depends neither on the other items nor on padding beyond its length.

    Args:
        n_blocks: transformers over the frames of a segment; between each two is one over the segments.
        n_layers: layers of each transformer.
        n_heads: attention heads; divides n_filters.
        feedforward_channels: hidden features of each layer's feed-forward part.
        segment_frames: frames of a segment.
        dropout: probability inside the transformers.
        positional_encoding: add sinusoidal positions to the input of each transformer.
        mask_activation: "relu" or "sigmoid".
        frame: `n_sources`, `n_filters` (also the features of the transformers) and `kernel_size` of `TasNet`.
    """

    def __init__(
        self,
        *,
        n_blocks: int = 2,
        n_layers: int = 8,
        n_heads: int = 8,
        feedforward_channels: int = 1024,
        segment_frames: int = 150,
        dropout: float = 0.0,
        positional_encoding: bool = True,
        mask_activation: Literal["relu", "sigmoid"] = "relu",
        **frame: Any,
    ) -> None:
        check_sizes(n_blocks=n_blocks, n_layers=n_layers, n_heads=n_heads)
        check_sizes(feedforward_channels=feedforward_channels, segment_frames=segment_frames)
        check_choice("mask_activation", mask_activation, MASK_ACTIVATIONS)
        mask_net = partial(
            RESepFormerMaskNet,
            n_blocks=n_blocks,
            segment_frames=segment_frames,
            mask_activation=mask_activation,
            n_layers=n_layers,
            n_heads=n_heads,
            ffn_dim=feedforward_channels,
            dropout=dropout,
            positional_encoding=positional_encoding,
        )
        super().__init__(mask_net, **frame)
        self.positional_encoding = positional_encoding
