"""Mel spectrograms in dB as square pictures with the statistics of ImageNet: librosa's, resized as Pillow does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.frontends.mel import mel_filters
from hydraudio.nn.frontends.stft import frame_spectra, power
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import Float32Module, at_least_float32

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue, for pictures in [0, 1] (torchvision)."""

LEAST_POWER = 1e-10
RANGE_DB = 80.0
"""librosa.power_to_db's `amin` and `top_db`."""


class LibrosaDb(Float32Module):
    """`librosa.feature.melspectrogram` in dB below its maximum, scaled to [0, 1] per clip, as a square picture.

    Slaney's scale and norm, frames centred on multiples of the hop with zeros at both ends, 80 dB of range. Each clip
    is stretched to the picture whatever its length, by triangular weights (Pillow's BILINEAR), without rounding to 8
    bits. Three channels hold the same picture with the mean and deviation of ImageNet; one channel holds it as it is.
    Silence gives zeros before that.

    Args:
        sample_rate: in Hz.
        n_fft: samples of a window.
        stft_hop_samples: between frames of the spectrogram.
        n_mels: mel bins of the spectrogram.
        n_bins: of the picture, which has as many frames.
        n_channels: 3 or 1.

    Attributes:
        hop_samples: None; what a frame of the picture stands for depends on the length of the clip.

    >>> LibrosaDb()(torch.zeros(1, 110250)).shape
    torch.Size([1, 3, 224, 224])
    """

    hop_samples = None

    def __init__(
        self,
        sample_rate: int = 22050,
        n_fft: int = 2048,
        stft_hop_samples: int = 512,
        n_mels: int = 128,
        n_bins: int = 224,
        n_channels: int = 3,
    ) -> None:
        super().__init__()
        if n_channels not in (1, 3):
            raise ValueError(f"n_channels={n_channels} must be 3 (with the statistics of ImageNet) or 1")
        self.sample_rate, self.n_fft, self.stft_hop_samples = sample_rate, n_fft, stft_hop_samples
        self.n_bins, self.n_channels = n_bins, n_channels
        filters = mel_filters(n_mels, n_fft, sample_rate, 0.0, sample_rate / 2, "slaney")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.filters: Tensor

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of the picture, the same for every length."""
        return self.n_bins

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Count the frames of every item: (batch,) samples -> (batch,)."""
        return torch.full_like(lengths, self.n_bins)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the pictures.

        Args:
            waveform: (batch, time), from 1 sample.
            lengths: (batch,) samples of each item where the batch is padded; an item gives what it gives alone.

        Returns:
            (batch, n_channels, n_bins: time, n_bins: frequency from the lowest) float32 (float64 for float64).
        """
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = at_least_float32(waveform)
            if lengths is None:
                lengths = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
            waveform = waveform.masked_fill(~frame_mask(lengths, waveform.shape[1]), 0.0)
            n_frames = 1 + lengths // self.stft_hop_samples
            decibels = self._decibels(waveform)
            own = frame_mask(n_frames, decibels.shape[1]).unsqueeze(-1)
            picture = _unit_range(decibels, own)
            picture = _resize_weights(n_frames, decibels.shape[1], self.n_bins, picture) @ picture
            n_mels = torch.full_like(n_frames[:1], picture.shape[2])
            picture = picture @ _resize_weights(n_mels, picture.shape[2], self.n_bins, picture).transpose(1, 2)
            picture = picture.unsqueeze(1)
            if self.n_channels == 1:
                return picture
            mean, std = (picture.new_tensor(values).view(1, -1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
            return (picture - mean) / std

    def _decibels(self, waveform: Tensor) -> Tensor:
        """(batch, time) -> (batch, 1 + time // hop, n_mels)."""
        padded = F.pad(waveform, (self.n_fft // 2, self.n_fft // 2))
        spectrum = torch.view_as_real(frame_spectra(padded, self.n_fft, self.stft_hop_samples, self.n_fft))
        energies = power(spectrum) @ self.filters.to(waveform.dtype)
        return 10.0 * energies.clamp_min(LEAST_POWER).log10()


def _unit_range(decibels: Tensor, own: Tensor) -> Tensor:
    """Cut each item to the range below its maximum, then scale its minimum to 0 and its maximum to 1."""
    top = decibels.masked_fill(~own, -torch.inf).amax((1, 2), keepdim=True)
    decibels = decibels.maximum(top - RANGE_DB)
    bottom = decibels.masked_fill(~own, torch.inf).amin((1, 2), keepdim=True)
    width = top - bottom
    return (decibels - bottom) / torch.where(width > 0, width, 1.0)


def _resize_weights(n_inputs: Tensor, size: int, n_outputs: int, like: Tensor) -> Tensor:
    """Triangular weights that stretch or shrink the first `n_inputs` of `size` values to `n_outputs`.

    (batch,) -> (batch, n_outputs, size), rows of sum 1; shrinking widens the triangles, as Pillow does.
    """
    scale = n_inputs.to(like.dtype)[:, None, None] / n_outputs
    centre = (torch.arange(n_outputs, dtype=like.dtype, device=like.device)[:, None] + 0.5) * scale
    position = torch.arange(size, dtype=like.dtype, device=like.device) + 0.5
    weights = (1.0 - (position - centre).abs() / scale.clamp_min(1.0)).clamp_min(0.0)
    weights = weights * frame_mask(n_inputs, size).unsqueeze(1)
    return weights / weights.sum(-1, keepdim=True)
