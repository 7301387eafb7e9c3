"""Source-filter synthesis of the talkers' utterances.

A glottal pulse train (own pitch, intonation, jitter, shimmer, breath noise) and frication noise pass through
a time-varying cascade of formant resonators (Fant 1960; Klatt 1980, J. Acoust. Soc. Am. 67(3)). Everything is a pure
function of the random generator passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

from hydraudio.sounds.talkers import NASAL_POLE_HZ, UNVOICED_DB, Segment, Talker, plan_utterance

_AMPLITUDE_TRANSITION_S = 0.012
_FORMANT_TRANSITION_S = 0.035
_FRAME_S = 0.016


def speak(talker: Talker, n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make an utterance that starts and ends anywhere in running speech.

    Returns:
        (n_samples,) float32 with RMS 1 over its voiced and noisy parts, pauses not counted.

    >>> from hydraudio.sounds.talkers import make_talker
    >>> speak(make_talker(0, seed=0), 8000, 8000, np.random.default_rng(0)).shape
    (8000,)
    """
    return sound(talker, plan_utterance(talker, n_samples / sample_rate, rng), n_samples, sample_rate, rng)


def sound(
    talker: Talker, segments: Sequence[Segment], n_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Make a planned utterance audible: (n_samples,) float32 like that of `speak`."""
    tracks = _Tracks.of(segments, n_samples, sample_rate)
    excitation = _voice(talker, tracks, sample_rate, rng)
    frication = tracks.frication * rng.standard_normal(n_samples, dtype=np.float32)
    speech = _shape(excitation, _vocal_tract(talker, tracks, sample_rate), sample_rate)
    speech += _shape(frication, _frication_bands(tracks, sample_rate), sample_rate)
    active = np.square(speech)
    threshold = 1e-3 * np.quantile(active, 0.99)
    return (speech / np.sqrt(active[active > threshold].mean())).astype(np.float32)


def _hop(sample_rate: int) -> int:
    return round(_FRAME_S * sample_rate) // 2


@dataclass(frozen=True)
class _Tracks:
    """Targets joined to smooth curves: amplitudes and pitch per sample, spectral ones per frame."""

    voicing: np.ndarray  # (time,) linear
    aspiration: np.ndarray
    frication: np.ndarray
    pitch_semitones: np.ndarray
    formants_hz: np.ndarray  # (frames, 3)
    nasal_zero_hz: np.ndarray  # (frames,)
    frication_hz: np.ndarray
    frication_width: np.ndarray

    @classmethod
    def of(cls, segments: Sequence[Segment], n_samples: int, sample_rate: int) -> _Tracks:
        ends = np.cumsum([segment.duration_s for segment in segments])
        starts = np.concatenate([[0.0], ends[:-1]])
        hop = _hop(sample_rate)
        sample_s = np.arange(n_samples) / sample_rate
        frame_s = np.arange(n_samples // hop + 2) * hop / sample_rate

        def curve(name: str, at_s: np.ndarray, transition_s: float, index: int | None = None) -> np.ndarray:
            values = [getattr(segment, name) for segment in segments]
            if index is not None:
                values = [value[index] for value in values]
            margin = np.minimum(transition_s, 0.45 * (ends - starts))
            knots = np.stack([starts + margin, ends - margin], axis=1).ravel()
            return np.interp(at_s, knots, np.repeat(values, 2))

        def amplitude(name: str) -> np.ndarray:
            level_db = curve(name, sample_s, _AMPLITUDE_TRANSITION_S)
            return np.where(level_db > UNVOICED_DB, 10.0 ** (level_db / 20.0), 0.0).astype(np.float32)

        return cls(
            voicing=amplitude("voicing_db"),
            aspiration=amplitude("aspiration_db"),
            frication=amplitude("frication_db"),
            pitch_semitones=curve("pitch_semitones", sample_s, 0.04),
            formants_hz=np.stack([curve("formants_hz", frame_s, _FORMANT_TRANSITION_S, k) for k in range(3)], axis=1),
            nasal_zero_hz=curve("nasal_zero_hz", frame_s, 0.01),
            frication_hz=curve("frication_hz", frame_s, 0.0),
            frication_width=curve("frication_width", frame_s, 0.0),
        )


def _voice(talker: Talker, tracks: _Tracks, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Pulses at the glottal closures (at fractional positions) plus breath noise that the cycle modulates."""
    n_samples = len(tracks.voicing)
    drift = np.interp(np.arange(n_samples), np.linspace(0, n_samples, 24), rng.normal(0.0, 0.25, 24))
    f0_hz = talker.f0_hz * 2.0 ** ((tracks.pitch_semitones + drift) / 12.0)
    phase = np.cumsum(f0_hz / sample_rate) + rng.random()
    cycles = np.arange(np.ceil(phase[0]), np.floor(phase[-1]))
    jittered = cycles + rng.normal(0.0, talker.jitter, size=len(cycles))
    position = np.clip(np.interp(jittered, phase, np.arange(n_samples)), 0, n_samples - 2)
    strength = 1.0 + rng.normal(0.0, talker.shimmer, size=len(cycles))
    # equal power per sample at every pitch
    strength *= np.sqrt(sample_rate / talker.f0_hz)
    whole = position.astype(np.int64)
    fraction = position - whole
    pulses = np.bincount(whole, strength * (1.0 - fraction), n_samples)
    pulses += np.bincount(whole + 1, strength * fraction, n_samples)
    modulation = np.where(tracks.voicing > 0, 0.5 + 0.5 * np.cos(2.0 * np.pi * phase), 1.0)
    breath = rng.standard_normal(n_samples, dtype=np.float32) * tracks.aspiration * modulation
    return (pulses * tracks.voicing + breath).astype(np.float32)


def _shape(excitation: np.ndarray, response: np.ndarray, sample_rate: int) -> np.ndarray:
    """Time-varying filter by overlap-add of half-overlapping Hann frames; response is (frames, bins)."""
    hop = _hop(sample_rate)
    n_frames, n_blocks = len(response), 4
    padded = np.zeros((n_frames + 1) * hop, np.float32)
    padded[hop : hop + len(excitation)] = excitation
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop][:n_frames]
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)).astype(np.float32)
    spectra = scipy.fft.rfft(frames * window, n_blocks * hop, axis=1)
    filtered = scipy.fft.irfft(spectra * response, n_blocks * hop, axis=1).reshape(n_frames, n_blocks, hop)
    joined = np.zeros((n_frames + n_blocks - 1, hop), np.float32)
    for block in range(n_blocks):
        joined[block : block + n_frames] += filtered[:, block]
    return joined.ravel()[hop : hop + len(excitation)]


