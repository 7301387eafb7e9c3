"""Normalisation of waveforms before the upstream. Padding is zero afterwards; float32 under any precision."""

import torch
from torch import Tensor, nn

from hydraudio.nn.layers.masking import frame_mask

CORPUS_EPS = 1e-6
"""Added to the standard deviation, as in the public MSP-PODCAST baselines."""
UTTERANCE_EPS = 1e-7
"""Added to the variance, as in the feature extractor of wav2vec 2.0."""


class CorpusNormalization(nn.Module):
    """(x - mean) / (std + 1e-6) with the moments of all training samples. (batch, time) -> same.

    Args:
        mean: of the training waveforms, full scale is 1.
        std: standard deviation of the same; the public value for MSP-PODCAST is 0.0914.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(
                f"std={std} of the training waveforms must be positive; a silent corpus cannot be normalised"
            )
        self.mean, self.std = mean, std

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform: (batch, time); lengths: (batch,) valid samples, None takes all."""
        normalized = (waveform.float() - self.mean) / (self.std + CORPUS_EPS)
        return _zero_padding(normalized, lengths)

    def key(self) -> str:
        """What it computes, in words: part of the key of cached features."""
        return f"corpus mean={self.mean!r} std={self.std!r}"


class UtteranceNormalization(nn.Module):
    """(x - mean) / sqrt(variance + 1e-7) with the moments of each item's own samples. (batch, time) -> same.

    What transformers' feature extractors do where their configuration says ``do_normalize: true``.
    """

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform: (batch, time); lengths: (batch,) valid samples, None takes all."""
        waveform = _zero_padding(waveform.float(), lengths)
        count = waveform.shape[-1] if lengths is None else lengths.clamp_min(1).unsqueeze(1)
        mean = waveform.sum(1, keepdim=True) / count
        centred = _zero_padding(waveform - mean, lengths)
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * torch.rsqrt(variance + UTTERANCE_EPS)

    def key(self) -> str:
        """What it computes, in words: part of the key of cached features."""
        return "utterance"


def _zero_padding(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    return waveform if lengths is None else waveform.masked_fill(~frame_mask(lengths, waveform.shape[-1]), 0.0)
