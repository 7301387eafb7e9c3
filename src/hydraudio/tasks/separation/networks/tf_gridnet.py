"""TF-GridNet: a grid network whose sequence nets are bidirectional LSTMs.

Wang et al., "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation", IEEE/ACM TASLP 31, 2023;
letters below are the paper's. Parameters correspond one to one to those of ESPnet's `TFGridNet`, whose windows order
their features by (channel, position), these by (position, channel).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hydraudio.core.options import check_sizes
from hydraudio.nn.layers.masking import flip_frames
from hydraudio.tasks.separation.networks.grid import GridNet


class BLSTM(nn.RNNBase):
    """One bidirectional layer. (sequences, steps, n_features) -> (sequences, steps, 2 hidden_size).

    With `n_steps` (sequences,), the backward direction starts at each sequence's own last step.
    """

    def __init__(self, n_features: int, hidden_size: int) -> None:
        super().__init__("LSTM", n_features, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        ahead_weights, back_weights = self.all_weights
        with torch.autocast("cpu", enabled=False):  # oneDNN has a half-precision LSTM for few processors only
            if n_steps is None:
                return self._run(x, [*ahead_weights, *back_weights], n_directions=2)
            ahead = self._run(x, ahead_weights)
            back = self._run(flip_frames(x, n_steps, 1), back_weights)
            return torch.cat([ahead, flip_frames(back, n_steps, 1)], -1)

    def _run(self, x: Tensor, weights: Sequence[Tensor], n_directions: int = 1) -> Tensor:
        # x.shape[0], for len(x) would be a constant in an exported graph
        state = x.new_zeros(n_directions, x.shape[0], self.hidden_size)
        # has biases, layers, dropout, training, bidirectional, batch first
        return torch.lstm(x, (state, state), list(weights), True, 1, 0.0, self.training, n_directions == 2, True)[0]


class TFGridNet(GridNet):
    """(batch, time) -> (batch, n_sources, time).

    Args:
        hidden_size: H, of an LSTM in each direction.
        grid: see `GridNet`.
    """

    def __init__(self, *, hidden_size: int = 256, **grid: Any) -> None:
        check_sizes(hidden_size=hidden_size)

        def sequence(n_features: int) -> tuple[nn.Module, int]:
            return BLSTM(n_features, hidden_size), 2 * hidden_size

        super().__init__(sequence, **grid)
