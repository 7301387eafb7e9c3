"""The frame of grid networks: full-band and sub-band sequence modelling and attention over frames, on a spectrum.

Wang et al., "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation", IEEE/ACM TASLP 31, 2023,
section III; letters below are the paper's. TF-GridNet and SPMamba differ in the sequence net alone.

Features are (batch, frames, bins, channels) throughout, so that a window of neighbouring bins or frames is a contiguous
piece of memory. Within a window the order is (position, channel).

A sequence net is a module `net(x, n_steps=None)`: (sequences, steps, features) -> (sequences, steps, outputs), where
`n_steps` (sequences,) int64 says how many steps count; later ones must not change the output of these.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hydraudio.core.options import check_sizes
from hydraudio.nn.frontends.stft import check_stft, istft, root_mean_square, stft
from hydraudio.nn.layers.elementary import Linear
from hydraudio.nn.layers.masking import frame_mask, global_norm
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.tasks.separation.networks.tasnet import checked_mixture

SequenceFactory = Callable[[int], tuple[nn.Module, int]]
Count = TypeVar("Count", int, Tensor)

# Positions of all rows that activation checkpointing takes at a time: some 80 kB each in SPMamba at its full size.
RECOMPUTED_POSITIONS = 2**15


class GridPath(nn.Module):
    """Norm, windows along one axis, sequence net, transposed convolution back, plus the input (section III-B and C).

    (batch, rows, positions, channels) -> same: every row is a sequence of its own. The full-band path takes frames as
    rows and bins as positions, the sub-band path the other way round. Windows that do not overlap need no convolution:
    there a linear layer gives the positions of a window, as in ESPnet's `TFGridNetV2`.

    Args:
        n_channels: D.
        kernel_size: positions of a window, I.
        stride: between windows, J. Zeros fill the last one after the norm.
        sequence: the sequence net for windows of kernel_size * n_channels features.
        n_outputs: features that the sequence net returns.
        eps: added to the variance of the norm.
    """

    def __init__(
        self, n_channels: int, kernel_size: int, stride: int, sequence: nn.Module, n_outputs: int, eps: float
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.norm = nn.LayerNorm(n_channels, eps)
        self.sequence = sequence
        self.deconv: nn.Module
        if stride == kernel_size:
            self.deconv = Linear(n_outputs, kernel_size * n_channels)
        else:
            self.deconv = nn.ConvTranspose2d(n_outputs, n_channels, (1, kernel_size), stride=(1, stride))

    def forward(self, x: Tensor, n_positions: Tensor | None = None) -> Tensor:
        """n_positions: (batch,) where items have unequal numbers of positions; None: all count."""
        y = self.norm(x)
        if n_positions is not None:
            y = y.masked_fill(~frame_mask(n_positions, x.shape[2])[:, None, :, None], 0)
        y = self._model(self._windows(y), n_positions, x.shape[1])
        y = self._positions(y.unflatten(0, x.shape[:2]), x.shape[3])
        return x + y[:, :, : x.shape[2]]

    def _windows(self, x: Tensor) -> Tensor:
        """(batch, rows, positions, channels) -> (batch * rows, steps, kernel_size * channels)"""
        n_positions, n_channels = x.shape[2:]
        n_covered = (self._count_windows(n_positions) - 1) * self.stride + self.kernel_size
        x = F.pad(x, (0, 0, 0, n_covered - n_positions)).flatten(0, 1).flatten(1)
        return x.unfold(1, self.kernel_size * n_channels, self.stride * n_channels)

    def _count_windows(self, n_positions: Count) -> Count:
        """int -> int, (batch,) -> (batch,). At least 1."""
        n_hops = (n_positions - self.kernel_size + self.stride - 1) // self.stride
        return 1 + (n_hops.clamp_min(0) if isinstance(n_hops, Tensor) else max(n_hops, 0))

    def _positions(self, y: Tensor, n_channels: int) -> Tensor:
        """(batch, rows, steps, outputs) -> (batch, rows, positions covered by windows, channels)"""
        if self.stride == self.kernel_size:
            return self.deconv(y).flatten(2).unflatten(2, (-1, n_channels))
        return self.deconv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # channels last in memory, before and after

    def _model(self, windows: Tensor, n_positions: Tensor | None, n_rows: int) -> Tensor:
        """(batch * rows, steps, features) -> (batch * rows, steps, outputs), zero after an item's last window."""
        if n_positions is None:
            return self.sequence(windows)
        n_steps = self._count_windows(n_positions).repeat_interleave(n_rows, output_size=len(windows))
        y = self.sequence(windows, n_steps)
        return y.masked_fill(~frame_mask(n_steps, y.shape[1]).unsqueeze(-1), 0)


