"""Chunked separation against the same function without chunks, and against known sources."""

import itertools

import numpy as np
import pytest
import torch

from hydraudio.audio.overlap_add import (
    chunk_sizes,
    coverage_weights,
    cut_chunks,
    fade_in,
    separate_blocks,
    separate_long,
)

RATE_HZ = 1000
OPTIONS = {"sample_rate": RATE_HZ, "chunk_s": 2.0, "overlap_s": 0.5}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def identity(waveform):
    return torch.stack([waveform, -2 * waveform], dim=1)


class Oracle:
    """Separates by looking the chunk up in the known mixture; gives the sources of every call in another order."""

    def __init__(self, sources, residue=0.0):
        self.sources, self.mixture = sources, sources.sum(0)
        self.orders = itertools.cycle(list(itertools.permutations(range(len(sources))))[::-1])
        self.residue = residue

    def __call__(self, waveform):
        return torch.stack([self.separate(row) for row in waveform])

    def separate(self, row):
        n = len(row)
        starts = [t for t in range(self.mixture.shape[-1] - n + 1) if torch.equal(self.mixture[t : t + n], row)]
        part = self.sources[:, starts[0] : starts[0] + n]
        part = part + self.residue * part.sum(0) + 1e-4 * noise(*part.shape, seed=starts[0])
        return part[list(next(self.orders))]


def voices(n_samples, n_sources=2):
    """Noises of clearly different colour, in place of talkers."""
    white = noise(n_sources, n_samples + 64)
    kernels = torch.stack(
        [torch.cos(torch.arange(64) * (0.3 + 0.8 * k)) * torch.hann_window(64) for k in range(n_sources)]
    )
    return torch.nn.functional.conv1d(white[None], kernels[:, None], groups=n_sources)[0, :, :n_samples] / 5


def assert_sources(estimate, sources, tolerance=1e-2):
    """Equal up to one order for the whole length."""
    errors = [(estimate[list(order)] - sources).abs().max() for order in itertools.permutations(range(len(sources)))]
    assert min(errors) < tolerance


@pytest.mark.parametrize("n_samples", [1, 100, 1999, 2000, 2001, 3499, 3500, 3501, 9000, 12345])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_identity_comes_back_exactly_at_any_length(n_samples, batch_size):
    waveform = noise(n_samples)
    estimate = separate_long(identity, waveform, batch_size=batch_size, **OPTIONS)
    assert torch.equal(estimate, identity(waveform[None])[0])


def test_local_function_equals_the_unchunked_result():
    kernel = noise(2, 1, 2 * 125 + 1, seed=3)  # reaches a quarter of the overlap to either side

    def function(waveform):
        return torch.nn.functional.conv1d(waveform[:, None].double(), kernel.double(), padding=125)

    waveform = noise(7321)
    expected = function(waveform[None])[0]
    assert torch.allclose(separate_long(function, waveform, **OPTIONS), expected, atol=1e-9)


@pytest.mark.parametrize("n_samples", [1, 7, 1000])
def test_fade_is_symmetric(n_samples):
    weights = fade_in(n_samples)
    assert len(weights) == n_samples
    assert torch.allclose(weights.flip(0) + weights, torch.ones_like(weights), atol=1e-15)


def test_fade_changes_nothing_that_is_equal_on_both_sides():
    weights = fade_in(1000)
    assert torch.equal(weights[:250], torch.zeros_like(weights[:250]))
    for value in (torch.pi, 1e-7):
        constant = torch.full((1000,), value)
        assert torch.equal(torch.lerp(constant, constant, weights.float()), constant)


@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_sources_keep_their_order(n_sources):
    sources = voices(9700, n_sources)
    oracle = Oracle(sources)
    assert_sources(separate_long(oracle, oracle.mixture, **OPTIONS), sources)


def test_loud_source_decides_where_the_other_only_holds_its_residue():
    sources = voices(9700)
    sources[1, 1000:] = 0
    oracle = Oracle(sources, residue=0.05)
    assert_sources(separate_long(oracle, oracle.mixture, **OPTIONS), sources, tolerance=0.2)


@pytest.mark.parametrize("n_sources", [2, 3])
def test_order_survives_silence_longer_than_an_overlap(n_sources):
    sources = voices(11000, n_sources)
    for pause in (1400, 2900, 4400):  # every overlap, [1500, 2000) and so on, is silent
        sources[:, pause : pause + 700] = 0
    oracle = Oracle(sources)
    estimate = separate_long(oracle, oracle.mixture, **OPTIONS)
    assert_sources(estimate, sources)


