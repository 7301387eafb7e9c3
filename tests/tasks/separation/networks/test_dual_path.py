"""The dual-path frame: chunks, overlap-add, norms and masks, apart from what the blocks do."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.nn.layers import elementary
from hydraudio.tasks.separation.networks.dual_path import (
    ChannelsLastNorm,
    DualPathMaskNet,
    count_chunks,
    overlap_add,
    split_into_chunks,
)

FRAMES = [1, 4, 5, 6, 7, 9, 10, 11, 15, 16, 20, 21, 57]


class Mixing(nn.Module):
    """A block in which every step hears all valid steps of its sequence: x_t + mean_s(W x_s)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, n_steps: Tensor | None = None) -> Tensor:
        y = self.linear(x)
        if n_steps is None:
            return x + y.mean(1, keepdim=True)
        valid = torch.arange(x.shape[1]) < n_steps[:, None]
        return x + (y * valid[..., None]).sum(1, keepdim=True) / n_steps[:, None, None]


def mask_net(chunk_size: int = 10, seed: int = 0, **options: object) -> DualPathMaskNet:
    torch.manual_seed(seed)
    blocks = {"intra": lambda: Mixing(4), "inter": lambda: Mixing(4)}
    net = DualPathMaskNet(2, 6, dim=4, **blocks, n_layers=2, chunk_size=chunk_size, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk_size", [2, 5, 10])
@pytest.mark.parametrize("n_frames", FRAMES)
def test_chunks_by_definition(n_frames: int, chunk_size: int) -> None:
    x = noise(2, n_frames, 3)
    chunks, half = split_into_chunks(x, chunk_size), chunk_size // 2
    assert chunks.shape[1] == count_chunks(n_frames, chunk_size)
    for index, chunk in enumerate(chunks.unbind(1)):
        start = index // 2 * chunk_size + index % 2 * half - half
        for offset in range(chunk_size):
            inside = 0 <= start + offset < n_frames
            expected = x[:, start + offset] if inside else torch.zeros(2, 3)
            assert torch.equal(chunk[:, offset], expected)


@pytest.mark.parametrize("chunk_size", [2, 5, 10])
@pytest.mark.parametrize("n_frames", FRAMES)
def test_overlap_add_counts_every_frame_twice(n_frames: int, chunk_size: int) -> None:
    x = noise(2, n_frames, 3)
    assert torch.equal(overlap_add(split_into_chunks(x, chunk_size), n_frames), 2 * x)


def test_chunks_of_even_size_are_a_fold() -> None:
    chunks = noise(1, count_chunks(33, 10), 10, 3)
    columns = chunks[0].permute(2, 1, 0).reshape(1, 30, -1)
    folded = F.fold(columns, (1, 5 * (chunks.shape[1] + 1)), (1, 10), stride=(1, 5))[0, :, 0]
    torch.testing.assert_close(overlap_add(chunks, 33)[0].T, folded[:, 5:38])


@pytest.mark.parametrize("fast", [True, False])
def test_global_norm_is_group_norm(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementary, "prefers_channels_last", lambda x: fast)
    norm, x = ChannelsLastNorm("gLN", 3), 5 + noise(2, 7, 4, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = F.group_norm(x.permute(0, 3, 1, 2), 1, norm.weight, norm.bias, 1e-8).permute(0, 2, 3, 1)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gLN", "cLN"])
def test_norm_of_valid_part(name: str) -> None:
    norm, x = ChannelsLastNorm(name, 3), 5 + noise(1, 7, 4, 3)
    valid = (torch.arange(7) < 5).view(1, 7, 1, 1)
    y = norm(x, valid)
    torch.testing.assert_close(y[:, :5], norm(x[:, :5]))
    assert not y[:, 5:].any()


@pytest.mark.parametrize("name", ["gLN", "cLN"])
def test_norm_statistics_are_float32(name: str) -> None:
    x = (300 * noise(1, 400, 8)).half()  # squares overflow float16
    torch.testing.assert_close(
        ChannelsLastNorm(name, 8)(x).float(), ChannelsLastNorm(name, 8)(x.float()), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("skip_around_intra", [True, False])
@pytest.mark.parametrize("norm", ["gLN", "cLN"])
@pytest.mark.parametrize("chunk_size", [5, 10])
def test_padding_changes_nothing(chunk_size: int, norm: str, skip_around_intra: bool) -> None:
    net = mask_net(chunk_size, norm=norm, skip_around_intra=skip_around_intra)
    n_frames = torch.tensor([57, 40, 20, 5, 1])
    features = noise(5, 6, 57).abs()
    features = features * (torch.arange(57) < n_frames[:, None])[:, None]
    together = net(features, n_frames)
    for item, masks, n in zip(features, together, n_frames.tolist(), strict=True):
        torch.testing.assert_close(masks[..., :n], net(item[None, :, :n])[0], rtol=0, atol=1e-5)
    assert (together - net(features)).abs().max() > 1e-3  # without n_frames the padding counts


def test_fast_and_plain_paths_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for fast in (True, False):
        monkeypatch.setattr(elementary, "prefers_channels_last", lambda x, fast=fast: fast)
        net, features = mask_net(), noise(2, 6, 33).requires_grad_()
        (net(features) * noise(2, 2, 6, 33, seed=2)).sum().backward()
        results.append([net(features), features.grad, *(p.grad for p in net.parameters())])
    for fast_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(fast_value, plain_value, rtol=1e-4, atol=1e-4)


def test_skip_around_intra_has_effect() -> None:
    features = noise(1, 6, 33)
    assert (mask_net()(features) - mask_net(skip_around_intra=False)(features)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 1}, "chunk_size=1 leaves no half overlap"),
        ({"norm": "ln"}, "norm='ln' is unknown; choose one of gLN, cLN"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_net(**options)
