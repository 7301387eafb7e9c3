"""Transformer encoder on fused attention, with padding masks and a sinusoidal positional encoding of any length.

Vaswani et al., "Attention is all you need", NeurIPS 2017, with the norms before attention and feed-forward layers
and another one at the end.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.elementary import Linear
from hydraudio.nn.layers.masking import frame_mask
from hydraudio.nn.layers.normalization import LayerNorm

LAYER_NORM_EPS = 1e-6


class SelfAttention(nn.Module):
    """Compute softmax(Q K^T / sqrt(dim / n_heads)) V per head. (sequences, steps, dim) -> same.

    mask: bool, broadcasts to (sequences, n_heads, steps, steps), True where a query may attend to a key.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.in_proj = Linear(dim, 3 * dim)
        self.out_proj = Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.in_proj(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Compute y = x + attention(norm(x)), then y + linear(relu(linear(norm(y)))). (sequences, steps, dim) -> same."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attention = SelfAttention(dim, n_heads, dropout)
        self.norm2 = LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.linear1 = Linear(dim, ffn_dim)
        self.linear2 = Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), mask))
        return x + self.dropout(self._feed_forward(self.norm2(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(x))))


class TransformerEncoder(nn.Module):
    """Apply `n_layers` of `TransformerLayer` and a norm; it is also a block of dual-path networks.

    (sequences, steps, dim) -> same, any number of steps.

    Args:
        n_layers: layers.
        dim: channels in and out.
        n_heads: attention heads; must divide `dim`.
        ffn_dim: hidden units of the feed-forward layers.
        dropout: of the attention weights, the hidden units and both outputs.
        positional_encoding: add `sinusoids` to the input.
    """

    def __init__(
        self, n_layers: int, dim: int, n_heads: int, ffn_dim: int, dropout: float, positional_encoding: bool
    ) -> None:
        super().__init__()
        _check(dim, n_heads, dropout, positional_encoding)
        self.positional_encoding = positional_encoding
        self.layers = nn.ModuleList(TransformerLayer(dim, n_heads, ffn_dim, dropout) for _ in range(n_layers))
        self.norm = LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        """n_steps: (sequences,), from 1; further steps of a sequence are not attended to. None: all are."""
        mask = None if n_steps is None else frame_mask(n_steps, x.shape[1])[:, None, None]
        if self.positional_encoding:
            x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


def sinusoids(n_steps: int, dim: int, device: torch.device | str | None = None) -> Tensor:
    """Return (n_steps, dim) float32: sin(t w_i) at 2 i and cos(t w_i) at 2 i + 1, with w_i = 10000^(-2 i / dim)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=device).float() * -(math.log(10000.0) / dim))
    angles = torch.arange(n_steps, device=device).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _check(dim: int, n_heads: int, dropout: float, positional_encoding: bool) -> None:
    if n_heads < 1 or dim % n_heads:
        raise ValueError(f"n_heads={n_heads} must divide the {dim} channels")
    if positional_encoding and dim % 2:
        raise ValueError(f"positional_encoding=True has sine-cosine pairs, so {dim} channels must be even")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
