"""What is known of a clip before its audio is read, and the samples of many clips: packed, or in their files."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from hydraudio.audio.io import missing_text, read_mono, resampled_length
from hydraudio.audio.packing import FULL_SCALE, Group, Pack, is_pack, write_pack
from hydraudio.core.defects import Defect
from hydraudio.core.feature_cache import kept_headers, stat_digest
from hydraudio.core.files import locked, sha256_of_json
from hydraudio.core.parallel import usable_processes

log = logging.getLogger(__name__)

BLOCK_SAMPLES = 2**18
BLOCKS_PER_SHARD = 64
"""A shard holds 2^24 samples (32 MiB)."""


@dataclass(frozen=True)
class Clip:
    """One row of a corpus.

    Attributes:
        id: unique in the corpus.
        path: of the audio file.
        where: names the table and its line in messages; empty where the file's own path says all.
        labels: class indices, in ascending order; none where it is unlabelled.
        group: what must not be divided among splits, such as a recording.
        part: of the corpus, such as a fold or a split; empty where the corpus has none.
        start_s: where the clip begins in its file.
        duration_s: None to the end of the file.
        latitude: in degrees north, NaN where unknown.
        longitude: in degrees east, NaN where unknown.
    """

    id: str
    path: Path
    where: str = ""
    labels: tuple[int, ...] = ()
    group: str = ""
    part: str = ""
    start_s: float = 0.0
    duration_s: float | None = None
    latitude: float = math.nan
    longitude: float = math.nan

    def described(self, message: str) -> str:
        """Put the row before a message about its file."""
        return f"{self.where}: {message}" if self.where else message


class Parsed(NamedTuple):
    """A corpus without its audio.

    Attributes:
        clips: that can be used.
        class_names: in the order of the class index; none where nothing is labelled.
        multilabel: True where a clip may have several classes.
        defects: everything wrong with tables and names.
    """

    clips: list[Clip]
    class_names: list[str]
    multilabel: bool
    defects: list[Defect]


class Span(NamedTuple):
    """Samples of a file: how many from where, and their rate in Hz."""

    start: int
    n_samples: int
    file_rate: int


def missing_files(clips: Sequence[Clip]) -> list[Defect]:
    """Return a defect per clip whose file is not there."""
    absent = {path for path in {clip.path for clip in clips} if not path.is_file()}
    return [Defect("missing_file", clip.described(missing_text(clip.path))) for clip in clips if clip.path in absent]


def read_spans(clips: Sequence[Clip], cache_dir: Path) -> tuple[list[Span], list[Defect]]:
    """Read from the headers what of its file every clip is, and find clips that reach beyond their file.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a header is not readable.
    """
    headers = kept_headers([clip.path for clip in clips], cache_dir).tolist()
    spans, defects = [], []
    for clip, (n_file, rate) in zip(clips, headers, strict=True):
        start = round(clip.start_s * rate)
        n_samples = n_file - start if clip.duration_s is None else round(clip.duration_s * rate)
        if n_samples < 1 or start + n_samples > n_file + rate // 100:  # tables round to 10 ms
            end = "its end" if clip.duration_s is None else f"{clip.start_s + clip.duration_s:g} s"
            message = f"{clip.path}: has {n_file / rate:g} s, but {clip.start_s:g} s to {end} is asked for"
            defects.append(Defect("bad_span", clip.described(f"{message}; correct start and duration")))
        spans.append(Span(start, max(1, min(n_samples, n_file - start)), rate))
    return spans, defects


class Samples(Protocol):
    """The samples of clips at one rate."""

    def read(self, row: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Return (time,) float32 in [-1, 1] of a clip, from `start` on; None reads to its end."""
        ...


