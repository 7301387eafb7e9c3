"""Sound and its pictures as data URIs: 16-bit WAV, and PNG of the spectrogram and of the waveform's envelope."""

from __future__ import annotations

import base64
import functools
import io
import wave
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hydraudio.audio.spectrogram import log_spectrogram_db

PEAK = 0.98  # highest absolute sample of a player after the common gain; leaves room for 16-bit rounding
RANGE_DB = 70.0  # of the colours of a spectrogram
_MIN_RMS = 1e-6  # -120 dBFS: below this a signal counts as silent and is not levelled

SoundAddress = Callable[[str, bytes], str]
"""Given a name and the contents of a WAV file, the address at which a browser finds it."""


@dataclass(frozen=True)
class Signal:
    """A waveform as a page shows it.

    Attributes:
        title: what one hears.
        sound: address of the WAV file.
        spectrogram: address of its picture, low frequencies at the bottom.
        wave: address of a picture of the envelope that is transparent outside of it.
        duration_s: length.
        top_khz: highest frequency of the spectrogram.
        kind: input, reference or output; empty where that does not matter.
        note: plain text below the player.
        scores: name, value and unit of each score.
    """

    title: str
    sound: str
    spectrogram: str
    wave: str
    duration_s: float
    top_khz: float
    kind: str = ""
    note: str = ""
    scores: tuple[tuple[str, str, str], ...] = ()


def wav_in_page(name: str, wav: bytes) -> str:
    """Return the sound as a part of the page, for notebooks and pages that are one file."""
    return data_uri(wav, "audio/wav")


def signals(
    titled: list[tuple[str, np.ndarray]],
    sample_rate: int,
    n_columns: int = 300,
    address: SoundAddress = wav_in_page,
) -> list[Signal]:
    """Titles and waveforms (time,) in [-1, 1] as they are shown: the loudest spot of all is the brightest of each."""
    spectrograms = [log_spectrogram_db(waveform, sample_rate, n_columns) for _, waveform in titled]
    top_db = max((float(spectrogram.max()) for spectrogram in spectrograms), default=0.0)
    found = []
    for (title, waveform), spectrogram in zip(titled, spectrograms, strict=True):
        name = "".join(letter if letter.isalnum() else "_" for letter in title.lower())
        found.append(
            Signal(
                title=title,
                sound=address(name, wav_bytes(waveform, sample_rate)),
                spectrogram=data_uri(spectrogram_png(spectrogram, top_db, n_columns), "image/png"),
                wave=data_uri(wave_png(waveform, 2 * n_columns), "image/png"),
                duration_s=len(waveform) / sample_rate,
                top_khz=sample_rate / 2000,
            )
        )
    return found


@dataclass(frozen=True)
class Packed:
    """Waveforms in half the memory: (..., time) int16 with the scale that brings them back, at least 90 dB of range."""

    samples: np.ndarray
    scale: float

    @classmethod
    def of(cls, waveform: np.ndarray) -> Packed:
        """Of float waveforms at any level; NaN becomes 0."""
        finite = np.nan_to_num(waveform)
        scale = float(np.max(np.abs(finite), initial=0.0)) / 32767 or 1.0
        return cls(np.rint(finite / scale).astype(np.int16), scale)

    @property
    def waveform(self) -> np.ndarray:
        """As float32."""
        return self.samples * np.float32(self.scale)


def data_uri(content: bytes, mime_type: str) -> str:
    """RFC 2397 address of the content."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode('ascii')}"


def wav_bytes(waveform: np.ndarray, sample_rate: int) -> bytes:
    """16-bit PCM WAV of a mono waveform (time,), float in [-1, 1]; sample_rate in Hz."""
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def common_gain(signals: list[np.ndarray]) -> float:
    """Linear gain that brings the loudest sample of all signals (time,) to `PEAK`; 1 where all are silent."""
    peak = max((float(np.max(np.abs(signal), initial=0.0)) for signal in signals), default=0.0)
    return PEAK / peak if peak > 0 else 1.0


def level_gain(signal: np.ndarray, reference: np.ndarray) -> float:
    """Linear gain that gives the signal (time,) the reference's RMS; 1 where either is silent."""
    rms, wanted = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (signal, reference))
    return wanted / rms if min(rms, wanted) > _MIN_RMS else 1.0


def spectrogram_png(spectrogram_db: np.ndarray, top_db: float, max_columns: int = 300) -> bytes:
    """PNG of (frequency, time) in dB, from top_db (brightest) down by `RANGE_DB` (darkest)."""
    if spectrogram_db.shape[1] > max_columns:
        edges = np.linspace(0, spectrogram_db.shape[1], max_columns + 1).astype(int)[:-1]
        spectrogram_db = np.maximum.reduceat(spectrogram_db, edges, axis=1)
    scaled = (spectrogram_db - (top_db - RANGE_DB)) / RANGE_DB * 255
    return _png(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)[::-1], _palette())


def picture_png(values: np.ndarray, low: float, high: float) -> bytes:
    """PNG of (height, width), the first row at the bottom, from low (darkest) to high (brightest); NaN is darkest."""
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return _png(np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)[::-1], _palette())


def wave_png(waveform: np.ndarray, n_columns: int = 480, n_rows: int = 97) -> bytes:
    """PNG of the lower and upper envelope of a waveform (time,) in [-1, 1], transparent outside of it."""
    edges = np.linspace(0, len(waveform), min(n_columns, len(waveform)) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(waveform, edges), np.maximum.reduceat(waveform, edges)
    level, half_row = np.linspace(1, -1, n_rows)[:, None], 1 / (n_rows - 1)
    inside = (level >= low - half_row) & (level <= high + half_row)
    return _png(inside.astype(np.uint8), bytes(6), transparency=0)


def _png(indices: np.ndarray, palette: bytes, **options: int) -> bytes:
    """Indexed-colour PNG of (height, width) uint8 into a palette of three bytes each."""
    from PIL import Image  # a part of matplotlib's installation

    image, buffer = Image.fromarray(indices), io.BytesIO()
    image.putpalette(palette)
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


@functools.cache
def _palette() -> bytes:
    """From black over violet and red to pale yellow, with evenly rising lightness."""
    from matplotlib import colormaps

    return bytes(colormaps["inferno"](np.arange(256), bytes=True)[:, :3])
