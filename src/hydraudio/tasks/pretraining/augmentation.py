"""Training items that were never recorded: two clips mixed, and spectrograms with stripes left out.

What is random is drawn on the host, a few numbers per item, from the generator that is given, so that every device
trains on the same; the tensors stay where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hydraudio.core.options import check_positive, check_probability


class Mixup(nn.Module):
    """Mix every chosen item with its partner in a random permutation of the batch, waveforms and targets alike.

    Zhang et al., "mixup: Beyond empirical risk minimization", ICLR 2018, on waveforms as AudioMAE and AST do:

        x = l x_i + (1 - l) x_j,  q = l q_i + (1 - l) q_j  with l from Beta(alpha, alpha)

    Items without a target are neither mixed nor partners. A mixed item lasts as long as the longer of the two.

    Args:
        alpha: of the distribution of l; 10 keeps near one half, 0.2 near the ends.
        p: probability per item.
    """

    def __init__(self, alpha: float = 10.0, p: float = 0.5) -> None:
        super().__init__()
        check_positive("alpha", alpha)
        self.alpha, self.p = alpha, check_probability("p", p)

    def forward(self, batch: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return a new batch of ``waveform``, ``lengths`` and ``target``; the given one stays as it is."""
        waveform, lengths, target = batch["waveform"], batch["lengths"], batch["target"]
        n_items, device = len(target), target.device
        partner = torch.from_numpy(rng.permutation(n_items)).to(device)
        share = np.where(rng.random(n_items) < self.p, rng.beta(self.alpha, self.alpha, n_items), 1.0)
        known = target.sum(-1) > 0
        drawn = torch.from_numpy(share.astype(np.float32)).to(device)
        keep = torch.where(known & known[partner], drawn, 1.0)[:, None]
        return {
            **batch,
            "waveform": torch.lerp(waveform[partner], waveform, keep),
            "lengths": torch.where(keep[:, 0] < 1, torch.maximum(lengths, lengths[partner]), lengths),
            "target": torch.lerp(target[partner], target, keep),
        }


class SpecAugment(nn.Module):
    """Set a stripe of frames and one of bins of every spectrogram to zero, the mean of standardised ones.

    Park et al., "SpecAugment", Interspeech 2019, one mask of each kind: its width is uniform from 0 up to a share of
    the axis, its place uniform where it fits.

    Args:
        time: largest share of the frames.
        frequency: largest share of the bins.
    """

    def __init__(self, time: float = 0.2, frequency: float = 0.2) -> None:
        super().__init__()
        self.time, self.frequency = check_probability("time", time), check_probability("frequency", frequency)

    def forward(self, spectrogram: Tensor, rng: np.random.Generator) -> Tensor:
        """Mask (batch, channels, frames, bins)."""
        n_items, _, n_frames, n_bins = spectrogram.shape
        masked = _stripes(n_items, n_frames, self.time, rng).to(spectrogram.device)[:, None, :, None]
        masked = masked | _stripes(n_items, n_bins, self.frequency, rng).to(spectrogram.device)[:, None, None, :]
        return spectrogram.masked_fill(masked, 0.0)


def _stripes(n_items: int, size: int, share: float, rng: np.random.Generator) -> Tensor:
    """(n_items, size) bool: True inside of each item's stripe."""
    width = rng.integers(int(share * size) + 1, size=n_items)[:, None]
    start = rng.integers(size - width + 1)
    places = np.arange(size)
    return torch.from_numpy((places >= start) & (places < start + width))
