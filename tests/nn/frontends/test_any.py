"""What every front-end promises, on everything that a batch may hold."""

from __future__ import annotations

import pytest
import torch

from hydraudio.nn.frontends.kaldi import KaldiFbank
from hydraudio.nn.frontends.librosa_db import LibrosaDb
from hydraudio.nn.frontends.mel import LogMel

FRONT_ENDS = {
    "log_mel": LogMel,
    "kaldi_fbank": KaldiFbank,
    "librosa_db": LibrosaDb,
    "librosa_db_mono": lambda: LibrosaDb(n_channels=1),
}


@pytest.fixture(params=FRONT_ENDS)
def front_end(request):
    return FRONT_ENDS[request.param]()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("n_samples", [1, 159, 160, 399, 400, 401, 16000, 32123])
def test_shapes(front_end, n_samples):
    found = front_end(noise(2, n_samples))
    assert found.shape == (2, front_end.n_channels, front_end.n_frames(n_samples), front_end.n_bins)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert front_end.frame_counts(torch.tensor([n_samples])).tolist() == [front_end.n_frames(n_samples)]


@pytest.mark.parametrize(
    "waveform",
    [
        torch.zeros(1, 16000),
        torch.full((1, 16000), 0.5),
        torch.ones(1, 16000),
        torch.sign(noise(1, 16000)),
        noise(1, 16000) * 1e-7,
        torch.nn.functional.one_hot(torch.tensor([8000]), 16000).float(),
    ],
    ids=["silence", "dc", "full_scale_dc", "full_scale_noise", "quiet", "click"],
)
def test_extremes_are_finite(front_end, waveform):
    found = front_end(waveform.requires_grad_())
    assert found.isfinite().all()
    found.sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()


def test_padding_changes_nothing(front_end):
    lengths = torch.tensor([16000, 9001, 500, 1])
    waveform = noise(4, 16000)
    waveform = waveform * (torch.arange(16000) < lengths[:, None])
    together = front_end(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = front_end(waveform[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :, : alone.shape[2]], alone, atol=1e-4, rtol=0)
        silence = front_end(torch.zeros(1, 1))[..., 0, 0] if alone.shape[2] < together.shape[2] else None
        if silence is not None:
            assert (together[row, :, alone.shape[2] :] - silence.view(-1, 1, 1)).abs().max() == 0


def test_companions_change_nothing(front_end):
    waveform = noise(3, 16000)
    other = torch.cat([waveform[:1], 10 * noise(2, 16000, seed=1)])
    torch.testing.assert_close(front_end(other)[0], front_end(waveform)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision(front_end, dtype):
    waveform = noise(2, 8000)
    expected = front_end(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(waveform), expected)
    rounded = waveform.to(dtype)
    assert torch.equal(front_end(rounded), front_end(rounded.float()))
    torch.testing.assert_close(front_end(waveform.double()).float(), expected, atol=2e-3, rtol=0)


def test_state_dict_is_empty(front_end):
    assert not front_end.state_dict()


@pytest.mark.slow
def test_graph_without_breaks(front_end):
    waveform, lengths = noise(2, 16000), torch.tensor([16000, 7000])
    compiled = torch.compile(front_end, fullgraph=True)
    waveform[1, 7000:] = 0
    torch.testing.assert_close(compiled(waveform), front_end(waveform), atol=1e-3, rtol=0)
    torch.testing.assert_close(compiled(waveform, lengths), front_end(waveform, lengths), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_keeps_its_front_end(front_end, dtype):
    waveform = noise(2, 8000)
    expected = front_end(waveform)
    network = torch.nn.Sequential(front_end, torch.nn.Linear(2, 2)).to(dtype)
    assert network[1].weight.dtype == dtype
    assert torch.equal(front_end(waveform), expected)
    assert front_end.double().filters.dtype == torch.float64
