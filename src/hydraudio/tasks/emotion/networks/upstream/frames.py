"""Frames of a padded batch: how many a waveform gives, exactly; norms over an item's own; spans of them masked.

The feature encoders of wav2vec 2.0, HuBERT and WavLM are seven convolutions without padding: 20 ms per frame at 16 kHz,
25 ms seen by each (strides multiply to 320 samples, the receptive field is 400).
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import at_least_float32

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)

Count = TypeVar("Count", int, Tensor)


def receptive_field(kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> int:
    """Samples that one frame sees: the shortest waveform that gives a frame."""
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


def frame_lengths(lengths: Count, kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> Count:
    """Frames of waveforms of these lengths, an int or an integer tensor of any shape.

    Shorter waveforms than the receptive field count as padded to it, so that there is always a frame.

    Raises:
        ValueError: the lengths are a tensor of floats, whose sums are inexact in half precision.
    """
    if isinstance(lengths, Tensor) and lengths.is_floating_point():
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    shortest = receptive_field(kernels, strides)
    frames = lengths.clamp(min=shortest) if isinstance(lengths, Tensor) else max(lengths, shortest)
    for kernel, stride in zip(kernels, strides, strict=True):
        frames = (frames - kernel) // stride + 1
    return frames


def masked_group_norm(x: Tensor, n_frames: Tensor, norm: nn.GroupNorm) -> Tensor:
    """`norm` with one group per channel, its statistics over each item's own frames alone, in float32.

    Encoders with feat_extract_norm="group" normalise the first convolution's output over time, padding included, so an
    utterance's features depend on the batch that it is in; with this they do not.

    Args:
        x: (batch, channels, frames).
        n_frames: (batch,) int64.
        norm: gives gain, bias and epsilon.

    Returns:
        as x; what follows an item's frames is without meaning.
    """
    valid = frame_mask(n_frames, x.shape[-1]).unsqueeze(1)
    x32 = at_least_float32(x)
    count = n_frames[:, None, None]
    mean = x32.masked_fill(~valid, 0).sum(-1, keepdim=True) / count
    variance = torch.where(valid, x32 - mean, 0).square().sum(-1, keepdim=True) / count
    scale = torch.rsqrt(variance + norm.eps) * norm.weight[:, None]
    return torch.addcmul(norm.bias[:, None] - mean * scale, x32, scale).to(x.dtype)


def time_mask(n_frames: Tensor, size: int, probability: float, span: int, min_spans: int = 0) -> Tensor:
    """SpecAugment along time: which frames to replace. (batch,) int64 -> (batch, size) bool.

    Park et al., "SpecAugment", Interspeech 2019, in the form of wav2vec 2.0: probability * n_frames / span spans of
    `span` frames start at places drawn without replacement and may overlap; the fraction is rounded up as often as it
    says. An item gets at most n_frames // span spans, hence none where it is shorter than a span. Draws from torch's
    generator of the device.
    """
    device = n_frames.device
    spans = (probability * n_frames / span + torch.rand(len(n_frames), device=device)).long()
    spans = torch.minimum(spans.clamp(min=min_spans), n_frames // span)
    allowed = frame_mask(n_frames - span + 1, size)
    rank = torch.rand(len(n_frames), size, device=device).masked_fill(~allowed, 2).argsort(1).argsort(1)
    starts = (rank < spans[:, None]).float()
    return F.max_pool1d(F.pad(starts, (span - 1, 0))[:, None], span, stride=1)[:, 0].bool()
