"""What TF-GridNet and SPMamba share: against a reference of loops, lengths, padding, silence, level, precision."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hydraudio.tasks.separation.networks import grid
from hydraudio.tasks.separation.networks.grid import FrameAttention, GridNet, GridPath
from hydraudio.tasks.separation.networks.spmamba import SPMamba
from hydraudio.tasks.separation.networks.tf_gridnet import TFGridNet

SIZE = {"n_fft": 16, "hop": 4, "n_blocks": 2, "n_channels": 4, "kernel_size": 3, "n_heads": 2, "key_size": 20}
BUILD: dict[str, Callable[..., GridNet]] = {
    "tf_gridnet": lambda **options: TFGridNet(**{"n_sources": 2, **SIZE, "hidden_size": 5, **options}),
    "spmamba": lambda **options: SPMamba(**{"n_sources": 2, **SIZE, "d_state": 3, "expand": 2, **options}),
}
NETS = sorted(BUILD)


def tiny(name: str, seed: int = 0, **options: object) -> GridNet:
    """A net whose norms and slopes are not at their initial values."""
    torch.manual_seed(seed)
    net = BUILD[name](**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# The reference: one item at a time, one frame, bin, window and head at a time, by the equations.


def standardised(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 over all elements of x."""
    return (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + eps)


def reference_path(path: GridPath, x: Tensor) -> Tensor:
    """One row, (positions, channels) -> same."""
    n_positions, n_channels = x.shape
    rows = [standardised(position) * path.norm.weight + path.norm.bias for position in x]
    while len(rows) < path.kernel_size or (len(rows) - path.kernel_size) % path.stride:
        rows.append(torch.zeros_like(rows[0]))
    starts = range(0, len(rows) - path.kernel_size + 1, path.stride)
    windows = torch.stack([torch.cat(rows[start : start + path.kernel_size]) for start in starts])
    outputs = path.sequence(windows[None])[0]
    weight, bias = path.deconv.weight, path.deconv.bias
    if path.stride == path.kernel_size:  # a bias for every position of a window
        weight, biases = weight.T.view(-1, path.kernel_size, n_channels), bias.view(path.kernel_size, n_channels)
        result = [biases[i % path.kernel_size] for i in range(len(rows))]
    else:
        weight, result = weight[:, :, 0].transpose(1, 2), [bias] * len(rows)
    for start, output in zip(starts, outputs, strict=True):
        for k in range(path.kernel_size):
            result[start + k] = result[start + k] + output @ weight[:, k]
    return x + torch.stack(result[:n_positions])


def reference_head(x: Tensor, weight: Tensor, bias: Tensor, norm: grid.HeadNorm, head: int) -> Tensor:
    """1x1 convolution, PReLU and norm for one head. (frames, bins, channels) -> (frames, bins * outputs)"""
    rows = []
    for frame in x:
        y = frame @ weight.T + bias
        y = torch.where(y >= 0, y, norm.slope[head] * y)
        rows.append(standardised(y).flatten() * norm.weight[head, 0] + norm.bias[head, 0])
    return torch.stack(rows)


