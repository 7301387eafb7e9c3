"""Blocks of transformers over patches: attention, feed-forward layers, and the plain and the Macaron arrangement.

An encoder or decoder makes its blocks from a factory, `block(width=..., n_heads=..., drop_path=...)`; a factory is a
class below with all other arguments given (`_partial_` in a YAML). The same holds for the feed-forward layers of a
block, `ffn(width=...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers.normalization import LayerNorm
from hydraudio.tasks.pretraining.networks.positions import Rotation, rotate
from hydraudio.tasks.pretraining.networks.recompute import (
    ACTIVATIONS,
    activated_linear,
    attend,
    gated_linear,
    normed_linear,
)

Activation = Literal["gelu", "silu"]
Compat = Literal["released"]


class Attention(nn.Module):
    """Compute softmax(Q K^T / sqrt(head_dim)) V of the normalised tokens. (batch, tokens, width) -> same.

    Args:
        width: channels of all heads.
        n_heads: must divide `width`.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, width: int, n_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        if n_heads < 1 or width % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide the {width} channels")
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, norm: LayerNorm, rotation: Rotation | None) -> Tensor:
        qkv = normed_linear(x, norm, self.qkv).unflatten(-1, (3, self.n_heads, -1))
        if rotation is not None:
            q, k, v = qkv.unbind(2)
            qkv = torch.stack([rotate(q, rotation), rotate(k, rotation), v], dim=2)
        return self.project(attend(qkv))


class CrossAttention(nn.Module):
    """Attend from tokens to other ones. (batch, queries, width), (batch, tokens, width) -> (batch, queries, width)."""

    def __init__(self, width: int, n_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        if n_heads < 1 or width % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide the {width} channels")
        self.n_heads = n_heads
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.kv = nn.Linear(width, 2 * width, bias=qkv_bias)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor, rotation: Rotation | None, rotation_of_seen: Rotation | None) -> Tensor:
        q = rotate(self.q(x).unflatten(-1, (self.n_heads, -1)), rotation)
        k, v = self.kv(seen).unflatten(-1, (2, self.n_heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, rotate(k, rotation_of_seen), v))
        return self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Compute W2 f(W1 n + b1) + b2 of the normalised tokens n. (batch, tokens, width) -> same.

    Args:
        width: channels in and out.
        ratio: hidden units per channel.
        activation: f.
    """

    def __init__(self, width: int, ratio: float = 4.0, activation: Activation = "gelu") -> None:
        super().__init__()
        hidden = int(ratio * width)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation} must be one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.expand = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor, norm: LayerNorm) -> Tensor:
        return activated_linear(normed_linear(x, norm, self.expand), self.activation, self.project)


class SwiGLU(nn.Module):
    """Compute W (SiLU(G n) V n) of the normalised tokens n, gate and value in one product (Shazeer 2020).

    With an inner norm it is W LN(SiLU(G n) V n), as in AudioMAE++. (batch, tokens, width) -> same.

    Args:
        width: channels in and out.
        ratio: hidden units per channel; int(ratio width) of them.
        inner_norm: whether there is the inner norm.
        bias: whether the three products have biases.
        eps: of the inner norm.
    """

    def __init__(
        self, width: int, ratio: float = 8 / 3, inner_norm: bool = True, bias: bool = True, eps: float = 1e-6
    ) -> None:
        super().__init__()
        hidden = int(ratio * width + 1e-6)
        self.gate_value = nn.Linear(width, 2 * hidden, bias=bias)
        self.inner_norm = LayerNorm(hidden, eps=eps) if inner_norm else None
        self.project = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, norm: LayerNorm) -> Tensor:
        return gated_linear(normed_linear(x, norm, self.gate_value), self.inner_norm, self.project)


class LayerScale(nn.Module):
    """Scale each channel of a branch by a learned factor (Touvron et al. 2021), at first `init`."""

    def __init__(self, width: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class DropPath(nn.Module):
    """Leave a branch out for an item with the probability `p` in training, and divide by 1 - p otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop_path={p} must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(len(x), *(1,) * (x.ndim - 1)), self.p)


class Block(nn.Module):
    """What the two arrangements share: the ends of the branches.

    Args:
        width: channels.
        drop_path: probability of leaving a branch out.
        layer_scale: first factor of LayerScale; None: without.
        n_branches: of the block.
    """

    def __init__(self, width: int, drop_path: float, layer_scale: float | None, n_branches: int) -> None:
        super().__init__()
        self.drop_path = DropPath(drop_path)
        scales = [nn.Identity() if layer_scale is None else LayerScale(width, layer_scale) for _ in range(n_branches)]
        self.scales = nn.ModuleList(scales)

    def _end(self, branch: int, y: Tensor) -> Tensor:
        return self.drop_path(self.scales[branch](y))


