"""MossFormer2: gated single-head attention (MossFormer) and a gated FSMN that replaces recurrence, to estimate masks.

Zhao & Ma, "MossFormer: Pushing the Performance Limit of Monaural Speech Separation using Gated Single-Head Transformer
with Convolution-Augmented Joint Self-Attentions", ICASSP 2023; Zhao, Ma, Ni, Zhang, Wang, Nguyen, Zhou, Yip, Ng & Ma,
"MossFormer2: Combining Transformer and RNN-Free Recurrent Network for Enhanced Time-Domain Monaural Speech Separation",
ICASSP 2024. Structure and sizes are those of the authors' release, also where the papers leave something open.

All features are (batch, frames, channels). `valid` is (batch, frames, 1) bool, the frames of each item; None means that
all are. Where frames mix, those that are not valid count as if the item ended before them.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_sizes
from hydraudio.nn.layers import elementary
from hydraudio.nn.layers.elementary import Linear, PReLU
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import GlobalLayerNorm, LayerNorm, at_least_float32
from hydraudio.tasks.separation.networks.tasnet import TasNet

ROTARY_CHANNELS = 32
SCALE_NORM_EPS = 1e-5
INSTANCE_NORM_EPS = 1e-5


def zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x.masked_fill(~valid, 0)


class ScaleNorm(nn.Module):
    """g x / max(rms(x), eps), root mean square over the channels of a frame, one gain g."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x32 = at_least_float32(x)
        mean_square = x32.square().mean(-1, keepdim=True)
        return (x32 * (self.gain * torch.rsqrt(mean_square.clamp_min(SCALE_NORM_EPS**2)))).to(x.dtype)


class InstanceNorm(nn.Module):
    """Mean and variance of each channel over the valid frames of each item, then gain and bias per channel.

    The statistics are of the whole recording, so an estimate depends on what follows, but never on padding.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x32 = zero_invalid(at_least_float32(x), valid)
        count = x.shape[1] if valid is None else valid.sum(1, keepdim=True)
        centred = zero_invalid(x32 - x32.sum(1, keepdim=True) / count, valid)
        variance = centred.square().sum(1, keepdim=True) / count
        y = centred * (self.weight * torch.rsqrt(variance + INSTANCE_NORM_EPS)) + self.bias
        return zero_invalid(y, valid).to(x.dtype)


class ChannelPReLU(nn.Module):
    """max(x, 0) + slope min(x, 0), one slope per channel."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((n_channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) + self.weight.to(x.dtype) * x.clamp(max=0)


