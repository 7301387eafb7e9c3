"""From the states of an upstream to one vector per item: a learned mix of states, then pooling over the item's frames.

Everywhere frames are (batch, frames, in_features) and `n_frames` is (batch,) int64, at least 1; what lies behind an
item's last frame never counts. Computed in float32 under any precision.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import at_least_float32
from hydraudio.nn.weight_decay import exempt_from_weight_decay

VARIANCE_FLOOR = 1e-5
"""Least variance before the root, which keeps its gradient finite; that of the public MSP-PODCAST baselines."""


class Pooling(nn.Module):
    """Frames (batch, frames, in_features) and n_frames (batch,) -> (batch, out_features)."""

    pools_statistics: bool = False
    """Whether mean and deviation over the frames are all that it needs (`from_statistics`)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            valid = frame_mask(n_frames, frames.shape[1]).unsqueeze(-1)
            x = at_least_float32(frames).masked_fill(~valid, 0.0)
            return self._pool(x, valid).to(frames.dtype)

    def from_statistics(self, statistics: Tensor) -> Tensor:
        """Map (batch, 2 * in_features) as `frame_statistics` gives them -> (batch, out_features).

        Raises:
            ValueError: it needs the frames.
        """
        raise ValueError(
            f"{type(self).__name__} pools frames, and statistics of them are given; cache frames "
            "(cache_features=frames) or choose model/emotion/pooling=mean_std or mean"
        )

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        """Frames in float32, zero where not valid."""
        raise NotImplementedError


class AttentiveStatistics(Pooling):
    """Attention-weighted mean and standard deviation: (batch, 2 * in_features).

    Okabe, Koshinaka, Shinoda: "Attentive statistics pooling for deep speaker embedding", Interspeech 2018:

        e_t = v . tanh(W h_t + b),  a = softmax(e),  mu = sum a_t h_t,  sigma^2 = sum a_t (h_t - mu)^2

    The centred variance equals the paper's sum a_t h_t^2 - mu^2 without its cancellation.

    Args:
        in_features: width of a frame.
        attention_dim: rows of W; null = in_features.
    """

    def __init__(self, in_features: int, attention_dim: int | None = None) -> None:
        super().__init__(in_features, 2 * in_features)
        width = in_features if attention_dim is None else attention_dim
        self.projection = nn.Linear(in_features, width)
        self.score = nn.Parameter(torch.randn(width))

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        hidden = _linear(self.projection, x_bfd).tanh()
        attention = _masked_softmax((hidden @ self.score.to(x_bfd.dtype)).unsqueeze(-1), valid_bf1)
        mean = (attention * x_bfd).sum(1)
        variance = (attention * (x_bfd - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, _deviation(variance)], dim=-1)


class StatisticsPooling(Pooling):
    """What needs only mean and standard deviation of the frames, so that these may come from a cache."""

    pools_statistics = True

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        return self.from_statistics(_statistics(x_bfd, valid_bf1))


class Mean(StatisticsPooling):
    """Mean over the frames: (batch, in_features)."""

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, in_features)

    def from_statistics(self, statistics: Tensor) -> Tensor:
        return statistics[..., : self.in_features]


class MeanStd(StatisticsPooling):
    """Mean and population standard deviation over the frames: (batch, 2 * in_features).

    Snyder et al.: "X-vectors: robust DNN embeddings for speaker recognition", ICASSP 2018.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, 2 * in_features)

    def from_statistics(self, statistics: Tensor) -> Tensor:
        return statistics


class SelfAttention(Pooling):
    """Mean weighted by the softmax of one linear score per frame: (batch, in_features).

    Safari, India, Hernando: "Self-attention encoding and pooling for speaker recognition", Interspeech 2020.
    A bias of the score would cancel in the softmax, so there is none.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, in_features)
        self.score = nn.Linear(in_features, 1, bias=False)

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        return (_masked_softmax(_linear(self.score, x_bfd), valid_bf1) * x_bfd).sum(1)


