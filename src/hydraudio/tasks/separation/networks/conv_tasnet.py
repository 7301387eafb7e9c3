"""Conv-TasNet, channels first.

Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", IEEE/ACM
TASLP 27(8), 2019; letters in brackets below are the paper's. Two things are as in SpeechBrain's version, so that its
weights fit: no convolution has a bias, and a block has a residual path but no skip path to the output.
"""

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers import ops
from hydraudio.nn.layers.masking import reflect_frames
from hydraudio.nn.layers.normalization import CAUSAL_NORMS, NORMS, ChannelwiseLayerNorm, GlobalLayerNorm, build_norm
from hydraudio.tasks.separation.networks.tasnet import TasNet

MASK_ACTIVATIONS = ("relu", "sigmoid", "softmax")
PADDINGS = ("zero", "reflect")


class TemporalBlock(nn.Module):
    """1x1 convolution, PReLU, norm, dilated depthwise convolution, PReLU, norm, 1x1 convolution, plus the input.

    Fig. 1C of the paper. (batch, n_channels, frames) -> same.
    """

    def __init__(
        self,
        n_channels: int,
        hidden_channels: int,
        kernel_size: int,
        dilation: int,
        norm: str,
        causal: bool,
        padding: str,
        eps: float,
    ) -> None:
        super().__init__()
        self.expand = nn.Conv1d(n_channels, hidden_channels, 1, bias=False)
        self.prelu1 = nn.PReLU()
        self.norm1 = build_norm(norm, hidden_channels, eps)
        self.depthwise = nn.Conv1d(
            hidden_channels, hidden_channels, kernel_size, dilation=dilation, groups=hidden_channels, bias=False
        )
        self.prelu2 = nn.PReLU()
        self.norm2 = build_norm(norm, hidden_channels, eps)
        self.project = nn.Conv1d(hidden_channels, n_channels, 1, bias=False)
        reach = (kernel_size - 1) * dilation
        self.pad = (reach, 0) if causal else (reach // 2, reach // 2)
        self.geometry = ops.Geometry(dilation, self.pad[0], padding == "reflect")
        self.padding_mode = "reflect" if padding == "reflect" else "constant"

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        y = self.norm1(self.prelu1(self.expand(x)), n_frames)
        y = self.norm2(self.prelu2(self.depthwise(self._padded(y, n_frames))), n_frames)
        return x + self.project(y)

    def stream(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next frames of a causal block; `past`: hidden frames before them, as returned by the last call."""
        y = self.norm1(self.prelu1(self.expand(x)))
        y = F.pad(y, self.pad) if past is None else torch.cat([past, y], dim=-1)
        past = y[..., y.shape[-1] - self.pad[0] :]
        return x + self.project(self.norm2(self.prelu2(self.depthwise(y)))), past

    def _padded(self, y: Tensor, n_frames: Tensor | None) -> Tensor:
        if n_frames is None or self.padding_mode == "constant":
            return F.pad(y, self.pad, self.padding_mode)
        return reflect_frames(y, n_frames, self.pad)

    def forward_channels_last(self, x: Tensor) -> Tensor:
        """The same on (batch, frames, n_channels), faster on a CPU."""
        if isinstance(self.norm1, GlobalLayerNorm):
            return ops.temporal_block(x, self._weights(), self.geometry, self.norm1.eps)
        y = ops.prelu(ops.pointwise(x, self.expand.weight), self.prelu1.weight)
        y = ops.depthwise(self.norm1.forward_channels_last(y), self.depthwise.weight, self.geometry)
        y = self.norm2.forward_channels_last(ops.prelu(y, self.prelu2.weight))
        return x + ops.pointwise(y, self.project.weight)

    def _weights(self) -> list[Tensor]:
        """In the order of `ops.temporal_block`."""
        first = [self.expand.weight, self.prelu1.weight, self.norm1.weight, self.norm1.bias]
        second = [self.depthwise.weight, self.prelu2.weight, self.norm2.weight, self.norm2.bias]
        return [*first, *second, self.project.weight]


class ConvTasNetMaskNet(nn.Module):
    """Temporal convolutional network that estimates a mask per source (section II-B).

    (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames).
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int,
        bottleneck_channels: int,
        hidden_channels: int,
        block_kernel_size: int,
        n_blocks: int,
        n_repeats: int,
        norm: str,
        causal: bool,
        mask_activation: str,
        padding: str,
        eps: float,
    ) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.mask_activation = mask_activation
        self.norm = ChannelwiseLayerNorm(n_filters, eps)  # per frame, hence causal, whatever `norm` is
        self.bottleneck = nn.Conv1d(n_filters, bottleneck_channels, 1, bias=False)
        self.blocks = nn.ModuleList(
            TemporalBlock(bottleneck_channels, hidden_channels, block_kernel_size, 2**i, norm, causal, padding, eps)
            for _ in range(n_repeats)
            for i in range(n_blocks)
        )
        self.mask = nn.Conv1d(bottleneck_channels, n_sources * n_filters, 1, bias=False)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if n_frames is None and ops.prefers_channels_last(features):
            scores = self._scores_channels_last(features)
        else:
            y = self.bottleneck(self.norm(features, n_frames))
            for block in self.blocks:
                y = block(y, n_frames)
            scores = self.mask(y)
        return self._masks(scores)

    def stream(self, features: Tensor, state: list[Tensor | None] | None) -> tuple[Tensor, list[Tensor | None]]:
        """Masks of the next frames; `state`: what the last call returned."""
        y = self.bottleneck(self.norm(features))
        state = list(state or [None] * len(self.blocks))
        for i, block in enumerate(self.blocks):
            y, state[i] = cast(TemporalBlock, block).stream(y, state[i])
        return self._masks(self.mask(y)), state

    def _masks(self, scores: Tensor) -> Tensor:
        scores = scores.unflatten(1, (self.n_sources, -1))
        if self.mask_activation == "relu":
            return F.relu(scores)
        if self.mask_activation == "sigmoid":
            return torch.sigmoid(scores)
        return torch.softmax(scores, dim=1)

    def _scores_channels_last(self, features: Tensor) -> Tensor:
        y = self.norm.forward_channels_last(features.transpose(1, 2).contiguous())
        y = ops.pointwise(y, self.bottleneck.weight)
        for block in cast(Iterable[TemporalBlock], self.blocks):
            y = block.forward_channels_last(y)
        return ops.pointwise(y, self.mask.weight).transpose(1, 2)


class ConvTasNet(TasNet):
    """Conv-TasNet: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        n_sources: estimated sources [C].
        n_filters: encoder filters [N].
        kernel_size: encoder and decoder window in samples [L]; the hop is half of it.
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
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int = 256,
        kernel_size: int = 16,
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
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check_sizes(arguments)
        _check_options(norm, causal, mask_activation, padding, n_sources, block_kernel_size)
        mask_net = ConvTasNetMaskNet(
            n_sources,
            n_filters,
            bottleneck_channels,
            hidden_channels,
            block_kernel_size,
            n_blocks,
            n_repeats,
            norm,
            causal,
            mask_activation,
            padding,
            eps,
        )
        super().__init__(mask_net, n_sources, n_filters, kernel_size)
        self.arguments = arguments
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


def _check_sizes(arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")


def _check_options(
    norm: str, causal: bool, mask_activation: str, padding: str, n_sources: int, block_kernel_size: int
) -> None:
    for name, value, choices in (
        ("norm", norm, NORMS),
        ("mask_activation", mask_activation, MASK_ACTIVATIONS),
        ("padding", padding, PADDINGS),
    ):
        if value not in choices:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")
    if causal and norm not in CAUSAL_NORMS:
        raise ValueError(f"causal=True needs norm in {CAUSAL_NORMS}: {norm!r} averages over future frames")
    if causal and padding == "reflect":
        raise ValueError("causal=True needs padding='zero': reflection copies future frames to the start")
    if not causal and block_kernel_size % 2 == 0:
        raise ValueError(f"block_kernel_size={block_kernel_size} must be odd unless causal=True")
    if mask_activation == "softmax" and n_sources == 1:
        raise ValueError("mask_activation='softmax' over one source is always 1; use 'relu' or 'sigmoid'")
