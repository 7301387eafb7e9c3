"""Audio of an utterance as the networks take it, wherever it lies, its length without reading it, and the mean and
standard deviation of the samples of a training set."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hydraudio.audio.io import (
    mixed_down,
    read_audio_channels,
    resample,
    resampled_length,
)
from hydraudio.core.feature_cache import kept_array, kept_headers, stat_digest
from hydraudio.core.files import sha256_of, sha256_of_file, write_json
from hydraudio.core.parallel import map_in_processes, map_in_threads
from hydraudio.tasks.emotion.corpora.utterances import Utterance, manifest_fingerprint
from hydraudio.tasks.emotion.corpora.webdataset.reader import read_member

log = logging.getLogger(__name__)

MEMBER = "#"
"""Stands between the path of a shard and the key of an utterance in it."""

_UTTERANCES_PER_JOB = 32


def is_member(path: Path | str) -> bool:
    """Say whether the path is "<shard.tar>#<key>"."""
    return isinstance(path, str) and MEMBER in path


def stored_in(path: Path | str) -> Path:
    """Return the file on disk that holds an utterance: itself, or its shard."""
    return Path(path.rsplit(MEMBER, 1)[0]) if isinstance(path, str) else path


def read_native(path: Path | str) -> tuple[np.ndarray, int]:
    """Return (channels, time) float32 in [-1, 1] and its sample rate in Hz, of a file or of a member of a shard.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, NaN or infinite.
    """
    if is_member(path):
        waveform, sample_rate = read_member(str(path))
        return waveform[None], sample_rate
    return read_audio_channels(path)


def read_waveform(path: Path | str, sample_rate: int) -> np.ndarray:
    """Return (time,) float32: channels averaged, resampled to `sample_rate` (Hz).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, NaN or infinite.
    """
    waveform, file_rate = read_native(path)
    return resample(mixed_down(waveform), file_rate, sample_rate)


def read_lengths(
    paths: Sequence[Path | str], known: Sequence[tuple[int, int] | None], sample_rate: int, cache_dir: Path
) -> np.ndarray:
    """Return (n,) samples at `sample_rate` of every utterance.

    The headers of files are read once, in threads, and kept under `cache_dir` for as long as no file of the list
    changes its size or time.

    Args:
        paths: files and members of shards.
        known: n (samples, rate in Hz), of files None; those of a member come from the index of its shards.
        sample_rate: in Hz.
        cache_dir: never the corpus folder.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a header is not readable, or there is no audio behind it.
    """
    headers = np.array([header or (0, sample_rate) for header in known], dtype=np.int64)
    files = [row for row, header in enumerate(known) if header is None]
    if files:
        headers[files] = kept_headers([Path(paths[row]) for row in files], cache_dir)
    return np.array([resampled_length(n, rate, sample_rate) for n, rate in headers.tolist()], dtype=np.int64)


def audio_digests(paths: Sequence[Path | str], cache_dir: Path) -> list[str]:
    """Return sha256 (hex) of the bytes of every file, of members of shards over their samples.

    They are computed once and kept under `cache_dir` for as long as no file of the list changes its size or time.
    """
    cache = cache_dir / "audio_digests" / f"{stat_digest(paths, stored_in)[:32]}.npy"
    found = kept_array(cache, (len(paths),), lambda: np.array(map_in_threads(_digest, paths), dtype="S64"))
    return [digest.decode() for digest in found.tolist()]


def _digest(path: Path | str) -> str:
    if is_member(path):
        waveform, sample_rate = read_member(str(path))
        return sha256_of(f"{sample_rate}\n".encode() + waveform.tobytes())
    return sha256_of_file(path)


class WaveformStatistics(NamedTuple):
    """Of all samples together: mean = sum x / n, std = sqrt(sum x^2 / n - mean^2), accumulated in float64."""

    mean: float
    std: float
    n_samples: int


def waveform_statistics(
    paths: Sequence[Path | str],
    *,
    sample_rate: int,
    max_samples: int | None,
    cache_dir: Path,
    n_processes: int | None = None,
) -> WaveformStatistics:
    """Statistics of the utterances of a training set, kept under `cache_dir`.

    Args:
        paths: files and members of shards.
        sample_rate: in Hz; files of another rate are resampled first.
        max_samples: only so many samples from the start of each count, as in training; None for all.
        cache_dir: the file's name there is a hash of the list, of the sizes and times of its files and of the options.
        n_processes: None for one per processor where there is enough to do.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not readable, the whole training set is silent, or the cache is damaged.
    """

    def compute() -> np.ndarray:
        log.info("Computing mean and standard deviation of %d training utterances", len(paths))
        return np.array(compute_statistics(paths, sample_rate, max_samples, n_processes))

    name = f"{stat_digest(paths, stored_in)[:32]}_{sample_rate}_{max_samples or 'all'}.npy"
    mean, std, n_samples = kept_array(cache_dir / "waveform_statistics" / name, (3,), compute).tolist()
    return WaveformStatistics(mean, std, int(n_samples))


def compute_statistics(
    paths: Sequence[Path | str], sample_rate: int, max_samples: int | None, n_processes: int | None = None
) -> WaveformStatistics:
    """Read all utterances; nothing is kept."""
    jobs = [paths[start : start + _UTTERANCES_PER_JOB] for start in range(0, len(paths), _UTTERANCES_PER_JOB)]
    n_samples, total, squares = 0, [], []
    for count, part, square in map_in_processes(_sums, (sample_rate, max_samples), jobs, n_processes):
        n_samples += count
        total.append(part)
        squares.append(square)
    mean = math.fsum(total) / n_samples
    variance = math.fsum(squares) / n_samples - mean**2
    if not variance > 0.0:
        raise ValueError(f"{paths[0]} and {len(paths) - 1} more: the training set is silent; check the audio files")
    return WaveformStatistics(mean, math.sqrt(variance), n_samples)


def _sums(options: tuple[int, int | None], paths: Sequence[Path | str]) -> tuple[int, float, float]:
    """Number, sum and sum of squares of the samples of some utterances."""
    sample_rate, max_samples = options
    n_samples, total, squares = 0, 0.0, 0.0
    for path in paths:
        waveform = read_waveform(path, sample_rate)[:max_samples].astype(np.float64)
        n_samples += len(waveform)
        total += float(waveform.sum())
        squares += float(np.square(waveform).sum())
    return n_samples, total, squares


def write_statistics(statistics: WaveformStatistics, utterances: Sequence[Utterance], path: Path) -> None:
    """Write what a training was normalised with: mean, std, n_samples, n_files and fingerprint of its utterances."""
    content = {**statistics._asdict(), "n_files": len(utterances), "fingerprint": manifest_fingerprint(utterances)}
    write_json(path, content)
