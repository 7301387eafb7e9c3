"""A learned average of the hidden states of an upstream."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import at_least_float32


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
            self.weight._no_weight_decay = True  # type: ignore[attr-defined]

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
