"""Kaldi's filter-bank features, as AST, AudioMAE and EAT take them: time first, in float32 under any precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.frontends.mel import FLOAT32_EPS, mel_filters
from hydraudio.nn.frontends.stft import power
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import Float32Module, at_least_float32

FRAME_S = 0.025
HOP_S = 0.010
PREEMPHASIS = 0.97


class KaldiFbank(Float32Module):
    """Log mel energies of `compute-fbank-feats` without dither and energy, with a Hann window.

    Only whole frames of 25 ms are taken, every 10 ms. In each, the mean is subtracted, then 0.97 of the sample before
    (of the first one itself), then comes the symmetric window, a transform of the next power of two, and triangles that
    are straight in Kaldi's mel scale. Energies below float32's epsilon are raised to it before the natural logarithm.
    The waveform stays in [-1, 1]: what was computed from 16-bit integers is larger by 2 ln 32768 = 20.79.

    Of 128 bins at 16 kHz, number 3 lies between two lines of the transform and never leaves the floor;
    `Standardize` leaves such bins out of its statistics per bin.

    Args:
        sample_rate: in Hz.
        n_bins: mel bins.
        f_min_hz: lower end of the first filter.
        f_max_hz: upper end of the last one; None for half the sample rate.

    >>> KaldiFbank()(torch.zeros(1, 160000)).shape
    torch.Size([1, 1, 998, 128])
    """

    n_channels = 1

    def __init__(
        self, sample_rate: int = 16000, n_bins: int = 128, f_min_hz: float = 20.0, f_max_hz: float | None = None
    ) -> None:
        super().__init__()
        self.sample_rate, self.n_bins = sample_rate, n_bins
        self.frame_samples, self.hop_samples = int(sample_rate * FRAME_S), int(sample_rate * HOP_S)
        self.n_fft = 1 << (self.frame_samples - 1).bit_length()
        filters = mel_filters(n_bins, self.n_fft, sample_rate, f_min_hz, f_max_hz or sample_rate / 2, "kaldi")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.filters: Tensor

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal; where Kaldi has none, one, filled up with zeros."""
        return max(1, 1 + (n_samples - self.frame_samples) // self.hop_samples)

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Count the frames of every item: (batch,) samples -> (batch,)."""
        frames = 1 + (lengths - self.frame_samples).div(self.hop_samples, rounding_mode="floor")
        return frames.clamp_min(1)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the features.

        Args:
            waveform: (batch, time), from 1 sample, zero after an item's length.
            lengths: (batch,) samples of each item where the batch is padded; frames after an item's own are those of
                silence.

        Returns:
            (batch, 1, frames, n_bins) float32 (float64 for float64).
        """
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = at_least_float32(waveform)
            waveform = F.pad(waveform, (0, max(0, self.frame_samples - waveform.shape[1])))
            energies = self._power(waveform.unfold(1, self.frame_samples, self.hop_samples)) @ self.filters.to(
                waveform.dtype
            )
            if lengths is not None:
                own = frame_mask(self.frame_counts(lengths), energies.shape[1])
                energies = energies.masked_fill(~own.unsqueeze(-1), 0.0)
            return energies.clamp_min(FLOAT32_EPS).log().unsqueeze(1)

    def _power(self, frames: Tensor) -> Tensor:
        """(batch, frames, frame_samples) -> (batch, frames, n_fft // 2 + 1)."""
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        window = torch.hann_window(self.frame_samples, periodic=False, dtype=frames.dtype, device=frames.device)
        spectrum = torch.view_as_real(torch.fft.rfft((frames - PREEMPHASIS * before) * window, self.n_fft))
        return power(spectrum)
