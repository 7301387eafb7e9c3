"""DPRNN: recurrent networks within and across chunks.

Luo, Chen & Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel speech
separation", ICASSP 2020; letters in brackets below are the paper's. As in SpeechBrain's version, so that its weights
fit, the output layer is gated, and overlap-add comes after the layer that splits the sources.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_choice, check_sizes
from hydraudio.nn.layers.elementary import Linear
from hydraudio.nn.layers.masking import flip_frames
from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.tasnet import TasNet

_MODULES: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
_FUNCTIONS: dict[str, Callable[..., tuple[Tensor, ...]]] = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_relu}
RNN_TYPES = tuple(_MODULES)


class RecurrentBlock(nn.Module):
    """A recurrent network and a linear layer back to the input's width; a block of `dual_path`.

    (sequences, steps, dim) -> same. Autocast applies on CUDA alone: elsewhere it computes in the weights' precision.

    Args:
        dim: channels in and out.
        hidden_size: units per direction.
        rnn_type: "LSTM", "GRU" or "RNN" (ReLU).
        n_layers: recurrent layers.
        dropout: between the recurrent layers.
        bidirectional: without, a step depends on no later step.
    """

    def __init__(
        self, dim: int, hidden_size: int, rnn_type: str, n_layers: int, dropout: float, bidirectional: bool
    ) -> None:
        super().__init__()
        self.rnn_type = rnn_type
        options: dict[str, Any] = {"nonlinearity": "relu"} if rnn_type == "RNN" else {}
        self.rnn = _MODULES[rnn_type](
            dim, hidden_size, n_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional, **options
        )
        for name, parameter in self.rnn.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
        self.linear = Linear((1 + bidirectional) * hidden_size, dim)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        autocast = x.device.type == "cuda" and torch.is_autocast_enabled("cuda")
        with torch.autocast(x.device.type, enabled=autocast):
            y = x if autocast else x.to(self.linear.weight.dtype)
            if n_steps is None or not self.rnn.bidirectional:
                y = self.rnn(y)[0]  # what comes after an item's own steps does not reach them
            else:
                y = self._both_directions(y, n_steps)
            return self.linear(y).to(x.dtype)

    def _both_directions(self, x: Tensor, n_steps: Tensor) -> Tensor:
        """The bidirectional network where each sequence's backward direction starts at its own last step."""
        weights = self.rnn.all_weights  # of each layer, forward and backward
        for layer, (ahead_weights, back_weights) in enumerate(zip(weights[0::2], weights[1::2], strict=True)):
            if layer > 0:
                x = F.dropout(x, self.rnn.dropout, self.training)
            ahead = self._one_direction(x, ahead_weights)
            back = self._one_direction(flip_frames(x, n_steps, 1), back_weights)
            x = torch.cat([ahead, flip_frames(back, n_steps, 1)], dim=-1)
        return x

    def _one_direction(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        state = x.new_zeros(1, x.shape[0], self.rnn.hidden_size)
        initial = (state, state) if self.rnn_type == "LSTM" else state
        # has biases, layers, dropout, training, bidirectional, batch first
        return _FUNCTIONS[self.rnn_type](x, initial, list(weights), True, 1, 0.0, self.training, False, True)[0]


class DPRNN(TasNet):
    """DPRNN: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        chunk_size: frames of a chunk [K]; chunks overlap by half.
        n_layers: dual-path layers [B].
        hidden_size: units of each recurrent layer and direction [H].
        rnn_type: "LSTM", "GRU" or "RNN" (ReLU).
        n_rnn_layers: recurrent layers in each block.
        dropout: between the recurrent layers of a block, so it needs n_rnn_layers > 1.
        bidirectional: whether the recurrent networks across chunks run both ways; those within chunks always do.
        norm: "gLN" (over everything of an item) or "cLN" (over the channels of each position).
        frame: `n_sources` [C], `n_filters` [N, also the channels of the chunks] and `kernel_size` [L] of `TasNet`.
    """

    def __init__(
        self,
        *,
        chunk_size: int = 100,
        n_layers: int = 6,
        hidden_size: int = 128,
        rnn_type: Literal["LSTM", "GRU", "RNN"] = "LSTM",
        n_rnn_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = True,
        norm: Literal["gLN", "cLN"] = "gLN",
        **frame: Any,
    ) -> None:
        check_sizes(n_layers=n_layers, hidden_size=hidden_size, n_rnn_layers=n_rnn_layers)
        check_choice("rnn_type", rnn_type, RNN_TYPES)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        if dropout > 0 and n_rnn_layers == 1:
            raise ValueError(f"dropout={dropout} lies between recurrent layers, of which n_rnn_layers=1 has none")

        def mask_net(n_sources: int, n_filters: int) -> DualPathMaskNet:
            block = partial(RecurrentBlock, n_filters, hidden_size, rnn_type, n_rnn_layers, dropout)
            intra, inter = partial(block, bidirectional=True), partial(block, bidirectional=bidirectional)
            return DualPathMaskNet(
                n_sources, n_filters, intra=intra, inter=inter, n_layers=n_layers, chunk_size=chunk_size, norm=norm
            )

        super().__init__(mask_net, **frame)