def reference_attention(attention: FrameAttention, x: Tensor) -> Tensor:
    """(frames, bins, channels) -> same."""
    n_frames, n_bins, n_channels = x.shape
    n_heads = len(attention.query_norm.slope)
    weights, biases = (p.split(attention.sizes) for p in (attention.project.weight, attention.project.bias))
    norms = (attention.query_norm, attention.key_norm, attention.value_norm)
    heads = []
    for head in range(n_heads):
        query, key, value = (
            reference_head(x, w.chunk(n_heads)[head], b.chunk(n_heads)[head], norm, head)
            for w, b, norm in zip(weights, biases, norms, strict=True)
        )
        scores = torch.stack([torch.stack([q @ k for k in key]) for q in query]) / math.sqrt(query.shape[1])
        shares = scores.exp() / scores.exp().sum(1, keepdim=True)
        heads.append((shares @ value).view(n_frames, n_bins, n_channels // n_heads))
    merged = torch.cat(heads, -1)
    y = reference_head(merged, attention.merge.weight, attention.merge.bias, attention.merge_norm, 0)
    return x + y.view(x.shape)


def reference_net(net: GridNet, mixture: Tensor, level: Tensor | None = None) -> Tensor:
    """One item, (time,) -> (n_sources, time)."""
    level = mixture.square().mean().sqrt() if level is None else level
    window = torch.hann_window(net.n_fft, dtype=mixture.dtype)
    spectrum = torch.stft(mixture / level, net.n_fft, net.hop, window=window, return_complex=True)
    x = net.encode(torch.stack([spectrum.real.T, spectrum.imag.T])[None])[0]
    x = standardised(x) * net.norm.weight[:, None, None] + net.norm.bias[:, None, None]
    x = x.permute(1, 2, 0)
    for block in net.blocks:
        x = torch.stack([reference_path(block.full_band, frame) for frame in x])
        x = torch.stack([reference_path(block.sub_band, x[:, f]) for f in range(x.shape[1])], 1)
        x = reference_attention(block.attention, x)
    estimate = net.decode(x.permute(2, 0, 1)[None]).view(net.n_sources, 2, *x.shape[:2])
    spectra = torch.complex(estimate[:, 0], estimate[:, 1]).transpose(1, 2)
    return level * torch.istft(spectra, net.n_fft, net.hop, window=window, length=len(mixture))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("n_samples", "options"),
    [
        (33, {}),
        (34, {"stride": 2, "n_blocks": 1}),
        (43, {"stride": 3, "n_blocks": 1}),
        (9, {"n_blocks": 1}),
        (50, {"n_fft": 12, "hop": 6, "n_heads": 1, "n_blocks": 1}),
    ],
)
def test_equals_the_reference(name: str, n_samples: int, options: dict[str, int]) -> None:
    net = tiny(name, **options).double()
    mixture, direction = noise(2, n_samples, dtype=torch.float64), noise(2, 2, n_samples, seed=2, dtype=torch.float64)
    estimate = net(mixture)
    expected = torch.stack([reference_net(net, item) for item in mixture])
    torch.testing.assert_close(estimate, expected, rtol=1e-9, atol=1e-10)
    gradients = torch.autograd.grad((estimate * direction).sum(), list(net.parameters()))
    for ours, theirs in zip(
        gradients, torch.autograd.grad((expected * direction).sum(), list(net.parameters())), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 203])
