"""DPMamba, the dual-path network with Mamba blocks.

Jiang, Han & Mesgarani, "Dual-path Mamba: Short and Long-term Bidirectional Selective Structured State Space Models
for Speech Separation", ICASSP 2025.
"""

from typing import Literal

from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.mamba_stack import MambaStack
from hydraudio.tasks.separation.networks.tasnet import TasNet


class DPMamba(TasNet):
    """DPMamba: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        n_sources: estimated sources.
        n_filters: encoder filters.
        kernel_size: encoder and decoder window in samples; the hop is half of it.
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
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int = 256,
        kernel_size: int = 16,
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
    ) -> None:
        sizes = {"n_sources": n_sources, "n_filters": n_filters, "dim": dim, "n_layers": n_layers, "n_blocks": n_blocks}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")

        def stack() -> MambaStack:
            return MambaStack(dim, n_blocks, True, d_state, d_conv, expand, activation_checkpointing)

        mask_net = DualPathMaskNet(
            n_sources, n_filters, dim, stack, stack, n_layers, chunk_size, norm, skip_around_intra
        )
        super().__init__(mask_net, n_sources, n_filters, kernel_size)