def test_all_silent_keeps_the_order():
    estimate = separate_long(lambda w: torch.stack([w, w], 1), torch.zeros(9000), **OPTIONS)
    assert torch.equal(estimate, torch.zeros(2, 9000))


def test_channels_share_one_order():
    sources = voices(9700)
    oracle = Oracle(sources)
    stereo = torch.stack([oracle.mixture, oracle.mixture])
    estimate = separate_long(oracle, stereo, **OPTIONS)
    assert estimate.shape == (2, 2, 9700)
    assert torch.allclose(estimate[0], estimate[1], atol=1e-2)
    assert_sources(estimate[1], sources)


def test_channel_that_starts_late_takes_the_order_of_the_others():
    sources = voices(9700)
    burst = (torch.arange(9700) // 300 % 2).float()  # the talkers take turns, so their envelopes differ
    sources = sources * torch.stack([burst, 1 - burst])
    orders = itertools.cycle([[0, 1], [1, 0], [1, 0]])

    def function(waveform):  # an oracle that leaves silence silent
        rows = []
        for row in waveform:
            n, order = row.shape[-1], next(orders)
            start = next(t for t in range(9700 - n + 1) if torch.equal(row[-200:], mixture[t + n - 200 : t + n]))
            rows.append((sources[:, start : start + n] * (row != 0))[order])
        return torch.stack(rows)

    mixture = sources.sum(0)
    second = mixture.clone()
    second[:1500] = 0
    estimate = separate_long(function, torch.stack([mixture, second]), **OPTIONS)
    assert_sources(estimate[0], sources)
    assert torch.allclose(estimate[0, :, 1500:], estimate[1, :, 1500:])


def test_stream_of_uneven_blocks_equals_one_block():
    waveform = noise(1, 20011)
    sizes = [1, 4999, 3, 7000, 8008]
    blocks = waveform.split(sizes, dim=-1)
    pieces = list(separate_blocks(identity, blocks, **OPTIONS))
    assert max(piece.shape[-1] for piece in pieces) <= 2000
    assert torch.equal(torch.cat(pieces, -1), identity(waveform[0][None])[:1])


def test_stream_is_read_only_as_far_as_needed():
    n_read = 0

    def blocks():
        nonlocal n_read
        for _ in range(1000):
            n_read += 1
            yield torch.ones(1, 500)

    pieces = separate_blocks(identity, blocks(), **OPTIONS)
    for _ in range(3):
        next(pieces)
    assert n_read < 20


def test_chunks_are_full_and_the_last_ends_at_the_end():
    chunks = list(cut_chunks([torch.arange(23.0)[None]], chunk_samples=10, hop_samples=8))
    assert [start for start, _ in chunks] == [0, 8, 13]
    assert all(torch.equal(chunk[0], torch.arange(start, start + 10.0)) for start, chunk in chunks)


def test_function_sees_batches_of_chunks():
    shapes = []

    def function(waveform):
        shapes.append(tuple(waveform.shape))
        return waveform[:, None]

    separate_long(function, noise(2, 9000), batch_size=4, **OPTIONS)
    assert shapes == [(8, 2000), (4, 2000)]


@pytest.mark.parametrize(("chunk_s", "overlap_s"), [(2, 0), (2, 1.1), (0, 0), (1e-4, 1e-5)])
def test_wrong_chunks_are_refused(chunk_s, overlap_s):
    with pytest.raises(ValueError, match="at most half a chunk"):
        chunk_sizes(8000, chunk_s, overlap_s)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        separate_long(identity, torch.zeros(0), **OPTIONS)
    with pytest.raises(ValueError, match="same batch and time"):
        separate_long(lambda w: w[:, None, 1:], noise(5000), **OPTIONS)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(0, 4)], [1]),
        ([(0, 4), (4, 8)], [0.5, 0.5]),
        ([(0, 4), (4, 8), (4, 8)], [0.5, 0.25, 0.25]),
        ([(0, 4), (1, 5)], [2.5 / 5, 2.5 / 5]),
    ],
)
def test_weights_do_not_depend_on_how_often_a_moment_is_looked_at(bounds, expected):
    np.testing.assert_allclose(coverage_weights(*np.array(bounds, float).T), expected)
