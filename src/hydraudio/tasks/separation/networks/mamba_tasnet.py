"""Mamba-TasNet.

Jiang, Han & Mesgarani, "Dual-path Mamba: Short and Long-term Bidirectional Selective Structured State Space Models
for Speech Separation", ICASSP 2025, and the same authors' "Speech Slytherin: Examining the Performance and Efficiency
of Mamba for Speech Separation, Recognition, and Synthesis", ICASSP 2025, whose sizes XS to L the configurations have.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.options import check_sizes
from hydraudio.nn.layers.normalization import ChannelwiseLayerNorm
from hydraudio.tasks.separation.networks.mamba_stack import MambaStack
from hydraudio.tasks.separation.networks.tasnet import TasNet


class MambaMaskNet(nn.Module):
    """Norm per frame, bottleneck, Mamba blocks over the frames, ReLU masks.

    (batch, n_filters, frames) -> (batch, n_sources, n_filters, frames), as `tasnet.MaskNet` says.
    """

    def __init__(self, n_sources: int, n_filters: int, dim: int, stack: MambaStack) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.norm = ChannelwiseLayerNorm(n_filters)
        self.bottleneck = nn.Linear(n_filters, dim, bias=False)
        self.stack = stack
        self.mask = nn.Linear(dim, n_sources * n_filters, bias=False)

    def forward(self, features: Tensor, n_frames: Tensor | None = None) -> Tensor:
        x = self.bottleneck(self.norm(features, n_frames).transpose(1, 2))  # (batch, frames, dim)
        return self._masks(self.stack(x, n_frames))

    def stream(self, features: Tensor, states: Any) -> tuple[Tensor, Any]:
        """Return the masks of the next frames; `states`: what the last call returned."""
        x, states = self.stack.stream(self.bottleneck(self.norm(features).transpose(1, 2)), states)
        return self._masks(x), states

    def _masks(self, x: Tensor) -> Tensor:
        return F.relu(self.mask(x)).unflatten(-1, (self.n_sources, -1)).permute(0, 2, 3, 1)


class MambaTasNet(TasNet):
    """Mamba-TasNet: (batch, time) -> (batch, n_sources, time), any length.

    The residual stream is float32 under any precision: in half precision it loses what the deep stacks add to it.

    Args:
        dim: channels between the blocks.
        n_layers: blocks.
        d_state: states per inner channel.
        d_conv: taps of the mixers' convolutions.
        expand: inner channels per channel of `dim`.
        bidirectional: scan the frames in both directions; without, no output depends on input more than one window
            later.
        activation_checkpointing: compute the blocks again in the backward pass instead of keeping their activations.
        frame: `n_sources`, `n_filters` and `kernel_size` of `TasNet`.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        n_layers: int = 16,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = True,
        activation_checkpointing: bool = False,
        **frame: Any,
    ) -> None:
        check_sizes(dim=dim, n_layers=n_layers)

        def mask_net(n_sources: int, n_filters: int) -> MambaMaskNet:
            mixer = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
            stack = MambaStack(dim, n_layers, bidirectional, activation_checkpointing, **mixer)
            return MambaMaskNet(n_sources, n_filters, dim, stack)

        super().__init__(mask_net, **frame)
        self.causal = not bidirectional