class PlainBlock(Block):
    """x <- x + attention(LN1 x); x <- x + ffn(LN2 x). (batch, tokens, width) -> same.

    Args:
        width: channels.
        n_heads: attention heads.
        ffn: makes the feed-forward layer.
        qkv_bias: whether queries, keys and values have a bias.
        eps: of the norms.
        layer_scale: first factor of LayerScale; None: without.
        drop_path: probability of leaving a branch out.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        ffn: Callable[..., nn.Module],
        qkv_bias: bool = True,
        eps: float = 1e-6,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, drop_path, layer_scale, n_branches=2)
        self.norm1, self.norm2 = LayerNorm(width, eps=eps), LayerNorm(width, eps=eps)
        self.attention = Attention(width, n_heads, qkv_bias)
        self.ffn = ffn(width=width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        x = x + self._end(0, self.attention(x, self.norm1, rotation))
        return x + self._end(1, self.ffn(x, self.norm2))


class MacaronBlock(Block):
    """x <- x + ffn1(LN1 x) / 2; x <- x + attention(LN2 x); x <- x + ffn2(LN3 x) / 2. (batch, tokens, width) -> same.

    AudioMAE++ (Yadav et al. 2025) has a SiLU layer before and a SwiGLU layer after the attention. Its released code
    and weights depart from that: they compute x + ffn2(LN2 x) in the end, and never use LN3.

    Args:
        width: channels.
        n_heads: attention heads.
        ffn1: makes the first feed-forward layer.
        ffn2: makes the last one.
        qkv_bias: whether queries, keys and values have a bias.
        eps: of the norms.
        layer_scale: first factor of LayerScale; None: without.
        drop_path: probability of leaving a branch out.
        compat: "released" computes as the released code.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        ffn1: Callable[..., nn.Module],
        ffn2: Callable[..., nn.Module],
        qkv_bias: bool = True,
        eps: float = 1e-6,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        compat: Compat | None = None,
    ) -> None:
        super().__init__(width, drop_path, layer_scale, n_branches=3)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(width, eps=eps) for _ in range(3))
        self.ffn1 = ffn1(width=width)
        self.attention = Attention(width, n_heads, qkv_bias)
        self.ffn2 = ffn2(width=width)
        self.released = check_compat(compat)
        if self.released:
            self.norm3.requires_grad_(False)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        x = x + self._end(0, 0.5 * self.ffn1(x, self.norm1))
        x = x + self._end(1, self.attention(x, self.norm2, rotation))
        if self.released:
            return x + self._end(2, self.ffn2(x, self.norm2))
        return x + self._end(2, 0.5 * self.ffn2(x, self.norm3))


class CrossBlock(nn.Module):
    """x <- x + attention(LN1 x, seen); x <- x + ffn(LN2 x). (batch, queries, width) -> same.

    Args:
        width: channels.
        n_heads: attention heads.
        ffn: makes the feed-forward layer.
        qkv_bias: whether queries, keys and values have a bias.
        eps: of the norms.
    """

    def __init__(
        self, width: int, n_heads: int, ffn: Callable[..., nn.Module], qkv_bias: bool = True, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(width, eps=eps), LayerNorm(width, eps=eps)
        self.attention = CrossAttention(width, n_heads, qkv_bias)
        self.ffn = ffn(width=width)

    def forward(self, x: Tensor, seen: Tensor, rotation: Rotation | None, rotation_of_seen: Rotation | None) -> Tensor:
        x = x + self.attention(self.norm1(x), seen, rotation, rotation_of_seen)
        return x + self.ffn(x, self.norm2)


Init = Literal["xavier", "normal"]


def initialize(module: nn.Module, init: Init) -> None:
    """Draw the weights of all linear layers in `module`, and set their biases to zero.

    Args:
        module: a network.
        init: "xavier": uniform by each layer's own sizes; "normal": with a deviation of 0.02, cut at 2.
    """
    if init not in ("xavier", "normal"):
        raise ValueError(f"init={init} must be xavier or normal")
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        # gate and value are two layers in one
        for weight in layer.weight.detach().chunk(2 if name.endswith("gate_value") else 1):
            nn.init.xavier_uniform_(weight) if init == "xavier" else nn.init.trunc_normal_(weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def check_compat(compat: str | None) -> bool:
    """Say whether a network is to compute as the released code."""
    if compat not in (None, "released"):
        raise ValueError(f"compat={compat} must be released or null")
    return compat == "released"
