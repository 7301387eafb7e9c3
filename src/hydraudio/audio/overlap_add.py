"""Recordings of any length, chunk by chunk: cutting (`cut_chunks`), averaging over chunks (`coverage_weights`),
and separation by overlap-add whose chunks keep the sources in order.

A network trained with permutation-invariant losses returns the sources of every chunk in an order of its own.
Each chunk is therefore reordered against what came before it, and only then cross-faded.

Order. Source j of the new chunk continues source k of the result with the score

    <p_k, e_j> / sqrt(sum_k |p_k|^2 * sum_j |e_j|^2) + 0.001 * voice(k, j)

where p and e are the result and the new chunk on their overlap; the assignment with the largest sum is taken
(Hungarian algorithm). Not normalising the signals one by one lets the loud sources decide, as it should be:
the residue in the other outputs often resembles them. Overlap parts 50 dB or more below the loudest chunk so
far count as silent and say nothing. Where the overlap leaves the order open, ``voice`` decides: the
correlation of the sources' long-term log spectra, of the whole past with that of the new chunk. This is a
guess from timbre, for pauses in which nobody speaks for the length of an overlap. Where nothing is known, the
order is kept.

Channels are separated one by one. Each keeps its own order over time; a channel without a past takes the
order of the channel with the longest one, by the correlation of the sources' energy envelopes (which level,
polarity and small delays leave alone).

Cross-fade. The outer quarters of the overlap only give context to the network; the result passes from one
chunk to the next in the middle half, with raised-cosine weights w and 1 - w. A function that looks no further
than a quarter of the overlap to either side therefore gives the same result as without chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

SILENCE_DB = -50.0
"""Mean power of an overlap part, relative to the loudest chunk's, below which it is silent."""

VOICE_WEIGHT = 1e-3
"""Weight of timbre against waveform: it decides between sources 30 dB below the loudest of the overlap."""

Chunk = tuple[int, Tensor]
"""First sample of a window, and the window, (channels, time)."""

N_FFT = 512
N_BANDS = 64


def separate_long(
    function: Callable[[Tensor], Tensor],
    waveform: Tensor,
    *,
    sample_rate: int,
    chunk_s: float,
    overlap_s: float,
    batch_size: int = 1,
) -> Tensor:
    """Apply a separation function chunk by chunk.

    Args:
        function: (batch, time) -> (batch, n_sources, time), such as ``task.predict_waveform``.
        waveform: (time,) or (channels, time), of any length.
        sample_rate: in Hz.
        chunk_s: length of a chunk; a shorter waveform is one chunk.
        overlap_s: overlap of neighbouring chunks, at most half a chunk.
        batch_size: chunks that go through the function together.

    Returns:
        (n_sources, time), or (channels, n_sources, time) for a waveform with channels.

    >>> recording = torch.randn(30 * 8000)
    >>> def halve(batch):
    ...     return torch.stack([0.5 * batch, 0.5 * batch], dim=1)
    >>> halves = separate_long(halve, recording, sample_rate=8000, chunk_s=8, overlap_s=2)
    >>> halves.shape, torch.allclose(halves.sum(0), recording, atol=1e-6)
    (torch.Size([2, 240000]), True)
    """
    if waveform.dim() not in (1, 2) or waveform.numel() == 0:
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}, expected (time,) or (channels, time), not empty")
    pieces = separate_blocks(
        function,
        [waveform.reshape(-1, waveform.shape[-1])],
        sample_rate=sample_rate,
        chunk_s=chunk_s,
        overlap_s=overlap_s,
        batch_size=batch_size,
    )
    estimate = torch.cat(list(pieces), dim=-1)
    return estimate[0] if waveform.dim() == 1 else estimate


