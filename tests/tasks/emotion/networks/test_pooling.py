import math

import pytest
import torch

from hydraudio.tasks.emotion.networks.pooling import (
    AttentiveStatistics,
    Mean,
    MeanStd,
    MultiHeadAttention,
    SelfAttention,
    frame_statistics,
)

DIM = 6


@pytest.fixture
def frames():
    return torch.randn(4, 11, DIM, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def n_frames():
    return torch.tensor([11, 4, 1, 7])


def attentive_statistics(pooling, h):
    """Okabe et al. in their own order: second moment less squared mean."""
    e = torch.tanh(h @ pooling.projection.weight.T + pooling.projection.bias) @ pooling.score
    a = e.exp() / e.exp().sum()
    mean = (a[:, None] * h).sum(0)
    return torch.cat([mean, ((a[:, None] * h**2).sum(0) - mean**2).clamp_min(1e-5).sqrt()])


def self_attention(pooling, h):
    e = h @ pooling.score.weight[0]
    return (torch.softmax(e, 0)[:, None] * h).sum(0)


def multi_head(pooling, h):
    parts = []
    for query, part in zip(pooling.queries, h.split(DIM // 2, dim=1), strict=True):
        a = torch.softmax(part @ query / math.sqrt(DIM // 2), 0)
        parts.append(a @ part)
    return torch.cat(parts)


def mean_std(pooling, h):
    return torch.cat([h.mean(0), h.var(0, correction=0).clamp_min(1e-5).sqrt()])


CASES = {
    "attentive_statistics": (lambda: AttentiveStatistics(DIM), attentive_statistics),
    "narrow_attention": (lambda: AttentiveStatistics(DIM, attention_dim=3), attentive_statistics),
    "mean": (lambda: Mean(DIM), lambda pooling, h: h.mean(0)),
    "mean_std": (lambda: MeanStd(DIM), mean_std),
    "self_attention": (lambda: SelfAttention(DIM), self_attention),
    "multi_head": (lambda: MultiHeadAttention(DIM, n_heads=2), multi_head),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_a_loop_over_unpadded_items(case, frames, n_frames):
    build, reference = CASES[case]
    pooling = build().double()
    frames[1, 4:] = 100.0  # what lies behind an item must not count
    pooled = pooling(frames, n_frames)
    expected = torch.stack([reference(pooling, item[:n]) for item, n in zip(frames, n_frames, strict=True)])
    assert pooled.shape == (4, pooling.out_features)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_frames_and_parameters(case, frames, n_frames):
    pooling = CASES[case][0]()
    x = frames.float().requires_grad_()
    with torch.no_grad():
        x[3] = 0.0  # a constant item: the root of its variance must not make NaN
    pooling(x, n_frames).square().sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[1, 4:] == 0).all()
    assert (x.grad[1, :4] != 0).any()
    assert all((p.grad != 0).any() for p in pooling.parameters())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(case, dtype, frames, n_frames):
    pooling = CASES[case][0]()
    x = (frames + 8).to(dtype)  # large means: E[h^2] - mu^2 would cancel in half precision
    expected = pooling(x.float(), n_frames)
    with torch.autocast("cpu", dtype=dtype):
        pooled, pooled_from_float32 = pooling(x, n_frames), pooling(x.float(), n_frames)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype))
    torch.testing.assert_close(pooled_from_float32, expected)  # no product in half precision


@pytest.mark.parametrize("case", ["mean", "mean_std"])
def test_statistics_give_the_same(case, frames, n_frames):
    pooling = CASES[case][0]()
    statistics = frame_statistics(frames.unsqueeze(1), n_frames)
    assert statistics.shape == (4, 1, 2 * DIM)
    assert pooling.pools_statistics
    torch.testing.assert_close(pooling.from_statistics(statistics[:, 0]), pooling(frames, n_frames))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="n_heads=4 must divide the width of a frame, 6"):
        MultiHeadAttention(DIM, n_heads=4)
