"""Strict reading and atomic writing of audio files: what any room knows of a file it learns here.

Sample values are float32 in [-1, 1]; full scale is 1.0, and one 16-bit step is 1/32768 in both directions, so
that a file that is read and written again keeps every bit. (soundfile alone truncates instead of rounding.)
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import soundfile
import soxr

from hydraudio.core.files import whole_path

_PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
MAX_VALUES = 2**28
"""Samples of all channels that are decoded at once, 1 GB: a small FLAC can hold days of silence."""
_UNKNOWN_SIZE = 2**32 - 1
"""What programs write into a WAV file that do not know the length of a stream."""


def read_audio(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, n_samples: int | None = None
) -> np.ndarray:
    """Read a mono file.

    Args:
        path: any format that libsndfile knows (WAV, FLAC, OGG, MP3 ...).
        sample_rate: the rate that the file must have, in Hz; None accepts any.
        start: first sample to read.
        n_samples: how many samples to read; None reads to the end.

    Returns:
        (time,) float32, in [-1, 1] for integer formats.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, too short, not mono, of another sample rate, or NaN/infinite samples.
    """
    with open_audio(path) as file:
        if sample_rate is not None and file.samplerate != sample_rate:
            raise ValueError(
                f"{path}: sample rate is {file.samplerate} Hz, expected {sample_rate} Hz; "
                "resample the files or set the sample rate to theirs"
            )
        if file.channels != 1:
            raise ValueError(f"{path}: has {file.channels} channels, expected mono; mix it down first")
        return _read(file, path, start, n_samples)[:, 0]


def read_audio_channels(path: str | Path, *, start: int = 0, n_samples: int | None = None) -> tuple[np.ndarray, int]:
    """Read a file of any number of channels: ((channels, time) float32, sample rate in Hz), else as `read_audio`."""
    with open_audio(path) as file:
        return np.ascontiguousarray(_read(file, path, start, n_samples).T), file.samplerate


def read_mono(path: str | Path, sample_rate: int, *, start: int = 0, n_samples: int | None = None) -> np.ndarray:
    """Read a file of any rate and channels: (time,), channels averaged, resampled to `sample_rate`.

    `start` and `n_samples` count samples of the file.
    """
    channels, file_rate = read_audio_channels(path, start=start, n_samples=n_samples)
    return resample(mixed_down(channels), file_rate, sample_rate)


def decode_audio(content: bytes, where: str) -> tuple[np.ndarray, int]:
    """Read the bytes of a file as `read_audio_channels` does; `where` names them in messages."""
    with open_audio(io.BytesIO(content), where) as file:
        return np.ascontiguousarray(_read(file, where, 0, None).T), file.samplerate


def mixed_down(channels: np.ndarray) -> np.ndarray:
    """Average the channels: (channels, time) -> (time,) float32."""
    return channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float32)


class AudioInfo(NamedTuple):
    """What the header of a file says: samples per channel, and their rate in Hz."""

    n_samples: int
    sample_rate: int


def read_info(path: str | Path) -> AudioInfo:
    """Read length and rate from the header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable or empty.
    """
    with open_audio(path) as file:
        return AudioInfo(file.frames, file.samplerate)


@contextmanager
def open_audio(source: str | Path | IO[bytes], where: str = "") -> Iterator[soundfile.SoundFile]:
    """Open a file of any format that is not empty; translate what libsndfile says inside the block, too.

    Args:
        source: path, or an open file of bytes.
        where: names an open file in messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable or empty.
    """
    if isinstance(source, str | Path):
        where = str(source)
        if not Path(source).is_file():
            raise FileNotFoundError(missing_text(source))
    try:
        with soundfile.SoundFile(source) as file:
            if file.frames == 0:
                raise ValueError(f"{where}: holds no samples; remove it or write it again")
            yield file
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{where}: not readable as audio ({error}); it may be damaged or cut off, fetch or write it again"
        ) from error


def missing_text(path: str | Path) -> str:
    """Say that a file does not exist, in the words of the checks of a corpus and of training."""
    return f"{path}: no such audio file; check the path and the corpus"


def require_decoded(where: str | Path, n_read: int, n_wanted: int) -> None:
    """Refuse a file that ends before its header says so.

    Raises:
        ValueError: it does.
    """
    if n_read != n_wanted:
        raise ValueError(f"{where}: only {n_read} of {n_wanted} samples decode; it is cut off, write it again")


def require_finite(where: str | Path, file: soundfile.SoundFile, frames: np.ndarray) -> None:
    """Refuse (time, channels) that were read of a file if samples are NaN or infinite.

    Raises:
        ValueError: they are.
    """
    if file.subtype not in _PCM_BITS and not np.isfinite(frames).all():
        n_bad = int((~np.isfinite(frames)).sum())
        raise ValueError(f"{where}: {n_bad} samples are NaN or infinite; remove or repair the file")


def require_whole(path: Path) -> None:
    """Compare the size of a RIFF file (WAV) with the size in its header; other formats know themselves when they end.

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


