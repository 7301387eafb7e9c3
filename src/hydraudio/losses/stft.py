"""Multi-resolution STFT loss."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.losses.base import SourceLoss
from hydraudio.nn.frontends.stft import frame_spectra
from hydraudio.nn.layers.masking import frame_mask

POWER_FLOOR = 1e-7
"""Least power of a bin before root and logarithm, as in the public Parallel WaveGAN; full scale is 1."""


class MultiResolutionSTFTLoss(SourceLoss):
    """Compute spectral convergence plus log-magnitude distance, mean over resolutions and sources: (batch,).

    Yamamoto, Song, Kim: "Parallel WaveGAN: A fast waveform generation model based on generative adversarial
    networks with multi-resolution spectrogram", ICASSP 2020, section 2.2; the default resolutions are its
    table 1, made for 24 kHz (for 8 kHz a third of them is the same in milliseconds). With magnitudes S of the
    target and E of the estimate over the frames that start in the valid samples:

        convergence = ||S - E||_F / ||S||_F,   log distance = mean |ln S - ln E|

    Powers are floored at `POWER_FLOOR`, which keeps values and gradients finite for silence. Signals are
    padded with zeros, so an item's loss is that of its signals cut to their length. Computed in float32 under
    any autocast.

    Args:
        fft_samples: transform length per resolution
        hop_samples: frame advance per resolution
        window_samples: Hann window length per resolution, at most the transform's
        log_weight: weight of the log distance; the convergence has weight 1
    """

    def __init__(
        self,
        fft_samples: Sequence[int] = (1024, 2048, 512),
        hop_samples: Sequence[int] = (120, 240, 50),
        window_samples: Sequence[int] = (600, 1200, 240),
        log_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not len(fft_samples) == len(hop_samples) == len(window_samples) > 0:
            raise ValueError(
                "fft_samples, hop_samples and window_samples must have one entry per resolution, found "
                f"{list(fft_samples)}, {list(hop_samples)} and {list(window_samples)}"
            )
        self.resolutions = list(zip(fft_samples, hop_samples, window_samples, strict=True))
        for n_fft, hop, window in self.resolutions:
            if not 0 < hop <= window <= n_fft:
                raise ValueError(f"need 0 < hop <= window <= fft, found hop {hop}, window {window}, fft {n_fft}")
        self.log_weight = log_weight

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        if estimate.shape != target.shape:
            raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape")
        total = estimate.new_zeros(estimate.shape[:2], dtype=torch.float32)
        with torch.autocast(device_type=estimate.device.type, enabled=False):
            for resolution in self.resolutions:
                estimate_bnft = _magnitude(estimate, lengths, *resolution)
                target_bnft = _magnitude(target, lengths, *resolution)
                valid = _valid_frames(target_bnft, lengths, resolution[1])
                total = total + self._distance(estimate_bnft, target_bnft, valid)
        return (total / len(self.resolutions)).mean(-1)

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        n_estimates = estimate.shape[1]
        total = estimate.new_zeros(len(estimate), n_estimates, target.shape[1], dtype=torch.float32)
        with torch.autocast(device_type=estimate.device.type, enabled=False):
            for resolution in self.resolutions:
                estimate_bnft = _magnitude(estimate, lengths, *resolution)
                target_bnft = _magnitude(target, lengths, *resolution)
                valid = _valid_frames(target_bnft, lengths, resolution[1])
                rows = [self._distance(estimate_bnft[:, i : i + 1], target_bnft, valid) for i in range(n_estimates)]
                total = total + torch.stack(rows, dim=1)
        return total / len(self.resolutions)

    def _distance(self, estimate_bnft: Tensor, target_bnft: Tensor, valid: Tensor) -> Tensor:
        """(batch, n or 1, freq, frames) magnitudes and (batch, 1, 1, frames) bool -> (batch, n)."""
        difference = (target_bnft - estimate_bnft).masked_fill(~valid, 0.0)
        norm = torch.linalg.vector_norm(target_bnft.masked_fill(~valid, 0.0), dim=(-2, -1))
        convergence = torch.linalg.vector_norm(difference, dim=(-2, -1)) / norm
        log_difference = (target_bnft.log() - estimate_bnft.log()).abs().masked_fill(~valid, 0.0)
        n_bins = valid.sum(dim=(-2, -1)).clamp_min(1) * target_bnft.shape[-2]
        return convergence + self.log_weight * log_difference.sum(dim=(-2, -1)) / n_bins


def _magnitude(signal: Tensor, lengths: Tensor | None, n_fft: int, hop: int, window: int) -> Tensor:
    """(batch, n, time) -> (batch, n, freq, frames), centred frames, zeros outside of the valid samples."""
    signal = signal.float()
    if lengths is not None:
        signal = signal.masked_fill(~frame_mask(lengths, signal.shape[-1]).unsqueeze(1), 0.0)
    padded = F.pad(signal.flatten(0, 1), (n_fft // 2, n_fft // 2))
    power = torch.view_as_real(frame_spectra(padded, n_fft, hop, window)).square().sum(-1).transpose(1, 2)
    return power.clamp_min(POWER_FLOOR).sqrt().unflatten(0, signal.shape[:2])


def _valid_frames(magnitude_bnft: Tensor, lengths: Tensor | None, hop: int) -> Tensor:
    """(batch, 1, 1, frames): a signal of n samples has the frames 0 ... n // hop."""
    batch, _, _, n_frames = magnitude_bnft.shape
    if lengths is None:
        return magnitude_bnft.new_ones(batch, 1, 1, n_frames, dtype=torch.bool)
    return frame_mask(lengths // hop + 1, n_frames)[:, None, None]
