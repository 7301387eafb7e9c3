"""WavLM's self-attention with gated relative positions, through `scaled_dot_product_attention`.

Chen et al., "WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing", IEEE JSTSP 16(6), 2022,
eq. (4)-(8). With x the input of the layer, x_h its slice for head h and d(., .) the bucket of a distance,

    (r_1, r_2) = (w x_h summed in two groups of four),  a = sigmoid(r_1),  b = sigmoid(r_2)
    g_{h,i} = a (b c_h - 1) + 2,   bias_{h,i,j} = g_{h,i} table_{h, d(j - i)}

The queries, keys and values come from calls of the projections' modules (transformers reads their weights instead, so
that adapters put around them have no effect), and the table is (1, heads, frames, frames), never repeated per item.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedPositionAttention(nn.Module):
    """Takes the place of the attention module of a WavLM block, with its very submodules and parameters.

    (batch, frames, dim) -> (batch, frames, dim).

    Args:
        original: `WavLMAttention` of transformers; it is left without use.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = original.num_heads
        self.head_dim: int = original.head_dim
        self.dropout: float = original.dropout
        self.num_buckets: int = original.num_buckets
        self.max_distance: int = original.max_distance
        self.k_proj: nn.Module = original.k_proj
        self.v_proj: nn.Module = original.v_proj
        self.q_proj: nn.Module = original.q_proj
        self.out_proj: nn.Module = original.out_proj
        self.gru_rel_pos_const: nn.Parameter = original.gru_rel_pos_const
        self.gru_rel_pos_linear: nn.Module = original.gru_rel_pos_linear
        if hasattr(original, "rel_attn_embed"):
            self.rel_attn_embed = original.rel_attn_embed

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, position_bias: Tensor, index: int = 0
    ) -> tuple[Tensor, None, Tensor]:
        """The names and the triple (output, no weights, position_bias) are those that the block passes and expects.

        Args:
            hidden_states: (batch, frames, dim).
            attention_mask: (batch, 1, 1, frames), 0 for keys that count and minus infinity for others; None: all.
            position_bias: (1, heads, frames, frames), of :func:`position_table`.
            index: of the block, without use.
        """
        query, key, value = (self._split(f(hidden_states)) for f in (self.q_proj, self.k_proj, self.v_proj))
        gate = self._gate(hidden_states)
        if attention_mask is None:
            bias = gate * position_bias
        else:
            bias = torch.addcmul(attention_mask, gate, position_bias)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output, None, position_bias

    def _split(self, x: Tensor) -> Tensor:
        """(batch, frames, dim) -> (batch, heads, frames, head_dim)."""
        return x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _gate(self, x: Tensor) -> Tensor:
        """(batch, frames, dim) -> (batch, heads, frames, 1)."""
        groups = self.gru_rel_pos_linear(self._split(x)).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        return groups[..., :1] * (groups[..., 1:] * self.gru_rel_pos_const - 1) + 2


def use_fused_attention(blocks: nn.ModuleList) -> None:
    """Replace the attention of every WavLM block, in place."""
    for block in blocks:
        block.attention = GatedPositionAttention(block.attention)


def position_table(attention: Any, n_frames: int) -> Tensor:
    """Return the biases of the first block's attention, which owns the table of all: (1, heads, n_frames, n_frames)."""
    embedding: nn.Embedding = attention.rel_attn_embed
    distance = torch.arange(1 - n_frames, n_frames, device=embedding.weight.device)
    buckets = distance_buckets(distance, attention.num_buckets, attention.max_distance)
    by_distance = embedding(buckets).t()  # (heads, 2 n_frames - 1)
    if torch.compiler.is_exporting():  # ONNX cannot unfold by a size that the length of the input decides
        frames = torch.arange(n_frames, device=embedding.weight.device)
        return by_distance[:, frames - frames[:, None] + n_frames - 1].unsqueeze(0)
    return by_distance.unfold(1, n_frames, 1).flip(1).unsqueeze(0)  # row i holds the distances -i ... n_frames - 1 - i


def distance_buckets(distance: Tensor, n_buckets: int, max_distance: int) -> Tensor:
    """Bucket of each distance (int64, any shape): half of them per sign, half of those exact, the rest logarithmic."""
    per_sign = n_buckets // 2
    exact = per_sign // 2
    size = distance.abs()
    octave = torch.log(size.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + octave * (per_sign - exact)).long().clamp(max=per_sign - 1)
    return torch.where(size < exact, size, far) + per_sign * (distance > 0)