class MultiHeadAttention(Pooling):
    """One attention per slice of the features, each with a learned query: (batch, in_features).

    India, Safari, Hernando: "Self multi-head attention for speaker recognition", Interspeech 2019: frames are
    split into n_heads slices of d features; slice k is averaged with the weights softmax_t(h_tk . u_k / sqrt(d)).

    Args:
        in_features: width of a frame, a multiple of n_heads.
        n_heads: number of queries.
    """

    def __init__(self, in_features: int, n_heads: int = 8) -> None:
        super().__init__(in_features, in_features)
        if n_heads < 1 or in_features % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide the width of a frame, {in_features}")
        self.n_heads = n_heads
        self.queries = nn.Parameter(torch.randn(n_heads, in_features // n_heads))

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        x_bfkd = x_bfd.unflatten(-1, (self.n_heads, -1))
        scores = (x_bfkd * self.queries.to(x_bfd.dtype)).sum(-1) / math.sqrt(x_bfkd.shape[-1])
        attention = _masked_softmax(scores, valid_bf1)
        return (attention.unsqueeze(-1) * x_bfkd).sum(1).flatten(1)


def frame_statistics(states: Tensor, n_frames: Tensor) -> Tensor:
    """Return the mean and population standard deviation over the frames of each state, in float32.

    Args:
        states: (batch, n_states, frames, features).
        n_frames: (batch,) valid frames.

    Returns:
        (batch, n_states, 2 * features): means, then deviations; what a cache of statistics holds.
    """
    with torch.autocast(states.device.type, enabled=False):
        valid = frame_mask(n_frames, states.shape[2]).unsqueeze(-1)
        each = states.unbind(1)  # one by one: the states together are large
        return torch.stack([_statistics(at_least_float32(x).masked_fill(~valid, 0.0), valid) for x in each], 1)


def _statistics(x: Tensor, valid: Tensor) -> Tensor:
    """x (batch, frames, features), zero where not valid; valid (batch, frames, 1) -> (batch, 2 * features)."""
    count = valid.sum(1).clamp_min(1)
    mean = x.sum(1) / count
    variance = (x - mean.unsqueeze(1)).masked_fill(~valid, 0.0).square().sum(1) / count
    return torch.cat([mean, _deviation(variance)], dim=-1)


def _deviation(variance: Tensor) -> Tensor:
    return variance.clamp_min(VARIANCE_FLOOR).sqrt()


def _masked_softmax(scores: Tensor, valid_bf1: Tensor) -> Tensor:
    """Softmax over the valid frames. scores: (batch, frames, n)."""
    return scores.masked_fill(~valid_bf1, -math.inf).softmax(1)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer` in the precision of x, whatever that of its parameters."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


class LayerMix(nn.Module):
    """Softmax-weighted sum over states, at first their mean. (batch, n_states, ..., width) -> (batch, ..., width).

    sum_l softmax(w)_l h_l: the weighted sum of Yang et al., "SUPERB: Speech processing Universal PERformance
    Benchmark", Interspeech 2021. With one state it is the identity and has no parameters. Computed in float32 under
    any precision.

    Args:
        n_states: number of states.
        n_features: width of a state. `width` is a multiple of it: 1 for frames, 2 for means and deviations.
        normalize: layer-normalise each state, without gain and bias, over each `n_features` before the sum; without
            it the states of the largest magnitude dominate at first.
    """

    def __init__(self, n_states: int, n_features: int, normalize: bool = False) -> None:
        super().__init__()
        if normalize and n_states == 1:
            raise ValueError(
                "normalize_states=true has no effect on a single state; "
                "choose several (upstream.layers=all) or set normalize_states=false"
            )
        self.n_states, self.n_features, self.normalize = n_states, n_features, normalize
        if n_states > 1:
            self.weight = nn.Parameter(torch.zeros(n_states))
            exempt_from_weight_decay(self.weight)

    def forward(self, states: Tensor) -> Tensor:
        if states.shape[1] != self.n_states:
            raise ValueError(f"found {states.shape[1]} states, the mix was built for {self.n_states}")
        if self.n_states == 1:
            return states[:, 0]
        with torch.autocast(states.device.type, enabled=False):
            shares = self.weight.float().softmax(0)
            mixed = shares[0] * self._prepared(states[:, 0])  # one by one: the states together are large
            for i in range(1, self.n_states):
                mixed = mixed + shares[i] * self._prepared(states[:, i])
            return mixed.to(states.dtype)

    def _prepared(self, state: Tensor) -> Tensor:
        x = at_least_float32(state)
        if not self.normalize:
            return x
        return F.layer_norm(x.unflatten(-1, (-1, self.n_features)), (self.n_features,)).flatten(-2)

    def extra_repr(self) -> str:
        return f"n_states={self.n_states}, normalize={self.normalize}"
