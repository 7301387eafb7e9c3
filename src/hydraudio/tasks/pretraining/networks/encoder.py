"""The encoder: patches, positions, blocks, and the embeddings of spectrograms of any length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks.blocks import Compat, Init, check_compat, initialize
from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import Masker
from hydraudio.tasks.pretraining.networks.positions import Positions

Pooling = Literal["cls", "mean", "cls+mean", "frequency"]
POOLINGS = ("cls", "mean", "cls+mean", "frequency")


class Encoder(nn.Module):
    """Encode patches of a spectrogram, all or some of them. (batch, channels, frames, bins) -> (batch, [1 +] K, width).

    Time is the first axis of a spectrogram. A class token, if there is one, is the first of the tokens.

    Args:
        grid: of the patches, or its arguments by name.
        width: channels of a token.
        depth: blocks.
        n_heads: attention heads.
        block: makes a block.
        positions: makes the positions.
        cls: whether there is a class token.
        drop_path: probability of leaving a branch of the last block out; it grows from 0 in the first one.
        init: how weights are drawn.
        eps: of the norm at the end.
        compat: "released" takes the patches of an embedding in the order of AudioMAE++'s released code, which takes
            time for frequency.
    """

    def __init__(
        self,
        grid: Grid | Mapping[str, Any],
        width: int,
        depth: int,
        n_heads: int,
        block: Callable[..., nn.Module],
        positions: Callable[..., Positions],
        cls: bool = True,
        drop_path: float = 0.0,
        init: Init = "xavier",
        eps: float = 1e-6,
        compat: Compat | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid = grid if isinstance(grid, Grid) else Grid(**grid)
        self.width = width
        self.released = check_compat(compat)
        self.patch_embedding = nn.Linear(grid.patch_values, width)
        self.positions = positions(grid=grid, width=width, n_heads=n_heads)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(block(width=width, n_heads=n_heads, drop_path=rate) for rate in rates)
        self.norm = LayerNorm(width, eps=eps)
        initialize(self, init)
        if init == "xavier":  # by the sizes of the convolution that the released code has there
            kernel = self.patch_embedding.weight.detach().view(width, grid.channels, *grid.patch)
            nn.init.xavier_uniform_(kernel)
        self.cls_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width), std=0.02)) if cls else None

    def forward(self, spectrogram: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encode the patches `keep` (batch, K) alone, or all."""
        return self.encode(self.grid.patchify(spectrogram), keep)

    def encode(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        """patches: (batch, n_tokens, patch_values), of which `keep` (batch, K) are encoded, or all."""
        if keep is not None:
            patches = patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        x = self.positions(self.patch_embedding(patches), keep)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        rotation = self.positions.rotation(keep, cls=self.cls_token is not None)
        for block in self.blocks:
            x = block(x, rotation)
        return self.norm(x)

    def embedding_dim(self, pooling: Pooling) -> int:
        """Size of what `embed` gives."""
        self._check(pooling)
        return self.width * {"cls": 1, "mean": 1, "cls+mean": 2, "frequency": self.grid.n_cols}[pooling]

    def embed(
        self,
        spectrogram: Tensor,
        pooling: Pooling = "mean",
        n_frames: Tensor | None = None,
        masker: Masker | None = None,
    ) -> Tensor:
        """Embed spectrograms of any length. (batch, channels, frames, bins) -> (batch, embedding_dim) float32.

        A longer spectrogram is encoded in chunks of the grid's frames, the last one padded with zeros, the mean of a
        standardised spectrogram; time steps that begin after the end do not count.

        Args:
            spectrogram: standardised as in training.
            pooling: "cls": class token, averaged over the chunks by their length; "mean": mean of the patches;
                "cls+mean": both; "frequency": mean over time of the patches of each band, the bands side by side.
            n_frames: (batch,) frames of each item, from 1; further ones have no effect. None: all.
            masker: leaves patches out, in training (not with "frequency"). None: all are encoded.
        """
        self._check(pooling)
        patches, counted = self._chunks(spectrogram, n_frames)
        draw = None if masker is None else masker(len(patches), self.grid, None, patches.device)
        tokens = self.encode(patches, None if draw is None else draw.keep).float().unflatten(0, counted.shape[:2])
        steps = counted.sum(-1) / counted.sum((1, 2))[:, None]  # share of an item in each chunk
        parts = []
        if pooling in ("cls", "cls+mean"):
            parts.append((tokens[:, :, 0] * steps.unsqueeze(-1)).sum(1))
        if pooling in ("mean", "cls+mean"):
            weight = counted.repeat_interleave(self.grid.n_cols, dim=-1)
            weight = weight if draw is None else weight.gather(2, draw.keep.view(*counted.shape[:2], -1))
            seen = tokens[:, :, -weight.shape[-1] :]
            parts.append((seen * weight.unsqueeze(-1)).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)[:, None])
        if pooling == "frequency":
            weight = counted.flatten(1)
            parts.append((self._steps(tokens) * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True))
        return torch.cat(parts, dim=1)

    def embed_steps(self, spectrogram: Tensor) -> Tensor:
        """Embed each time step. (batch, channels, frames, bins) -> (batch, steps, n_cols * width) float32.

        Step i begins at frame i * patch[0]; its bands stand side by side. There are ceil(frames / patch[0]) steps.
        """
        patches, counted = self._chunks(spectrogram, None)
        tokens = self.encode(patches).float().unflatten(0, counted.shape[:2])
        return self._steps(tokens)[:, : math.ceil(spectrogram.shape[2] / self.grid.patch[0])]

    def _chunks(self, spectrogram: Tensor, n_frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return patches (batch * chunks, n_tokens, patch_values), and (batch, chunks, n_rows): steps that count."""
        n = spectrogram.shape[2]
        if n == 0:
            raise ValueError("a spectrogram without frames has no embedding")
        ends = torch.full((len(spectrogram),), n, device=spectrogram.device) if n_frames is None else n_frames
        if n_frames is not None:
            inside = torch.arange(n, device=ends.device) < ends[:, None]
            spectrogram = torch.where(inside[:, None, :, None], spectrogram, 0.0)
        x = F.pad(spectrogram, (0, 0, 0, -n % self.grid.n_frames)).unflatten(2, (-1, self.grid.n_frames))
        starts = torch.arange(x.shape[2] * self.grid.n_rows, device=ends.device) * self.grid.patch[0]
        counted = (starts < ends[:, None]).unflatten(1, (-1, self.grid.n_rows))
        return self.grid.patchify(x.transpose(1, 2).flatten(0, 1)), counted

    def _steps(self, tokens: Tensor) -> Tensor:
        """(batch, chunks, [1 +] L, width) -> (batch, chunks * n_rows, n_cols * width)."""
        patches = tokens[:, :, -self.grid.n_tokens :]
        if self.released:
            patches = patches.unflatten(2, (self.grid.n_cols, self.grid.n_rows)).transpose(2, 3)
        else:
            patches = patches.unflatten(2, (self.grid.n_rows, self.grid.n_cols))
        return patches.flatten(3).flatten(1, 2)

    def _check(self, pooling: str) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling} must be one of {', '.join(POOLINGS)}")
        if "cls" in pooling and self.cls_token is None:
            raise ValueError(f"pooling={pooling} needs an encoder with a class token (cls=true)")
