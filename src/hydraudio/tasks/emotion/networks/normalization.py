"""Mean 0 and variance 1: of waveforms before the upstream, of pooled vectors before the heads.

In float32 under any precision; the padding of waveforms is zero afterwards.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import at_least_float32

CORPUS_EPS = 1e-6
"""Added to the standard deviation, as in the public MSP-PODCAST baselines."""
UTTERANCE_EPS = 1e-7
"""Added to the variance, as in the feature extractor of wav2vec 2.0."""


class WaveformNormalization(nn.Module):
    """(batch, time) -> the same at mean 0 and variance 1, of all training samples or of each item's own.

    With given moments (x - mean) / (std + 1e-6); without, what transformers' feature extractors do where their
    configuration says ``do_normalize: true``: (x - mean) / sqrt(variance + 1e-7).

    Args:
        mean: of the training waveforms, full scale is 1; None: each item's own moments.
        std: standard deviation of the same; the public value for MSP-PODCAST is 0.0914.
    """

    def __init__(self, mean: float | None = None, std: float | None = None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std}: give both, or neither for the moments of each utterance")
        if std is not None and not std > 0:
            raise ValueError(
                f"std={std} of the training waveforms must be positive; a silent corpus cannot be normalised"
            )
        self.mean, self.std = mean, std

    @property
    def per_utterance(self) -> bool:
        """Whether the moments are each item's own."""
        return self.std is None

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform: (batch, time); lengths: (batch,) valid samples, None takes all."""
        if self.mean is None or self.std is None:
            return _by_own_moments(waveform.float(), lengths)
        return _zero_padding((waveform.float() - self.mean) / (self.std + CORPUS_EPS), lengths)

    def key(self) -> str:
        """Say what it computes, in words: part of the key of cached features."""
        return "utterance" if self.per_utterance else f"corpus mean={self.mean!r} std={self.std!r}"


def _by_own_moments(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    waveform = _zero_padding(waveform, lengths)
    count = waveform.shape[-1] if lengths is None else lengths.clamp_min(1).unsqueeze(1)
    mean = waveform.sum(1, keepdim=True) / count
    centred = _zero_padding(waveform - mean, lengths)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + UTTERANCE_EPS)


def _zero_padding(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    return waveform if lengths is None else waveform.masked_fill(~frame_mask(lengths, waveform.shape[-1]), 0.0)


class RunningStandardization(nn.Module):
    """(batch, features) -> the same, each feature by its running mean and deviation over training batches.

    Batch normalization without gain and bias (Ioffe & Szegedy, ICML 2015; behind attentive statistics: Desplanques et
    al., "ECAPA-TDNN", Interspeech 2020; before a probe: He et al., "Masked Autoencoders Are Scalable Vision Learners",
    CVPR 2022), but by the running moments in training, too, so that a batch of one item is as good as any. They include
    the batch at hand; they are plain averages over the first 1 / `momentum` batches and exponential ones from then on.
    Data-parallel processes share them; all batches of a step weigh the same.

    Args:
        n_features: width.
        momentum: weight of a batch in the running moments, in (0, 1].
        epsilon: added to the variance, so that rounding errors grow a hundredfold at most.
    """

    mean: Tensor
    variance: Tensor
    n_batches: Tensor

    def __init__(self, n_features: int, momentum: float = 0.05, epsilon: float = 1e-4) -> None:
        super().__init__()
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"momentum={momentum} must be in (0, 1]")
        self.momentum, self.epsilon = momentum, epsilon
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            x = at_least_float32(features)
            if self.training:
                self._update(x.detach())
            return ((x - self.mean) * (self.variance + self.epsilon).rsqrt()).to(features.dtype)

    def _update(self, x: Tensor) -> None:
        """Moments of the mixture of what was seen and this batch, unless that overflowed in half precision."""
        batch_mean, batch_variance = _batch_moments(x)
        finite = (batch_mean.isfinite() & batch_variance.isfinite()).all()
        self.n_batches += finite
        weight = (1.0 / self.n_batches.clamp_min(1)).clamp_min(self.momentum)
        shift = batch_mean - self.mean
        spread = batch_variance + (1.0 - weight) * shift.square()
        self.variance.add_(torch.where(finite, weight * (spread - self.variance), 0.0))
        self.mean.add_(torch.where(finite, weight * shift, 0.0))


def _batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the items of all processes, each batch with the same weight."""
    mean, variance = x.mean(0), x.var(0, correction=0)
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return mean, variance
    moments = torch.stack([mean, variance, mean.square()])
    dist.all_reduce(moments)
    mean, variance, square = moments / dist.get_world_size()
    return mean, variance + (square - mean.square()).clamp_min(0.0)
