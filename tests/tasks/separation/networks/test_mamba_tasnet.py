"""Mamba-TasNet: sizes, lengths, independence, causality, precision, options."""

import pytest
import torch
from torch import Tensor

from hydraudio.tasks.separation.networks.mamba_tasnet import MambaTasNet
from hydraudio.testing import NetworkContract

TINY = {"n_filters": 16, "dim": 8, "n_layers": 2, "d_state": 4}


def tiny(seed: int = 0, **options: object) -> MambaTasNet:
    """A net whose gains and biases are not at their initial values."""
    torch.manual_seed(seed)
    net = MambaTasNet(**{"n_sources": 2, **TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ({"n_filters": 128, "dim": 128, "n_layers": 16}, (2_193_792, 2_210_176)),
        ({}, (7_860_992, 7_926_528)),
        ({"n_layers": 32}, (15_581_952, 15_647_488)),
        ({"n_filters": 512, "dim": 512, "n_layers": 32}, (58_689_024, 58_951_168)),
        ({"kernel_size": 32, "dim": 128, "n_layers": 6}, (891_264, 924_032)),
    ],
    ids=["XS", "S", "M", "L", "small"],
)
def test_parameter_count(size: dict[str, int], counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        nets = [MambaTasNet(n_sources=n_sources, **{"n_filters": 256, **size}) for n_sources in (1, 2)]
    assert tuple(sum(p.numel() for p in net.parameters()) for net in nets) == counts


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 1001])
def test_any_length(n_samples: int, bidirectional: bool) -> None:
    estimate = tiny(bidirectional=bidirectional)(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_item_alone_equals_item_in_padded_batch(bidirectional: bool) -> None:
    net, lengths = tiny(bidirectional=bidirectional), torch.tensor([500, 333, 9])
    mixture = noise(3, 500) * torch.tensor([[1.0], [100.0], [1e-3]])
    together = net(mixture, lengths)
    for item, n, estimate in zip(mixture, lengths, together, strict=True):
        alone = net(item[None, :n])[0]
        torch.testing.assert_close(estimate[:, :n], alone, rtol=0, atol=1e-4 * alone.abs().max().item())


@pytest.mark.parametrize("options", [{}, {"bidirectional": False}, {"activation_checkpointing": True}])
def test_gradient_in_every_parameter(options: dict[str, object]) -> None:
    NetworkContract(tiny(**options), 400).every_parameter_learns()


def test_silence() -> None:
    net = tiny()
    estimate = net(torch.zeros(2, 500))
    (estimate + noise(2, 2, 500)).square().sum().backward()
    assert torch.equal(estimate, torch.zeros(2, 2, 500))
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_near_float32(dtype: torch.dtype, amplitude: float) -> None:
    net, mixture = tiny(), amplitude * noise(2, 600)
    expected = net(mixture)
    with torch.autocast("cpu", dtype=dtype):
        estimate = net(mixture)
    assert estimate.dtype == torch.float32
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


def look_ahead(net: MambaTasNet, change_at: int = 600) -> Tensor:
    """(time,): how much each output sample changes when the input does from `change_at` on."""
    mixture = noise(1, 1000)
    changed = torch.cat([mixture[:, :change_at], noise(1, 1000 - change_at, seed=3)], dim=1)
    with torch.no_grad():
        return (net(mixture) - net(changed))[0].abs().amax(0)


def test_causal() -> None:
    net = tiny(bidirectional=False)
    difference = look_ahead(net)
    assert difference[: 600 - net.kernel_size].max() < 1e-6  # one window is the encoder's look-ahead
    assert difference[600:].max() > 1e-3


def test_bidirectional_looks_ahead() -> None:
    assert look_ahead(tiny())[500:580].max() > 1e-4


@pytest.mark.parametrize(
    "change", [{name: 2 * value} for name, value in {**TINY, "kernel_size": 8, "d_conv": 2, "expand": 2}.items()]
)
def test_size_has_effect(change: dict[str, int]) -> None:
    base = {"kernel_size": 8, "d_conv": 2}
    count, changed = (sum(p.numel() for p in tiny(**o).parameters()) for o in (base, {**base, **change}))
    assert changed > count


@pytest.mark.parametrize("name", ["n_sources", "n_filters", "dim", "n_layers", "d_state", "d_conv", "expand"])
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        tiny(**{name: 0})


def test_compiled_and_exported_equal() -> None:
    net, mixture = tiny().eval(), noise(2, 400)
    torch.testing.assert_close(torch.compile(net, backend="eager")(mixture), net(mixture), rtol=1e-4, atol=1e-5)
    exported = torch.export.export(net, (mixture,)).module()
    torch.testing.assert_close(exported(mixture), net(mixture), rtol=1e-4, atol=1e-5)
