"""Depthwise causal convolution and SiLU as one function, with little memory, for (groups, batch, steps, channels).

PyTorch's grouped conv1d wants channels first and is slow on a CPU; a few taps are as many shifted multiply-adds.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hydraudio.nn.layers.normalization import at_least_float32


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute SiLU(bias + sum_k weight_k x_{t - taps + 1 + k}) in float32, x being zero before its first step.

    For the backward pass it keeps its arguments alone.

    Args:
        x: (groups, batch, steps, channels).
        weight: (groups, channels, 1, taps), each as in a depthwise `Conv1d`.
        bias: (groups, channels).

    Returns:
        as x, float32 (or float64)
    """
    x = at_least_float32(x)
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return F.silu(_convolution_for_graphs(x, weight, bias))
    return _CausalConvSiLU.apply(x, weight, bias)


def _convolution_for_graphs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Without writing in place."""
    n_taps, n_steps = weight.shape[-1], x.shape[2]
    padded = F.pad(x, (0, 0, n_taps - 1, 0))
    y = bias[:, None, None]
    for tap in range(n_taps):
        y = torch.addcmul(y, padded[:, :, tap : tap + n_steps], weight[:, None, None, :, 0, tap])
    return y


def _convolution(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    """rows: (taps, groups, 1, 1, channels)."""
    y = torch.addcmul(bias[:, None, None], x, rows[-1])
    for row, (late, early) in zip(rows[:-1], _shifts(x.shape[2], len(rows)), strict=True):
        y[:, :, late].addcmul_(x[:, :, early], row)
    return y


def _shifts(n_steps: int, n_taps: int) -> list[tuple[slice, slice]]:
    """For each tap but the last, the steps of the output and those of the input that it connects."""
    lags = range(n_taps - 1, 0, -1)
    return [(slice(lag, max(n_steps, lag)), slice(0, max(n_steps - lag, 0))) for lag in lags]


class _CausalConvSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return F.silu(_convolution(x, _rows(weight), bias), inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, bias = ctx.saved_tensors
        rows = _rows(weight)
        grad = torch.ops.aten.silu_backward(grad, _convolution(x, rows, bias))
        grad_x, grad_weight = grad * rows[-1], torch.empty_like(weight)
        grad_weight[..., 0, -1] = (grad * x).sum((1, 2))
        for tap, (late, early) in enumerate(_shifts(x.shape[2], len(rows))):
            grad_x[:, :, early].addcmul_(grad[:, :, late], rows[tap])
            grad_weight[..., 0, tap] = (grad[:, :, late] * x[:, :, early]).sum((1, 2))
        return grad_x, grad_weight, grad.sum((1, 2))


def _rows(weight: Tensor) -> Tensor:
    return weight.permute(3, 0, 2, 1).unsqueeze(2).contiguous()
