"""Strict reading and atomic writing of audio files.

Sample values are float32 in [-1, 1]; full scale is 1.0, and one 16-bit step is 1/32768 in both directions, so
that a file that is read and written again keeps every bit. (soundfile alone truncates instead of rounding.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from hydraudio.core.files import whole_path

_PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def read_audio(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, n_samples: int | None = None
) -> np.ndarray:
    """Reads a mono file.

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
    waveform, _ = _read(Path(path), sample_rate=sample_rate, start=start, n_samples=n_samples, mono=True)
    return waveform[:, 0]


def read_audio_channels(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, n_samples: int | None = None
) -> tuple[np.ndarray, int]:
    """Like `read_audio` for any number of channels: ((channels, time) float32, sample rate in Hz)."""
    waveform, file_rate = _read(Path(path), sample_rate=sample_rate, start=start, n_samples=n_samples, mono=False)
    return np.ascontiguousarray(waveform.T), file_rate


def write_audio(path: str | Path, waveform: np.ndarray, sample_rate: int, subtype: str | None = "PCM_16") -> Path:
    """Writes atomically: the file appears complete under its name or not at all.

    Args:
        path: the suffix names the format (.wav, .flac ...); the folder is made if needed.
        waveform: (time,) or (channels, time) float, in [-1, 1].
        sample_rate: in Hz.
        subtype: sample format of libsndfile; None takes the format's default.

    Raises:
        ValueError: samples outside [-1, 1] (an integer format would clip them), NaN, or a wrong shape.
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
    """Band-limited resampling (soxr HQ) along the last axis, delay-free.

    Args:
        waveform: (..., time) with at most one axis before time.
        from_hz: sample rate of the input.
        to_hz: sample rate of the output.

    Returns:
        (..., round(time * to_hz / from_hz)) float32.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, not {from_hz} and {to_hz} Hz")
    waveform = np.asarray(waveform, dtype=np.float32)
    if from_hz == to_hz:
        return waveform
    return np.ascontiguousarray(soxr.resample(waveform.T, from_hz, to_hz, quality="HQ").T)


def _read(
    path: Path, *, sample_rate: int | None, start: int, n_samples: int | None, mono: bool
) -> tuple[np.ndarray, int]:
    if start < 0 or (n_samples is not None and n_samples <= 0):
        raise ValueError(f"{path}: start {start} and n_samples {n_samples} must be >= 0 and > 0")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file; check the path and the corpus")
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(path, file, sample_rate, start, n_samples, mono)
            file.seek(start)
            waveform = file.read(-1 if n_samples is None else n_samples, dtype="float32", always_2d=True)
            file_rate, subtype = file.samplerate, file.subtype
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path}: not readable as audio ({error}); it may be damaged or cut off, fetch or write it again"
        ) from error
    if n_samples is not None and len(waveform) != n_samples:
        raise ValueError(f"{path}: only {len(waveform)} of {n_samples} samples decode; write it again")
    if subtype not in _PCM_BITS and not np.isfinite(waveform).all():
        n_bad = int((~np.isfinite(waveform)).sum())
        raise ValueError(f"{path}: {n_bad} samples are NaN or infinite; remove or repair the file")
    return waveform, file_rate


def _check_header(
    path: Path,
    file: soundfile.SoundFile,
    sample_rate: int | None,
    start: int,
    n_samples: int | None,
    mono: bool,
) -> None:
    if file.frames == 0:
        raise ValueError(f"{path}: holds no samples; remove it or write it again")
    if sample_rate is not None and file.samplerate != sample_rate:
        raise ValueError(
            f"{path}: sample rate is {file.samplerate} Hz, expected {sample_rate} Hz; "
            "resample the files or set the sample rate to theirs"
        )
    if mono and file.channels != 1:
        raise ValueError(f"{path}: has {file.channels} channels, expected mono; mix it down first")
    stop = start + (1 if n_samples is None else n_samples)
    if stop > file.frames:
        raise ValueError(
            f"{path}: has {file.frames} samples, but samples {start} to {stop} were asked for; "
            "the file is cut off or the wanted length is too long"
        )


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
    """Rounds to `bits`, returned left-aligned in int16 or int32 (exactly +1.0 becomes the largest code)."""
    full_scale = 2.0 ** (bits - 1)
    codes = np.minimum(np.rint(frames.astype(np.float64) * full_scale), full_scale - 1)
    if bits == 16:
        return codes.astype(np.int16)
    return (codes.astype(np.int64) << (32 - bits)).astype(np.int32)