@dataclass(frozen=True)
class FileSamples:
    """Clips in their files: each is decoded and resampled whenever it is read.

    Attributes:
        clips: in the order of the rows.
        spans: of each clip in its file.
        sample_rate: to give, in Hz.
    """

    clips: Sequence[Clip]
    spans: Sequence[Span]
    sample_rate: int

    def read(self, row: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Read as :class:`Samples` says; a crop of a file of this rate reads its own samples only."""
        span, path = self.spans[row], self.clips[row].path
        if span.file_rate == self.sample_rate:
            return read_mono(
                path, self.sample_rate, start=span.start + start, n_samples=n_samples or span.n_samples - start
            )
        return _read_span(path, span, self.sample_rate)[start:][:n_samples]


@dataclass(frozen=True)
class PackedSamples:
    """Clips of any lengths, laid end to end as 16-bit codes in the rows of a pack.

    Attributes:
        pack: with one group, `clips`, of one field, `waveform`.
        stops: (clips,) where each clip ends in the row of all.
    """

    pack: Pack
    stops: np.ndarray = field(repr=False)

    def read(self, row: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Read as :class:`Samples` says; no other samples are touched."""
        first = int(self.stops[row - 1]) if row else 0
        stop = int(self.stops[row]) if n_samples is None else first + start + n_samples
        return self._codes(first + start, stop).astype(np.float32) / np.float32(FULL_SCALE)

    def _codes(self, start: int, stop: int) -> np.ndarray:
        block, offset = divmod(start, BLOCK_SAMPLES)
        parts = []
        while start < stop:
            n_samples = min(stop - start, BLOCK_SAMPLES - offset)
            parts.append(self.pack.read("clips", block, "waveform", offset, n_samples))
            start, block, offset = start + n_samples, block + 1, 0
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def packed(clips: Sequence[Clip], spans: Sequence[Span], sample_rate: int, cache_dir: Path) -> PackedSamples:
    """Open the pack of these clips; it is written first where it is not there, by one process of several.

    Each clip is mixed down, resampled to `sample_rate` and rounded to 16 bits once. Its folder under `cache_dir` is
    named after all rows, and after sizes and times of their files.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not readable, or the pack is damaged.
    """
    lengths = clip_lengths(spans, sample_rate)
    files = stat_digest([clip.path for clip in clips])
    rows = [(str(clip.path), span.start, span.n_samples) for clip, span in zip(clips, spans, strict=True)]
    key = sha256_of_json([files, rows, sample_rate])
    folder = cache_dir / "packed" / key[:32]
    stops = np.cumsum(lengths)
    with locked(folder):
        if not is_pack(folder):
            n_blocks = -(-int(stops[-1]) // BLOCK_SAMPLES)
            log.info("Packing %d clips (%.2f h) at %d Hz", len(clips), stops[-1] / sample_rate / 3600, sample_rate)
            group = Group("clips", ("waveform",), n_blocks, BLOCK_SAMPLES, BLOCKS_PER_SHARD)
            write_pack(
                folder,
                [group],
                functools.partial(
                    _read_block, tuple(rows), tuple(span.file_rate for span in spans), stops, sample_rate
                ),
                sample_rate=sample_rate,
                fingerprint=key,
                texts={},
                n_processes=usable_processes(len(clips), None),
            )
    return PackedSamples(Pack(folder), stops)


def clip_lengths(spans: Sequence[Span], sample_rate: int) -> np.ndarray:
    """(clips,) int64 samples of each clip at `sample_rate`."""
    lengths = [resampled_length(span.n_samples, span.file_rate, sample_rate) for span in spans]
    return np.maximum(np.array(lengths, dtype=np.int64), 1)


def _read_block(
    rows: tuple[tuple[str, int, int], ...],
    rates: tuple[int, ...],
    stops: np.ndarray,
    sample_rate: int,
    group: str,
    block: int,
) -> np.ndarray:
    """(1, BLOCK_SAMPLES) int16: the clips that lie in a block, zeros after the last of all."""
    codes = np.zeros((1, BLOCK_SAMPLES), dtype=np.int16)
    begin, end = block * BLOCK_SAMPLES, (block + 1) * BLOCK_SAMPLES
    row = int(np.searchsorted(stops, begin, side="right"))
    while row < len(rows) and (first := int(stops[row - 1]) if row else 0) < end:
        path, start, n_samples = rows[row]
        clip = _read_codes(path, Span(start, n_samples, rates[row]), sample_rate, int(stops[row]) - first)
        low, high = max(first, begin), min(int(stops[row]), end)
        codes[0, low - begin : high - begin] = clip[low - first : high - first]
        row += 1
    return codes


@functools.lru_cache(maxsize=1)  # a long recording fills many blocks
def _read_codes(path: str, span: Span, sample_rate: int, length: int) -> np.ndarray:
    """(length,) int16 codes of one clip; what resampling lifts above full scale is cut there."""
    waveform = _read_span(Path(path), span, sample_rate)
    codes = np.zeros(length, dtype=np.int16)
    codes[: len(waveform)] = np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return codes


def _read_span(path: Path, span: Span, sample_rate: int) -> np.ndarray:
    """(time,) float32 at `sample_rate`; at least one sample, which a span of two or three may not give."""
    waveform = read_mono(path, sample_rate, start=span.start, n_samples=span.n_samples)
    return waveform if len(waveform) else np.zeros(1, dtype=np.float32)
