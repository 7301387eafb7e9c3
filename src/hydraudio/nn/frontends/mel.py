"""Log-mel spectrograms for networks that see a spectrogram as a picture: time first, in float32 under any precision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hydraudio.nn.frontends.griffin_lim import griffin_lim, power_from_mel
from hydraudio.nn.frontends.stft import check_stft, power_spectrogram
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import Float32Module

FLOAT32_EPS = 1.1920928955078125e-07

Scale = Literal["htk", "kaldi", "slaney"]


def hz_to_mel(frequency_hz: np.ndarray | float, scale: Scale) -> np.ndarray:
    """Convert to mel: 2595 log10(1 + f / 700) (HTK), the same as 1127 ln(1 + f / 700) (Kaldi), or Slaney's scale.

    Slaney's scale (Auditory Toolbox, 1998) is linear to 1 kHz, 15 mel, then logarithmic, 27 mel to 6.4 kHz.
    """
    frequency_hz = np.asarray(frequency_hz, dtype=np.float64)
    if scale == "slaney":
        above = 15.0 + np.log(np.maximum(frequency_hz, 1.0) / 1000.0) * (27.0 / np.log(6.4))
        return np.where(frequency_hz < 1000.0, frequency_hz * 0.015, above)
    factor = 1127.0 if scale == "kaldi" else 2595.0 / np.log(10.0)
    return factor * np.log1p(frequency_hz / 700.0)


def mel_to_hz(mel: np.ndarray, scale: Scale) -> np.ndarray:
    """Convert back from mel, the inverse of :func:`hz_to_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "slaney":
        return np.where(mel < 15.0, mel / 0.015, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))
    factor = 1127.0 if scale == "kaldi" else 2595.0 / np.log(10.0)
    return 700.0 * np.expm1(mel / factor)


def mel_filters(
    n_bins: int, n_fft: int, sample_rate: int, f_min_hz: float, f_max_hz: float, scale: Scale
) -> np.ndarray:
    """Compute triangular filters: (n_fft // 2 + 1, n_bins) float64.

    The triangles are equally wide in mel. With HTK and Slaney they are straight in Hz and peak at 1, divided by half
    their width in Hz with Slaney, so that all have the same area; with Kaldi they are straight in mel.

    Raises:
        ValueError: the range of frequencies is empty or reaches beyond half the sample rate.

    >>> mel_filters(3, 8, 16000, 0.0, 8000.0, "htk").shape
    (5, 3)
    """
    if not 0 <= f_min_hz < f_max_hz <= sample_rate / 2:
        raise ValueError(
            f"f_min_hz={f_min_hz} and f_max_hz={f_max_hz} must rise from 0 at least to {sample_rate / 2:g} Hz at most, "
            "half the sample rate"
        )
    low, high = hz_to_mel(f_min_hz, scale), hz_to_mel(f_max_hz, scale)
    corners = np.linspace(low, high, n_bins + 2)
    position = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    if scale == "kaldi":
        position = hz_to_mel(position, scale)
    else:
        corners = mel_to_hz(corners, scale)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (position[:, None] - left) / (centre - left)
    falling = (right - position[:, None]) / (right - centre)
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    return filters * (2.0 / (right - left)) if scale == "slaney" else filters


class LogMel(Float32Module):
    """Natural logarithm of a mel spectrogram, as AudioMAE++ takes it (Yadav, Theodoridis and Tan 2025).

    The power spectrogram is `torchaudio.transforms.MelSpectrogram`'s with its defaults (periodic Hann window over the
    whole of n_fft, centred frames, reflected ends, HTK scale, no norm); `floor` is added before the logarithm. The
    frame behind the last whole hop is left out, so that 2 s at a hop of 10 ms have 200 frames.

    Args:
        sample_rate: in Hz.
        n_fft: samples of a window.
        hop_samples: between frames.
        n_bins: mel bins.
        f_min_hz: lower end of the first filter.
        f_max_hz: upper end of the last one.
        floor: added to the energies; its logarithm is the value of silence.

    >>> LogMel()(torch.zeros(1, 32000)).shape
    torch.Size([1, 1, 200, 80])
    """

    n_channels = 1

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        hop_samples: int = 160,
        n_bins: int = 80,
        f_min_hz: float = 50.0,
        f_max_hz: float = 8000.0,
        floor: float = FLOAT32_EPS,
    ) -> None:
        super().__init__()
        check_stft(n_fft, hop_samples)
        self.sample_rate, self.n_fft, self.hop_samples, self.n_bins = sample_rate, n_fft, hop_samples, n_bins
        self.floor = floor
        filters = mel_filters(n_bins, n_fft, sample_rate, f_min_hz, f_max_hz, "htk")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.filters: Tensor

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal; at least one."""
        return max(1, n_samples // self.hop_samples)

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Count the frames of every item: (batch,) samples -> (batch,)."""
        return (lengths // self.hop_samples).clamp_min(1)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the spectrogram.

        Args:
            waveform: (batch, time), from 1 sample.
            lengths: (batch,) samples of each item where the batch is padded; an item gives what it gives alone, and
                frames after its own are those of silence.

        Returns:
            (batch, 1, frames, n_bins) float32 (float64 for float64).
        """
        with torch.autocast(waveform.device.type, enabled=False):
            n_frames = self.n_frames(waveform.shape[1])
            power = power_spectrogram(waveform, self.n_fft, self.hop_samples, n_frames, lengths)
            mel = power @ self.filters.to(power.dtype)
            if lengths is not None:
                own = frame_mask(self.frame_counts(lengths), mel.shape[1])
                mel = mel.masked_fill(~own.unsqueeze(-1), 0.0)
            return (mel + self.floor).log().unsqueeze(1)

    def invert(self, spectrogram: Tensor) -> Tensor:
        """Make sound of a spectrogram, with phases that are estimated (`hydraudio.nn.frontends.griffin_lim`).

        (batch, 1, frames, n_bins) -> (batch, frames * hop_samples) float32; power outside of the bins is lost.
        """
        mel = (spectrogram[:, 0].float().exp() - self.floor).clamp_min(0)
        power = power_from_mel(mel, self.filters)
        return griffin_lim(power.sqrt(), self.n_fft, self.hop_samples, spectrogram.shape[2] * self.hop_samples)
