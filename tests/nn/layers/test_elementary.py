"""The hand-written functions against finite differences and PyTorch's own layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.nn.layers import elementary
from hydraudio.nn.layers.normalization import ChannelwiseLayerNorm, GlobalLayerNorm, build_norm

BATCH, FRAMES, CHANNELS = 2, 9, 3
GEOMETRIES = [
    elementary.Geometry(1, 1, False),
    elementary.Geometry(2, 2, True),
    elementary.Geometry(4, 4, True),
    elementary.Geometry(2, 4, False),  # causal
    elementary.Geometry(16, 16, False),  # outer taps beyond the signal
]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_prelu_gradient_and_value() -> None:
    x, slope = noise(BATCH, FRAMES, CHANNELS), torch.tensor([-0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(elementary.prelu, (x, slope))
    torch.testing.assert_close(elementary.prelu(x, slope), F.prelu(x, slope))


def test_global_layer_norm_gradient_and_value() -> None:
    x, gain, bias = noise(BATCH, FRAMES, CHANNELS), noise(CHANNELS, seed=1), noise(CHANNELS, seed=2)
    assert torch.autograd.gradcheck(lambda *a: elementary.global_layer_norm(*a, 1e-8), (x, gain, bias))
    expected = F.group_norm(x.transpose(1, 2), 1, gain, bias, 1e-8).transpose(1, 2)
    torch.testing.assert_close(elementary.global_layer_norm(x, gain, bias, 1e-8), expected)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_depthwise_gradient_and_value(geometry: elementary.Geometry) -> None:
    x, kernel = noise(BATCH, FRAMES, CHANNELS), noise(CHANNELS, 1, 3, seed=1)
    assert torch.autograd.gradcheck(lambda *a: elementary.depthwise(*a, geometry), (x, kernel))
    pad = geometry.pad_left, 2 * geometry.dilation - geometry.pad_left
    padded = F.pad(x.transpose(1, 2), pad, "reflect" if geometry.reflect else "constant")
    expected = F.conv1d(padded, kernel, dilation=geometry.dilation, groups=CHANNELS).transpose(1, 2)
    torch.testing.assert_close(elementary.depthwise(x, kernel, geometry), expected)


def test_pointwise() -> None:
    x, weight, bias = noise(BATCH, FRAMES, CHANNELS), noise(5, CHANNELS, 1, seed=1), noise(5, seed=2)
    expected = F.conv1d(x.transpose(1, 2), weight, bias).transpose(1, 2)
    torch.testing.assert_close(elementary.pointwise(x, weight, bias), expected)


def test_channels_last_only_in_full_precision_on_a_cpu() -> None:
    assert elementary.prefers_channels_last(torch.zeros(1))
    assert not elementary.prefers_channels_last(torch.zeros(1, dtype=torch.bfloat16))
    assert not elementary.prefers_channels_last(torch.zeros(1, device="meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not elementary.prefers_channels_last(torch.zeros(1))


@pytest.mark.parametrize("norm", [GlobalLayerNorm, ChannelwiseLayerNorm])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_statistics_in_float32(norm: type[torch.nn.Module], dtype: torch.dtype) -> None:
    # 1e-4 squared underflows in float16, and 1000 of 300 squared overflow
    layer = norm(16, eps=1e-12)
    for amplitude in (1e-4, 1.0, 300.0):
        x = (amplitude * noise(2, 16, 200).detach()).to(dtype)
        expected = layer(x.float())
        assert layer(x).dtype == dtype
        torch.testing.assert_close(layer(x).float(), expected, rtol=1e-2, atol=1e-2)
        assert abs(expected.std() - 1) < 0.01


def test_norms_by_formula() -> None:
    x = noise(2, 4, 50).detach().float() * 3 + 1
    for norm, axes in (("gLN", (1, 2)), ("cLN", (1,))):
        expected = (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + 0.5).sqrt()
        torch.testing.assert_close(build_norm(norm, 4, eps=0.5)(x), expected)


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match="norm='gln' is unknown; choose one of gLN, cLN, BN"):
        build_norm("gln", 4)
