"""A block of the autoencoder: attention and feed-forward layer side by side, behind one norm."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks.blocks import Attention, Block
from hydraudio.tasks.pretraining.networks.positions import Rotation


class ParallelBlock(Block):
    """x <- x + attention(LN x) + ffn(LN x). (batch, tokens, width) -> same.

    It stands where `MacaronBlock` stands in the house's networks, in the encoder and in the decoder. Dehghani et al.,
    "Scaling Vision Transformers to 22 Billion Parameters", 2023.

    Args:
        width: channels, given by the encoder or decoder.
        n_heads: attention heads, given by the same.
        ffn: makes the feed-forward layer.
        drop_path: probability of leaving both out, given by the encoder.
    """

    def __init__(self, width: int, n_heads: int, ffn: Callable[..., nn.Module], drop_path: float = 0.0) -> None:
        super().__init__(width, drop_path, layer_scale=None, n_branches=1)
        self.norm = LayerNorm(width)
        self.attention = Attention(width, n_heads, qkv_bias=False)
        self.ffn = ffn(width=width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """rotation: of queries and keys, where the positions are rotary."""
        return x + self._end(0, self.attention(x, self.norm, rotation) + self.ffn(x, self.norm))
