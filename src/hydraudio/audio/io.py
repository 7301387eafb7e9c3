"""Strict reading and atomic writing of audio files: what any room knows of a file it learns here.

A file is read whole or refused with the remedy, never in part without a word. Compressed formats (Ogg, MP3) are
decoded from their beginning whatever part is asked for, because libsndfile misses the place when it jumps in them.

Sample values are float32 in [-1, 1]; full scale is 1.0, and one 16-bit step is 1/32768 in both directions, so
that a file that is read and written again keeps every bit. (soundfile alone truncates instead of rounding.)
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import soundfile
import soxr

from hydraudio.audio.containers import BinaryStream, require_one_recording, whole_stream
from hydraudio.core.files import whole_path

FFMPEG_SUFFIXES = (".m4a", ".m4b", ".aac", ".mp4", ".mov", ".3gp", ".webm", ".mka", ".mkv", ".wma", ".amr")
"""Read through ffmpeg, where it is on the PATH."""
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"),
    *FFMPEG_SUFFIXES,
)
"""Files of a folder that are taken as audio; a file that is named itself may have any suffix."""
BLOCK_FRAMES = 65536
_PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
MAX_VALUES = 2**28
"""Samples of all channels that are decoded at once, 1 GB: a small FLAC can hold days of silence."""
_UNKNOWN_FRAMES = 2**62
"""libsndfile gives at least this length to a FLAC stream whose header does not know it."""


def read_audio(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, n_samples: int | None = None
) -> np.ndarray:
    """Read a mono file.

    Args:
        path: any format that libsndfile knows (WAV, FLAC, OGG, MP3 ...), or that ffmpeg reads (`FFMPEG_SUFFIXES`).
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
        if sample_rate is not None and file.sample_rate != sample_rate:
            raise ValueError(
                f"{path}: sample rate is {file.sample_rate} Hz, expected {sample_rate} Hz; "
                "resample the files or set the sample rate to theirs"
            )
        if file.n_channels != 1:
            raise ValueError(f"{path}: has {file.n_channels} channels, expected mono; mix it down first")
        return file.read(start, n_samples)[:, 0]


def read_audio_channels(path: str | Path, *, start: int = 0, n_samples: int | None = None) -> tuple[np.ndarray, int]:
    """Read a file of any number of channels: ((channels, time) float32, sample rate in Hz), else as `read_audio`."""
    with open_audio(path) as file:
        return np.ascontiguousarray(file.read(start, n_samples).T), file.sample_rate


def read_mono(path: str | Path, sample_rate: int, *, start: int = 0, n_samples: int | None = None) -> np.ndarray:
    """Read a file of any rate and channels: (time,), channels averaged, resampled to `sample_rate`.

    `start` and `n_samples` count samples of the file.

    Raises:
        ValueError: as `read_audio_channels`, or the channels cancel each other.
    """
    channels, file_rate = read_audio_channels(path, start=start, n_samples=n_samples)
    mono = mixed_down(channels)
    if channels_cancel(float(np.square(channels).mean()), float(np.square(mono).mean())):
        raise ValueError(f"{path}: its {len(channels)} channels cancel each other in their mix; keep one channel of it")
    return resample(mono, file_rate, sample_rate)


def decode_audio(content: bytes, where: str) -> tuple[np.ndarray, int]:
    """Read the bytes of a file as `read_audio_channels` does; `where` names them in messages."""
    with open_audio(io.BytesIO(content), where) as file:
        return np.ascontiguousarray(file.read().T), file.sample_rate


def channels_cancel(power: float, power_mixed: float) -> bool:
    """Say whether little or nothing of the channels is left in their mix, by the mean power of both: 20 dB less."""
    return power_mixed < 0.01 * power


def mixed_down(channels: np.ndarray) -> np.ndarray:
    """Average the channels: (channels, time) -> (time,) float32."""
    return channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float32)


class AudioInfo(NamedTuple):
    """What a file holds: samples per channel, and their rate in Hz."""

    n_samples: int
    sample_rate: int


def read_info(path: str | Path) -> AudioInfo:
    """Read length and rate, from the header where it knows them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, empty, or cut off by what its bytes say of their number. Compressed files whose header
            promises samples (FLAC, MP3 with a tag) are found to be cut off only when they are read.
    """
    with open_audio(path) as file:
        return AudioInfo(file.n_samples, file.sample_rate)


