"""SPMamba: a grid network whose sequence nets are bidirectional Mamba blocks.

Li et al., "SPMamba: State-space model is all you need in speech separation", 2024. It is TF-GridNet
(`grid.GridNet`) with two residual Mamba blocks, one per direction, in place of each LSTM; attention
over frames stays, so the cost still grows with the square of the length. Parameters correspond one to one to the
reference's; its windows order their features by (channel, position), these by (position, channel).
"""

from typing import Any

from torch import nn

from hydraudio.nn.layers.mamba import ConcatenatedBiMamba
from hydraudio.tasks.separation.networks.grid import GridNet


class SPMamba(GridNet):
    """(batch, time) -> (batch, n_sources, time).

    Args:
        d_state: states per channel of a Mamba block.
        d_conv: taps of its convolution.
        expand: its inner channels per feature of a window.
        grid: see `GridNet`.
    """

    def __init__(self, *, d_state: int = 16, d_conv: int = 4, expand: int = 4, **grid: Any) -> None:
        def sequence(n_features: int) -> tuple[nn.Module, int]:
            return ConcatenatedBiMamba(n_features, d_state, d_conv, expand), 2 * n_features

        super().__init__(sequence, **grid)