def write_audio(path: str | Path, waveform: np.ndarray, sample_rate: int, subtype: str | None = "PCM_16") -> Path:
    """Write atomically: the file appears complete under its name or not at all.

    Args:
        path: the suffix names the format (.wav, .flac ...); the folder is made if needed.
        waveform: (time,) or (channels, time) float, in [-1, 1].
        sample_rate: in Hz.
        subtype: sample format of libsndfile; None takes the format's default.

    Raises:
        ValueError: samples outside [-1, 1] (an integer format would clip them), NaN, or a wrong shape.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_audio(Path(folder) / "a.wav", np.array([0.0, 0.5, -0.5]), sample_rate=8000)
    ...     read_audio(path, sample_rate=8000).round(3).tolist()
    [0.0, 0.5, -0.5]
    """
    path = Path(path)
    frames = _frames(path, waveform)
    if subtype not in ("FLOAT", "DOUBLE"):
        _require_unit_peak(path, frames)
    if subtype in _PCM_BITS:
        frames = _quantise(frames, _PCM_BITS[subtype])
    try:
        with whole_path(path) as partial:
            soundfile.write(partial, frames, sample_rate, subtype=subtype, format=path.suffix[1:])
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be written as {path.suffix} {subtype}: {error}") from error
    return path


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample along the last axis, band-limited and without delay (soxr HQ).

    Args:
        waveform: (..., time) with at most one axis before time.
        from_hz: sample rate of the input.
        to_hz: sample rate of the output.

    Returns:
        (..., round(time * to_hz / from_hz)) float32.

    >>> resample(np.zeros((2, 16000), dtype=np.float32), 16000, 8000).shape
    (2, 8000)
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, not {from_hz} and {to_hz} Hz")
    waveform = np.asarray(waveform, dtype=np.float32)
    if from_hz == to_hz:
        return waveform
    return np.ascontiguousarray(soxr.resample(waveform.T, from_hz, to_hz, quality="HQ").T)


def resampled_length(n_samples: int, from_hz: int, to_hz: int) -> int:
    """Count the samples that `resample` makes of `n_samples`."""
    return int(n_samples * to_hz / from_hz + 0.5)


def _read(file: soundfile.SoundFile, where: str | Path, start: int, n_samples: int | None) -> np.ndarray:
    """(time, channels) float32 of an open file, checked."""
    if start < 0 or (n_samples is not None and n_samples <= 0):
        raise ValueError(f"{where}: start {start} and n_samples {n_samples} must be >= 0 and > 0")
    stop = start + (1 if n_samples is None else n_samples)
    if stop > file.frames:
        raise ValueError(
            f"{where}: has {file.frames} samples, but samples {start} to {stop} were asked for; "
            "the file is cut off or the wanted length is too long"
        )
    file.seek(start)
    n_values = file.channels * (file.frames - start if n_samples is None else n_samples)
    if n_values > MAX_VALUES:
        raise ValueError(
            f"{where}: {n_values} samples at once are more than {MAX_VALUES}; cut the file, or read a part of it"
        )
    frames = file.read(-1 if n_samples is None else n_samples, dtype="float32", always_2d=True)
    require_decoded(where, len(frames), len(frames) if n_samples is None else n_samples)
    require_finite(where, file, frames)
    return frames


def _frames(path: Path, waveform: np.ndarray) -> np.ndarray:
    """(time,) or (channels, time) -> (time, channels), as soundfile takes it."""
    waveform = np.asarray(waveform)
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"{path}: waveform has shape {waveform.shape}, expected (time,) or (channels, time)")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"{path}: waveform is {waveform.dtype}, expected floating point in [-1, 1]")
    if not np.isfinite(waveform).all():
        raise ValueError(f"{path}: waveform holds NaN or infinite samples; nothing was written")
    return waveform.T


def _require_unit_peak(path: Path, frames: np.ndarray) -> None:
    peak = float(np.abs(frames).max())
    if peak > 1.0:
        raise ValueError(f"{path}: peak {peak:.4f} exceeds 1.0 and would clip; scale the waveform down first")


def _quantise(frames: np.ndarray, bits: int) -> np.ndarray:
    """Round to `bits`, returned left-aligned in int16 or int32 (exactly +1.0 becomes the largest code)."""
    full_scale = 2.0 ** (bits - 1)
    codes = np.minimum(np.rint(frames.astype(np.float64) * full_scale), full_scale - 1)
    if bits == 16:
        return codes.astype(np.int16)
    return (codes.astype(np.int64) << (32 - bits)).astype(np.int32)