class HeadNorm(nn.Module):
    """PReLU with a slope per head, then mean and variance over the bins and channels of each frame and head.

    (batch, frames, bins, heads * channels) -> (batch, heads, frames, bins * channels). Gain and bias per head, bin and
    channel.
    """

    def __init__(self, n_heads: int, n_bins: int, n_channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.slope = nn.Parameter(torch.full((n_heads,), 0.25))
        self.weight = nn.Parameter(torch.ones(n_heads, 1, n_bins * n_channels))
        self.bias = nn.Parameter(torch.zeros(n_heads, 1, n_bins * n_channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (len(self.slope), -1)).permute(0, 3, 1, 2, 4).flatten(3)
        x = torch.lerp(F.relu(x), x, self.slope[:, None, None].to(x.dtype))  # PReLU, with a fast backward pass
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:], eps=self.eps), self.weight)


class FrameAttention(nn.Module):
    """Self-attention over frames, whose queries, keys and values are whole frames, plus the input (section III-D).

    (batch, frames, bins, channels) -> same.

    Args:
        n_channels: D.
        n_bins: F, bins of the spectrum.
        n_heads: L.
        key_size: least number of features of a key; a key has the same number of channels in every bin, E.
        eps: added to the variance of the norms.
    """

    def __init__(self, n_channels: int, n_bins: int, n_heads: int, key_size: int, eps: float) -> None:
        super().__init__()
        n_key_channels = math.ceil(key_size / n_bins)
        self.sizes = (n_heads * n_key_channels, n_heads * n_key_channels, n_channels)
        self.project = Linear(n_channels, sum(self.sizes))
        self.query_norm = HeadNorm(n_heads, n_bins, n_key_channels, eps)
        self.key_norm = HeadNorm(n_heads, n_bins, n_key_channels, eps)
        self.value_norm = HeadNorm(n_heads, n_bins, n_channels // n_heads, eps)
        self.merge = Linear(n_channels, n_channels)
        self.merge_norm = HeadNorm(1, n_bins, n_channels, eps)

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """n_frames: (batch,) where items have unequal numbers of frames; later frames are not attended to."""
        query, key, value = self.project(x).split(self.sizes, -1)
        query, key, value = self.query_norm(query), self.key_norm(key), self.value_norm(value)
        attended = None if n_frames is None else frame_mask(n_frames, x.shape[1])[:, None, None]
        y = F.scaled_dot_product_attention(query, key, value, attended)
        y = y.unflatten(-1, (x.shape[2], -1)).permute(0, 2, 3, 1, 4).flatten(3)
        return x + self.merge_norm(self.merge(y)).view(x.shape)


class GridBlock(nn.Module):
    """Full-band path, sub-band path, attention over frames. (batch, frames, bins, channels) -> same.

    With `recompute`, training keeps only the input of each of the three, and computes the rest anew when the backward
    pass comes to it; for the paths, RECOMPUTED_POSITIONS at a time.
    """

    def __init__(self, full_band: GridPath, sub_band: GridPath, attention: FrameAttention, recompute: bool) -> None:
        super().__init__()
        self.full_band = full_band
        self.sub_band = sub_band
        self.attention = attention
        self.recompute = recompute

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            x = self.full_band(x)
            x = self.sub_band(x.transpose(1, 2), n_frames).transpose(1, 2)
            return self.attention(x, n_frames)
        x = _recompute_in_slices(self.full_band, x, None)
        x = _recompute_in_slices(self.sub_band, x.transpose(1, 2), n_frames).transpose(1, 2)
        return _recompute(self.attention, x, n_frames)


def _recompute_in_slices(path: GridPath, x: Tensor, n_positions: Tensor | None) -> Tensor:
    """path(x, n_positions); the rows are independent of one another."""
    n_rows = max(1, RECOMPUTED_POSITIONS // (x.shape[0] * x.shape[2]))
    return torch.cat([_recompute(path, rows, n_positions) for rows in x.split(n_rows, 1)], 1)


def _recompute(part: nn.Module, *arguments: Tensor | None) -> Tensor:
    return checkpoint(part, *arguments, use_reentrant=False, preserve_rng_state=False)


class GridNet(nn.Module):
    """Complex spectral mapping with a stack of grid blocks (section III-A).

    The mixture is divided by its root mean square, and the estimates are multiplied by it: they follow the mixture's
    level exactly, and the estimate for silence is silence.

    Args:
        build_sequence: called once per path with the features of a window; returns the sequence net and the number of
            features that it gives.
        n_sources: estimated sources.
        n_fft: window of the STFT in samples, even.
        hop: of the STFT in samples.
        n_blocks: grid blocks, B.
        n_channels: of the features, D; a multiple of n_heads.
        kernel_size: I, neighbouring bins or frames that a sequence net sees in a step.
        stride: J, bins or frames from step to step.
        n_heads: L, of the attention over frames.
        key_size: features of a frame's key and query, rounded up to a multiple of the bins (E channels each).
        eps: added to every variance.
        activation_checkpointing: in training keep the activations of one path at a time and compute them twice.
    """

    def __init__(
        self,
        build_sequence: SequenceFactory,
        *,
        n_sources: int,
        n_fft: int,
        hop: int = 64,
        n_blocks: int = 6,
        n_channels: int,
        kernel_size: int,
        stride: int = 1,
        n_heads: int = 4,
        key_size: int = 512,
        eps: float = 1e-5,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(n_sources=n_sources, n_blocks=n_blocks, n_channels=n_channels, n_heads=n_heads, key_size=key_size)
        check_stft(n_fft, hop)
        _check_windows(kernel_size, stride, n_bins := n_fft // 2 + 1)
        if n_channels % n_heads:
            raise ValueError(f"n_channels={n_channels} must be a multiple of n_heads={n_heads}")
        self.n_sources, self.n_fft, self.hop, self.eps = n_sources, n_fft, hop, eps

        def path() -> GridPath:
            sequence, n_outputs = build_sequence(kernel_size * n_channels)
            return GridPath(n_channels, kernel_size, stride, sequence, n_outputs, eps)

        def attention() -> FrameAttention:
            return FrameAttention(n_channels, n_bins, n_heads, key_size, eps)

        self.encode = nn.Conv2d(2, n_channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, n_channels, eps)
        self.blocks = nn.ModuleList(
            GridBlock(path(), path(), attention(), activation_checkpointing) for _ in range(n_blocks)
        )
        self.decode = nn.ConvTranspose2d(n_channels, 2 * n_sources, 3, padding=1)

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate mixtures of any length, as `TasNet.forward` does; the estimates are zero after an item's length."""
        mixture = checked_mixture(mixture, lengths)
        n_frames = None if lengths is None else lengths // self.hop + 1
        level = root_mean_square(mixture, lengths)
        spectrum = stft(mixture / torch.where(level > 0, level, 1), self.n_fft, self.hop, lengths)
        estimate = self.estimate(spectrum, n_frames)
        return level.unsqueeze(-1) * istft(estimate, mixture.shape[1], self.n_fft, self.hop, lengths)

    def estimate(self, spectrum: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Map (batch, 2, frames, bins), zero after an item's `n_frames` -> (batch, n_sources, 2, frames, bins)."""
        valid = None if n_frames is None else frame_mask(n_frames, spectrum.shape[2])[:, None, :, None]
        x = at_least_float32(self.encode(spectrum))  # the residual path stays so under autocast
        x = global_norm(x, self.norm.weight, self.norm.bias, self.eps, valid).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            x = block(x, n_frames)
        x = x.permute(0, 3, 1, 2)
        if valid is not None:
            x = x.masked_fill(~valid, 0)
        return self.decode(x).unflatten(1, (self.n_sources, 2))


def _check_windows(kernel_size: int, stride: int, n_bins: int) -> None:
    check_sizes(kernel_size=kernel_size, stride=stride)
    if stride > kernel_size:
        raise ValueError(f"stride={stride} leaves gaps; it must be at most kernel_size={kernel_size}")
    if kernel_size > n_bins:
        raise ValueError(f"kernel_size={kernel_size} is more than the {n_bins} bins of n_fft={2 * n_bins - 2}")
