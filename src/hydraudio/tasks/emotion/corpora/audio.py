"""Audio of an utterance as the networks take it, wherever it lies, and its length without reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from hydraudio.audio.io import read_audio_channels, resample
from hydraudio.core.files import sha256_of, sha256_of_file, whole_file
from hydraudio.tasks.emotion.corpora.caching import (
    MEMBER,
    locked,
    map_in_threads,
    missing_text,
    stat_digest,
)
from hydraudio.tasks.emotion.corpora.webdataset.reader import read_member

_UNKNOWN_SIZE = 2**32 - 1
"""What programs write that do not know the length of a stream."""


def is_member(path: Path | str) -> bool:
    """Whether the path is "<shard.tar>#<key>"."""
    return isinstance(path, str) and MEMBER in path


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
    return resample(waveform.mean(axis=0) if len(waveform) > 1 else waveform[0], file_rate, sample_rate)


def resampled_length(n_samples: int, from_hz: int, to_hz: int) -> int:
    """Samples that `hydraudio.audio.io.resample` makes of `n_samples`."""
    return int(n_samples * to_hz / from_hz + 0.5)


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
    with locked(cache.parent / "audio_headers"):
        if not cache.is_file():
            headers = np.array(map_in_threads(_read_header, files), dtype=np.int64)
            with whole_file(cache) as file:
                np.save(file, headers)
    return load_array(cache, (len(files), 2))


def _read_header(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise FileNotFoundError(missing_text(path))
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError:
        read_audio_channels(path)  # says what is wrong with it
        raise
    if info.frames == 0:
        read_audio_channels(path)
    require_whole(path)
    return info.frames, info.samplerate


def require_whole(path: Path) -> None:
    """Compares the size of a RIFF file (WAV) with the size in its header; other formats know themselves when they end.

    Raises:
        ValueError: the file is cut off.
    """
    with path.open("rb") as file:
        header = file.read(8)
    declared = int.from_bytes(header[4:8], "little")
    if header[:4] == b"RIFF" and declared != _UNKNOWN_SIZE and declared + 8 > path.stat().st_size:
        raise ValueError(
            f"{path}: is cut off: {path.stat().st_size} of {declared + 8} bytes; fetch or write the file again"
        )


def load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An array of a cache.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: the cache is damaged here ({error}); delete it, it is made again") from error
    if array.shape != shape:
        raise ValueError(f"{path}: holds {array.shape} instead of {shape}; delete it, it is made again")
    return array


def audio_digests(paths: Sequence[Path | str], cache_dir: Path) -> list[str]:
    """sha256 (hex) of the bytes of every file, of members of shards over their samples.

    They are computed once and kept under `cache_dir` for as long as no file of the list changes its size or time.
    """
    cache = cache_dir / "audio_digests" / f"{stat_digest(paths)[:32]}.npy"
    with locked(cache.parent / "audio_digests"):
        if not cache.is_file():
            with whole_file(cache) as file:
                np.save(file, np.array(map_in_threads(_digest, paths), dtype="S64"))
    return [digest.decode() for digest in load_array(cache, (len(paths),)).tolist()]


def _digest(path: Path | str) -> str:
    if is_member(path):
        waveform, sample_rate = read_member(str(path))
        return sha256_of(f"{sample_rate}\n".encode() + waveform.tobytes())
    return sha256_of_file(path)
