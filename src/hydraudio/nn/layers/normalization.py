"""Normalisations of (batch, channels, frames) features, with statistics in float32 under any precision.

Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation",
IEEE/ACM TASLP 27(8), 2019: gLN is eq. (10)-(12), cLN here is the per-frame form (LayerNorm over the channels of
one frame), which needs neither past nor future frames.
"""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers import elementary
from hydraudio.nn.layers.masking import frame_mask, global_norm

CAUSAL_NORMS = ("cLN", "BN")  # gLN averages over all frames, so its output depends on the future


def at_least_float32(x: Tensor) -> Tensor:
    """Return half-precision tensors as float32; float32 and float64 unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Float32Module(nn.Module):
    """A module whose own parameters and buffers stay in float32 when the module around it is cast to half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def kept(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return tensor.to(found.device) if found.dtype in (torch.float16, torch.bfloat16) else found

        return super()._apply(kept, recurse)


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` with statistics in float32 under any precision."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(at_least_float32(x)).to(x.dtype)


class _AffineNorm(nn.Module):
    """Gain and bias per channel; a subclass says over which axes the statistics run."""

    def __init__(self, n_channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"


class GlobalLayerNorm(_AffineNorm):
    """Normalise by mean and variance over channels and frames of each item, gLN. (batch, channels, frames) -> same.

    With `n_frames` (batch,) further frames do not count and become zero.
    """

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if n_frames is None and elementary.is_channels_last(x):
            return elementary.global_layer_norm(x.transpose(1, 2), self.weight, self.bias, self.eps).transpose(1, 2)
        valid = None if n_frames is None else frame_mask(n_frames, x.shape[-1]).unsqueeze(1)
        return global_norm(x, self.weight, self.bias, self.eps, valid)


class ChannelwiseLayerNorm(_AffineNorm):
    """Normalise by mean and variance over the channels of each frame, cLN: causal. (batch, channels, frames) -> same.

    With `n_frames` (batch,) further frames become zero.
    """

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if n_frames is None and elementary.is_channels_last(x):
            return F.layer_norm(x.transpose(1, 2), (x.shape[1],), self.weight, self.bias, self.eps).transpose(1, 2)
        x32 = at_least_float32(x)
        centred = x32 - x32.mean(1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps)
        y = centred * scale * self.weight[:, None] + self.bias[:, None]
        return _zero_padding(y, n_frames).to(x.dtype)


class BatchNorm(nn.BatchNorm1d):
    """Normalise per channel over batch and frames, BN: by statistics of the batch, in evaluation by running averages.

    (batch, channels, frames) -> same. As a causal norm it is causal in evaluation alone. With `n_frames` (batch,)
    further frames do not count and become zero.
    """

    def forward(self, x: Tensor, n_frames: Tensor | None = None) -> Tensor:
        if n_frames is None and elementary.is_channels_last(x):
            frames = x.transpose(1, 2)  # (batch, frames, channels)
            return super().forward(frames.flatten(0, 1)).view_as(frames).transpose(1, 2)
        if n_frames is None:
            return super().forward(x)
        if not self.training:
            return _zero_padding(super().forward(x), n_frames)
        valid = frame_mask(n_frames, x.shape[-1])
        y = torch.zeros_like(x).transpose(1, 2)
        y[valid] = super().forward(x.transpose(1, 2)[valid])
        return y.transpose(1, 2)


def _zero_padding(x: Tensor, n_frames: Tensor | None) -> Tensor:
    return x if n_frames is None else x.masked_fill(~frame_mask(n_frames, x.shape[-1]).unsqueeze(1), 0)


Norm = GlobalLayerNorm | ChannelwiseLayerNorm | BatchNorm
NORMS: dict[str, Callable[[int, float], Norm]] = {"gLN": GlobalLayerNorm, "cLN": ChannelwiseLayerNorm, "BN": BatchNorm}


def build_norm(name: str, n_channels: int, eps: float = 1e-8) -> Norm:
    """Build the normalisation called `name` ("gLN", "cLN" or "BN") for (batch, n_channels, frames)."""
    if name not in NORMS:
        raise ValueError(f"norm={name!r} is unknown; choose one of {', '.join(NORMS)}")
    return NORMS[name](n_channels, eps)
