"""Parts of a block that keep little for the backward pass, and compute it anew there.

PyTorch keeps the input of each operation: of a feed-forward layer the normalised tokens, the hidden units before and
after the activation, gate, value and their product. The functions below keep the tokens and the hidden units before the
activation; norm, activation and product cost one pass over memory each to have them again. Attention keeps queries,
keys, values and weights, and goes from item to item; fused attention keeps less, but takes twice as long on a CPU in
bfloat16, and where the products of float32 are given to oneDNN.

All give the results and gradients of the plain equations, which stand beside them, to rounding. The plain equations are
computed where there is no backward pass, where a graph is captured, and on other devices than a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hydraudio.nn.layers.normalization import LayerNorm

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}
_GRADIENTS: dict[str, Any] = {
    "gelu": torch.ops.aten.gelu_backward.grad_input,
    "silu": torch.ops.aten.silu_backward.grad_input,
}
ROWS = 256
"""Of hidden units that are passed over again and again."""


def recomputes(x: Tensor, weight: Tensor) -> bool:
    """Say whether the functions of this file keep little: in eager training on a CPU, with weights in float32."""
    capturing = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()
    eager = torch.is_grad_enabled() and not capturing
    return eager and x.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)


def normed_linear(x: Tensor, norm: LayerNorm, layer: nn.Linear) -> Tensor:
    """Compute W LN(x) + b. x: (..., in) -> (..., out)."""
    if not recomputes(x, layer.weight):
        return layer(norm(x))
    x = x.to(norm.weight.dtype)
    return _NormedLinear.apply(x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias, _dtype(x))


def activated_linear(hidden: Tensor, activation: str, layer: nn.Linear) -> Tensor:
    """Compute W f(hidden) + b. hidden: (..., in) -> (..., out)."""
    if not recomputes(hidden, layer.weight):
        return layer(ACTIVATIONS[activation](hidden))
    return _ActivatedLinear.apply(hidden, activation, layer.weight, layer.bias)


def gated_linear(gate_value: Tensor, norm: LayerNorm | None, layer: nn.Linear) -> Tensor:
    """Compute W LN(SiLU(gate) value) + b, without LN for None. gate_value: (..., 2 in), gate first -> (..., out)."""
    if not recomputes(gate_value, layer.weight):
        gate, value = gate_value.chunk(2, dim=-1)
        product = F.silu(gate) * value
        return layer(product if norm is None else norm(product))
    of_norm = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    return _GatedLinear.apply(gate_value, *of_norm, layer.weight, layer.bias)


def attend(qkv: Tensor) -> Tensor:
    """Compute softmax(q k^T / sqrt(head_dim)) v. (batch, tokens, q k v, heads, head_dim) -> (batch, tokens, width)."""
    if not recomputes(qkv, qkv.new_empty(0, dtype=torch.float32)):
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return _Attention.apply(qkv).flatten(2)


class _NormedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        shift: Tensor,
        eps: float,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        with _precision_as_given():
            n, mean, rstd = torch.native_layer_norm(x, gain.shape, gain, shift, eps)
            w = weight.to(dtype)
            ctx.save_for_backward(x, gain, shift, mean, rstd, w)
            ctx.eps, ctx.has_bias = eps, bias is not None
            return _product(n.to(dtype), w, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, mean, rstd, w = ctx.saved_tensors
        n = torch.native_layer_norm(x, gain.shape, gain, shift, ctx.eps)[0].to(w.dtype)
        grad_n, grad_w, grad_b = _product_backward(grad, n, w, ctx.has_bias)
        grads = _layer_norm_backward(grad_n.to(x.dtype), x, mean, rstd, gain, shift)
        return *grads, None, grad_w, grad_b, None


class _ActivatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, activation: str, weight: Tensor, bias: Tensor | None) -> Tensor:
        with _precision_as_given():
            w = weight.to(hidden.dtype)
            ctx.save_for_backward(hidden, w)
            ctx.activation, ctx.has_bias = activation, bias is not None
            return _product(ACTIVATIONS[activation](hidden), w, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, w = ctx.saved_tensors
        activated = ACTIVATIONS[ctx.activation](hidden)
        grad_hidden, grad_w, grad_b = _product_backward(grad, activated, w, ctx.has_bias)
        _GRADIENTS[ctx.activation](grad_hidden, hidden, grad_input=grad_hidden)
        return grad_hidden, None, grad_w, grad_b


class _GatedLinear(torch.autograd.Function):
    """A number of rows after the other, so that what one pass wrote is still in the cache for the next."""

    @staticmethod
    def forward(
        ctx: Any,
        gate_value: Tensor,
        gain: Tensor | None,
        shift: Tensor | None,
        eps: float,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        with _precision_as_given():
            w = weight.to(gate_value.dtype)
            ctx.save_for_backward(gate_value, gain, shift, w)
            ctx.eps, ctx.has_bias = eps, bias is not None
            return _product(_gated(gate_value, gain, shift, eps)[0], w, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate_value, gain, shift, w = ctx.saved_tensors
        n, moments = _gated(gate_value, gain, shift, ctx.eps)
        grad_p, grad_w, grad_b = _product_backward(grad, n, w, ctx.has_bias)
        grad_gate_value = torch.empty_like(gate_value)
        of_norm: list[list[Tensor]] = []  # gradients of gain and shift
        blocks = zip(_rows(gate_value, 2), _rows(grad_p, 1), _rows(grad_gate_value, 2), moments, strict=True)
        for (gate, value), (g,), (grad_gate, grad_value), (mean, rstd) in blocks:
            activated = F.silu(gate)
            if gain is not None:
                product = (activated * value).to(gain.dtype)
                g, *of_rows = _layer_norm_backward(g.to(gain.dtype), product, mean, rstd, gain, shift)
                of_norm.append(of_rows)
                g = g.to(value.dtype)
            torch.mul(g, activated, out=grad_value)
            torch.ops.aten.silu_backward.grad_input(g.mul_(value), gate, grad_input=grad_gate)
        if gain is None:
            return grad_gate_value, None, None, None, grad_w, grad_b
        grad_gain, grad_shift = (torch.stack(part).sum(0) for part in zip(*of_norm, strict=True))
        return grad_gate_value, grad_gain, grad_shift, None, grad_w, grad_b


def _gated(
    gate_value: Tensor, gain: Tensor | None, shift: Tensor | None, eps: float
) -> tuple[Tensor, list[tuple[Tensor | None, Tensor | None]]]:
    """LN(SiLU(gate) value), and means and inverse deviations of each number of rows."""
    n = gate_value.new_empty(*gate_value.shape[:-1], gate_value.shape[-1] // 2)
    moments: list[tuple[Tensor | None, Tensor | None]] = []
    for (gate, value), (n_rows,) in zip(_rows(gate_value, 2), _rows(n, 1), strict=True):
        product, mean, rstd = F.silu(gate).mul_(value), None, None
        if gain is not None:
            product, mean, rstd = torch.native_layer_norm(product.to(gain.dtype), gain.shape, gain, shift, eps)
        n_rows.copy_(product)
        moments.append((mean, rstd))
    return n, moments


def _rows(x: Tensor, n_parts: int) -> list[tuple[Tensor, ...]]:
    """`ROWS` after the other of (..., n_parts channels), in parts of channels."""
    return [rows.chunk(n_parts, dim=-1) for rows in x.view(-1, x.shape[-1]).split(ROWS)]


class _Attention(torch.autograd.Function):
    """One item after the other, so that its weights are still in the cache when they are used."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        with _precision_as_given():
            n_items, n_tokens, _, n_heads, head_dim = qkv.shape
            y = qkv.new_empty(n_items, n_tokens, n_heads, head_dim)
            weights = qkv.new_empty(n_items, n_heads, n_tokens, n_tokens)
            for item, w, y_b in zip(qkv, weights, y, strict=True):
                q, k, v = _heads(item)
                torch.baddbmm(w, q, k.transpose(1, 2), beta=0, alpha=head_dim**-0.5, out=w)
                y_b.copy_(torch.bmm(torch.softmax(w, dim=-1, out=w), v).transpose(0, 1))
            ctx.save_for_backward(qkv, weights)
            return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        qkv, weights = ctx.saved_tensors
        grad_qkv, scale = torch.empty_like(qkv), qkv.shape[-1] ** -0.5
        for item, w, g_b, out in zip(qkv, weights, grad, grad_qkv, strict=True):
            q, k, v = _heads(item)
            g = g_b.transpose(0, 1).contiguous()
            grad_w = torch.bmm(g, v.transpose(1, 2))
            grad_s = torch.ops.aten._softmax_backward_data(grad_w, w, -1, w.dtype)
            grad_v = torch.bmm(w.transpose(1, 2), g)
            grads = torch.bmm(grad_s, k).mul_(scale), torch.bmm(grad_s.transpose(1, 2), q).mul_(scale), grad_v
            for part, out_of_part in zip(grads, out.unbind(1), strict=True):
                out_of_part.copy_(part.transpose(0, 1))
        return grad_qkv


def _heads(item: Tensor) -> tuple[Tensor, ...]:
    """(tokens, 3, heads, head_dim) -> three (heads, tokens, head_dim)."""
    return item.permute(1, 2, 0, 3).contiguous().unbind()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, None if bias is None else bias.to(weight.dtype))


def _product_backward(grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, weight and bias of a product."""
    g = grad.reshape(-1, grad.shape[-1])
    grad_x = (g @ weight).view(x.shape)
    return grad_x, g.T @ x.reshape(-1, x.shape[-1]), g.sum(0) if has_bias else None


def _layer_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor | None, rstd: Tensor | None, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    every = [True, True, True]
    return torch.ops.aten.native_layer_norm_backward(grad, x, gain.shape, mean, rstd, gain, shift, every)


def _dtype(x: Tensor) -> torch.dtype:
    """What a product of float32 is computed in."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype


def _precision_as_given() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)
