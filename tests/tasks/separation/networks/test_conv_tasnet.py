"""Conv-TasNet: sizes, lengths, independence, precision, causality, options."""

import pytest
import torch
from torch import Tensor

from hydraudio.nn.layers import elementary
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.testing import NetworkContract

PAPER = {"n_filters": 256}
SMALL = {"n_filters": 128, "bottleneck_channels": 128, "hidden_channels": 256, "n_blocks": 6, "n_repeats": 3}
LARGE = {"n_filters": 512, "bottleneck_channels": 512, "hidden_channels": 1024}
TINY = {"n_filters": 16, "bottleneck_channels": 8, "hidden_channels": 12, "n_blocks": 3, "n_repeats": 2}
VARIANTS = [
    {"norm": "gLN"},
    {"norm": "gLN", "padding": "reflect"},
    {"norm": "cLN"},
    {"norm": "cLN", "padding": "reflect", "mask_activation": "sigmoid"},
    {"norm": "cLN", "causal": True, "block_kernel_size": 4},
    {"norm": "BN", "mask_activation": "softmax"},
    {"norm": "BN", "causal": True},
]


def tiny(seed: int = 0, **options: object) -> ConvTasNet:
    """A net whose norms and slopes are not at their initial values."""
    torch.manual_seed(seed)
    net = ConvTasNet(**{"n_sources": 2, **TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["channels last", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations of the mask net, on a CPU."""
    if request.param == "plain":
        monkeypatch.setattr(elementary, "prefers_channels_last", lambda x: False)
    return request.param


@pytest.mark.parametrize(
    ("n_sources", "size", "expected"),
    [
        *((1, PAPER, 8_643_136), (2, PAPER, 8_708_672), (1, SMALL, 1_249_060), (2, SMALL, 1_265_444)),
        *((1, LARGE, 34_325_568), (2, LARGE, 34_587_712)),
    ],
)
def test_parameter_count(n_sources: int, size: dict[str, int], expected: int) -> None:
    assert sum(p.numel() for p in ConvTasNet(n_sources=n_sources, **size).parameters()) == expected


def test_parameter_count_of_paper_net() -> None:
    # separation.md 3.2: N512 B128 H512 X8 R3 has 5.1 M with the paper's skip path, biases and C=2; ours lacks the skips
    net = ConvTasNet(n_sources=2, n_filters=512, bottleneck_channels=128, hidden_channels=512, n_repeats=3)
    assert 3.3e6 < sum(p.numel() for p in net.parameters()) < 3.6e6


@pytest.mark.parametrize("n_samples", [1, 7, 8, 15, 16, 17, 1000, 8001])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("kernel_size", [2, 5, 16, 21])
def test_every_sample_is_reached(kernel_size: int) -> None:
    mixture = noise(1, 203).requires_grad_()
    tiny(kernel_size=kernel_size)(mixture)[0, 0].square().sum().backward()
    assert (mixture.grad != 0).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["gLN", "cLN"])
def test_independent_of_batch(norm: str, training: bool, path: str) -> None:
    net = tiny(norm=norm).train(training)
    mixture = noise(3, 700) * torch.tensor([[1.0], [100.0], [1e-3]])
    together = net(mixture)
    for item, estimate in zip(mixture, together, strict=True):
        torch.testing.assert_close(net(item[None])[0], estimate, rtol=0, atol=1e-5 * estimate.abs().max().item())


@pytest.mark.parametrize("options", VARIANTS)
def test_paths_agree(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for fast in (True, False):
        monkeypatch.setattr(elementary, "prefers_channels_last", lambda x, fast=fast: fast)
        net = tiny(**options).double()
        mixture = noise(3, 300).double().requires_grad_()
        estimate = net(mixture)
        (estimate * noise(3, 2, 300, seed=2)).sum().backward()
        results.append([estimate, mixture.grad, *(p.grad for p in net.parameters()), *net.buffers()])
    for fast_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(fast_value, plain_value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("options", VARIANTS)
def test_gradient_in_every_parameter(options: dict[str, object]) -> None:
    NetworkContract(tiny(**options), 400).every_parameter_learns()


def test_same_bits_every_time() -> None:
    def gradients() -> list[Tensor]:
        net = tiny()
        (net(noise(3, 2000)) * noise(3, 2, 2000, seed=2)).sum().backward()
        return [p.grad for p in net.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


@pytest.mark.parametrize("norm", ["gLN", "cLN", "BN"])
def test_silence(norm: str, path: str) -> None:
    net = tiny(norm=norm)
    estimate = net(torch.zeros(2, 500))
    (estimate + noise(2, 2, 500)).square().sum().backward()
    assert torch.equal(estimate, torch.zeros(2, 2, 500))
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["gLN", "cLN", "BN"])
def test_autocast_is_finite_and_near_float32(norm: str, dtype: torch.dtype, amplitude: float) -> None:
    net, mixture = tiny(norm=norm), amplitude * noise(2, 600)
    expected = net(mixture)
    with torch.autocast("cpu", dtype=dtype):
        estimate = net(mixture)
    assert estimate.dtype == torch.float32
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


@pytest.mark.parametrize("options", [{"norm": "cLN"}, {"norm": "BN"}, {"norm": "cLN", "block_kernel_size": 2}])
def test_causal(options: dict[str, object], path: str) -> None:
    net, change_at = tiny(causal=True, **options).eval(), 600
    mixture = noise(1, 1000)
    changed = mixture.clone()
    changed[:, change_at:] = noise(1, 400, seed=3)
    with torch.no_grad():
        difference = (net(mixture) - net(changed))[0].abs().amax(0)
    assert difference[: change_at - net.kernel_size].max() < 1e-6  # one window is the encoder's look-ahead
    assert difference[change_at:].max() > 1e-3


def test_not_causal_looks_ahead() -> None:
    net = tiny(norm="cLN").eval()
    mixture = noise(1, 1000)
    changed = torch.cat([mixture[:, :600], noise(1, 400, seed=3)], dim=1)
    with torch.no_grad():
        difference = (net(mixture) - net(changed))[0].abs().amax(0)
    assert difference[500:580].max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "cLN"},
        {"norm": "BN"},
        {"causal": True, "norm": "cLN"},
        {"mask_activation": "sigmoid"},
        {"mask_activation": "softmax"},
        {"padding": "reflect"},
        {"eps": 1e-2},
    ],
)
def test_option_has_effect(change: dict[str, object]) -> None:
    mixture = 0.1 * noise(1, 600)
    base = {"norm": "cLN"} if "causal" in change else {}
    assert (tiny(**base)(mixture) - tiny(**change)(mixture)).abs().max() > 1e-4


@pytest.mark.parametrize("name", [*TINY, "kernel_size", "block_kernel_size", "n_sources"])
def test_size_has_effect(name: str) -> None:
    def count(**options: int) -> int:
        return sum(p.numel() for p in tiny(**options).parameters())

    assert (
        count(**{name: {"kernel_size": 16, "block_kernel_size": 3, "n_sources": 2}.get(name, TINY.get(name)) + 2})
        > count()
    )


def test_softmax_masks_sum_to_one_over_sources() -> None:
    net = tiny(n_sources=3, mask_activation="softmax")
    masks = net.mask_net(noise(2, 16, 50))
    assert masks.shape == (2, 3, 16, 50)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 16, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "ln"}, "norm='ln' is unknown; choose one of gLN, cLN, BN"),
        ({"mask_activation": "tanh"}, "mask_activation='tanh' is unknown"),
        ({"padding": "same"}, "padding='same' is unknown"),
        ({"causal": True}, "'gLN' averages over future frames"),
        ({"causal": True, "norm": "cLN", "padding": "reflect"}, "needs padding='zero'"),
        ({"block_kernel_size": 4}, "block_kernel_size=4 must be odd"),
        ({"n_sources": 1, "mask_activation": "softmax"}, "over one source is always 1"),
        ({"kernel_size": 1}, "kernel_size=1 leaves no half overlap"),
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize("shape", [(400,), (2, 1, 400), (2, 0)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mixture must be \(batch, time\)"):
        tiny()(torch.zeros(shape))


def test_reflection_needs_enough_samples(path: str) -> None:
    net = tiny(padding="reflect")  # widest padding 4 frames, so 5 frames: 16 + 3 * 8 + 1 samples fill them
    assert net(noise(1, 41)).shape == (1, 2, 41)
    with pytest.raises(ValueError, match="needs at least 41 samples, got 40"):
        net(noise(1, 40))


@pytest.mark.parametrize("norm", ["gLN", "cLN"])
def test_exported_graph_equals(norm: str) -> None:
    net, mixture = tiny(norm=norm).eval(), noise(2, 800)
    exported = torch.export.export(net, (mixture,)).module()
    torch.testing.assert_close(exported(mixture), net(mixture), rtol=1e-4, atol=1e-5)
