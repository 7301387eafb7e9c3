"""Sound again from a mel spectrogram, whose phases are lost and whose bands are few: to hear what a network makes.

References:
    D. W. Griffin, J. S. Lim, "Signal estimation from modified short-time Fourier transform", IEEE TASSP 32(2), 1984.
    N. Perraudin, P. Balazs, P. L. Søndergaard, "A fast Griffin-Lim algorithm", WASPAA 2013, with their momentum 0.99.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOMENTUM = 0.99


def griffin_lim(magnitude: Tensor, n_fft: int, hop: int, n_samples: int, n_iterations: int = 32) -> Tensor:
    """Find a waveform with about these magnitudes.

    Args:
        magnitude: (batch, n_fft // 2 + 1, frames), of a centred transform under a periodic Hann window.
        n_fft: window length in samples.
        hop: between frames, in samples.
        n_samples: of the waveform.
        n_iterations: of the algorithm.

    Returns:
        (batch, n_samples) float32. The first phases are drawn from a generator of their own: equal magnitudes give
        equal waveforms.

    >>> tone = torch.sin(torch.arange(8000) * 0.3)[None]
    >>> magnitude = torch.stft(tone, 400, 160, window=torch.hann_window(400), return_complex=True).abs()
    >>> heard = griffin_lim(magnitude, 400, 160, 8000)
    >>> again = torch.stft(heard, 400, 160, window=torch.hann_window(400), return_complex=True).abs()
    >>> bool((again - magnitude).norm() < 0.2 * magnitude.norm())
    True
    """
    magnitude = magnitude.float()
    window = torch.hann_window(n_fft, device=magnitude.device)
    turns = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)).to(magnitude.device)
    phase, before = torch.polar(torch.ones_like(magnitude), 2 * torch.pi * turns), torch.zeros_like(magnitude)
    for _ in range(n_iterations):
        waveform = torch.istft(magnitude * phase, n_fft, hop, window=window, length=n_samples)
        found = torch.stft(waveform, n_fft, hop, window=window, return_complex=True)[..., : magnitude.shape[-1]]
        phase = found - before * (MOMENTUM / (1 + MOMENTUM))
        phase = phase / phase.abs().clamp_min(torch.finfo(torch.float32).tiny)
        before = found
    return torch.istft(magnitude * phase, n_fft, hop, window=window, length=n_samples)


def power_from_mel(mel: Tensor, filters: Tensor) -> Tensor:
    """Spread the power of mel bands over the bins that they were summed from: least squares, never negative.

    Args:
        mel: (batch, frames, bands), power.
        filters: (bins, bands), the weights with which bands sum bins.

    Returns:
        (batch, bins, frames) power.
    """
    return (mel.float() @ torch.linalg.pinv(filters.float())).clamp_min(0).transpose(1, 2)
