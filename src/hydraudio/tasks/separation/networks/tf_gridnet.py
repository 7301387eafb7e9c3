"""TF-GridNet: a grid network whose sequence nets are bidirectional LSTMs.

Wang et al., "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation", IEEE/ACM TASLP 31, 2023;
letters below are the paper's. Parameters correspond one to one to those of ESPnet's `TFGridNet`, whose windows order
their features by (channel, position), these by (position, channel).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hydraudio.nn.layers.masking import flip_frames
from hydraudio.tasks.separation.networks.grid import GridNet, check_grid_sizes


class BLSTM(nn.LSTM):
    """One bidirectional layer. (sequences, steps, n_features) -> (sequences, steps, 2 hidden_size).

    With `n_steps` (sequences,), the backward direction starts at each sequence's own last step.
    """

    def __init__(self, n_features: int, hidden_size: int) -> None:
        super().__init__(n_features, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:  # type: ignore[override]
        with torch.autocast("cpu", enabled=False):  # oneDNN has a half-precision LSTM for few processors only
            if n_steps is None:
                return super().forward(x)[0]
            ahead_weights, back_weights = self.all_weights
            ahead = self._direction(x, ahead_weights)
            back = self._direction(flip_frames(x, n_steps, 1), back_weights)
            return torch.cat([ahead, flip_frames(back, n_steps, 1)], -1)

    def _direction(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        state = x.new_zeros(1, len(x), self.hidden_size)
        # has biases, layers, dropout, training, bidirectional, batch first
        return torch.lstm(x, (state, state), list(weights), True, 1, 0.0, self.training, False, True)[0]


class TFGridNet(GridNet):
    """(batch, time) -> (batch, n_sources, time). Defaults: the paper's net for WSJ0-2mix at 8 kHz, 14.4 M parameters.

    Args:
        n_sources: estimated sources.
        n_fft: window of the STFT in samples, even.
        hop: of the STFT in samples.
        n_blocks: B.
        n_channels: D, a multiple of n_heads.
        kernel_size: I, neighbouring bins or frames that an LSTM sees in a step.
        stride: J, bins or frames from step to step.
        hidden_size: H, of an LSTM in each direction.
        n_heads: L, of the attention over frames.
        key_size: features of a frame's key and query, rounded up to a multiple of the bins (E channels each).
        eps: added to every variance.
        activation_checkpointing: in training keep the activations of one path at a time and compute them twice.
    """

    def __init__(
        self,
        n_sources: int,
        n_fft: int = 128,
        hop: int = 64,
        n_blocks: int = 6,
        n_channels: int = 64,
        kernel_size: int = 4,
        stride: int = 1,
        hidden_size: int = 256,
        n_heads: int = 4,
        key_size: int = 512,
        eps: float = 1e-5,
        activation_checkpointing: bool = False,
    ) -> None:
        check_grid_sizes({name: value for name, value in locals().items() if name not in ("self", "__class__")})
        super().__init__(
            n_sources,
            n_fft,
            hop,
            n_blocks,
            n_channels,
            kernel_size,
            stride,
            n_heads,
            key_size,
            lambda n_features: BLSTM(n_features, hidden_size),
            2 * hidden_size,
            eps,
            activation_checkpointing,
        )