def test_any_length(name: str, n_samples: int) -> None:
    estimate = tiny(name)(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": 3}, {"activation_checkpointing": True}])
def test_padded_items_equal_single_items(name: str, options: dict[str, object]) -> None:
    net = tiny(name, **options)
    lengths = torch.tensor([1, 3, 8, 77, 120])
    mixture = noise(5, 120) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 10.0])[:, None]  # beyond its length an item is noise
    together = net(mixture, lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = net(mixture[i : i + 1, :n])[0]
        torch.testing.assert_close(together[i, :, :n], alone, rtol=0, atol=1e-5 * alone.abs().max().item())
        assert not together[i, :, n:].any()


@pytest.mark.parametrize("name", NETS)
def test_padding_gets_no_gradient(name: str) -> None:
    net, lengths = tiny(name).double(), torch.tensor([30, 90])
    mixture = noise(2, 90, dtype=torch.float64).requires_grad_()
    direction = noise(2, 2, 90, seed=2, dtype=torch.float64)
    (net(mixture, lengths) * direction).sum().backward()
    assert not mixture.grad[0, 30:].any()
    alone = mixture.detach()[:1, :30].requires_grad_()
    (net(alone) * direction[:1, :, :30]).sum().backward()
    torch.testing.assert_close(mixture.grad[:1, :30], alone.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("training", [True, False])
def test_independent_of_batch(name: str, training: bool) -> None:
    net = tiny(name).train(training)
    mixture = noise(3, 100) * torch.tensor([[1.0], [100.0], [1e-3]])
    together = net(mixture)
    for item, estimate in zip(mixture, together, strict=True):
        torch.testing.assert_close(net(item[None])[0], estimate, rtol=0, atol=1e-5 * estimate.abs().max().item())


@pytest.mark.parametrize("name", NETS)
def test_silence(name: str) -> None:
    net = tiny(name)
    mixture = torch.stack([torch.zeros(60), noise(60)]).requires_grad_()
    estimate = net(mixture)
    assert not estimate[0].any()
    assert estimate[1].all()
    (estimate - noise(2, 2, 60, seed=2)).square().sum().backward()
    assert mixture.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    reference = reference_net(net, torch.zeros(60), level=torch.zeros(60).std())  # as published, no safeguard
    assert reference.isnan().all()


@pytest.mark.parametrize("name", NETS)
def test_constants_and_clicks(name: str) -> None:
    click = torch.zeros(60)
    click[31] = 1e-6
    estimate = tiny(name)(torch.stack([torch.full((60,), 0.5), click]))
    assert estimate.isfinite().all()
    assert estimate.abs().amax((1, 2))[1] < 1e-3


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("gain", [1e-5, 1e4])
def test_estimates_follow_the_level(name: str, gain: float) -> None:
    net, mixture = tiny(name), noise(2, 100)
    torch.testing.assert_close(net(gain * mixture), gain * net(mixture), rtol=1e-4, atol=gain * 1e-5)


@pytest.mark.parametrize("name", NETS)
def test_every_sample_matters_and_every_parameter_gets_a_gradient(name: str) -> None:
    net, mixture = tiny(name), noise(2, 90).requires_grad_()
    (net(mixture) * noise(2, 2, 90, seed=2)).sum().backward()
    assert (mixture.grad != 0).all()
    for key, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_checkpointing_changes_no_gradient(name: str, with_lengths: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "RECOMPUTED_POSITIONS", 64)  # several slices of several rows each
    results = []
    for checkpointing in (False, True):
        net = tiny(name, activation_checkpointing=checkpointing).double()
        mixture = noise(2, 70, dtype=torch.float64).requires_grad_()
        estimate = net(mixture, torch.tensor([70, 33]) if with_lengths else None)
        (estimate * noise(2, 2, 70, seed=2)).sum().backward()
        results.append([estimate, mixture.grad, *(p.grad for p in net.parameters())])
    for recomputed, kept in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, kept, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_checkpointing_keeps_fewer_tensors(name: str) -> None:
    def kept_bytes(checkpointing: bool, training: bool = True) -> int:
        net, sizes = tiny(name, activation_checkpointing=checkpointing).train(training), {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        mixture = noise(2, 400)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            net(mixture)
        return sum(sizes.values())

    assert kept_bytes(True) < 0.4 * kept_bytes(False)
    assert kept_bytes(True, training=False) == kept_bytes(False)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1e-2, 1.0])
def test_autocast_is_finite_and_near_float32(name: str, dtype: torch.dtype, amplitude: float) -> None:
    net, mixture = tiny(name), amplitude * noise(2, 120)
    expected = net(mixture)
    with torch.autocast("cpu", dtype=dtype):
        estimate = net(mixture)
    assert estimate.dtype == torch.float32
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 120, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.1 if dtype == torch.bfloat16 else 0.02) * expected.norm()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("change", [{"hop": 6}, {"stride": 2}, {"stride": 3}, {"eps": 1e-1}])
def test_option_has_effect(name: str, change: dict[str, object]) -> None:
    mixture = noise(1, 100)
    assert (tiny(name)(mixture) - tiny(name, **change)(mixture)).abs().max() > 1e-3


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "change", ["n_fft", "n_blocks", "n_channels", "kernel_size", "n_heads", "key_size", "n_sources"]
)
def test_size_has_effect(name: str, change: str) -> None:
    def count(**options: int) -> int:
        return sum(p.numel() for p in tiny(name, **options).parameters())

    assert count(**{change: 2 * {"n_sources": 2, **SIZE}[change]}) > count()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 15}, "n_fft=15 must be even"),
        ({"hop": 9}, "hop=9 must be between 1 and"),
        ({"stride": 4}, "stride=4 leaves gaps; it must be at most kernel_size=3"),
        ({"n_channels": 5}, "n_channels=5 must be a multiple of n_heads=2"),
        ({"kernel_size": 10}, "kernel_size=10 is more than the 9 bins of n_fft=16"),
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"n_sources": 0}, "n_sources=0 must be at least 1"),
    ],
)
def test_impossible_options(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(name, **options)


@pytest.mark.parametrize("shape", [(400,), (2, 1, 400), (2, 0)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mixture must be \(batch, time\)"):
        tiny("tf_gridnet")(torch.zeros(shape))


def test_wrong_lengths() -> None:
    with pytest.raises(ValueError, match=r"lengths must be \(2,\) integers"):
        tiny("tf_gridnet")(noise(2, 50), torch.tensor([50]))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_compiled_equals(name: str, with_lengths: bool) -> None:
    net, mixture = tiny(name, n_blocks=1), noise(2, 60)
    arguments = (mixture, torch.tensor([60, 41])) if with_lengths else (mixture,)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(*arguments), net(*arguments), rtol=1e-4, atol=1e-5)


def test_sequence_net_sees_the_windows_of_each_row() -> None:
    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.windows = x.clone()
            return x[..., :1]

    path = GridPath(n_channels=2, kernel_size=3, stride=2, sequence=Recorder(), n_outputs=1, eps=1e-5)
    path.norm = nn.Identity()
    path(torch.arange(24.0).view(1, 2, 6, 2))
    first = [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9], [8, 9, 10, 11, 0, 0]]
    second = [[12, 13, 14, 15, 16, 17], [16, 17, 18, 19, 20, 21], [20, 21, 22, 23, 0, 0]]
    assert path.sequence.windows.tolist() == [first, second]
