"""MossFormer2: sizes, lengths, independence of the batch, precision, options, and equality with the equations.

The equations are written out once more below, in numpy: one item, float64, loops over frames, taps, pairs of frames.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hydraudio.nn.layers import elementary
from hydraudio.tasks.separation.networks.mossformer2 import (
    ConvFeedForward,
    GatedAttentionBlock,
    GatedFSMNBlock,
    InstanceNorm,
    JointAttention,
    MossFormer2,
    RotaryEmbedding,
)

TINY = {"n_filters": 8, "n_blocks": 2, "attention_channels": 6, "fsmn_channels": 6, "group_frames": 16}
Array = np.ndarray


def shaken(net: nn.Module, amount: float = 0.1) -> nn.Module:
    """With norms, gains and biases off their initial values."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += amount * torch.randn_like(parameter)
    return net


def tiny(seed: int = 0, **options: object) -> MossFormer2:
    torch.manual_seed(seed)
    return shaken(MossFormer2(**{"n_sources": 2, "dropout": 0.0, **TINY, **options}), 0.2)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["channels last", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations of the depthwise convolutions, on a CPU."""
    if request.param == "plain":
        monkeypatch.setattr(elementary, "prefers_channels_last", lambda x: False)
    return request.param


# The equations


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def naive_linear(layer: nn.Linear, frame: Array) -> Array:
    return numbers(layer.weight) @ frame + (0 if layer.bias is None else numbers(layer.bias))


def naive_layer_norm(norm: nn.LayerNorm, frame: Array) -> Array:
    return (frame - frame.mean()) / np.sqrt(frame.var() + norm.eps) * numbers(norm.weight) + numbers(norm.bias)


def naive_scale_norm(norm: nn.Module, frame: Array) -> Array:
    return frame / max(np.linalg.norm(frame) / np.sqrt(len(frame)), 1e-5) * numbers(norm.gain)


def naive_global_norm(norm: nn.Module, x: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-8) * numbers(norm.weight) + numbers(norm.bias)


def naive_conv(weight: Tensor, x: Array, dilation: int = 1) -> Array:
    kernel = numbers(weight)  # (out, in per out, taps)
    n_out, n_in, n_taps = kernel.shape
    y = np.zeros((len(x), n_out))
    for frame in range(len(x)):
        for tap in range(n_taps):
            source = frame + (tap - n_taps // 2) * dilation
            if 0 <= source < len(x):
                for c in range(n_out):
                    y[frame, c] += kernel[c, :, tap] @ x[source, c * n_in : (c + 1) * n_in]
    return y


def naive_conv_feed_forward(module: ConvFeedForward, x: Array) -> Array:
    norm = naive_layer_norm if isinstance(module.norm, nn.LayerNorm) else naive_scale_norm
    y = np.stack([naive_linear(module.linear, norm(module.norm, frame)) for frame in x])
    y = y * sigmoid(y)
    return y + naive_conv(module.conv.weight, y)


def naive_rotary(x: Array, n_rotated: int) -> Array:
    y = x.copy()
    for t in range(len(x)):
        for i in range(0, n_rotated, 2):
            turned = complex(x[t, i], x[t, i + 1]) * np.exp(1j * t * 10000 ** (-i / n_rotated))
            y[t, i], y[t, i + 1] = turned.real, turned.imag
    return y


def naive_attention(module: JointAttention, shared: Array, values: Array) -> Array:
    gain, offset, size, n = numbers(module.gain), numbers(module.offset), module.group_frames, len(shared)
    heads = [naive_rotary(shared * gain[h] + offset[h], min(32, shared.shape[1])) for h in range(4)]
    query, global_query, key, global_key = heads
    out = np.zeros_like(values)
    for i in range(n):
        for j in range(n):
            weight = global_query[i] @ global_key[j] / n
            if i // size == j // size:
                weight += max(query[i] @ key[j] / size, 0) ** 2
            out[i] += weight * values[j]
    return out


def naive_attention_block(block: GatedAttentionBlock, x: Array) -> Array:
    half = (x.shape[1] + 1) // 2
    shifted = x.copy()
    shifted[0, :half], shifted[1:, :half] = 0, x[:-1, :half]
    hidden = naive_conv_feed_forward(block.to_hidden, shifted)
    attended = naive_attention(block.attention, naive_conv_feed_forward(block.to_shared, shifted), hidden)
    v, u = np.split(hidden, 2, axis=1)
    attended_v, attended_u = np.split(attended, 2, axis=1)
    return x + naive_conv_feed_forward(block.to_out, attended_u * v * sigmoid(attended_v * u))


def naive_instance_norm(norm: InstanceNorm, x: Array) -> Array:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * numbers(norm.weight) + numbers(norm.bias)


def naive_prelu(module: nn.Module, x: Array) -> Array:
    return np.where(x > 0, x, numbers(module.weight) * x)


def naive_fsmn_block(block: GatedFSMNBlock, x: Array) -> Array:
    y = np.stack([naive_layer_norm(block.norm1, naive_prelu(block.prelu, naive_linear(block.to_inner, f))) for f in x])
    u, fsmn = naive_conv_feed_forward(block.to_u, y), block.fsmn
    inner = np.stack([naive_linear(fsmn.project, np.maximum(naive_linear(fsmn.linear, frame), 0)) for frame in u])
    first = naive_prelu(fsmn.prelu1, naive_instance_norm(fsmn.norm1, naive_conv(fsmn.conv1.weight, inner)))
    second = naive_conv(fsmn.conv2.weight, np.concatenate([first, inner], axis=1), dilation=2)
    u = u + naive_prelu(fsmn.prelu2, naive_instance_norm(fsmn.norm2, second))
    y = naive_conv_feed_forward(block.to_v, y) * u + y
    return x + np.stack([naive_linear(block.to_out, naive_layer_norm(block.norm2, frame)) for frame in y])


def naive_masks(net: nn.Module, features: Array) -> Array:
    """(frames, n_filters) -> (n_sources, frames, n_filters)."""
    x = naive_global_norm(net.norm, features)
    x = np.stack([naive_linear(net.bottleneck, frame) for frame in x])
    n_channels = x.shape[1]
    for t in range(len(x)):
        for i in range(n_channels // 2):
            angle = t * 10000 ** (-2 * i / n_channels)
            x[t, i] += numbers(net.positions.scale)[0] * np.sin(angle)
            x[t, n_channels // 2 + i] += numbers(net.positions.scale)[0] * np.cos(angle)
    y = x
    for attention_block, fsmn_block in zip(net.attention_blocks, net.fsmn_blocks, strict=True):
        y = naive_fsmn_block(fsmn_block, naive_attention_block(attention_block, y))
    y = naive_global_norm(net.block_norm, np.stack([naive_layer_norm(net.frame_norm, frame) for frame in y]))
    y = naive_prelu(net.prelu, y + x)
    masks = []
    for source in range(net.n_sources):
        rows = slice(source * n_channels, (source + 1) * n_channels)
        own = [naive_linear(net.sources, frame)[rows] for frame in y]
        gated = [np.tanh(naive_linear(net.value, f)) * sigmoid(naive_linear(net.gate, f)) for f in own]
        masks.append([np.maximum(naive_linear(net.mask, frame), 0) for frame in gated])
    return np.array(masks)


def assert_equal(ours: Tensor, naive: Array) -> None:
    assert np.abs(naive).max() > 0.1
    torch.testing.assert_close(ours.detach(), torch.from_numpy(naive), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 4, 5, 11])
def test_attention_block_equals_the_equations(n_frames: int, path: str) -> None:
    torch.manual_seed(0)
    block = shaken(GatedAttentionBlock(6, 4, 4, group_frames=4, dropout=0.0), 0.5).double()
    x = noise(1, n_frames, 6).double()
    assert_equal(block(x, None, None)[0], naive_attention_block(block, numbers(x[0])))


@pytest.mark.parametrize("n_frames", [1, 2, 9, 84])
def test_fsmn_block_equals_the_equations(n_frames: int, path: str) -> None:
    torch.manual_seed(0)
    block = shaken(GatedFSMNBlock(6, 4, dropout=0.0), 0.2).double()
    x = noise(1, n_frames, 6).double()
    assert_equal(block(x, None)[0], naive_fsmn_block(block, numbers(x[0])))


@pytest.mark.parametrize("n_frames", [3, 21])
def test_mask_net_equals_the_equations(n_frames: int) -> None:
    net = tiny(group_frames=8).double().mask_net
    features = noise(1, 8, n_frames).double().relu()
    masks = net(features)[0].transpose(1, 2)
    assert_equal(masks, naive_masks(net, numbers(features[0].T)))


def test_mask_net_of_a_padded_batch_equals_the_equations_per_item() -> None:
    net, n_frames = tiny(group_frames=8).double().mask_net, torch.tensor([13, 21, 1])
    features = noise(3, 8, 21).double().relu()
    for item, count in zip(features, n_frames.tolist(), strict=True):
        item[:, count:] = 0
    masks = net(features, n_frames).transpose(2, 3)
    for item, own, count in zip(features, masks, n_frames.tolist(), strict=True):
        assert_equal(own[:, :count], naive_masks(net, numbers(item[:, :count].T)))


def test_wide_queries_rotate_32_channels() -> None:
    x = noise(2, 30, 4, 40).double()
    y = RotaryEmbedding(40)(x)
    torch.testing.assert_close(y[1, :, 2], torch.from_numpy(naive_rotary(numbers(x[1, :, 2]), 32)), rtol=0, atol=1e-5)


# The network


@pytest.mark.parametrize(
    ("n_sources", "n_blocks", "expected"),
    [(2, 24, 55_735_394), (1, 11, 26_146_350), (2, 11, 26_409_006)],
)
def test_parameter_count(n_sources: int, n_blocks: int, expected: int) -> None:
    with torch.device("meta"):
        net = MossFormer2(n_sources=n_sources, n_filters=512, n_blocks=n_blocks)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("n_samples", [1, 7, 16, 17, 136, 137, 1000])
def test_any_length(n_samples: int) -> None:
    estimate = tiny()(noise(2, n_samples))
    assert estimate.shape == (2, 2, n_samples)
    assert estimate.isfinite().all()


def test_independent_of_batch_and_padding(path: str) -> None:
    net = tiny()
    lengths = torch.tensor([1300, 1, 136, 137, 700])
    mixture = noise(5, 1300) * torch.tensor([[1.0], [1.0], [100.0], [1e-2], [5.0]])
    together = net(mixture, lengths)
    for item, estimate, length in zip(mixture, together, lengths.tolist(), strict=True):
        alone = net(item[None, :length])[0]
        torch.testing.assert_close(estimate[:, :length], alone, rtol=0, atol=1e-4 * alone.abs().max().item())
    torch.testing.assert_close(net(mixture), net(mixture, torch.full((5,), 1300)), rtol=1e-4, atol=1e-4)


def test_paths_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for fast in (True, False):
        monkeypatch.setattr(elementary, "prefers_channels_last", lambda x, fast=fast: fast)
        net, mixture = tiny().double(), noise(2, 300).double().requires_grad_()
        estimate = net(mixture)
        (estimate * noise(2, 2, 300, seed=2)).sum().backward()
        results.append([estimate, mixture.grad, *(p.grad for p in net.parameters())])
    for fast_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(fast_value, plain_value, rtol=1e-8, atol=1e-9)


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
    (estimate / max(amplitude, 1e-4) - noise(2, 2, 600, seed=2)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (estimate - expected).norm() <= (0.2 if dtype == torch.bfloat16 else 0.03) * expected.norm()


def test_large_scores_stay_finite_in_float16() -> None:
    """A score of 300 squared is 90 000, more than float16 holds."""
    attention = JointAttention(4, group_frames=8, dropout=0.0)
    with torch.no_grad():
        attention.gain.fill_(1.0)
    shared = torch.full((1, 16, 4), 24.5, dtype=torch.float16)  # 4 x 24.5^2 / 8 is 300
    attended = attention(shared, torch.full((1, 16, 2), 1e-3, dtype=torch.float16), None)
    assert attended.isfinite().all()
    assert attended.max() > 100


@pytest.mark.parametrize(
    "change", [{"group_frames": 32}, {"dropout": 0.5}, {"n_blocks": 1}, {"fsmn_channels": 8}, {"expansion": 2}]
)
def test_option_has_effect(change: dict[str, object]) -> None:
    assert (tiny()(noise(1, 600)) - tiny(**change)(noise(1, 600))).abs().max() > 1e-4


def test_dropout_acts_in_training_alone() -> None:
    net = tiny(dropout=0.3)
    assert (net(noise(1, 400)) - net(noise(1, 400))).abs().max() > 1e-4
    net.eval()
    assert torch.equal(net(noise(1, 400)), net(noise(1, 400)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"group_frames": 0}, "group_frames=0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1\.0 must be"),
        ({"n_filters": 7}, "n_filters=7 must be even"),
        ({"attention_channels": 5}, "attention_channels=5 must be even"),
        ({"expansion": 3}, "expansion=3 must be even"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_exported_graph_equals() -> None:
    net, mixture = tiny(n_blocks=1).eval(), noise(2, 400)
    exported = torch.export.export(net, (mixture,)).module()
    torch.testing.assert_close(exported(mixture), net(mixture), rtol=1e-4, atol=1e-4)