class AudioFile:
    """An open file.

    Attributes:
        where: names the file in messages.
        sample_rate: in Hz.
        n_channels: how many there are.
        n_samples: per channel; counted by decoding where the header does not know.
        subtype: sample format of libsndfile, such as PCM_16.
    """

    def __init__(self, file: _ForwardFile, where: str, n_samples: int) -> None:
        self._file, self.where = file, where
        self.sample_rate, self.n_channels = file.samplerate, file.channels
        self.n_samples, self.subtype = n_samples, file.subtype

    def blocks(self, dtype: str = "float32") -> Iterator[np.ndarray]:
        """Read a file that was just opened in blocks of (time, channels).

        Raises:
            ValueError: cut off, or NaN or infinite samples.
        """
        n_read = 0
        while n_read < self.n_samples:
            frames = self._file.read(BLOCK_FRAMES, dtype=dtype, always_2d=True)
            if len(frames) == 0:
                _require_decoded(self.where, n_read, self.n_samples)
            self._require_finite(frames)
            n_read += len(frames)
            yield frames

    def read(self, start: int = 0, n_samples: int | None = None, dtype: str = "float32") -> np.ndarray:
        """Read a part, from a file that was just opened: (time, channels).

        Raises:
            ValueError: impossible part, cut off, too much at once, or NaN or infinite samples.
        """
        if start < 0 or (n_samples is not None and n_samples <= 0):
            raise ValueError(f"{self.where}: start {start} and n_samples {n_samples} must be >= 0 and > 0")
        stop = start + (1 if n_samples is None else n_samples)
        if stop > self.n_samples:
            raise ValueError(
                f"{self.where}: has {self.n_samples} samples, but samples {start} to {stop} were asked for; "
                "the file is cut off or the wanted length is too long"
            )
        n_wanted = self.n_samples - start if n_samples is None else n_samples
        if self.n_channels * n_wanted > MAX_VALUES:
            raise ValueError(
                f"{self.where}: {self.n_channels * n_wanted} samples at once are more than {MAX_VALUES}; "
                "cut the file, or read a part of it"
            )
        self._advance(start)
        frames = self._file.read(n_wanted, dtype=dtype, always_2d=True)
        _require_decoded(self.where, start + len(frames), start + n_wanted)
        self._require_finite(frames)
        return frames

    def _advance(self, start: int) -> None:
        """Come to a sample of a file that is at its beginning."""
        if start == 0:  # some formats, such as GSM, cannot be sought in at all
            return
        if self._file.format not in ("OGG", "MP3") and self._file.frames < _UNKNOWN_FRAMES:
            self._file.seek(start)
            return
        for n_before in range(start, 0, -BLOCK_FRAMES):
            self._file.read(min(n_before, BLOCK_FRAMES), dtype="float32")

    def _require_finite(self, frames: np.ndarray) -> None:
        if self.subtype not in _PCM_BITS and not np.isfinite(frames).all():
            n_bad = int((~np.isfinite(frames)).sum())
            raise ValueError(f"{self.where}: {n_bad} samples are NaN or infinite; remove or repair the file")


class _ForwardFile(soundfile.SoundFile):
    """Does not seek after every read, as soundfile does: MP3 loses its place so, and a streamed FLAC file its end."""

    def seekable(self) -> bool:
        return False


@contextmanager
def open_audio(source: str | Path | IO[bytes], where: str = "") -> Iterator[AudioFile]:
    """Open a file of any format that is not empty; translate what libsndfile says inside the block, too.

    Args:
        source: path, or an open file of bytes.
        where: names an open file in messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable, cut off or empty, or a format for which ffmpeg is needed and missing.
    """
    if not isinstance(source, str | Path):
        with _opened(source, source, where) as file:
            yield file
        return
    where = str(source)
    if not Path(source).is_file():
        raise FileNotFoundError(missing_text(source))
    if Path(source).suffix.lower() in FFMPEG_SUFFIXES:
        with (
            _decoded_by_ffmpeg(Path(source)) as decoded,
            decoded.open("rb") as content,
            _opened(content, os.fsencode(decoded), where) as file,
        ):
            yield file
        return
    with Path(source).open("rb") as content, _opened(content, os.fsencode(source), where) as file:
        yield file


@contextmanager
def _opened(content: IO[bytes], as_is: bytes | IO[bytes], where: str) -> Iterator[AudioFile]:
    """Open what libsndfile can read to the end: a mended stream, or the file `as_is`."""
    try:
        stream = whole_stream(content, where)
        source: bytes | BinaryStream = as_is if stream is None else stream
        with _ForwardFile(_rewound(source)) as file:
            n_samples = file.frames if file.frames < _UNKNOWN_FRAMES else _count_decoded(source)
            if n_samples == 0:
                raise ValueError(f"{where}: holds no samples; remove it or write it again")
            yield AudioFile(file, where, n_samples)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{where}: not readable as audio ({error}); it may be damaged or cut off, fetch or write it again"
        ) from error


def _count_decoded(source: bytes | BinaryStream) -> int:
    """Decode a stream once, with a handle of its own; an open file stays where it is."""
    position = 0 if isinstance(source, bytes) else source.tell()
    n_samples = 0
    with _ForwardFile(_rewound(source)) as file:
        while n_read := len(file.read(BLOCK_FRAMES, dtype="float32")):
            n_samples += n_read
    if not isinstance(source, bytes):
        source.seek(position)
    return n_samples


def _rewound(source: bytes | BinaryStream) -> bytes | BinaryStream:
    if not isinstance(source, bytes):
        source.seek(0)
    return source


@contextmanager
def _decoded_by_ffmpeg(path: Path) -> Iterator[Path]:
    """Decode the first audio stream of a file into a temporary one of float32 samples.

    Raises:
        ValueError: there is no ffmpeg, it says that something is wrong with the file, or it would read a part.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(
            f"{path}: {path.suffix} is read through ffmpeg, which is not on the PATH; install ffmpeg "
            "(apt, brew, conda), or convert the file to WAV or FLAC"
        )
    with path.open("rb") as content:
        require_one_recording(content, str(path))
    with tempfile.TemporaryDirectory(prefix="hydraudio_") as folder:
        decoded = Path(folder) / "decoded.w64"
        command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path}"]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "w64", str(decoded)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        complaint = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode or complaint or not decoded.is_file():
            reason = complaint.splitlines()[0] if complaint else f"exit status {done.returncode}"
            raise ValueError(f"{path}: ffmpeg cannot read it whole ({reason}); fetch or write the file again")
        yield decoded


def missing_text(path: str | Path) -> str:
    """Say that a file does not exist, in the words of the checks of a corpus and of training."""
    return f"{path}: no such audio file; check the path and the corpus"


def _require_decoded(where: str, n_read: int, n_wanted: int) -> None:
    if n_read != n_wanted:
        raise ValueError(f"{where}: only {n_read} of {n_wanted} samples decode; it is cut off, write it again")


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
