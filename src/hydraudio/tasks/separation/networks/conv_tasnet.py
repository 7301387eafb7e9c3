"""Conv-TasNet.

Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", IEEE/ACM
TASLP 27(8), 2019; letters in brackets below are the paper's. Two things are as in SpeechBrain's version, so that its
weights fit: no convolution has a bias, and a block has a residual path but no skip path to the output.
"""

from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_choice, check_sizes
from hydraudio.nn.layers import elementary
from hydraudio.nn.layers.elementary import Depthwise, Pointwise, PReLU
from hydraudio.nn.layers.normalization import CAUSAL_NORMS, NORMS, ChannelwiseLayerNorm, GlobalLayerNorm, build_norm
from hydraudio.tasks.separation.networks.tasnet import TasNet

MASK_ACTIVATIONS = ("relu", "sigmoid", "softmax")
PADDINGS = ("zero", "reflect")


class TemporalBlock(nn.Module):
    """1x1 convolution, PReLU, norm, dilated depthwise convolution, PReLU, norm, 1x1 convolution, plus the input.

    Fig. 1C of the paper. (batch, n_channels, frames) -> same. Arguments: see `ConvTasNet`.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        hidden_channels: int,
        kernel_size: int,
        dilation: int,
        norm: str,
        causal: bool,
        padding: str,
        eps: float,
    ) -> None:
        super().__init__()
        self.expand = Pointwise(n_channels, hidden_channels)
        self.prelu1 = PReLU()
        self.norm1 = build_norm(norm, hidden_channels, eps)
        self.depthwise = Depthwise(hidden_channels, kernel_size, dilation, causal, reflect=padding == "reflect")
        self.prelu2 = PReLU()
        self.norm2 = build_norm(norm, hidden_channels, eps)
        self.project = Pointwise(hidden_channels, n_channels)

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if n_frames is None and isinstance(self.norm1, GlobalLayerNorm) and elementary.is_channels_last(x):
            weights, eps = self._weights(), self.norm1.eps  # the same in one function that keeps less for backward
            return elementary.temporal_block(x.transpose(1, 2), weights, self.depthwise.geometry, eps).transpose(1, 2)
        y = self.norm1(self.prelu1(self.expand(x)), n_frames)  # (batch, hidden_channels, frames)
        y = self.norm2(self.prelu2(self.depthwise(y, n_frames)), n_frames)  # (batch, hidden_channels, frames)
        return x + self.project(y)

    def stream(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the next frames of a causal block; `past`: hidden frames before them, from the last call."""
        y, past = self.depthwise.stream(self.norm1(self.prelu1(self.expand(x))), past)
        return x + self.project(self.norm2(self.prelu2(y))), past

    def _weights(self) -> list[Tensor]:
        """In the order of `elementary.temporal_block`."""
        first = [self.expand.weight, self.prelu1.weight, self.norm1.weight, self.norm1.bias]
        second = [self.depthwise.weight, self.prelu2.weight, self.norm2.weight, self.norm2.bias]
        return [*first, *second, self.project.weight]


