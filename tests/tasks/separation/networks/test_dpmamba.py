"""DPMamba: sizes, lengths, independence, precision, options."""

import pytest
import torch
from torch import Tensor

from hydraudio.tasks.separation.networks.dpmamba import DPMamba
from hydraudio.testing import NetworkContract

TINY = {"n_filters": 16, "dim": 8, "n_layers": 2, "chunk_size": 10, "d_state": 4}


def tiny(seed: int = 0, **options: object) -> DPMamba:
    """A net whose gains and biases are not at their initial values."""
    torch.manual_seed(seed)
    net = DPMamba(**{"n_sources": 2, **TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ({"n_filters": 128, "dim": 128}, (2_249_345, 2_265_857)),
        ({}, (8_070_401, 8_136_193)),
        ({"n_layers": 16}, (15_803_649, 15_869_441)),
        ({"n_filters": 512, "dim": 512, "n_layers": 16}, (59_525_633, 59_788_289)),
        ({"n_filters": 128, "kernel_size": 32, "dim": 64, "n_layers": 3, "chunk_size": 64}, (283_073, 287_233)),
    ],
    ids=["XS", "S", "M", "L", "small"],
)
def test_parameter_count(size: dict[str, int], counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        nets = [DPMamba(n_sources=n_sources, **{"n_filters": 256, **size}) for n_sources in (1, 2)]
    assert tuple(sum(p.numel() for p in net.parameters()) for net in nets) == counts


@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 1001])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


def test_item_alone_equals_item_in_padded_batch() -> None:
    net, lengths = tiny(), torch.tensor([500, 333, 9])
    mixture = noise(3, 500) * torch.tensor([[1.0], [100.0], [1e-3]])
    together = net(mixture, lengths)
    for item, n, estimate in zip(mixture, lengths, together, strict=True):
        alone = net(item[None, :n])[0]
        torch.testing.assert_close(estimate[:, :n], alone, rtol=0, atol=1e-4 * alone.abs().max().item())


@pytest.mark.parametrize(
    "options", [{}, {"norm": "cLN"}, {"skip_around_intra": True}, {"activation_checkpointing": True}]
)
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
    net, mixture = tiny(skip_around_intra=True), amplitude * noise(2, 600)
    expected = net(mixture)
    with torch.autocast("cpu", dtype=dtype):
        estimate = net(mixture)
    assert estimate.dtype == torch.float32
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


def test_checkpoint_changes_nothing() -> None:
    mixture = noise(2, 400)
    assert torch.equal(tiny(activation_checkpointing=True)(mixture), tiny()(mixture))


@pytest.mark.parametrize("change", [{"norm": "cLN"}, {"skip_around_intra": True}, {"chunk_size": 16}])
def test_option_has_effect(change: dict[str, object]) -> None:
    mixture = noise(1, 600)
    assert (tiny()(mixture) - tiny(**change)(mixture)).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change",
    [{"n_filters": 32}, {"dim": 16}, {"n_layers": 3}, {"n_blocks": 2}, {"d_state": 8}, {"d_conv": 5}, {"expand": 3}],
)
def test_size_has_effect(change: dict[str, int]) -> None:
    count, changed = (sum(p.numel() for p in tiny(**options).parameters()) for options in ({}, change))
    assert changed > count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"n_sources": 0}, "n_sources=0 must be at least 1"),
        ({"expand": 0}, "expand=0 must be at least 1"),
        ({"norm": "BN"}, "norm='BN' is unknown"),
        ({"chunk_size": 1}, "chunk_size=1 leaves no half overlap"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)
