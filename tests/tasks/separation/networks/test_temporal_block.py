"""The fused function behind a block of Conv-TasNet against finite differences."""

import pytest
import torch

from hydraudio.nn.layers import elementary
from hydraudio.tasks.separation.networks.conv_tasnet import TemporalBlock

BLOCK = {"hidden_channels": 4, "kernel_size": 3, "dilation": 2, "causal": False, "eps": 1e-8}


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_gradient(padding: str) -> None:
    torch.manual_seed(0)
    block = TemporalBlock(3, norm="gLN", padding=padding, **BLOCK).double()
    parameters = [(p + 0.1 * torch.randn_like(p)).detach().requires_grad_() for p in block.parameters()]
    x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    function = lambda x, *a: elementary.temporal_block(x, a, block.depthwise.geometry, 1e-8)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, *parameters))
