"""DPMamba, the dual-path network with Mamba blocks.

Jiang, Han & Mesgarani, "Dual-path Mamba: Short and Long-term Bidirectional Selective Structured State Space Models
for Speech Separation", ICASSP 2025.
"""

from functools import partial
from typing import Any, Literal

from hydraudio.core.options import check_sizes
from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.mamba_stack import MambaStack
from hydraudio.tasks.separation.networks.tasnet import TasNet


class DPMamba(TasNet):
    """DPMamba: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        dim: channels of the chunks.
        n_layers: dual-path layers, each with one Mamba stack within the chunks and one across them.
        n_blocks: Mamba blocks of each of these stacks.
        chunk_size: frames of a chunk; chunks overlap by half.
        norm: "gLN" or "cLN", after each stack.
        skip_around_intra: residual path around the stack within the chunks.
        d_state: states per inner channel.
        d_conv: taps of the mixers' convolutions.
        expand: inner channels per channel of `dim`.
        activation_checkpointing: compute the blocks again in the backward pass instead of keeping their activations.
        frame: `n_sources`, `n_filters` and `kernel_size` of `TasNet`.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        n_layers: int = 8,
        n_blocks: int = 1,
        chunk_size: int = 250,
        norm: Literal["gLN", "cLN"] = "gLN",
        skip_around_intra: bool = False,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        activation_checkpointing: bool = False,
        **frame: Any,
    ) -> None:
        check_sizes(dim=dim, n_layers=n_layers, n_blocks=n_blocks)
        stack = partial(
            MambaStack,
            dim,
            n_blocks,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            activation_checkpointing=activation_checkpointing,
        )
        mask_net = partial(
            DualPathMaskNet,
            dim=dim,
            intra=stack,
            inter=stack,
            n_layers=n_layers,
            chunk_size=chunk_size,
            norm=norm,
            skip_around_intra=skip_around_intra,
        )
        super().__init__(mask_net, **frame)
