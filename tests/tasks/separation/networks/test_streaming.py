"""Causal networks piece by piece against the same networks on the whole recording."""

import pytest
import torch

from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.networks.mamba_tasnet import MambaTasNet


def conv_tasnet(**options):
    sizes = {"n_sources": 1, "n_filters": 16, "bottleneck_channels": 8, "hidden_channels": 16}
    return ConvTasNet(**{**sizes, "n_blocks": 3, "n_repeats": 2, **options})


NETS = {
    "conv_tasnet_cLN": lambda: conv_tasnet(n_sources=2, norm="cLN", causal=True),
    "conv_tasnet_BN": lambda: conv_tasnet(kernel_size=15, block_kernel_size=4, norm="BN", causal=True),
    "mamba_tasnet": lambda: MambaTasNet(n_sources=2, n_filters=32, dim=8, n_layers=2, d_state=4, bidirectional=False),
}


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    return NETS[request.param]().eval()


def noise(n_samples):
    return 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))


def streamed(net, mixture, sizes):
    """The estimate from pieces of the given sizes."""
    pieces, state, start = [], None, 0
    for size in sizes:
        estimate, state = net.stream(mixture[:, start : start + size], state)
        pieces.append(estimate)
        start += size
    assert start == mixture.shape[-1]
    return torch.cat([*pieces, net.flush(state)], dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[1] * 50, [7, 8, 9, 100, 3], [1, 999], [16], [15], [3], [800, 0, 5, 1200]])
def test_equals_offline(net, sizes):
    mixture = noise(sum(sizes))
    torch.testing.assert_close(streamed(net, mixture, sizes), net(mixture), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_output_follows_within_a_frame(net):
    state, n_in, n_out = None, 0, 0
    for _ in range(40):
        estimate, state = net.stream(noise(13), state)
        n_in, n_out = n_in + 13, n_out + estimate.shape[-1]
        assert n_in - n_out < net.kernel_size


def test_refuses_networks_that_see_the_future():
    with pytest.raises(ValueError, match="ConvTasNet is not causal"):
        conv_tasnet().stream(noise(100))
