"""Pre-norm residual stack of Mamba mixers, as in Mamba-TasNet and DPMamba."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hydraudio.nn.layers.mamba import BiMamba, Mamba, MambaState, RMSNorm, initialize_output_projections


class MambaBlock(nn.Module):
    """x + mixer(RMSNorm(x)), the sum in float32 under any autocast. (batch, steps, dim) -> same."""

    def __init__(self, mixer: Mamba, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.mixer = mixer

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        y = self.norm(x)
        change = self.mixer(y, n_steps) if isinstance(self.mixer, BiMamba) else self.mixer(y)
        return x + change.to(x.dtype)

    def stream(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        """Compute the next steps of a block whose mixer is causal; `state`: what the last call returned."""
        state = self.mixer.initial_state(len(x)) if state is None else state
        change, state = self.mixer.stream(self.norm(x), state)
        return x + change.to(x.dtype), state


class MambaStack(nn.Module):
    """Blocks and a last RMSNorm. (batch, steps, dim) -> same, float32 (or float64).

    Args:
        dim: channels.
        n_layers: blocks.
        bidirectional: `BiMamba`; else `Mamba`, where no step depends on later ones.
        activation_checkpointing: keep the input of each block alone for the backward pass and compute the block again:
            a fraction of the memory for a third more time.
        mixer: `d_state`, `d_conv` and `expand` of `hydraudio.nn.layers.mamba.Mamba`.
    """

    def __init__(
        self, dim: int, n_layers: int, bidirectional: bool = True, activation_checkpointing: bool = False, **mixer: int
    ) -> None:
        super().__init__()
        build = BiMamba if bidirectional else Mamba
        self.activation_checkpointing = activation_checkpointing
        self.blocks = nn.ModuleList(MambaBlock(build(dim, **mixer), dim) for _ in range(n_layers))
        self.norm = RMSNorm(dim)
        initialize_output_projections(self, n_layers)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        """`n_steps` (batch,): the steps of each item that count, where the batch is padded."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for block in self.blocks:
            if self.activation_checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, n_steps, use_reentrant=False))
            else:
                x = block(x, n_steps)
        return self.norm(x)

    def stream(self, x: Tensor, states: list[MambaState | None] | None) -> tuple[Tensor, list[MambaState | None]]:
        """Compute the next steps of a causal stack; `states`: what the last call returned. Without gradients."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        states = list(states or [None] * len(self.blocks))
        for i, block in enumerate(self.blocks):
            x, states[i] = cast(MambaBlock, block).stream(x, states[i])
        return self.norm(x), states
