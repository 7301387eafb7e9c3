"""The frame of time-domain separation networks: encoder, mask, decoder (TasNet).

Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", IEEE/ACM
TASLP 27(8), 2019, section II-A. DPRNN, SepFormer and others differ in the mask net alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """w = ReLU(x U), eq. (3): frames of `kernel_size` samples, half overlapped, to `n_filters` non-negative channels.

    (batch, time) -> (batch, n_filters, frames). Runs in the weights' precision, also under autocast: quiet
    recordings lie below what float16 resolves.
    """

    def __init__(self, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, n_filters, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            return F.relu(self.conv(waveform.to(self.conv.weight.dtype).unsqueeze(1)))


class Decoder(nn.Module):
    """s = (w * m) V, eq. (4)-(5): overlap-add of `kernel_size` samples per frame.

    (batch, n_sources, n_filters, frames) -> (batch, n_sources, time), precision as the encoder's.
    """

    def __init__(self, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(n_filters, 1, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            waveform = self.conv(features.to(self.conv.weight.dtype).flatten(0, 1))
        return waveform.view(features.shape[0], features.shape[1], -1)


class TasNet(nn.Module):
    """Encoder, `mask_net`, decoder. `mask_net`: (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames)."""

    def __init__(self, mask_net: nn.Module, n_sources: int, n_filters: int, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 2:
            raise ValueError(f"kernel_size={kernel_size} leaves no half overlap; it must be at least 2")
        self.n_sources = n_sources
        self.kernel_size = kernel_size
        self.stride = kernel_size // 2
        self.encoder = Encoder(n_filters, kernel_size)
        self.mask_net = mask_net
        self.decoder = Decoder(n_filters, kernel_size)

    def forward(self, mixture: Tensor) -> Tensor:
        """mixture: (batch, time), any length from 1 sample -> (batch, n_sources, time)."""
        if mixture.ndim != 2 or mixture.shape[-1] < 1:
            raise ValueError(f"mixture must be (batch, time) with time >= 1, got {tuple(mixture.shape)}")
        n_samples = mixture.shape[-1]
        features = self.encoder(self._pad_to_whole_frames(mixture))
        masks = self.mask_net(features)
        return self.decoder(features.unsqueeze(1) * masks)[..., :n_samples]

    def _pad_to_whole_frames(self, mixture: Tensor) -> Tensor:
        """Zeros at the end, so that the last frame is full and no sample is lost."""
        n_hops = max(0, -(-(mixture.shape[-1] - self.kernel_size) // self.stride))
        return F.pad(mixture, (0, n_hops * self.stride + self.kernel_size - mixture.shape[-1]))