def separate_blocks(
    function: Callable[[Tensor], Tensor],
    blocks: Iterable[Tensor],
    *,
    sample_rate: int,
    chunk_s: float,
    overlap_s: float,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Apply a separation function to a stream, as `separate_long`, in memory that does not grow with the stream.

    Args:
        blocks: pieces of the recording, each (channels, time) of any length.

    Returns:
        Pieces (channels, n_sources, time) that together are as long as the recording.
    """
    chunk_samples, overlap_samples = chunk_sizes(sample_rate, chunk_s, overlap_s)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    chunks = cut_chunks(blocks, chunk_samples, chunk_samples - overlap_samples)
    return _stitched(_apply(function, chunks, batch_size), overlap_samples)


def chunk_sizes(sample_rate: int, chunk_s: float, overlap_s: float) -> tuple[int, int]:
    """Return the samples of a chunk and of an overlap, checked."""
    chunk_samples, overlap_samples = round(chunk_s * sample_rate), round(overlap_s * sample_rate)
    if overlap_samples < 1 or 2 * overlap_samples > chunk_samples:
        raise ValueError(
            f"overlap_s={overlap_s} and chunk_s={chunk_s} at {sample_rate} Hz: the overlap must be longer "
            "than nothing and at most half a chunk; try chunk_s=10 overlap_s=2"
        )
    return chunk_samples, overlap_samples


def cut_chunks(blocks: Iterable[Tensor], chunk_samples: int, hop_samples: int) -> Iterator[Chunk]:
    """Cut a stream of (channels, time) blocks into (first sample, (channels, chunk_samples)).

    All chunks have the full length: the last one ends where the stream ends and overlaps its predecessor by
    more than the others do. Only a stream that is shorter than one chunk gives a shorter chunk.
    """
    buffer: Tensor | None = None
    start, n_chunks = 0, 0
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block], dim=-1)
        while buffer.shape[-1] >= chunk_samples + (hop_samples if n_chunks else 0):
            if n_chunks:
                buffer, start = buffer[..., hop_samples:], start + hop_samples
            yield start, buffer[..., :chunk_samples]
            n_chunks += 1
    if buffer is None or buffer.shape[-1] == 0:
        return
    n_behind = buffer.shape[-1] - chunk_samples
    if n_chunks == 0:
        yield 0, buffer
    elif n_behind > 0:
        yield start + n_behind, buffer[..., n_behind:]


def _apply(
    function: Callable[[Tensor], Tensor], chunks: Iterable[tuple[int, Tensor]], batch_size: int
) -> Iterator[tuple[int, Tensor]]:
    """(start, (channels, time)) -> (start, (channels, n_sources, time)), `batch_size` chunks at a time."""
    for group in in_groups(chunks, batch_size):
        yield from _apply_group(function, group)


def in_groups(chunks: Iterable[Chunk], batch_size: int) -> Iterator[list[Chunk]]:
    """Group neighbouring chunks that go through a network together; the last group may be smaller."""
    group: list[Chunk] = []
    for chunk in chunks:
        group.append(chunk)
        if len(group) == batch_size:
            yield group
            group = []
    if group:
        yield group


def coverage_weights(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Weigh windows so that what is known of each can be averaged over the recording.

    Args:
        starts: (n_windows,) of the windows, ascending, in any unit of time.
        ends: (n_windows,); the windows cover the recording without gaps.

    Returns:
        (n_windows,) float64, summing to 1: the time that each window covers, shared with others that cover it.

    >>> coverage_weights(np.array([0, 6]), np.array([12, 14])).round(3).tolist()  # they share 6 to 12
    [0.643, 0.357]
    """
    edges = np.unique(np.concatenate([starts, ends]))
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    n_covering = np.cumsum(np.bincount(first, minlength=len(edges)) - np.bincount(last, minlength=len(edges)))[:-1]
    shared = np.concatenate([[0.0], np.cumsum(np.diff(edges) / n_covering)])
    return (shared[last] - shared[first]) / (edges[-1] - edges[0])


def _apply_group(function: Callable[[Tensor], Tensor], group: list[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
    rows = torch.cat([chunk for _, chunk in group])
    estimate = function(rows)
    if estimate.dim() != 3 or (estimate.shape[0], estimate.shape[-1]) != tuple(rows.shape):
        raise ValueError(
            f"the function gave {tuple(estimate.shape)} for {tuple(rows.shape)}, "
            "expected (batch, n_sources, time) with the same batch and time"
        )
    return [(start, part) for (start, _), part in zip(group, estimate.chunk(len(group)), strict=True)]


def _stitched(estimates: Iterable[tuple[int, Tensor]], overlap_samples: int) -> Iterator[Tensor]:
    stitcher = Stitcher(overlap_samples)
    for start, estimate in estimates:
        yield stitcher.add(start, estimate)
    if stitcher.tail is not None:
        yield stitcher.tail


class Stitcher:
    """Join overlapping estimates; hold back the last overlap, which the next chunk may still change."""

    def __init__(self, overlap_samples: int) -> None:
        self.overlap_samples = overlap_samples
        self.tail: Tensor | None = None
        """(channels, n_sources, overlap) end of the result so far."""
        self._end = 0
        self._fade = fade_in(overlap_samples)
        self._order = SourceOrder()

    def add(self, start: int, estimate: Tensor) -> Tensor:
        """Take the (channels, n_sources, time) estimate that begins at `start`; return what is final."""
        if self.tail is None:
            joined = self._order.restore(estimate, None, 0)
        else:
            skip = self._end - self.overlap_samples - start
            estimate = self._order.restore(estimate, self.tail, skip)
            head = estimate[..., skip : skip + self.overlap_samples]
            head = torch.lerp(self.tail, head, self._fade.to(head))
            joined = torch.cat([head, estimate[..., skip + self.overlap_samples :]], dim=-1)
        self._end = start + estimate.shape[-1]
        n_final = max(joined.shape[-1] - self.overlap_samples, 0)
        self.tail = joined[..., n_final:]
        return joined[..., :n_final]


def fade_in(n_samples: int) -> Tensor:
    """Return (n_samples,) weights of the later chunk: a quarter 0, a raised cosine, a quarter 1."""
    n_margin = n_samples // 4
    n_ramp = n_samples - 2 * n_margin
    ramp = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(n_ramp, dtype=torch.float64) + 0.5) / n_ramp)
    return torch.cat([torch.zeros(n_margin), ramp, torch.ones(n_margin)])


class SourceOrder:
    """Put the sources of successive chunks into one order (see the module's text)."""

    def __init__(self) -> None:
        self._level: Tensor | None = None  # (channels,) mean power of the loudest chunk
        self._loudest_frame: Tensor | None = None  # (channels,) summed band power
        self._log_spectrum: Tensor | None = None  # (channels, n_sources, bands) sums over active frames
        self._n_frames: Tensor | None = None  # (channels, n_sources) active frames

    def restore(self, estimate: Tensor, tail: Tensor | None, skip: int) -> Tensor:
        """Reorder one chunk.

        Args:
            estimate: (channels, n_sources, time) in any order per channel.
            tail: (channels, n_sources, overlap) in the right order; None at the first chunk.
            skip: sample of `estimate` at which `tail` begins.

        Returns:
            (channels, n_sources, time) in the right order.
        """
        if estimate.shape[1] == 1:
            return estimate
        power = band_power(estimate)
        self._level = _running_max(self._level, estimate.square().mean(-1).sum(-1))
        self._loudest_frame = _running_max(self._loudest_frame, power.sum((1, 3)).amax(-1))
        order = self._find(estimate, power, tail, skip)
        self._remember(_take(power, order))
        return _take(estimate, order)

    def _find(self, estimate: Tensor, power: Tensor, tail: Tensor | None, skip: int) -> Tensor:
        """(channels, n_sources): which source of the chunk belongs at each place."""
        n_channels, n_sources = estimate.shape[:2]
        waveform = torch.zeros(n_channels, n_sources, n_sources, dtype=torch.float64)
        if tail is not None:
            waveform = self._waveform_score(tail, estimate[..., skip : skip + tail.shape[-1]])
        keep = 1e-9 * torch.eye(n_sources, dtype=torch.float64)
        order = torch.arange(n_sources).repeat(n_channels, 1)
        channels = self._by_history(n_channels)
        for channel in channels:
            voice = self._voice_score(channel, power, channels[0], order)
            order[channel] = _assign(waveform[channel] + VOICE_WEIGHT * voice + keep)
        return order

    def _waveform_score(self, tail: Tensor, head: Tensor) -> Tensor:
        """(channels, n_sources of the tail, n_sources of the head); silent sources have zeros."""
        tail, head = self._without_silence(tail.double()), self._without_silence(head.double())
        energy = tail.square().sum((1, 2)) * head.square().sum((1, 2))
        return ((tail @ head.mT) / energy.sqrt().clamp_min(1e-30)[:, None, None]).cpu()

    def _without_silence(self, part: Tensor) -> Tensor:
        assert self._level is not None
        floor = self._level.to(part)[:, None, None] * 10 ** (SILENCE_DB / 10)
        return part * (part.square().mean(-1, keepdim=True) > floor)

    def _by_history(self, n_channels: int) -> list[int]:
        """Channels, the one with the longest past first."""
        if self._n_frames is None:
            return list(range(n_channels))
        return self._n_frames.sum(1).argsort(descending=True, stable=True).tolist()

    def _voice_score(self, channel: int, power: Tensor, reference: int, order: Tensor) -> Tensor:
        """(n_sources, n_sources) in [-1, 1]."""
        n_sources = power.shape[1]
        if self._n_frames is not None and self._log_spectrum is not None and self._n_frames[channel].any():
            past = _mean(self._log_spectrum[channel], self._n_frames[channel])
            spectrum, n_frames = self._active_log_spectrum(power)
            return _correlation(past, _mean(spectrum[channel], n_frames[channel]))
        if channel == reference:
            return torch.zeros(n_sources, n_sources, dtype=torch.float64)
        envelope = power.sum(-1).sqrt()
        return _correlation(envelope[reference, order[reference]], envelope[channel])

    def _remember(self, power: Tensor) -> None:
        spectrum, n_frames = self._active_log_spectrum(power)
        if self._log_spectrum is None or self._n_frames is None:
            self._log_spectrum, self._n_frames = spectrum, n_frames
        else:
            self._log_spectrum, self._n_frames = self._log_spectrum + spectrum, self._n_frames + n_frames

    def _active_log_spectrum(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of log band powers over active frames (channels, n_sources, bands), and their number."""
        assert self._loudest_frame is not None
        floor = self._loudest_frame[:, None, None] * 10 ** (SILENCE_DB / 10)
        active = (power.sum(-1) > floor)[..., None]
        return (power.clamp_min(1e-20).log() * active).sum(2), active.sum((2, 3))


def band_power(estimate: Tensor) -> Tensor:
    """Sum the power in bands: (channels, n_sources, time) -> (channels, n_sources, frames, bands), float64, CPU."""
    n_channels, n_sources, n_samples = estimate.shape
    waveform = estimate.detach().cpu().float().reshape(n_channels * n_sources, n_samples)
    waveform = torch.nn.functional.pad(waveform, (0, max(N_FFT - n_samples, 0)))
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(waveform, N_FFT, N_FFT // 2, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()[:, 1:].double().reshape(n_channels, n_sources, N_BANDS, -1, spectrum.shape[-1])
    return power.mean(3).transpose(-1, -2)


def _running_max(so_far: Tensor | None, value: Tensor) -> Tensor:
    return value if so_far is None else torch.maximum(so_far, value)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return total / count.clamp_min(1)[:, None]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of every row of a with every row of b; 0 for constant rows."""
    a, b = (x.double() - x.double().mean(-1, keepdim=True) for x in (a, b))
    norms = a.norm(dim=-1)[:, None] * b.norm(dim=-1)[None]
    return (a @ b.T) / norms.clamp_min(1e-20)


def _assign(score: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(score.cpu().numpy(), maximize=True)[1])


def _take(values: Tensor, order: Tensor) -> Tensor:
    """Reorder the second axis of each channel."""
    return torch.stack([row[index] for row, index in zip(values, order.to(values.device), strict=True)])