class ConvTasNetMaskNet(nn.Module):
    """Temporal convolutional network that estimates a mask per source (section II-B).

    (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames). Arguments: see `ConvTasNet`.
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int,
        *,
        bottleneck_channels: int,
        n_blocks: int,
        n_repeats: int,
        mask_activation: str,
        eps: float,
        **block: Any,
    ) -> None:
        super().__init__()
        if mask_activation == "softmax" and n_sources == 1:
            raise ValueError("mask_activation='softmax' over one source is always 1; use 'relu' or 'sigmoid'")
        self.n_sources = n_sources
        self.mask_activation = mask_activation
        self.norm = ChannelwiseLayerNorm(n_filters, eps)  # per frame, hence causal, whatever `norm` is
        self.bottleneck = Pointwise(n_filters, bottleneck_channels)
        self.blocks = nn.ModuleList(
            TemporalBlock(bottleneck_channels, dilation=2**i, eps=eps, **block)
            for _ in range(n_repeats)
            for i in range(n_blocks)
        )
        self.mask = Pointwise(bottleneck_channels, n_sources * n_filters)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        x = elementary.channels_last(features) if n_frames is None else features
        x = self.bottleneck(self.norm(x, n_frames))  # (batch, bottleneck_channels, frames)
        for block in self.blocks:
            x = block(x, n_frames)
        return self._masks(self.mask(x))

    def stream(self, features: Tensor, state: list[Tensor | None] | None) -> tuple[Tensor, list[Tensor | None]]:
        """Return the masks of the next frames; `state`: what the last call returned."""
        x = self.bottleneck(self.norm(features))
        state = list(state or [None] * len(self.blocks))
        for i, block in enumerate(self.blocks):
            x, state[i] = cast(TemporalBlock, block).stream(x, state[i])
        return self._masks(self.mask(x)), state

    def _masks(self, scores: Tensor) -> Tensor:
        scores = scores.unflatten(1, (self.n_sources, -1))  # (batch, n_sources, n_filters, frames)
        if self.mask_activation == "relu":
            return F.relu(scores)
        return torch.sigmoid(scores) if self.mask_activation == "sigmoid" else torch.softmax(scores, dim=1)


class ConvTasNet(TasNet):
    """Conv-TasNet: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        bottleneck_channels: channels between the blocks [B].
        hidden_channels: channels inside a block [H].
        block_kernel_size: taps of the depthwise convolutions [P]; odd unless causal.
        n_blocks: blocks per repeat [X], with dilations 1, 2, ..., 2^(X-1).
        n_repeats: repeats [R].
        norm: "gLN" (over channels and frames), "cLN" (over the channels of each frame) or "BN" (batch norm).
        causal: no output frame depends on later input frames; needs "cLN" or "BN" (BN: at inference).
        mask_activation: "relu", "sigmoid", or "softmax" over the sources.
        padding: "zero", or "reflect" (what SpeechBrain's non-causal weights were trained with). Reflection needs more
            frames than the widest padding, and is refused for causal nets because it copies later frames.
        eps: added to every variance.
        frame: `n_sources` [C], `n_filters` [N] and `kernel_size` [L] of `TasNet`.
    """

    def __init__(
        self,
        *,
        bottleneck_channels: int = 256,
        hidden_channels: int = 512,
        block_kernel_size: int = 3,
        n_blocks: int = 8,
        n_repeats: int = 4,
        norm: Literal["gLN", "cLN", "BN"] = "gLN",
        causal: bool = False,
        mask_activation: Literal["relu", "sigmoid", "softmax"] = "relu",
        padding: Literal["zero", "reflect"] = "zero",
        eps: float = 1e-8,
        **frame: Any,
    ) -> None:
        check_sizes(bottleneck_channels=bottleneck_channels, hidden_channels=hidden_channels)
        check_sizes(block_kernel_size=block_kernel_size, n_blocks=n_blocks, n_repeats=n_repeats)
        _check_options(norm, causal, mask_activation, padding, block_kernel_size)
        mask_net = partial(
            ConvTasNetMaskNet,
            bottleneck_channels=bottleneck_channels,
            hidden_channels=hidden_channels,
            kernel_size=block_kernel_size,
            n_blocks=n_blocks,
            n_repeats=n_repeats,
            norm=norm,
            causal=causal,
            mask_activation=mask_activation,
            padding=padding,
            eps=eps,
        )
        super().__init__(mask_net, **frame)
        self.causal = causal
        widest_padding = block_kernel_size // 2 * 2 ** (n_blocks - 1)
        self.min_frames = 1 + widest_padding if padding == "reflect" else 1

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, time), any length from 1 sample (`padding` says an exception) -> (batch, n_sources, time)."""
        n_samples = (self.min_frames - 2) * self.stride + self.kernel_size + 1
        if self.min_frames > 1 and mixture.shape[-1] < n_samples:
            raise ValueError(
                f"padding='reflect' needs at least {n_samples} samples, got {mixture.shape[-1]}; "
                "pad the mixture, or use padding='zero'"
            )
        return super().forward(mixture, lengths)


def _check_options(norm: str, causal: bool, mask_activation: str, padding: str, block_kernel_size: int) -> None:
    check_choice("norm", norm, NORMS)
    check_choice("mask_activation", mask_activation, MASK_ACTIVATIONS)
    check_choice("padding", padding, PADDINGS)
    if causal and norm not in CAUSAL_NORMS:
        raise ValueError(f"causal=True needs norm in {CAUSAL_NORMS}: {norm!r} averages over future frames")
    if causal and padding == "reflect":
        raise ValueError("causal=True needs padding='zero': reflection copies future frames to the start")
    if not causal and block_kernel_size % 2 == 0:
        raise ValueError(f"block_kernel_size={block_kernel_size} must be odd unless causal=True")
