"""Causal depthwise convolution with SiLU against PyTorch's convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.layers.causal_conv import causal_conv_silu


def arguments(groups: int, batch: int, steps: int, channels: int, taps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(groups, batch, steps, channels), (groups, channels, 1, taps), (groups, channels)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups = []
    for x_g, weight_g, bias_g in zip(x, weight, bias, strict=True):
        padded = F.pad(x_g.transpose(1, 2), (weight.shape[-1] - 1, 0))
        groups.append(F.silu(F.conv1d(padded, weight_g, bias_g, groups=len(bias_g))).transpose(1, 2))
    return torch.stack(groups)


@pytest.mark.parametrize("shape", [(2, 3, 20, 5, 4), (1, 2, 2, 3, 4), (1, 1, 1, 1, 1), (2, 1, 7, 3, 7)])
def test_equals_convolution(shape: tuple[int, ...]) -> None:
    tensors = arguments(*shape)
    results = []
    for function in (causal_conv_silu, reference):
        y = function(*tensors)
        results.append([y, *torch.autograd.grad(y.square().sum(), tensors)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(causal_conv_silu, arguments(2, 2, 5, 2, 4))


def test_keeps_its_arguments_alone() -> None:
    tensors, saved = arguments(1, 2, 30, 4, 4), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        causal_conv_silu(*tensors)
    assert sum(saved) == sum(x.numel() for x in tensors)


def test_compiled_equals() -> None:
    tensors = arguments(2, 2, 9, 3, 4)
    compiled = torch.compile(causal_conv_silu, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), causal_conv_silu(*tensors))
