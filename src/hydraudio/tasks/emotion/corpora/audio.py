"""Audio of an utterance as the networks take it, wherever it lies, and its length without reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hydraudio.audio.io import (
    AudioInfo,
    mixed_down,
    read_audio_channels,
    read_info,
    require_whole,
    resample,
    resampled_length,
)
from hydraudio.core.feature_cache import kept_array, stat_digest
from hydraudio.core.files import sha256_of, sha256_of_file
from hydraudio.core.parallel import map_in_threads
from hydraudio.tasks.emotion.corpora.webdataset.reader import read_member

MEMBER = "#"
"""Stands between the path of a shard and the key of an utterance in it."""


def is_member(path: Path | str) -> bool:
    """Whether the path is "<shard.tar>#<key>"."""
    return isinstance(path, str) and MEMBER in path


def stored_in(path: Path | str) -> Path:
    """The file on disk that holds an utterance: itself, or its shard."""
    return Path(path.rsplit(MEMBER, 1)[0]) if isinstance(path, str) else path


def read_native(path: Path | str) -> tuple[np.ndarray, int]:
    """(channels, time) float32 in [-1, 1] and its sample rate in Hz, of a file or of a member of a shard.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, NaN or infinite.
    """
    if is_member(path):
        waveform, sample_rate = read_member(str(path))
        return waveform[None], sample_rate
    return read_audio_channels(path)


def read_waveform(path: Path | str, sample_rate: int) -> np.ndarray:
    """(time,) float32: channels averaged, resampled to `sample_rate` (Hz).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, NaN or infinite.
    """
    waveform, file_rate = read_native(path)
    return resample(mixed_down(waveform), file_rate, sample_rate)


def read_lengths(
    paths: Sequence[Path | str], known: Sequence[tuple[int, int] | None], sample_rate: int, cache_dir: Path
) -> np.ndarray:
    """(n,) samples at `sample_rate` of every utterance.

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
        headers[files] = _cached_headers([Path(paths[row]) for row in files], cache_dir)
    return np.array([resampled_length(n, rate, sample_rate) for n, rate in headers.tolist()], dtype=np.int64)


def _cached_headers(files: list[Path], cache_dir: Path) -> np.ndarray:
    """(n, 2) samples and rates of the files themselves."""
    cache = cache_dir / "audio_headers" / f"{stat_digest(files)[:32]}.npy"
    return kept_array(cache, (len(files), 2), lambda: np.array(map_in_threads(_read_header, files), dtype=np.int64))


def _read_header(path: Path) -> AudioInfo:
    info = read_info(path)
    require_whole(path)
    return info


def audio_digests(paths: Sequence[Path | str], cache_dir: Path) -> list[str]:
    """sha256 (hex) of the bytes of every file, of members of shards over their samples.

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