class DepthwiseConv(nn.Module):
    """Convolution along the frames, zeros outside, that sums `inputs_per_channel` neighbouring input channels.

    (batch, frames, n_channels * inputs_per_channel) -> (batch, frames, n_channels).
    """

    def __init__(self, n_channels: int, kernel_size: int, dilation: int = 1, inputs_per_channel: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.inputs_per_channel = inputs_per_channel
        conv = nn.Conv1d(n_channels * inputs_per_channel, n_channels, kernel_size, groups=n_channels, bias=False)
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.flatten(0, 1)[:, None]
        y = self._phase_by_phase(x, kernel) if elementary.prefers_channels_last(x) else self._channels_first(x, kernel)
        return y if self.inputs_per_channel == 1 else y.unflatten(-1, (-1, self.inputs_per_channel)).sum(-1)

    def _channels_first(self, x: Tensor, kernel: Tensor) -> Tensor:
        pad = kernel.shape[-1] // 2 * self.dilation
        return elementary.depthwise_conv1d(x.transpose(1, 2), kernel, pad, self.dilation).transpose(1, 2)

    def _phase_by_phase(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Frames as an image of frames / dilation rows and dilation columns, convolved along the columns.

        oneDNN is fast for this form alone: no dilation, channels last in memory, and time as the height.
        """
        frames, pad = x.shape[1], kernel.shape[-1] // 2
        x = F.pad(x, (0, 0, 0, -frames % self.dilation))
        image = x.unflatten(1, (-1, self.dilation)).permute(0, 3, 1, 2)
        y = F.conv2d(image, kernel[..., None], padding=(pad, 0), groups=len(kernel))
        return y.permute(0, 2, 3, 1).flatten(1, 2)[:, :frames]


class ConvFeedForward(nn.Module):
    """Norm, linear layer, SiLU, plus a depthwise convolution of 17 taps of that; dropout. What is not valid is zero."""

    def __init__(self, norm: nn.Module, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.linear = Linear(n_in, n_out)
        self.conv = DepthwiseConv(n_out, 17)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = zero_invalid(F.silu(self.linear(self.norm(x))), valid)
        return self.dropout(zero_invalid(y + self.conv(y), valid))


class RotaryEmbedding(nn.Module):
    """Turns neighbouring channels 2 i, 2 i + 1 of the first ones by the angle t 10000^(-2 i / n), t the frame.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. n is at most 32.
    (batch, frames, heads, channels) -> same.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_rotated = min(ROTARY_CHANNELS, n_channels)

    def forward(self, x: Tensor) -> Tensor:
        even = torch.arange(0, self.n_rotated, 2, device=x.device)
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * 10000.0 ** (-even / self.n_rotated)
        cos, sin = angle.cos().to(x.dtype)[:, None], angle.sin().to(x.dtype)[:, None]
        first, second = x[..., : self.n_rotated : 2], x[..., 1 : self.n_rotated : 2]
        rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)
        return torch.cat([rotated, x[..., self.n_rotated :]], dim=-1)


class JointAttention(nn.Module):
    """Squared-ReLU attention inside groups of frames plus linear attention over all frames (MossFormer, section 2.3).

    From the same `shared` features four gains and offsets make the queries and keys of both. With n the frames of an
    item and g the group size: relu(q k^T / g)^2 v inside each group, plus q' (k'^T v) / n.
    """

    def __init__(self, n_channels: int, group_frames: int, dropout: float) -> None:
        super().__init__()
        self.group_frames = group_frames
        self.gain = nn.Parameter(torch.empty(4, n_channels).normal_(std=0.02))
        self.offset = nn.Parameter(torch.zeros(4, n_channels))
        self.rotary = RotaryEmbedding(n_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, shared: Tensor, values: Tensor, n_frames: Tensor | None) -> Tensor:
        """shared: (batch, frames, channels); values: (batch, frames, any), zero where not valid -> as values.

        n_frames: (batch,), None where all frames are valid.
        """
        if values.dtype == torch.float16:  # a squared score easily exceeds its range
            shared, values = shared.float(), values.float()
        with torch.autocast(values.device.type, enabled=False):
            heads = shared.to(values.dtype).unsqueeze(2) * self.gain.to(values.dtype) + self.offset.to(values.dtype)
            return self._attend(self.rotary(heads), values, n_frames)

    def _attend(self, heads: Tensor, values: Tensor, n_frames: Tensor | None) -> Tensor:
        frames, size = values.shape[1], self.group_frames
        missing = (size - frames % size) % size
        groups = F.pad(heads, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, size))
        query, global_query, key, global_key = groups.unbind(3)
        values = F.pad(values, (0, 0, 0, missing)).unflatten(1, (-1, size))
        scores = at_least_float32((query / size) @ key.transpose(2, 3))
        local_attention = self.dropout(F.relu(scores).square().to(values.dtype))
        summary = global_key.flatten(1, 2).transpose(1, 2) @ values.flatten(1, 2)
        from_all = global_query.flatten(1, 2) @ (summary * self._per_frame(values, n_frames, frames))
        shape = (-1, size, values.shape[-1])
        attended = torch.baddbmm(from_all.view(shape), local_attention.flatten(0, 1), values.reshape(shape))
        return attended.view(from_all.shape)[:, :frames]

    @staticmethod
    def _per_frame(values: Tensor, n_frames: Tensor | None, frames: int) -> Tensor | float:
        return 1 / frames if n_frames is None else (1 / n_frames.to(values.dtype)).view(-1, 1, 1)


