"""Building blocks of scenes and events: coloured noise, slow envelopes, rings and pulses (all float32)."""

from __future__ import annotations

import numpy as np
import scipy.fft


def coloured_noise(
    n_samples: int, sample_rate: int, knots_hz_db: list[tuple[float, float]], rng: np.random.Generator
) -> np.ndarray:
    """Make Gaussian noise with a spectrum that is piecewise linear in dB over log frequency; RMS 1."""
    n_fft = scipy.fft.next_fast_len(n_samples, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(n_fft, dtype=np.float32))
    noise = scipy.fft.irfft(spectrum * _gains(n_fft, sample_rate, knots_hz_db), n_fft)[:n_samples]
    return noise / np.sqrt(np.mean(np.square(noise)))


def equalise(sound: np.ndarray, sample_rate: int, knots_hz_db: list[tuple[float, float]]) -> np.ndarray:
    """Filter by gains that are piecewise linear in dB over log frequency, zero phase."""
    n_fft = scipy.fft.next_fast_len(len(sound) + sample_rate // 50, real=True)
    return scipy.fft.irfft(scipy.fft.rfft(sound, n_fft) * _gains(n_fft, sample_rate, knots_hz_db), n_fft)[: len(sound)]


def _gains(n_fft: int, sample_rate: int, knots_hz_db: list[tuple[float, float]]) -> np.ndarray:
    """(n_fft // 2 + 1,) float32."""
    frequency = scipy.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    knots = np.array(knots_hz_db)
    gain_db = np.interp(np.log(np.maximum(frequency, 1.0)), np.log(knots[:, 0]), knots[:, 1])
    return (10.0 ** (gain_db / 20.0)).astype(np.float32)


def slow_curve(n_samples: int, sample_rate: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth Gaussian curve (mean 0, deviation about 1) that changes `rate_hz` times a second."""
    n_knots = max(4, int(np.ceil(n_samples / sample_rate * rate_hz)) + 3)
    position = (np.arange(n_samples) + rng.random() * sample_rate / rate_hz) / sample_rate * rate_hz
    whole = np.minimum(position.astype(np.int64), n_knots - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * np.clip(position - whole, 0.0, 1.0))
    values = rng.standard_normal(n_knots)
    return (values[whole] * (1.0 - blend) + values[whole + 1] * blend).astype(np.float32)


def envelope_db(
    n_samples: int, sample_rate: int, rate_hz: float, depth_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random slow gain with a deviation of `depth_db`; (n_samples,), linear."""
    return 10.0 ** (depth_db / 20.0 * slow_curve(n_samples, sample_rate, rate_hz, rng))


def ring(
    duration_s: float, sample_rate: int, partials_hz: np.ndarray, decay_s: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """Sum sine waves that decay (time constants `decay_s`) and end at 0, without those above the Nyquist rate."""
    time_s = np.arange(int(duration_s * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    audible = partials_hz < 0.48 * sample_rate
    sound = np.zeros(len(time_s), np.float32)
    for frequency, decay, gain in zip(partials_hz[audible], decay_s[audible], gains[audible], strict=True):
        sound += gain * np.exp(-time_s / np.float32(decay)) * np.sin(np.float32(2 * np.pi * frequency) * time_s)
    taper = 1.0 - (np.arange(len(sound)) / len(sound)) ** 4
    return (sound * taper).astype(np.float32)


def burst(duration_s: float, sample_rate: int, attack_s: float, rng: np.random.Generator) -> np.ndarray:
    """Make white noise with a fast attack and an exponential decay of 60 dB over its duration."""
    time_s = np.arange(int(duration_s * sample_rate)) / sample_rate
    shape = np.minimum(time_s / max(attack_s, 1e-4), 1.0) * 10.0 ** (-3.0 * time_s / duration_s)
    return (shape * rng.standard_normal(len(time_s))).astype(np.float32)


def band(sound: np.ndarray, sample_rate: int, centre_hz: float, octaves: float) -> np.ndarray:
    """Filter by a bell-shaped band-pass over log frequency (standard deviation `octaves`), zero phase."""
    n_fft = scipy.fft.next_fast_len(len(sound) + sample_rate // 50, real=True)
    frequency = np.maximum(scipy.fft.rfftfreq(n_fft, 1.0 / sample_rate), 1.0)
    gain = np.exp(-0.5 * (np.log2(frequency / centre_hz) / octaves) ** 2).astype(np.float32)
    return scipy.fft.irfft(scipy.fft.rfft(sound, n_fft) * gain, n_fft)[: len(sound)]


def harmonics(f0_hz: np.ndarray, sample_rate: int, gains: np.ndarray) -> np.ndarray:
    """Make a harmonic tone along the pitch curve `f0_hz` (time,); partials above the Nyquist rate are left out."""
    phase = 2.0 * np.pi * np.cumsum(f0_hz / sample_rate)
    top = float(f0_hz.max())
    sound = np.zeros(len(f0_hz))
    for order, gain in enumerate(gains, start=1):
        if order * top < 0.48 * sample_rate:
            sound += gain * np.sin(order * phase)
    return sound.astype(np.float32)


def add_at(target: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Add a sound into a longer one in place; what lies beyond the end is cut off."""
    stop = min(start + len(sound), len(target))
    if start < stop:
        target[start:stop] += sound[: stop - start]
