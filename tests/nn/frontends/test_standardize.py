"""Spectrograms by the statistics of a corpus or of each clip."""

from __future__ import annotations

import pytest
import torch

from hydraudio.nn.frontends.standardize import Standardize, Statistics


def spectrogram() -> torch.Tensor:
    return torch.randn(3, 1, 40, 8, generator=torch.Generator().manual_seed(0)) * 2 - 7 + torch.arange(8)


def statistics(*batches: torch.Tensor, n_frames: torch.Tensor | None = None) -> Statistics:
    found = Statistics()
    for batch in batches:
        found.add(batch, n_frames)
    return found


@pytest.mark.parametrize("per_bin", [False, True])
def test_corpus(per_bin):
    standardize = Standardize("corpus", n_bins=8, per_bin=per_bin, scale=0.5)
    assert standardize.needs_statistics
    x = spectrogram()
    standardize.fit(statistics(x[:1], x[1:]))
    assert not standardize.needs_statistics
    axes = (0, 1, 2) if per_bin else (0, 1, 2, 3)
    expected = 0.5 * (x - x.mean(axes)) / x.std(axes, correction=0)
    torch.testing.assert_close(standardize(x), expected, atol=1e-5, rtol=1e-5)
    other = Standardize("corpus", n_bins=8, per_bin=per_bin, scale=0.5)
    other.load_state_dict(standardize.state_dict())
    assert not other.needs_statistics
    assert torch.equal(other(x), standardize(x))


def test_an_empty_bin_is_only_centred():
    x = spectrogram()
    x[..., 3] = -15.9424
    standardize = Standardize("corpus", n_bins=8, per_bin=True)
    standardize.fit(statistics(x))
    assert standardize(x)[..., 3].abs().max() < 1e-5
    quiet = x.clone()
    quiet[..., 3] += 1.0
    assert standardize(quiet)[..., 3].max() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("per_bin", [False, True])
def test_clip_and_its_padding(per_bin):
    standardize = Standardize("clip", n_bins=8, per_bin=per_bin)
    x, n_frames = spectrogram(), torch.tensor([40, 25, 1])
    together = standardize(x, n_frames)
    for row, length in enumerate(n_frames.tolist()):
        alone = standardize(x[row : row + 1, :, :length])
        torch.testing.assert_close(together[row : row + 1, :, :length], alone, atol=1e-5, rtol=1e-5)
    assert standardize(torch.full((1, 1, 5, 8), -15.9)).abs().max() == 0


def test_statistics_leave_the_padding_out():
    x, n_frames = spectrogram(), torch.tensor([40, 25, 1])
    rows = torch.cat([x[row, 0, :length] for row, length in enumerate(n_frames.tolist())])
    mean, std = statistics(x, n_frames=n_frames).mean_and_std(per_bin=True)
    torch.testing.assert_close(mean.float(), rows.mean(0))
    torch.testing.assert_close(std.float(), rows.std(0, correction=0))


def test_half_precision_and_none():
    x = spectrogram()
    with torch.autocast("cpu", torch.bfloat16):
        assert Standardize("clip", n_bins=8)(x).dtype == torch.float32
    assert torch.equal(Standardize("none", n_bins=8)(x), x)
    assert not Standardize("none", n_bins=8).state_dict()


def test_what_cannot_be_fitted():
    with pytest.raises(ValueError, match="never change"):
        Standardize("corpus", n_bins=8).fit(statistics(torch.zeros(1, 1, 4, 8)))
    with pytest.raises(ValueError, match="no frames"):
        Standardize("corpus", n_bins=8).fit(Statistics())
    with pytest.raises(ValueError, match="kind='batch'"):
        Standardize("batch", n_bins=8)


def test_statistics_stay_in_float32():
    standardize = Standardize("corpus", n_bins=8)
    standardize.fit(statistics(spectrogram()))
    before = standardize.mean.clone()
    torch.nn.Sequential(standardize).to(torch.bfloat16)
    assert torch.equal(standardize.mean, before)
    assert standardize.mean.dtype == torch.float32