class GatedAttentionBlock(nn.Module):
    """x + out((A u * v) * sigmoid(A v * u)), with A the joint attention (MossFormer, section 2.2).

    One half of the channels of what u, v and A are made of comes one frame late.

    Args:
        n_channels: features of a frame.
        attention_channels: of queries and keys.
        expansion: channels of u and v together, as a multiple of n_channels.
        group_frames: frames that attend to each other in full.
        dropout: probability.
    """

    def __init__(
        self, n_channels: int, attention_channels: int, expansion: int, group_frames: int, dropout: float
    ) -> None:
        super().__init__()
        n_hidden = expansion * n_channels
        self.to_hidden = ConvFeedForward(ScaleNorm(), n_channels, n_hidden, dropout)
        self.to_shared = ConvFeedForward(ScaleNorm(), n_channels, attention_channels, dropout)
        self.attention = JointAttention(attention_channels, group_frames, dropout)
        self.to_out = ConvFeedForward(ScaleNorm(), n_hidden // 2, n_channels, dropout)

    def forward(self, x: Tensor, valid: Tensor | None, n_frames: Tensor | None) -> Tensor:
        late, present = x.chunk(2, dim=-1)
        shifted = torch.cat([F.pad(late, (0, 0, 1, -1)), present], dim=-1)
        hidden = self.to_hidden(shifted, valid)
        attended = self.attention(self.to_shared(shifted, valid), hidden, n_frames).to(hidden.dtype)
        (v, u), (attended_v, attended_u) = hidden.chunk(2, dim=-1), attended.chunk(2, dim=-1)
        return x + self.to_out(attended_u * v * torch.sigmoid(attended_v * u), valid)


class DilatedFSMN(nn.Module):
    """x + memory(project(relu(linear(x)))), the memory being two densely connected dilated convolutions.

    Each is depthwise with 39 taps, instance norm and PReLU. The second has dilation 2, and as in the authors' release
    the channels of [output of the first, its input] go to its groups in pairs of neighbours.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.linear = Linear(n_channels, n_channels)
        self.project = Linear(n_channels, n_channels, bias=False)
        self.conv1 = DepthwiseConv(n_channels, 39)
        self.norm1 = InstanceNorm(n_channels)
        self.prelu1 = ChannelPReLU(n_channels)
        self.conv2 = DepthwiseConv(n_channels, 39, dilation=2, inputs_per_channel=2)
        self.norm2 = InstanceNorm(n_channels)
        self.prelu2 = ChannelPReLU(n_channels)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        inner = zero_invalid(self.project(F.relu(self.linear(x))), valid)
        first = self.prelu1(self.norm1(self.conv1(inner), valid))
        second = self.conv2(torch.cat([first, inner], dim=-1))
        return x + self.prelu2(self.norm2(second, valid))


class GatedFSMNBlock(nn.Module):
    """x + out(norm(v * fsmn(u) + y)), with u, v made of y = norm(prelu(in(x))) (MossFormer2, section 2.2)."""

    def __init__(self, n_channels: int, inner_channels: int, dropout: float) -> None:
        super().__init__()
        self.to_inner = Linear(n_channels, inner_channels)
        self.prelu = PReLU()
        self.norm1 = LayerNorm(inner_channels)
        self.to_u = ConvFeedForward(LayerNorm(inner_channels), inner_channels, inner_channels, dropout)
        self.to_v = ConvFeedForward(LayerNorm(inner_channels), inner_channels, inner_channels, dropout)
        self.fsmn = DilatedFSMN(inner_channels)
        self.norm2 = LayerNorm(inner_channels)
        self.to_out = Linear(inner_channels, n_channels)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = self.norm1(self.prelu(self.to_inner(x)))
        gated = self.to_v(y, valid) * self.fsmn(self.to_u(y, valid), valid)
        return x + self.to_out(self.norm2(gated + y))


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
        *,
        n_blocks: int,
        attention_channels: int,
        expansion: int,
        fsmn_channels: int,
        group_frames: int,
        dropout: float,
    ) -> None:
        super().__init__()
        check_even(n_filters=n_filters)
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
        x = self.positions(self.bottleneck(self.norm(features, n_frames).transpose(1, 2)))  # (batch, frames, n_filters)
        y = x
        for attention_block, fsmn_block in zip(self.attention_blocks, self.fsmn_blocks, strict=True):
            y = fsmn_block(attention_block(y, valid, n_frames), valid)
        y = self.block_norm(self.frame_norm(y).transpose(1, 2), n_frames).transpose(1, 2)
        y = self.sources(self.prelu(y + x)).unflatten(-1, (self.n_sources, -1))  # (batch, frames, n_sources, n_filters)
        masks = F.relu(self.mask(torch.tanh(self.value(y)) * torch.sigmoid(self.gate(y))))
        return masks.permute(0, 2, 3, 1)


class MossFormer2(TasNet):
    """MossFormer2: (batch, time) -> (batch, n_sources, time), any length.

    Norms, attention and the mean over frames of its linear part see the frames of an item alone, so an item's result
    depends neither on the other items nor on padding beyond its length. The instance norms take their statistics from
    the whole recording: the start of an estimate changes with what follows.

    Args:
        n_blocks: pairs of an attention and an FSMN block.
        attention_channels: of queries and keys; even.
        expansion: hidden channels of the attention block, as a multiple of n_filters; even.
        fsmn_channels: channels inside the FSMN block.
        group_frames: frames that attend to each other in full.
        dropout: probability, after every convolution module and on the attention of the groups.
        frame: `n_sources`, `n_filters` (also the features of the blocks; even) and `kernel_size` of `TasNet`.
    """

    def __init__(
        self,
        *,
        n_blocks: int = 24,
        attention_channels: int = 128,
        expansion: int = 4,
        fsmn_channels: int = 256,
        group_frames: int = 256,
        dropout: float = 0.1,
        **frame: Any,
    ) -> None:
        check_sizes(n_blocks=n_blocks, fsmn_channels=fsmn_channels, group_frames=group_frames)
        check_even(attention_channels=attention_channels, expansion=expansion)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        mask_net = partial(
            MossFormer2MaskNet,
            n_blocks=n_blocks,
            attention_channels=attention_channels,
            expansion=expansion,
            fsmn_channels=fsmn_channels,
            group_frames=group_frames,
            dropout=dropout,
        )
        super().__init__(mask_net, **frame)


def check_even(**sizes: int) -> None:
    """Raise ValueError for a size that is odd or below 1."""
    check_sizes(**sizes)
    for name, value in sizes.items():
        if value % 2:
            raise ValueError(f"{name}={value} must be even")
