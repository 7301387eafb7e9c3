"""Features at mean 0 and variance 1 over the training items, learned on the way."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import at_least_float32


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
