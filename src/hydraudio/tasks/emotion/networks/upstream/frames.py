"""How many frames a stack of convolutions makes of a waveform, exactly.

The feature encoders of wav2vec 2.0, HuBERT and WavLM are seven convolutions without padding: 20 ms per frame at 16 kHz,
25 ms seen by each (strides multiply to 320 samples, the receptive field is 400).
"""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

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
