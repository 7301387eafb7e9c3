"""What becomes of the frames of a speech encoder: a GRU over them, then a weighted mean."""

from __future__ import annotations

from torch import Tensor, nn

from hydraudio.tasks.emotion.networks.pooling import Pooling


class RecurrentPooling(Pooling):
    """A GRU reads the frames in order; what it says of them is averaged with weights that it learns.

    It stands where `AttentiveStatistics` stands in the house's networks, between the encoder and the heads.

    Args:
        in_features: width of a frame, given by the network.
        hidden_size: of the GRU, and of what comes out.
    """

    def __init__(self, in_features: int, hidden_size: int = 128) -> None:
        super().__init__(in_features, hidden_size)
        self.norm = nn.LayerNorm(in_features)
        self.gru = nn.GRU(in_features, hidden_size, batch_first=True)
        self.score = nn.Linear(hidden_size, 1, bias=False)  # a constant cancels out

    def _pool(self, x_bfd: Tensor, valid_bf1: Tensor) -> Tensor:
        """(batch, frames, in_features) and which frames count (batch, frames, 1) -> (batch, hidden_size).

        A GRU never looks ahead, so frames that do not count cannot reach those that do, which come first.
        """
        hidden_bfh, _ = self.gru(self.norm(x_bfd))
        scores_bf1 = self.score(hidden_bfh).masked_fill(~valid_bf1, float("-inf"))
        return (scores_bf1.softmax(dim=1) * hidden_bfh).sum(dim=1)