_GRID_HZ = np.exp(np.linspace(np.log(150.0), np.log(7500.0), 400))


@lru_cache(maxsize=8)
def _bins_hz(sample_rate: int) -> np.ndarray:
    n_fft = 4 * _hop(sample_rate)
    return np.arange(n_fft // 2 + 1) * sample_rate / n_fft


@lru_cache(maxsize=8)
def _resonators(sample_rate: int) -> np.ndarray:
    """(grid, bins) complex responses of analogue resonators with unit gain at 0 Hz.

    Bandwidths follow Fant's rule of thumb: 50 Hz plus 2 % of the frequency, wider for F3 and above.
    """
    s = 2j * np.pi * _bins_hz(sample_rate)[None, :]
    omega = 2.0 * np.pi * _GRID_HZ[:, None]
    bandwidth = 2.0 * np.pi * (50.0 + 0.02 * _GRID_HZ[:, None] + 1.2e-5 * _GRID_HZ[:, None] ** 2)
    return (omega**2 / (s**2 + bandwidth * s + omega**2)).astype(np.complex64)


def _resonance(frequency_hz: np.ndarray | float, sample_rate: int) -> np.ndarray:
    position = np.log(np.asarray(frequency_hz) / _GRID_HZ[0]) / np.log(_GRID_HZ[-1] / _GRID_HZ[0])
    index = np.clip(np.rint(position * (len(_GRID_HZ) - 1)), 0, len(_GRID_HZ) - 1).astype(np.int64)
    return _resonators(sample_rate)[index]


def _vocal_tract(talker: Talker, tracks: _Tracks, sample_rate: int) -> np.ndarray:
    """(frames, bins): glottal pulse shape, formants, nasal pole and zero, radiation at the lips."""
    frequency = _bins_hz(sample_rate)
    fixed = 1j * frequency / talker.glottal_hz / (1.0 + 1j * frequency / talker.glottal_hz) ** 2
    for formant_hz in talker.upper_formants_hz:
        fixed = fixed * _resonance(formant_hz, sample_rate)
    fixed = fixed * _resonance(NASAL_POLE_HZ, sample_rate)
    response = fixed.astype(np.complex64) / _resonance(tracks.nasal_zero_hz, sample_rate)
    for index in range(3):
        response *= _resonance(tracks.formants_hz[:, index], sample_rate)
    return response


def _frication_bands(tracks: _Tracks, sample_rate: int) -> np.ndarray:
    """(frames, bins) magnitudes: a bell over log frequency around the noise's centre."""
    octaves = np.log2(np.maximum(_bins_hz(sample_rate), 1.0))[None, :]
    distance = (octaves - np.log2(tracks.frication_hz)[:, None]) / tracks.frication_width[:, None]
    return np.exp(-0.5 * distance**2).astype(np.float32)
