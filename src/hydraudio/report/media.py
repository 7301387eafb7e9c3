"""Sound and pictures as data URIs: 16-bit WAV, spectrogram PNG, waveform SVG."""

from __future__ import annotations

import base64
import functools
import io
import struct
import wave
import zlib
from html import escape

import numpy as np

from hydraudio.audio.spectrogram import log_spectrogram_db

PEAK = 0.98  # highest absolute sample of a player after the common gain; leaves room for 16-bit rounding
_MIN_RMS = 1e-6  # -120 dBFS: below this a signal counts as silent and is not levelled


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


def player(waveform: np.ndarray, sample_rate: int, title: str = "", top_db: float | None = None) -> str:
    """HTML of a waveform (time,) in [-1, 1]: its envelope, its spectrogram (top_db: brightest, None = its own) and a
    player."""
    spectrogram = log_spectrogram_db(waveform, sample_rate)
    image = spectrogram_png(spectrogram, float(spectrogram.max()) if top_db is None else top_db)
    alternative = escape(f"Spectrogram: {title}" if title else "Spectrogram")
    return (
        f'{waveform_svg(waveform)}<img class="spectrogram" alt="{alternative}" src="{data_uri(image, "image/png")}">'
        f'<div class="scale"><span>0 s</span><span>up to {sample_rate / 2000:g} kHz</span>'
        f"<span>{len(waveform) / sample_rate:.2f} s</span></div>"
        f'<audio controls preload="metadata" src="{data_uri(wav_bytes(waveform, sample_rate), "audio/wav")}"></audio>'
    )


def common_gain(signals: list[np.ndarray]) -> float:
    """Linear gain that brings the loudest sample of all signals (time,) to `PEAK`; 1 where all are silent."""
    peak = max((float(np.max(np.abs(signal), initial=0.0)) for signal in signals), default=0.0)
    return PEAK / peak if peak > 0 else 1.0


def level_gain(signal: np.ndarray, reference: np.ndarray) -> float:
    """Linear gain that gives the signal (time,) the reference's RMS; 1 where either is silent."""
    rms, wanted = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (signal, reference))
    return wanted / rms if min(rms, wanted) > _MIN_RMS else 1.0


def spectrogram_png(spectrogram_db: np.ndarray, top_db: float, range_db: float = 70.0, max_columns: int = 300) -> bytes:
    """Indexed-colour PNG of (frequency, time) in dB, from top_db (brightest) down by range_db (darkest)."""
    reduced = _max_pool_columns(spectrogram_db, max_columns)
    scaled = (reduced - (top_db - range_db)) / range_db * 255
    return png_bytes(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)[::-1], colormap())


def png_bytes(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """PNG (W3C, colour type 3) of indices (height, width) uint8 into a palette (256, 3) uint8."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.pad(indices, ((0, 0), (1, 0)))  # filter type 0 before every row
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", header)
        + _png_chunk(b"PLTE", palette.astype(np.uint8).tobytes())
        + _png_chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + _png_chunk(b"IEND", b"")
    )


@functools.cache
def colormap() -> np.ndarray:
    """(256, 3) uint8 sRGB from near-black violet over red to pale yellow, with evenly rising lightness.

    Built in the OKLab space of B. Ottosson, "A perceptual color space for image processing", 2020, with the
    matrices given there; anchors (hue in degrees, chroma) were chosen to stay inside the sRGB gamut.
    """
    position = np.linspace(0, 1, 256)
    lightness = 0.13 + 0.84 * position
    hue = np.deg2rad(np.interp(position, [0, 0.3, 0.6, 0.85, 1], [285, 325, 385, 440, 465]))
    chroma = np.interp(position, [0, 0.15, 0.4, 0.6, 0.85, 1], [0.03, 0.11, 0.17, 0.17, 0.14, 0.09])
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    lms = (lab @ np.array(_OKLAB_TO_LMS).T) ** 3
    linear = np.clip(lms @ np.array(_LMS_TO_SRGB).T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8)


def waveform_svg(waveform: np.ndarray, n_columns: int = 240) -> str:
    """Inline SVG of the lower and upper envelope of a waveform (time,) in [-1, 1]."""
    edges = np.linspace(0, len(waveform), min(n_columns, len(waveform)) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(waveform, edges), np.maximum.reduceat(waveform, edges)
    upper = [f"{x},{50 - 48 * y:.0f}" for x, y in enumerate(high)]
    lower = [f"{x},{51 - 48 * y:.0f}" for x, y in enumerate(low)]
    points = " ".join(upper + lower[::-1])
    return (
        f'<svg class="wave" viewBox="0 0 {len(edges) - 1} 101" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="{points}"/></svg>'
    )


_OKLAB_TO_LMS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_LMS_TO_SRGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def _max_pool_columns(image: np.ndarray, max_columns: int) -> np.ndarray:
    if image.shape[1] <= max_columns:
        return image
    edges = np.linspace(0, image.shape[1], max_columns + 1).astype(int)[:-1]
    return np.maximum.reduceat(image, edges, axis=1)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
