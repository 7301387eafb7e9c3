"""Decoders: from the encoded visible patches to the values of the masked ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks.blocks import Init, initialize
from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import Mask
from hydraudio.tasks.pretraining.networks.positions import Positions


class Decoder(nn.Module):
    """What both decoders are made of.

    Args:
        grid: of the patches.
        encoder_width: channels of the encoder's tokens.
        cls: whether the first of them is a class token.
        width: channels of the decoder's tokens.
        depth: blocks.
        n_heads: attention heads.
        block: makes a block.
        positions: makes the positions.
        init: how weights are drawn.
        eps: of the norm at the end.
    """

    def __init__(
        self,
        grid: Grid,
        encoder_width: int,
        cls: bool,
        width: int,
        depth: int,
        n_heads: int,
        block: Callable[..., nn.Module],
        positions: Callable[..., Positions],
        init: Init = "xavier",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.cls = cls
        self.grid = grid
        self.embedding = nn.Linear(encoder_width, width)
        self.positions = positions(grid=grid, width=width, n_heads=n_heads)
        self.blocks = nn.ModuleList(block(width=width, n_heads=n_heads) for _ in range(depth))
        self.norm = LayerNorm(width, eps=eps)
        self.prediction = nn.Linear(width, grid.patch_values)
        initialize(self, init)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width), std=0.02))


class TransformerDecoder(Decoder):
    """Put a learned token at each masked place, and let all tokens attend to each other (He et al. 2022).

    (batch, [1 +] K, encoder_width) -> (batch, n_tokens, patch_values).
    """

    predicts_visible = True

    def forward(self, tokens: Tensor, mask: Mask) -> Tensor:
        x = self.embedding(tokens)
        before, visible = x[:, : int(self.cls)], x[:, int(self.cls) :]
        hidden = self.mask_token.to(x.dtype).expand(len(x), mask.hidden.shape[1], -1)
        x = torch.cat([visible, hidden], dim=1).gather(1, mask.restore.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        x = torch.cat([before, self.positions(x)], dim=1)
        rotation = self.positions.rotation(cls=self.cls)
        for block in self.blocks:
            x = block(x, rotation)
        return self.prediction(self.norm(x[:, int(self.cls) :]))


class CrossAttentionDecoder(Decoder):
    """Let the masked places alone ask the visible patches, and not each other (Fu et al., "Rethinking Patch
    Dependence for Masked Autoencoders", 2024).

    (batch, [1 +] K, encoder_width) -> (batch, n_tokens, patch_values), zeros for the visible patches.
    """

    predicts_visible = False

    def forward(self, tokens: Tensor, mask: Mask) -> Tensor:
        seen = self.embedding(tokens)
        x = self.mask_token.to(seen.dtype).expand(*mask.hidden.shape, -1)
        x = self.positions(x, mask.hidden)
        rotations = self.positions.rotation(mask.hidden), self.positions.rotation(mask.keep, cls=self.cls)
        for block in self.blocks:
            x = block(x, seen, *rotations)
        values = self.prediction(self.norm(x))
        everywhere = values.new_zeros(len(values), self.grid.n_tokens, values.shape[-1])
        return everywhere.scatter(1, mask.hidden.unsqueeze(-1).expand(-1, -1, values.shape[-1]), values)
